"""`openclaw skill`: make, check, test, pack, describe and run a skill on this machine."""

import asyncio
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from openclaw_runtime.sandbox.archive import ArchiveError, decompress
from openclaw_runtime.skills.errors import ManifestError, SkillsError
from openclaw_runtime.skills.folder import SkillFolder, read_skill
from openclaw_runtime.skills.package import folder_files, pack_files
from openclaw_runtime.skills.scaffold import new_skill

app = typer.Typer(name="skill", help="Makes, checks, packs and runs skills.", no_args_is_help=True)

Folder = Annotated[Path, typer.Argument(help="the skill's folder, with SKILL.md and skill.yaml")]


class CommandError(SkillsError):
    """A command cannot do what it was asked. `str()` is one line."""


def _read(folder: Path) -> SkillFolder:
    if not folder.is_dir():
        raise CommandError(f"{folder}: not a folder; give the folder that holds SKILL.md")
    try:
        return read_skill(tuple(folder_files(folder)), str(folder))
    except (ArchiveError, OSError) as error:
        raise ManifestError(str(folder), [str(error)]) from None


def _write(target: Path, data: bytes) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    except OSError as error:
        raise CommandError(f"{target}: cannot be written: {error.strerror}; choose another place") from None


@app.command()
def init(
    name: Annotated[str, typer.Argument(help="lower case letters, digits and -")],
    directory: Annotated[Path | None, typer.Option(help="where to make it; default ./NAME")] = None,
) -> None:
    """Makes the folder of a new skill that works."""
    folder = directory or Path(name)
    if folder.exists() and any(folder.iterdir()):
        raise CommandError(f"{folder}: exists and is not empty; choose another name or --directory")
    files = new_skill(name)
    for path, text in files.items():
        _write(folder / path, text.encode())
    _read(folder)
    typer.echo(f"made {folder}; next: openclaw skill test {folder}")


@app.command()
def validate(folder: Folder) -> None:
    """Checks a skill's files and says everything that is wrong."""
    skill = _read(folder)
    package = pack_files(skill.files)
    actions = ", ".join(action.name for action in skill.manifest.actions)
    typer.echo(f"{skill.head.name} {skill.manifest.version} is valid: {len(skill.files)} files, actions {actions}")
    typer.echo(package.digest)


@app.command()
def test(folder: Folder) -> None:
    """Runs the skill's own tests with pytest."""
    _read(folder)
    tests = folder / "tests"
    if not tests.is_dir():
        raise CommandError(f"{tests}: missing; put tests of the skill there")
    if importlib.util.find_spec("pytest") is None:
        raise CommandError("pytest: not installed; install it into this environment to run tests")
    raise typer.Exit(subprocess.run([sys.executable, "-m", "pytest", "-q", str(tests)], check=False).returncode)


@app.command()
def pack(
    folder: Folder,
    output: Annotated[
        Path | None, typer.Option(help="the archive; default NAME-VERSION.tar.gz. NAME.tar is what a signature is over")
    ] = None,
) -> None:
    """Packs a skill: the same files always give the same digest."""
    skill = _read(folder)
    package = pack_files(skill.files)
    target = output or Path(f"{skill.head.name}-{skill.manifest.version}.tar.gz")
    data = decompress(package.data) if target.suffix == ".tar" else package.data
    _write(target, data)
    typer.echo(f"{target} ({len(data)} bytes)\n{package.digest}")


