"""What a resource cannot be without: a Secret with a key."""

from __future__ import annotations

from openclaw_operator.api.base import KeyRef
from openclaw_operator.cluster.references import Key as ReferenceKey
from openclaw_operator.errors import SpecError
from openclaw_operator.reconcile.context import Context
from openclaw_operator.reconcile.primaries import Primary


async def require_secret(context: Context, primary: Primary, path: str, ref: KeyRef, named: set[ReferenceKey]) -> None:
    """Raise SpecError SecretNotFound unless the Secret has the key; the resource is woken when it does."""
    named.add(("Secret", primary.namespace, ref.name))
    keys = await context.references.secret_keys(primary.namespace, ref.name, primary.key)
    if keys is None:
        raise SpecError(
            "SecretNotFound",
            f"{path}: Secret {ref.name!r} does not exist in namespace {primary.namespace}: "
            f"create it with the key {ref.key!r}",
        )
    if ref.key not in keys:
        context.references.missing_key(primary.namespace, ref.name, primary.key)
        raise SpecError(
            "SecretNotFound",
            f"{path}: Secret {ref.name!r} has nothing under {ref.key!r} (it has {', '.join(sorted(keys)) or 'no keys'})"
            ": add the key or name another",
        )
