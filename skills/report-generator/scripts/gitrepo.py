"""Reading a git repository that is not trusted. Each skill that needs this file has a copy of it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from openclaw_skill import SkillError

TIMEOUT_SECONDS = 60
_REVISION = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_./@^~{}+-]*$")


def check_revision(value: str, field: str) -> str:
    """Returns a revision name that git cannot take for an option. Raises SkillError."""
    if not _REVISION.match(value):
        raise SkillError(f"{field}: {value!r} is no revision; give a branch, a tag or a commit")
    return value


def git(root: Path, *arguments: str, field: str = "git") -> str:
    """Returns what git prints. Its hooks, monitors, external diffs and the user's settings are off."""
    if not (root / ".git").exists():
        raise SkillError("workspace: it is no git repository; clone or create one in it first")
    command = [
        "git",
        "--no-pager",
        "--literal-pathspecs",
        "-c", f"safe.directory={root}",  # the volume's owner is not the sandbox's user
        "-c", "core.hooksPath=/dev/null",
        "-c", "core.fsmonitor=false",
        "-c", "core.quotePath=false",
        "-c", "diff.external=",
        *arguments,
    ]  # fmt: skip
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": os.environ.get("HOME", "/nonexistent"),
        "LC_ALL": "C.UTF-8",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_CEILING_DIRECTORIES": str(root.parent),
        "TZ": "UTC",
    }
    try:
        done = subprocess.run(
            command,
            cwd=root,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        raise SkillError("git: it is not installed in the sandbox; use the standard sandbox image") from None
    except subprocess.TimeoutExpired:
        raise SkillError(f"git: it took longer than {TIMEOUT_SECONDS} s; narrow the range or the paths") from None
    if done.returncode != 0:
        words = done.stderr.decode("utf-8", "replace").strip().splitlines() or [f"exit code {done.returncode}"]
        raise SkillError(f"{field}: git says: {words[0][:300]}")
    return done.stdout.decode("utf-8", "replace")
