"""Which model is to answer a request: pure functions of the request, the models' figures and what may be spent.

score = 0.6 · performance · complexity + 0.4 · speed · urgency - max(0, 100 · (cost - budget))

Performance is 0 to 1 and speed 0.5 to 5 for the models that are known, so an urgency of about 0.1 weighs as much as a
complexity of 1.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic_ai.messages import ModelMessage, ModelRequest, UserContent, UserPromptPart

from openclaw_runtime.models.prices import tokens_of
from openclaw_runtime.models.sections import Endpoint

LONG_TOKENS = 1_000
"""A message of so many tokens is as complex as its length alone makes it."""
WAITING = 0.05
"""The urgency of a turn: somebody waits for its answer. Work in the background has 0."""
HURRIED = 0.5
"""The urgency of a turn whose message asks for haste."""
EXPECTED_OUTPUT_TOKENS = 500

_DEMANDING = re.compile(
    r"```|^diff --git|^Traceback \(most recent call last\)|"
    r"\b(analy[sz]e|architect\w*|compare|debug|derive|design|evaluate|explain why|implement|investigate|migrate|"
    r"optimi[sz]e|plan|prove|refactor|review|root cause|step by step|trade-?offs?)\b",
    re.IGNORECASE | re.MULTILINE,
)
_HASTY = re.compile(r"\b(asap|at once|hurry|immediately|quick|quickly|right now|urgent|urgently)\b", re.IGNORECASE)
_DATED = re.compile(r"-(latest|\d{4}-?\d{2}-?\d{2})$")


@dataclass(frozen=True)
class Figures:
    """What the router knows of a model: cost in US dollars per 1,000 tokens, performance 0 to 1, speed (gpt-4 is 1)."""

    cost: float
    performance: float
    speed: float


KNOWN = {
    "gpt-4": Figures(0.03, 0.9, 1),
    "gpt-4o": Figures(0.015, 0.85, 2),
    "gpt-4o-mini": Figures(0.003, 0.7, 4),
    "claude-3-opus": Figures(0.075, 0.95, 0.8),
    "claude-3-sonnet": Figures(0.015, 0.85, 2),
    "claude-3-haiku": Figures(0.001, 0.6, 5),
}
LOCAL = Figures(0.0001, 0.5, 0.5)
UNKNOWN = Figures(0.015, 0.7, 2)
"""What a model is taken for that is neither known nor described."""


@dataclass(frozen=True)
class Needs:
    """What a request asks of a model, both 0 to 1."""

    complexity: float
    urgency: float


@dataclass(frozen=True)
class Option:
    """A model that may answer a request, and what that is expected to cost in US dollars."""

    figures: Figures
    cost: float


def figures(endpoint: Endpoint) -> Figures:
    """Returns the figures of a model: those of the configuration, else those that are known of it.

    A model's dated name counts as its plain one.
    """
    plain = _DATED.sub("", endpoint.model)
    known = LOCAL if endpoint.provider == "local" else KNOWN.get(plain, UNKNOWN)
    return Figures(
        known.cost,
        known.performance if endpoint.performance is None else endpoint.performance,
        known.speed if endpoint.speed is None else endpoint.speed,
    )


def judge(messages: Sequence[ModelMessage], *, background: bool) -> Needs:
    """Judges a request by the last message of the user, so that all requests of a turn are judged alike.

    Complexity: up to 0.5 for its length (1,000 tokens), and 0.5 more if it holds code, a diff or a stack trace, or one
    of the words that ask for thought, like analyse, design, debug or plan. Urgency: 0 in the background, 0.05 where
    somebody waits, 0.5 if the message asks for haste.
    """
    text = _last_user_text(messages)
    complexity = 0.5 * min(1.0, tokens_of(text) / LONG_TOKENS) + (0.5 if _DEMANDING.search(text) else 0.0)
    if background:
        return Needs(complexity, 0.0)
    return Needs(complexity, HURRIED if _HASTY.search(text) else WAITING)


def score(option: Option, needs: Needs, budget: float | None) -> float:
    """Returns how well a model fits; `budget` is what the request may cost in US dollars, None for no matter what."""
    fit = 0.6 * option.figures.performance * needs.complexity + 0.4 * option.figures.speed * needs.urgency
    return fit if budget is None else fit - max(0.0, 100 * (option.cost - budget))


def rank(options: Sequence[Option], needs: Needs, budget: float | None) -> list[int]:
    """Returns the places of the options, best first; of equals the cheaper is first, then the one listed first."""
    return sorted(range(len(options)), key=lambda n: (-score(options[n], needs, budget), options[n].cost, n))


def _last_user_text(messages: Sequence[ModelMessage]) -> str:
    for message in reversed(messages):
        if isinstance(message, ModelRequest):
            asked = [part.content for part in message.parts if isinstance(part, UserPromptPart)]
            if asked:
                return "\n".join(text for each in asked for text in _texts(each))
    return ""


def _texts(content: str | Sequence[UserContent]) -> list[str]:
    """Returns what a user's message says; images in it say nothing."""
    return [content] if isinstance(content, str) else [each for each in content if isinstance(each, str)]
