"""The runner as a folder that runs anywhere: an interpreter with its own loader and libraries, and what it imports.

A skill's own image need not have Python, nor any C library that fits. When the sandbox image is built, its interpreter
is copied and pointed at a loader and libraries beside it (`prepare`). A pod of a skill's own image starts with a
container of the sandbox image that copies it, with the modules, into a volume (`copy`); the pod mounts that at `HOME`.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

HOME: Final = Path("/opt/openclaw")
"""Where the folder has to be mounted: the interpreter knows its loader and libraries by this path."""
PREPARED: Final = Path("/opt/openclaw/portable")
"""Where the sandbox image keeps what `prepare` made."""

_PACKAGES: Final = ("openclaw_runtime", "openclaw_skill", "cryptography", "websockets", "_cffi_backend")
_NOT_NEEDED: Final = (
    "__pycache__",
    "config-*",
    "dist-packages",
    "ensurepip",
    "idlelib",
    "lib2to3",
    "pydoc_data",
    "site-packages",
    "test",
    "tests",
    "tkinter",
    "turtledemo",
    "*.a",
    "*.pyi",
)


class PortableError(Exception):
    """The folder cannot be made. `str()` says what is missing."""


def prepare(target: Path, patchelf: Path) -> None:
    """Makes the interpreter and its libraries: `target`/bin/python3 and `target`/lib. Raises `PortableError`."""
    program = Path(sys.executable).resolve()
    loader = Path(_output(patchelf, "--print-interpreter", program))
    libraries = target / "lib"
    for folder in (target / "bin", libraries):
        folder.mkdir(parents=True)
    shutil.copy(loader.resolve(), libraries / "ld.so")
    # Not a RUNPATH, which would count for the interpreter's own libraries only and not for theirs.
    search = ("--force-rpath", "--set-rpath", HOME / "lib")
    standard = Path(sysconfig.get_path("stdlib"))
    dynamic = {f"{standard.name}/lib-dynload/{path.name}": path for path in (standard / "lib-dynload").glob("*.so")}
    for name, path in (_needed(loader, [program, *_modules()]) | dynamic).items():
        if "/" not in name or _output(patchelf, "--print-rpath", path):
            (libraries / name).parent.mkdir(parents=True, exist_ok=True)
            library = shutil.copy(path, libraries / name)
            if _output(patchelf, "--print-rpath", library):
                _output(patchelf, *search, library)
    python = shutil.copy(program, target / "bin" / "python3")
    _output(patchelf, "--set-interpreter", HOME / "lib" / "ld.so", *search, python)


def copy(target: Path, prepared: Path = PREPARED) -> None:
    """Copies what was prepared, and this interpreter's modules, into an existing folder. Raises `PortableError`."""
    if not (prepared / "bin" / "python3").is_file():
        raise PortableError(f"{prepared}: not there; this is not the sandbox image")
    ignore = shutil.ignore_patterns(*_NOT_NEEDED)
    standard = Path(sysconfig.get_path("stdlib"))
    # What was prepared comes second: a module that was changed there takes the place of the one as it is here.
    # The folder itself is left alone: as a volume it belongs to somebody else, and its mode and times may not be set.
    parts = [(folder, target / folder.name) for folder in sorted(prepared.iterdir())]
    for source, place in ((standard, target / "lib" / standard.name), *parts):
        shutil.copytree(
            source, place, ignore=ignore, ignore_dangling_symlinks=True, dirs_exist_ok=True, copy_function=shutil.copy
        )
    for name in _PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            continue
        origin = Path(spec.origin)
        if origin.stem == "__init__":
            shutil.copytree(origin.parent, target / "packages" / name, ignore=ignore, copy_function=shutil.copy)
        else:
            (target / "packages").mkdir(exist_ok=True)
            shutil.copy(origin, target / "packages")


def _modules() -> Iterator[Path]:
    """Yields the modules in machine code: of the standard library, and of the packages."""
    yield from sorted((Path(sysconfig.get_path("stdlib")) / "lib-dynload").glob("*.so"))
    for name in _PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None:
            origin = Path(spec.origin)
            yield from sorted(origin.parent.rglob("*.so")) if origin.stem == "__init__" else [origin]


def _needed(loader: Path, files: Sequence[Path]) -> dict[str, Path]:
    """Returns every library that the files need, by the name they ask for; what is not here cannot be needed."""
    found: dict[str, Path] = {}
    for file in files:
        listed = subprocess.run([loader, "--list", file], capture_output=True, text=True, check=False).stdout
        for line in listed.splitlines():
            name, arrow, place = line.strip().partition(" => ")
            path = Path(place.rsplit(" (", 1)[0])
            if arrow and path.is_absolute():
                found[name] = path
    return found


def _output(program: Path, *arguments: str | os.PathLike[str]) -> str:
    try:
        done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    except OSError as error:
        raise PortableError(f"{program}: {error.strerror}") from None
    if done.returncode != 0:
        raise PortableError(f"{program}: {done.stderr.strip()}")
    return done.stdout.strip()


def main(arguments: Sequence[str]) -> int:
    """`portable TARGET` copies, `portable --prepare TARGET PATCHELF` prepares; returns the exit code."""
    try:
        match list(arguments):
            case ["--prepare", target, patchelf]:
                prepare(Path(target), Path(patchelf))
            case [target]:
                copy(Path(target))
            case _:
                print("usage: portable TARGET | --prepare TARGET PATCHELF", file=sys.stderr)  # noqa: T201
                return 2
    except (PortableError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
