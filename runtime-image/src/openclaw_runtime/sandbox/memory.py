"""How much memory a call may use, from the limit of its sandbox as Kubernetes writes it."""

import re
from typing import Final

from openclaw_runtime.sandbox.protocol import MAX_MEMORY_BYTES, MIN_MEMORY_BYTES, Limits

RESERVE_BYTES: Final = 64 * 1024 * 1024
"""Kept for the runner: 20 MiB that it has itself, 28 MiB of package, frames and attachments that it holds for a call,
and 8 MiB of the package where it is unpacked, since scratch is in memory.

With it the call's own limit is met before the container's. Python then raises MemoryError and the call says what
happened; at the container's, the kernel kills: one process of it (cgroup v1) or the runner as well (cgroup v2).
"""

_QUANTITY: Final = re.compile(r"\+?([0-9]+\.?[0-9]*|\.[0-9]+)(?:([KMGTPE]i?|[numk])|[eE]([+-]?[0-9]{1,2}))?")
_DECIMAL: Final = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "K": 1e3} | {
    letter: 1000.0**power for power, letter in enumerate("MGTPE", 2)
}
_BINARY: Final = {f"{letter}i": 1024.0**power for power, letter in enumerate("KMGTPE", 1)}


def parse_quantity(text: str) -> int:
    """Returns a quantity of Kubernetes, such as `2Gi`, in bytes. Raises ValueError.

    https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
    """
    found = _QUANTITY.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not a quantity; write it like 512Mi or 2Gi")
    number, suffix, exponent = found.groups()
    factor = 10.0 ** int(exponent) if exponent else (_DECIMAL | _BINARY | {None: 1.0})[suffix]
    return int(float(number) * factor)


def memory_of_call(limit: str | None) -> int:
    """Returns the bytes a call may use where its sandbox has this limit; None is none. Raises ValueError.

    That is the limit less `RESERVE_BYTES`, or half of a small one. A sandbox without a limit has one for each call.
    """
    if limit is None:
        return Limits().memory_bytes
    whole = parse_quantity(limit)
    return min(max(whole - RESERVE_BYTES, whole // 2, MIN_MEMORY_BYTES), MAX_MEMORY_BYTES)
