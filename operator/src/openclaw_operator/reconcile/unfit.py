"""A resource that the model of this version does not take: stored under a CRD that let it through."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, ValidationError

from openclaw_operator.api.agent import AgentSpec
from openclaw_operator.api.memoryrestore import MemoryRestoreSpec
from openclaw_operator.api.memorystore import MemoryStoreSpec
from openclaw_operator.api.skill import SkillSpec
from openclaw_operator.reconcile.context import Context
from openclaw_operator.reconcile.primaries import Primary
from openclaw_operator.reconcile.status import Condition

REASON = "InvalidSpec"
_SHOWN = 100
_MODELS: dict[str, type[BaseModel]] = {
    "Agent": AgentSpec,
    "MemoryRestore": MemoryRestoreSpec,
    "MemoryStore": MemoryStoreSpec,
    "Skill": SkillSpec,
}


async def report(context: Context, primary: Primary, error: ValidationError) -> None:
    """Say so in Ready; what runs, and the rest of the status, stays. Raises ApiError for a fault."""
    condition = Condition("Ready", False, REASON, message(primary.kind, error))
    await context.report(primary, primary.load()["status"], {}, [condition])


def message(kind: str, error: ValidationError) -> str:
    """The first field that does not fit, its value and the fix."""
    return f"{fault(kind, error)}: correct it; until then what runs is left as it is"


def fault(kind: str, error: ValidationError) -> str:
    """The first field that does not fit, and its value."""
    first = error.errors(include_url=False, include_context=False)[0]
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
    value = json.dumps(first["input"], default=str)
    shown = value if len(value) <= _SHOWN else f"{value[:_SHOWN]}…"
    # A reconcile reads others, too: an Agent its MemoryStore.
    model = error.title.removesuffix("Spec")
    whose = "" if model == kind else f"{model} it uses: "
    found = "" if first["type"] == "missing" else f"{shown}: "
    return f"{whose}spec{path}: {found}{first['msg']}"


def fault_of(kind: str, spec: Any) -> str | None:
    """What of a spec this version does not take, None where it takes all of it."""
    try:
        _MODELS[kind].model_validate(spec)
    except ValidationError as error:
        return fault(kind, error)
    return None
