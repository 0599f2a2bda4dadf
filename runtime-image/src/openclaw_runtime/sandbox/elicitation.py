"""What an MCP server asks the user for, as questions of a conversation, one for each field. Pure but for `ask`.

https://modelcontextprotocol.io/specification/2025-06-18/client/elicitation. A form has flat fields of simple types;
what is none is declined, as is a visit to an address (mode "url").
"""

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from openclaw_runtime.sandbox.jsonrpc import Json
from openclaw_runtime.sandbox.protocol import MAX_QUESTION

MAX_FIELDS: Final = 10
"""Of one form: each is a question, and a call may ask few."""
TRIES: Final = 3
"""How often a field is asked for whose answer does not fit."""
_YES: Final = frozenset({"yes", "y", "true", "ok", "1"})
_NO: Final = frozenset({"no", "n", "false", "0"})
_CANCEL: Final = "cancel"
_SKIP: Final = "-"
_LONGEST: Final = 1_000

Ask = Callable[[str], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a form. `kind` is its JSON Schema type; `choices` are its only values, where it has such."""

    name: str
    label: str
    kind: str
    choices: tuple[str, ...]
    required: bool

    def question(self) -> str:
        """Returns what the user is asked."""
        hints = {"boolean": "yes or no", "integer": "a whole number", "number": "a number"}
        hint = f"one of: {', '.join(self.choices)}" if self.choices else hints.get(self.kind, "")
        optional = "" if self.required else f'answer "{_SKIP}" to leave it out'
        return self.label + "".join(f" ({note})" for note in (hint, optional) if note)

    def value(self, answer: str) -> Any:
        """Returns an answer as what the field holds. Raises ValueError that says what fits."""
        text, low = answer.strip(), answer.strip().lower()
        if self.choices:
            for choice in self.choices:
                if choice.lower() == low:
                    return choice
            raise ValueError(f"{text[:80]!r} is none of {', '.join(self.choices)}")
        if self.kind == "boolean":
            if low in _YES | _NO:
                return low in _YES
            raise ValueError("please answer yes or no")
        if self.kind in ("integer", "number"):
            return _number(text, whole=self.kind == "integer")
        return text


def _number(text: str, *, whole: bool) -> int | float:
    try:
        number = int(text) if whole else float(text)
    except ValueError:
        number = math.nan
    # JSON has neither nan nor inf.
    if isinstance(number, float) and not math.isfinite(number):
        raise ValueError(f"{text[:80]!r} is not a {'whole ' if whole else ''}number")
    return number


def fields_of(schema: object) -> list[Field] | None:
    """Returns the fields of a form; None for a schema that is no form."""
    properties = schema.get("properties", {}) if isinstance(schema, dict) else None
    if not isinstance(schema, dict) or not isinstance(properties, dict) or len(properties) > MAX_FIELDS:
        return None
    listed = schema.get("required")
    required = listed if isinstance(listed, list) else []
    fields = []
    for name, field in properties.items():
        if not isinstance(field, dict) or field.get("type") not in ("string", "boolean", "integer", "number"):
            return None
        choices = field.get("enum", [])
        if not isinstance(choices, list) or not all(isinstance(each, str) for each in choices):
            return None
        title = field.get("title") if isinstance(field.get("title"), str) else name
        note = field.get("description")
        label = f"{title}: {note}" if isinstance(note, str) else str(title)
        fields.append(Field(name, label[:_LONGEST], field["type"], tuple(choices), name in required))
    return fields


async def elicit(params: Json, ask: Ask) -> Json:
    """Asks the user for what a form holds and returns the result of elicitation/create.

    "cancel" as an answer declines. Raises what `ask` raises.
    """
    message, fields = params.get("message"), fields_of(params.get("requestedSchema", {}))
    if fields is None or not isinstance(message, str) or params.get("mode", "form") != "form":
        return {"action": "decline"}
    # Without fields the form is the question whether to go on.
    wanted = fields or [Field("", "Go on?", "boolean", (), required=True)]
    before = f'{message[:_LONGEST]}\n\n(Answer "{_CANCEL}" to decline.)\n\n'
    content: Json = {}
    for field in wanted:
        if not await _fill(content, field, before, ask):
            return {"action": "decline"}
        before = ""
    if not fields and not content[""]:
        return {"action": "decline"}
    return {"action": "accept", "content": content if fields else {}}


async def _fill(content: Json, field: Field, before: str, ask: Ask) -> bool:
    """Adds an answer that fits; returns False when the user declines or gives none that does."""
    for _ in range(TRIES):
        answer = (await ask(f"{before}{field.question()}"[:MAX_QUESTION])).strip()
        if answer.lower() == _CANCEL:
            return False
        if answer == _SKIP and not field.required:
            return True
        try:
            content[field.name] = field.value(answer)
        except ValueError as error:
            before = f"{error}\n\n"
        else:
            return True
    return False
