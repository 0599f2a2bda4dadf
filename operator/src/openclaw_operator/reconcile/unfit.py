"""A resource that the model of this version does not take: stored under a CRD that let it through."""

from __future__ import annotations

import json

from pydantic import ValidationError

from openclaw_operator.reconcile.context import Context
from openclaw_operator.reconcile.primaries import Primary
from openclaw_operator.reconcile.status import Condition

_SHOWN = 100


async def report(context: Context, primary: Primary, error: ValidationError) -> None:
    """Say so in Ready; what runs, and the rest of the status, stays. Raises ApiError for a fault."""
    condition = Condition("Ready", False, "InvalidSpec", message(primary.kind, error))
    await context.report(primary, primary.load()["status"], {}, [condition])


def message(kind: str, error: ValidationError) -> str:
    """The first field that does not fit, its value and the fix."""
    first = error.errors(include_url=False, include_context=False)[0]
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
    value = json.dumps(first["input"], default=str)
    shown = value if len(value) <= _SHOWN else f"{value[:_SHOWN]}…"
    # A reconcile reads others, too: an Agent its MemoryStore.
    model = error.title.removesuffix("Spec")
    whose = "" if model == kind else f"{model} it uses: "
    found = "" if first["type"] == "missing" else f"{shown}: "
    return f"{whose}spec{path}: {found}{first['msg']}: correct it; until then what runs is left as it is"
