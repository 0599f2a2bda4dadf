"""Languages beside Python: how their programs are started, confined and given what a skill may reach.

The child of the runner stays what it is, a confined Python process; here it starts something else and answers for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from openclaw_runtime.sandbox.protocol import Limits

SERVED: Final[Mapping[str, tuple[str, ...]]] = {"python": ("python", "bash"), "node": ("node",), "image": ("image",)}
"""Which runtimes a sandbox serves, by the runtime it was made for."""


@dataclass(frozen=True, slots=True)
class Languages:
    """What a sandbox was made for.

    `runtime` is a key of `SERVED`. `node` is the program, where one was named; it is started before the first
    call, with the `allowances` (permissions) and `memory_bytes` its calls are expected to have. `environment` is that
    of the skill's own image.
    """

    runtime: str = "python"
    node: Path | None = None
    allowances: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    memory_bytes: int = Limits().memory_bytes


class LanguageError(Exception):
    """The program a runtime needs is missing or did not start. `str()` names it and the fix."""
