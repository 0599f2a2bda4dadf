"""What a turn is asked and what it tells while it runs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from openclaw_runtime.memory.types import SessionMessage

FinishReason = Literal["stop", "length", "content_filter"]


@dataclass(frozen=True, slots=True)
class Invocation:
    """A skill call that no model has to choose."""

    skill: str
    action: str
    input: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TurnRequest:
    """One turn. `history` is None when the agent's own record of the session is to be used.

    `settings` are sampling settings of pydantic-ai that override the agent's. `chain` are the agents that handed this
    work on, first to last. `call` is all there is to do, where no model is wanted; with `commands` the text may name it
    by a skill's pattern.
    """

    session: str
    text: str
    history: Sequence[SessionMessage] | None = None
    client_instructions: Sequence[str] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    chain: Sequence[str] = ()
    call: Invocation | None = None
    commands: bool = False


@dataclass(frozen=True, slots=True)
class TextDelta:
    """The next piece of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Activity:
    """Something happens that is not text: a skill is called, work is delegated, a skill reports progress."""

    text: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of all model requests of a turn."""

    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class SkillUse:
    """A skill call that was made. `outcome` is ok or the type of the error; `sandbox` names where it ran."""

    skill: str
    action: str
    outcome: str
    sandbox: str = ""
    duration_ms: float = 0


@dataclass(frozen=True, slots=True)
class TurnDone:
    """The end of a turn. `error` says why the one call failed that it was made for."""

    text: str
    usage: Usage
    finish_reason: FinishReason
    skills: Sequence[SkillUse]
    error: str | None = None


TurnEvent = TextDelta | Activity | TurnDone


@dataclass
class Turn:
    """The state of a running turn that its tools share. `deadline` is on the clock of the running loop, in seconds."""

    request: TurnRequest
    deadline: float
    emit: Callable[[TurnEvent], None]
    only: str | None = None
    """The skill whose actions the model may choose among; None: all."""
    skills: list[SkillUse] = field(default_factory=list)
