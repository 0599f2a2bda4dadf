"""Settings from the environment of a process.

Imported before the child of a sandbox is forked, so it pulls in nothing.
"""

from collections.abc import Mapping
from typing import TypeVar

DefaultT = TypeVar("DefaultT", int, None)


class SettingsError(Exception):
    """A setting is missing or wrong. `str()` names the variable, its value and what is allowed."""


def number(
    environ: Mapping[str, str], name: str, default: DefaultT, most: int, *, expected: str | None = None
) -> int | DefaultT:
    """Returns a number from 0 to `most`, or `default` where it is unset or empty. Raises `SettingsError`."""
    text = environ.get(name, "")
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or int(text) > most:
        raise SettingsError(f"{name}: {text!r} is not {expected or f'a number from 0 to {most}'}")
    return int(text)
