"""A file that is replaced while the process runs, as the kubelet replaces mounted Secrets."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")

_log = logging.getLogger(__name__)


class FollowedFile(Generic[T]):
    """What `load` makes of a file, made anew once the file is another one.

    A look costs one stat; mounted Secrets are in memory, so it never waits for a disk. A file that cannot be used is
    told once, and what was loaded before stays. Raises what `load` raises, only when it is made.
    """

    def __init__(self, path: Path, load: Callable[[Path], T]) -> None:
        self._path = path
        self._load = load
        self._seen = _identity(path)
        self._value = load(path)
        self._told: str | None = None

    def get(self) -> T:
        """Returns what the file holds now."""
        seen = _identity(self._path)
        if seen == self._seen:
            return self._value
        try:
            self._value = self._load(self._path)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the new file, the old content is still good
            if str(error) != self._told:
                self._told = str(error)
                _log.error("%s is not used, the one before stays in use: %s", self._path, error)
        else:
            self._seen, self._told = seen, None
            _log.info("%s was replaced; the new one is in use", self._path)
        return self._value


def _identity(path: Path) -> tuple[int, int, int, int] | None:
    """Returns what tells one file of a name from another; Kubernetes swaps a link, so the inode is a new one."""
    try:
        found = os.stat(path)  # noqa: PTH116 - half the time of Path.stat, on every call
    except OSError:
        return None
    return (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)
