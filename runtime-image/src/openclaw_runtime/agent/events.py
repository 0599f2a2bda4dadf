"""What a turn is asked and what it tells while it runs."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain, repeat
from typing import Any, Literal

import msgspec

from openclaw_runtime.agent.attachments import Shown, mentioned
from openclaw_runtime.agent.questions import Ask
from openclaw_runtime.memory.types import KeptAttachment, SessionMessage
from openclaw_runtime.sandbox.attachments import Attachment
from openclaw_runtime.timelimit import TimeLimit

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
    by a skill's pattern. `images` came with the text, `earlier` with messages of `history`, by their places: no more in
    all than a turn shows. `kept` says of `images` where they are kept already.
    """

    session: str
    text: str
    history: Sequence[SessionMessage] | None = None
    client_instructions: Sequence[str] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    chain: Sequence[str] = ()
    call: Invocation | None = None
    commands: bool = False
    images: Sequence[Attachment] = ()
    kept: Sequence[KeptAttachment] = ()
    earlier: Mapping[int, Sequence[Attachment]] = field(default_factory=dict)

    @property
    def said(self) -> str:
        """What the user said, the images named: what is kept of it, and what a skill gets as an answer."""
        return mentioned(self.text, self.images)


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
    """A skill call that was made. `outcome` is ok or the type of the error; `sandbox` names where it ran.

    `attachments` are the files that came with its result and are kept for the user.
    """

    skill: str
    action: str
    outcome: str
    sandbox: str = ""
    duration_ms: float = 0
    attachments: Sequence[KeptAttachment] = ()

    def facts(self) -> dict[str, Any]:
        """Returns it as a JSON object; `attachments` are named where there are some."""
        facts = asdict(self)
        return facts if self.attachments else {name: facts[name] for name in facts if name != "attachments"}


def uses_told(uses: Sequence[SkillUse]) -> dict[str, Any]:
    """Returns skill calls as an agent tells another of them: `skills`, and beside them `attachments`, those of each.

    An agent of a version before attachments would fail at a call that has them, and ignores what is beside.
    """
    skills = [replace(use, attachments=()).facts() for use in uses]
    files = [[asdict(each) for each in use.attachments] for use in uses]
    return {"skills": skills, "attachments": files} if any(files) else {"skills": skills}


def uses_heard(answer: Mapping[str, Any]) -> list[SkillUse]:
    """Returns what `uses_told` of another agent says, whatever its version."""
    uses = msgspec.convert(answer.get("skills", []), list[SkillUse])
    files = msgspec.convert(answer.get("attachments", []), list[tuple[KeptAttachment, ...]])
    pairs = zip(uses, chain(files, repeat(())), strict=False)
    return [replace(use, attachments=given) if given else use for use, given in pairs]


@dataclass(frozen=True, slots=True)
class TurnDone:
    """The end of a turn, or of what it says until its user has answered the question that `text` ends with.

    `error` says why the one call failed that it was made for.
    """

    text: str
    usage: Usage
    finish_reason: FinishReason
    skills: Sequence[SkillUse]
    error: str | None = None
    question: bool = False

    @property
    def attachments(self) -> list[KeptAttachment]:
        """The files that its skill calls gave."""
        return [each for use in self.skills for each in use.attachments]


TurnEvent = TextDelta | Activity | TurnDone


@dataclass
class Turn:
    """The state of a running turn that its tools share.

    `ask` is None where nobody follows the turn. A question and its answer begin a new leg: `user` is what the user said
    last (empty once the question is out), `said` what was answered to it, `exchange` everything before, a line each.
    `given` are the images of the request, as far as they are kept.
    """

    request: TurnRequest
    limit: TimeLimit
    emit: Callable[[TurnEvent], None]
    ask: Ask | None = None
    only: str | None = None
    """The skill whose actions the model may choose among; None: all."""
    skills: list[SkillUse] = field(default_factory=list)
    shown: Shown = field(default_factory=Shown)
    user: str = ""
    given: Sequence[KeptAttachment] = ()
    said: list[str] = field(default_factory=list)
    exchange: list[str] = field(default_factory=list)
    started: float = 0
    """Unix time of the leg's beginning."""
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)
    spent: Usage = Usage(0, 0)
    """Tokens of the whole turn so far."""
    told: Usage = Usage(0, 0)
    """Those that earlier legs have told of."""

    def __post_init__(self) -> None:
        """Begins with what the request says and shows."""
        self.user = self.user or self.request.said
        for each in chain(self.request.images, *self.request.earlier.values()):
            self.shown.add(len(each.data))

    def say(self, text: str) -> None:
        """Says the next piece of the answer."""
        self.said.append(text)
        self.emit(TextDelta(text))

    def say_paragraph(self, text: str = "") -> None:
        """Says what stands apart from what was said before."""
        if self.said:
            self.say("\n\n")
        if text:
            self.say(text)

    def usage(self) -> Usage:
        """Returns what this leg cost, and counts it as told."""
        leg = Usage(
            self.spent.input_tokens - self.told.input_tokens, self.spent.output_tokens - self.told.output_tokens
        )
        self.told = self.spent
        return leg
