"""What kind of project a folder holds, and the Dockerfile for it."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from openclaw_skill import SkillError

Kind = Literal["python", "node", "go", "static"]
_IGNORED = (".git", ".github", ".venv", "venv", "node_modules", "__pycache__", "*.pyc", ".env", ".env.*", "Dockerfile*")


@dataclass(frozen=True)
class Project:
    """What was found."""

    kind: Kind
    version: str
    start: tuple[str, ...]
    lock: str = ""
    build: bool = False
    assumed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rendered:
    """The two files."""

    kind: Kind
    dockerfile: str
    dockerignore: str
    assumed: tuple[str, ...] = field(default=())


def look_at(folder: Path) -> Project:
    """Returns what a folder holds. Raises SkillError where that cannot be told."""
    if (folder / "go.mod").is_file():
        return _go(folder)
    if (folder / "package.json").is_file():
        return _node(folder)
    if (folder / "pyproject.toml").is_file() or (folder / "requirements.txt").is_file():
        return _python(folder)
    if (folder / "index.html").is_file():
        return Project("static", "1.29", ())
    told = "go.mod, package.json, pyproject.toml, requirements.txt or index.html"
    raise SkillError(f"folder: {folder.name!r} holds none of {told}; name the project's own folder")


def _python(folder: Path) -> Project:
    version, assumed = "3.12", ["Python 3.12"]
    project = folder / "pyproject.toml"
    if project.is_file():
        try:
            table = _object(tomllib.loads(project.read_text(encoding="utf-8")), "project", "pyproject.toml")
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise SkillError(f"folder: pyproject.toml cannot be read: {error}") from None
        required = str(table.get("requires-python", ""))
        if exact := re.search(r"(?:==|~=)\s*(3\.\d+)", required):
            version, assumed = exact[1], []
    starts = [name for name in ("main.py", "app.py", "manage.py") if (folder / name).is_file()]
    if not starts:
        assumed.append("that the program is started by python -m app")
    start = ("python", starts[0]) if starts else ("python", "-m", "app")
    lock = "requirements.txt" if (folder / "requirements.txt").is_file() else ""
    return Project("python", version, start, lock, assumed=tuple(assumed))


def _node(folder: Path) -> Project:
    try:
        package = json.loads((folder / "package.json").read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise SkillError(f"folder: package.json cannot be read: {error}") from None
    if not isinstance(package, dict):
        raise SkillError("folder: package.json holds no object")
    scripts = _object(package, "scripts", "package.json")
    wanted = re.search(r"\d+", str(_object(package, "engines", "package.json").get("node", "")))
    assumed = [] if wanted else ["Node.js 22"]
    lock = next((name for name in ("package-lock.json", "npm-shrinkwrap.json") if (folder / name).is_file()), "")
    if not lock:
        assumed.append("that there is no lock file: add package-lock.json, so that builds repeat")
    start = ("npm", "start") if "start" in scripts else ("node", str(package.get("main", "index.js")))
    return Project("node", wanted[0] if wanted else "22", start, lock, "build" in scripts, tuple(assumed))


def _object(value: dict[str, Any], name: str, file: str) -> dict[str, Any]:
    """Returns an object of a project's own file; an empty one where there is none."""
    found = value.get(name)
    if found is not None and not isinstance(found, dict):
        raise SkillError(f"folder: {name} in {file} is no object; correct it")
    return found or {}


def _go(folder: Path) -> Project:
    found = re.search(
        r"^go\s+(\d+\.\d+)", (folder / "go.mod").read_text(encoding="utf-8", errors="replace"), re.MULTILINE
    )
    commands = sorted(path.name for path in (folder / "cmd").glob("*") if path.is_dir())
    assumed = [] if found else ["Go 1.24"]
    package = "."
    if commands and not (folder / "main.go").is_file():
        package = f"./cmd/{commands[0]}"
        assumed += [f"that {package} is the program, of {', '.join(commands)}"] if len(commands) > 1 else []
    return Project("go", found[1] if found else "1.24", (package,), "go.sum", assumed=tuple(assumed))


def render(project: Project, port: int | None) -> Rendered:
    """Returns the Dockerfile of a project and its .dockerignore."""
    lines = {"python": _for_python, "node": _for_node, "go": _for_go, "static": _for_static}[project.kind](project)
    if port:
        lines.insert(len(lines) - (0 if project.kind == "static" else 1), f"EXPOSE {port}")
    ignored = [*_IGNORED, ".dockerignore"]
    return Rendered(project.kind, "\n".join(lines) + "\n", "\n".join(ignored) + "\n", project.assumed)


def _exec(words: tuple[str, ...]) -> str:
    return json.dumps(list(words))


def _for_python(project: Project) -> list[str]:
    image = f"python:{project.version}-slim"
    what = "--requirement requirements.txt" if project.lock else "."
    copied = project.lock or ". ."
    return [
        f"FROM {image} AS build",
        "WORKDIR /src",
        f"COPY {copied}{' ./' if project.lock else ''}",
        f"RUN python -m venv /venv && /venv/bin/pip install --no-cache-dir {what}",
        "",
        f"FROM {image}",
        "ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1",
        "WORKDIR /app",
        "COPY --from=build /venv /venv",
        "COPY . .",
        "USER 10001:10001",
        f"ENTRYPOINT {_exec(project.start)}",
    ]


def _for_node(project: Project) -> list[str]:
    image = f"node:{project.version}-slim"
    install = "npm ci" if project.lock else "npm install"
    return [
        f"FROM {image} AS build",
        "WORKDIR /app",
        "COPY package*.json npm-shrinkwrap.jso[n] ./",
        f"RUN {install}",
        "COPY . .",
        *(["RUN npm run build"] if project.build else []),
        "RUN npm prune --omit=dev",
        "",
        f"FROM {image}",
        "ENV NODE_ENV=production",
        "WORKDIR /app",
        "COPY --from=build /app /app",
        "USER 10001:10001",
        f"ENTRYPOINT {_exec(project.start)}",
    ]


def _for_go(project: Project) -> list[str]:
    return [
        f"FROM golang:{project.version} AS build",
        "WORKDIR /src",
        "COPY go.mod go.su[m] ./",
        "RUN go mod download",
        "COPY . .",
        f'RUN CGO_ENABLED=0 go build -trimpath -ldflags="-s -w" -o /program {project.start[0]}',
        "",
        "FROM gcr.io/distroless/static-debian12:nonroot",
        "COPY --from=build /program /program",
        "USER 65532:65532",
        'ENTRYPOINT ["/program"]',
    ]


def _for_static(project: Project) -> list[str]:
    return [
        f"FROM nginxinc/nginx-unprivileged:{project.version}-alpine",
        "COPY . /usr/share/nginx/html",
        "USER 101:101",
    ]
