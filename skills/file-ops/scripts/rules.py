"""What may be written where."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from openclaw_skill import SkillError

FORBIDDEN = (".exe", ".dll", ".so", ".sh", ".bat", ".cmd")
_VERSIONED_LIBRARY = re.compile(r"\.so(\.\d+)+$")


def check_writable(shown: str, field: str = "path") -> None:
    """Refuses programs, and git's own folder: a hook or a setting written there would run with the next git command."""
    path = PurePosixPath(shown)
    name = path.name.lower().rstrip(". ")
    if name.endswith(FORBIDDEN) or _VERSIONED_LIBRARY.search(name):
        raise SkillError(f"{field}: {shown!r} has a forbidden extension ({' '.join(FORBIDDEN)}); choose another")
    if ".git" in (part.lower() for part in path.parts):
        raise SkillError(f"{field}: {shown!r} is git's own data; use git-ai-helper to change the repository")
    if shown in {"", "."}:
        raise SkillError(f"{field}: {shown!r} is the workspace itself; name a file or folder in it")
