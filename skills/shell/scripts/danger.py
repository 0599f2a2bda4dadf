"""Commands that are refused.

This catches mistakes, of people and of models; what contains a command is the sandbox: a throw-away pod, without
privileges, with nothing but this workspace in it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from itertools import pairwise

from openclaw_skill import SkillError

PATTERNS: dict[str, str] = {
    "deletes recursively and by force": r"\brm\s+(?=[^;|&]*(?:-\w*[rR]|--recursive))(?=[^;|&]*(?:-\w*f|--force))",
    "makes a file system": r"\bmkfs(?:\.\w+)?\b",
    "copies raw data with dd": r"\bdd\s+(?:\S+\s+)*if=",
    "writes to a disk": r">\s*/dev/(?:sd|hd|vd|xvd|nvme|mmcblk|disk)\w*",
    "changes a disk's layout": r"\b(?:fdisk|sfdisk|parted|wipefs|blkdiscard)\b",
    "sets a file mode by number": r"\bchmod\s+(?:-\w+\s+)*[0-7]{3,4}\s+",
    "changes owners recursively": r"\bchown\s+(?:-\w*R|--recursive)",
    "is a fork bomb": r"(\w+|:)\s*\(\)\s*\{[^}]*\1\s*\|\s*\1\s*&",
    "runs what it downloads": r"\b(?:curl|wget)\b[^;&]*\|\s*(?:sudo\s+)?(?:(?:ba|da|z|k)?sh|python[\d.]*)\b",
    "asks for another user's rights": r"(?:^|[;&|(\n]\s*)(?:sudo|su|doas|pkexec)\b",
    "stops the machine": r"(?:^|[;&|(\n]\s*)(?:shutdown|reboot|halt|poweroff|init\s+[06])\b",
    "opens a shell over the network": r"/dev/(?:tcp|udp)/|\b(?:nc|ncat|netcat)\b[^;|&]*\s-\w*[ec]\b",
    "writes to the kernel": r">\s*/proc/sys|\bsysctl\s+-w\b|/proc/sysrq-trigger",
}
"""What a command does, and how it is recognised in a line of shell."""


def check_line(line: str, extra: Iterable[str] = ()) -> None:
    """Raises SkillError if a line of shell matches a pattern; `extra` are regular expressions of the configuration."""
    # Quotes and a backslash before an ordinary character change how a command looks, not what it does.
    plain = re.sub(r"\\\n|\\(?=\w)|['\"]", "", line)
    for what, pattern in PATTERNS.items():
        for text in {line, plain}:
            if re.search(pattern, text):
                raise SkillError(f"command: {_short(line)} is refused, it {what}; do it in smaller, named steps")
    for pattern in extra:
        try:
            refused = re.search(pattern, line)
        except re.error as error:
            raise SkillError(f"config.denyPatterns: {pattern!r} is no regular expression ({error})") from None
        if refused:
            raise SkillError(f"command: {_short(line)} is refused by config.denyPatterns {pattern!r}")


def check_arguments(argv: list[str], extra: Iterable[str] = ()) -> None:
    """Like `check_line`, for an argument list. A shell called with -c is judged by the line it would run."""
    name = argv[0].rsplit("/", 1)[-1]
    check_line(" ".join([name, *argv[1:]]) + " ", extra)
    if re.fullmatch(r"(?:ba|da|z|k)?sh", name):
        for before, line in pairwise(argv):
            if re.fullmatch(r"-\w*c", before):
                check_line(line, extra)


def _short(line: str) -> str:
    return repr(line if len(line) <= 80 else line[:77] + "...")


def quoted(argv: list[str]) -> str:
    """Returns an argument list as a line of shell, for messages."""
    return shlex.join(argv)
