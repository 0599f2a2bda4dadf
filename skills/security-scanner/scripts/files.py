"""Rights of files."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator

from issue import Issue

_PRIVATE = re.compile(
    r"(?:^|/)(?:id_(?:rsa|dsa|ecdsa|ed25519)|\.env(?:\..+)?|\.netrc|\.pgpass|credentials"
    r"|.*\.(?:pem|key|p12|pfx|kubeconfig))$"
)


def check(file: str, mode: int, *, is_public_pem: bool) -> Iterator[Issue]:
    """Yields what is wrong with a file's mode (st_mode); `is_public_pem` says that a .pem holds no private key."""
    shown = f"mode {stat.S_IMODE(mode):o}"
    if mode & (stat.S_ISUID | stat.S_ISGID):
        text = f"{shown}: it runs with its owner's rights"
        yield Issue("perm-setuid", "high", file, 1, text, "Remove the bit (chmod u-s,g-s).", "setuid")
    if mode & stat.S_IWOTH:
        text = f"{shown}: everybody may change it"
        yield Issue("perm-world-writable", "medium", file, 1, text, "Take the right away (chmod o-w).", "world")
    if _PRIVATE.search(file) and mode & 0o077 and not is_public_pem:
        text = f"{shown}: others may read what looks like a credential"
        yield Issue("perm-private", "medium", file, 1, text, "chmod 600, and keep it out of the repository.", "private")
