"""What a gateway takes from outside."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from openclaw_runtime.skills.audit import Audit

if TYPE_CHECKING:
    from openclaw_runtime.bus.local import LocalBroker


@dataclass(frozen=True)
class Surroundings:
    """What a gateway takes from outside: the process environment, folders, clocks, randomness.

    `environment` holds the runtime's keys (`load_environment`), `environ` the whole process environment. `now` is Unix
    time and `timer` a monotonic clock, both in seconds; `replica` is unique among all replicas. `broker` joins
    gateways of one process.
    """

    environment: Mapping[str, str]
    environ: Mapping[str, str]
    data_dir: Path
    version: str
    replica: str
    now: Callable[[], float]
    timer: Callable[[], float]
    new_id: Callable[[], str]
    random: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    broker: "LocalBroker | None" = None
    audit: Audit = field(default_factory=lambda: Audit([]))
