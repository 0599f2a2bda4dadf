"""Agents stand still while the memory they share is restored; their specs are not touched."""

from __future__ import annotations

from dataclasses import replace

from openclaw_operator.api.agent import AgentSpec
from openclaw_operator.reconcile.context import Context
from openclaw_operator.reconcile.status import Condition


def restore_of(context: Context, namespace: str, spec: AgentSpec) -> str | None:
    """The MemoryRestore that runs on the agent's store, if any."""
    ref = spec.memory.store_ref
    return context.primaries.restoring(namespace, ref.name) if ref else None


def paused(spec: AgentSpec) -> AgentSpec:
    """The spec to go by meanwhile: that of an agent that was stopped."""
    return spec.model_copy(update={"suspend": True})


def told(conditions: list[Condition], restore: str) -> list[Condition]:
    """The conditions of an agent that was stopped for a restore, and not by its author."""
    message = f"stopped while MemoryRestore {restore} runs; it starts again by itself"
    return [
        replace(each, reason="Progressing", message=message) if each.reason == "Suspended" else each
        for each in conditions
    ]


def wake(context: Context, namespace: str, store: str) -> None:
    """A restore of a store began or ended: its agents and its backups follow."""
    context.queue.add(("MemoryStore", namespace, store))
    for name in context.primaries.users(("MemoryStore", namespace, store)):
        context.queue.add(("Agent", namespace, name))
