"""Running a test file with what is there: pytest if it is installed, else unittest."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

MAX_OUTPUT = 8000
_PYTEST_COUNT = re.compile(r"(\d+) (passed|failed|errors?|skipped|xfailed|xpassed)\b")
_UNITTEST_RAN = re.compile(r"^Ran (\d+) tests? in", re.MULTILINE)
_UNITTEST_COUNT = re.compile(r"(failures|errors|skipped)=(\d+)")


def has_pytest() -> bool:
    """Tells whether pytest can be used."""
    return importlib.util.find_spec("pytest") is not None


def run(test_file: Path, import_root: Path, scratch: Path, timeout: float) -> dict[str, Any]:
    """Runs the tests of one file and returns counts, exit code (None after a time-out) and the end of the output."""
    runner = "pytest" if has_pytest() else "unittest"
    if runner == "pytest":
        command = ["-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", "--import-mode=importlib"]
        command += [f"--rootdir={test_file.parent}", "-c", os.devnull, str(test_file)]
    else:
        command = ["-m", "unittest", "-v", str(test_file)]
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "PYTHONPATH": str(import_root),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "LANG": "C.UTF-8",
    }
    try:
        done = subprocess.run(
            [sys.executable, *command],
            cwd=test_file.parent,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
            check=False,
        )
        code, output = done.returncode, done.stdout.decode("utf-8", "replace")
    except subprocess.TimeoutExpired as error:
        code, output = None, (error.stdout or b"").decode("utf-8", "replace") + f"\nended after {timeout:g} s"
    counts = _pytest_counts(output) if runner == "pytest" else _unittest_counts(output)
    return {"runner": runner, "ok": code == 0, "exitCode": code, **counts, "output": output[-MAX_OUTPUT:]}


def _pytest_counts(output: str) -> dict[str, int]:
    summary = output.strip().splitlines()[-1] if output.strip() else ""
    counts = {kind.rstrip("s"): int(count) for count, kind in _PYTEST_COUNT.findall(summary)}
    return {"passed": counts.get("passed", 0), "failed": counts.get("failed", 0) + counts.get("error", 0)}


def _unittest_counts(output: str) -> dict[str, int]:
    ran = _UNITTEST_RAN.search(output)
    counts = {kind: int(count) for kind, count in _UNITTEST_COUNT.findall(output.strip().rpartition("\n")[2])}
    failed = counts.get("failures", 0) + counts.get("errors", 0)
    return {"passed": max((int(ran[1]) if ran else 0) - failed - counts.get("skipped", 0), 0), "failed": failed}
