"""What a language's own tools say of a skill on this machine: its syntax and its tests."""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from openclaw_runtime.sandbox.runner.languages.node import MODULE
from openclaw_runtime.skills.errors import ManifestError, SkillsError
from openclaw_runtime.skills.folder import SkillFolder
from openclaw_runtime.skills.package import LEFT_OUT

_SYNTAX: Final = {"node": ("node", "--check"), "bash": ("bash", "-n")}
_PATTERNS: Final = {
    "pytest": ("test_*.py", "*_test.py"),
    "node": ("*.test.mjs", "*.test.js"),
    "bash": ("test_*.sh",),
}
"""Which files of the folder `tests` are for which runner."""


class ToolchainError(SkillsError):
    """A language's tools are not here, or there is nothing for them to do. `str()` says what to install or write."""


def check_syntax(skill: SkillFolder, folder: Path) -> str | None:
    """Has the entrypoint parsed by the tools of its language; returns a warning where they are not on this machine.

    Raises `ManifestError`. Python was parsed when the folder was read.
    """
    runtime, main = skill.manifest.runtime, skill.manifest.main_file
    if runtime not in _SYNTAX or skill.manifest.mcp is not None or main is None:
        return None
    program, option = _SYNTAX[runtime]
    if shutil.which(program) is None:
        return f"{main}: its syntax is not checked, as {program} is not on the PATH"
    done = subprocess.run([program, option, str(folder / main)], capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        said = next((line for line in lines if "Error" in line or "error" in line), lines[0] if lines else "")
        raise ManifestError(f"{folder}/{main}", [f"not {runtime}: {said.strip()}"])
    return None


def run_tests(folder: Path) -> int:
    """Runs a skill's tests, each by the runner of its language, and returns the first exit code that is not 0.

    Raises `ToolchainError` where there are none, or what runs them is missing.
    """
    tests = folder / "tests"
    found = {
        runner: [file for pattern in patterns for file in sorted(tests.rglob(pattern))]
        for runner, patterns in _PATTERNS.items()
    }
    if not any(found.values()):
        wanted = ", ".join(pattern for patterns in _PATTERNS.values() for pattern in patterns)
        raise ToolchainError(f"{tests}: holds no tests; put some there, as {wanted}")
    runners = {"pytest": _pytest, "node": _node, "bash": _bash}
    codes = [runners[runner](folder, files) for runner, files in found.items() if files]
    return next((code for code in codes if code), 0)


def _pytest(folder: Path, files: list[Path]) -> int:
    del files  # pytest finds them itself, and conftest.py beside them
    if importlib.util.find_spec("pytest") is None:
        raise ToolchainError("pytest: not installed; install it into this environment to run tests in Python")
    command = [sys.executable, "-m", "pytest", "-q", str(folder / "tests")]
    return subprocess.run(command, check=False).returncode


def _node(folder: Path, files: list[Path]) -> int:
    node = shutil.which("node")
    if node is None:
        raise ToolchainError("node: not on the PATH; install Node.js 20 or newer to run tests in Node.js")
    with _with_modules(folder) as copy:
        command = [node, "--test", *(str(copy / file.relative_to(folder)) for file in files)]
        return subprocess.run(command, check=False, cwd=copy).returncode


@contextmanager
def _with_modules(folder: Path) -> Iterator[Path]:
    """A copy of the skill for which `import "openclaw-skill"` works, as it does in a sandbox.

    Node.js looks for packages in the folders above a file, and follows links to files first.
    """
    with tempfile.TemporaryDirectory(prefix="openclaw-test-") as place:
        copy = Path(place) / folder.resolve().name
        shutil.copytree(folder, copy, ignore=shutil.ignore_patterns(".*", *(LEFT_OUT - {"tests"})))
        modules = Path(place) / "node_modules"
        modules.mkdir()
        (modules / "openclaw-skill").symlink_to(MODULE)
        yield copy


def _bash(folder: Path, files: list[Path]) -> int:
    # The tests call `openclaw`, which need not be on the PATH of whoever started this one.
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
    }
    codes = [
        subprocess.run(["bash", str(file.resolve())], check=False, cwd=folder, env=environment).returncode
        for file in files
    ]
    return next((code for code in codes if code), 0)