class _Dumper(yaml.SafeDumper):
    """Writes longer texts as blocks, so that the files inside a resource can be read."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


@app.command()
def manifest(
    skill: Annotated[str, typer.Argument(metavar="FOLDER|oci://REFERENCE", help="a folder, or a published skill")],
    namespace: Annotated[str | None, typer.Option(help="written into the resource")] = None,
    plain_http: Annotated[bool, typer.Option("--plain-http", help="the registry speaks no TLS")] = False,
) -> None:
    """Prints the Skill resource for kubectl apply: with the files of a folder inside, or an artifact by its digest."""
    if skill.startswith("oci://"):
        from openclaw_runtime.skills.registry_cli import published

        folder, reference = published(skill, plain_http=plain_http)
        resource = folder.resource(reference, plain_http=plain_http)
    else:
        resource = _read(Path(skill)).resource()
    if namespace:
        resource["metadata"]["namespace"] = namespace
    typer.echo(yaml.dump(resource, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120), nl=False)


class ConsoleContext:
    """A call's context at a terminal: logs go to stderr, questions to whoever sits there, memory lasts for the run."""

    def __init__(self, answers: Sequence[str]) -> None:
        self._answers = list(answers)
        self.records: list[dict[str, Any]] = []

    async def log(self, level: str, message: str, fields: Mapping[str, Any]) -> None:
        """Prints a log line."""
        typer.echo(f"{level}: {message}{f' {dict(fields)}' if fields else ''}", err=True)

    async def progress(self, fraction: float, message: str) -> None:
        """Prints progress."""
        typer.echo(f"{fraction:4.0%} {message}", err=True)

    async def memory_add(self, record: dict[str, Any]) -> str:
        """Keeps a record."""
        self.records.append(record)
        typer.echo(f"memory: {json.dumps(record, ensure_ascii=False)}", err=True)
        return str(len(self.records))

    async def memory_search(self, query: str, limit: int) -> list[dict[str, Any]]:
        """Returns the records that hold the query."""
        return [record for record in self.records if query.lower() in json.dumps(record).lower()][:limit]

    async def llm_generate(self, prompt: str, options: dict[str, Any]) -> str:
        """Asks the terminal in place of a model."""
        del options
        typer.echo(f"--- the model is asked ---\n{prompt}\n---", err=True)
        return await self._answer("answer as the model")

    async def ask(self, question: str) -> str:
        """Asks the terminal."""
        typer.echo(question, err=True)
        return await self._answer("answer")

    async def _answer(self, prompt: str) -> str:
        if self._answers:
            return self._answers.pop(0)
        if not sys.stdin.isatty():
            raise CommandError("the skill asks something and no terminal is there; give --answer for each question")
        return await asyncio.to_thread(typer.prompt, prompt, err=True)


@app.command()
def run(
    folder: Folder,
    action: Annotated[str, typer.Argument(help="the action to run")],
    input_: Annotated[str, typer.Option("--input", help="JSON object, or @FILE")] = "{}",
    workspace: Annotated[Path | None, typer.Option(help="the folder the skill may work in")] = None,
    answer: Annotated[list[str] | None, typer.Option(help="answer to a question of the skill; repeat")] = None,
    config: Annotated[str, typer.Option(help="the skill's configuration, a JSON object")] = "{}",
) -> None:
    """Runs one action in a local sandbox and prints its result as JSON."""
    from openclaw_runtime.sandbox.errors import SandboxError

    given, settings = _json_object("--input", input_), _json_object("--config", config)
    if workspace is not None and not workspace.is_dir():
        raise CommandError(f"--workspace: {workspace} is not a folder")
    try:
        output = asyncio.run(_run(folder, action, given, settings, workspace, answer or []))
    except SandboxError as error:
        detail = error.data.get("detail")
        raise CommandError(f"{error.type}: {error}" + (f"\n{detail}" if detail else "")) from None
    typer.echo(json.dumps(output, ensure_ascii=False, indent=2))


def _json_object(option: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(Path(text[1:]).read_text(encoding="utf-8") if text.startswith("@") else text)
    except OSError as error:
        raise CommandError(f"{option}: {text[1:]} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise CommandError(f"{option}: not JSON: {error}") from None
    if not isinstance(value, dict):
        raise CommandError(f'{option}: must be a JSON object, like {{"name": "Ada"}}')
    return value


async def _run(
    folder: Path,
    action: str,
    given: dict[str, Any],
    settings: dict[str, Any],
    workspace: Path | None,
    answers: Sequence[str],
) -> Any:
    from openclaw_runtime.sandbox.local_executor import SubprocessExecutor
    from openclaw_runtime.skills.audit import Audit
    from openclaw_runtime.skills.registry import SkillRegistry, read_folder
    from openclaw_runtime.skills.service import SkillService

    skill = read_folder(folder, os.environ, settings)
    executor = SubprocessExecutor(workspace=workspace, warm=1, limit=1)
    service = SkillService("cli", SkillRegistry("local"), executor, Audit([]))
    await executor.start()
    try:
        result = await service.call(skill, action, given, session="cli", context=ConsoleContext(answers))
    finally:
        await executor.close()
    return result.output
