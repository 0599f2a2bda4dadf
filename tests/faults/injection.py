"""Decides which fault a call meets. Pure: the same seed and the same calls give the same faults."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

WRITE_METHODS = frozenset({"POST", "PUT", "PATCH", "DELETE"})


@dataclass(frozen=True)
class Call:
    """One request on its way to the API server. `number` counts from 1."""

    number: int
    method: str
    path: str
    is_watch: bool
    body: bytes = b""
    # Of a list: whether it goes on with one that is begun.
    is_later_page: bool = False
    # Of a watch: whether it begins with all there is.
    is_streamed_list: bool = False

    @property
    def is_write(self) -> bool:
        return self.method in WRITE_METHODS


@dataclass(frozen=True)
class Pass:
    """Forward it, after `delay` seconds."""

    delay: float = 0.0


@dataclass(frozen=True)
class Answer:
    """Do not forward it; answer with this status as the API server would."""

    status: int


@dataclass(frozen=True)
class CloseBefore:
    """Do not forward it; close the connection."""


@dataclass(frozen=True)
class CloseAfter:
    """Forward it, then close the connection: it was done, and the caller cannot know."""


@dataclass(frozen=True)
class Hang:
    """Do not forward it and never answer: a connection that is dead, and nobody has said so."""


Fault = Pass | Answer | CloseBefore | CloseAfter | Hang
Injector = Callable[[Call], Fault]
EVERY_FAULT: Sequence[Fault] = (
    Answer(409),
    Answer(429),
    Answer(500),
    Answer(503),
    CloseBefore(),
    CloseAfter(),
    Pass(delay=0.2),
)


def no_faults(call: Call) -> Fault:
    """Forward everything."""
    return Pass()


def share_of_calls(seed: int, share: float, faults: Sequence[Fault] = EVERY_FAULT) -> Injector:
    """Give `share` (0 to 1) of the calls one of `faults`, chosen by a generator of `seed`."""
    generator = random.Random(seed)

    def choose(call: Call) -> Fault:
        if generator.random() >= share:
            return Pass()
        fault = generator.choice(faults)
        # The API server has no conflict to report about a read.
        return Answer(503) if fault == Answer(409) and not call.is_write else fault

    return choose
