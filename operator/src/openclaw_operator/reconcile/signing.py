"""The Ed25519 key pair of a namespace: gateways sign sandbox calls with it, sandbox pods check them."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from openclaw_operator.cluster.kinds import BY_NAME
from openclaw_operator.cluster.live import Live
from openclaw_operator.errors import ConflictError, OwnershipConflictError, SpecError
from openclaw_operator.reconcile.context import Context
from openclaw_operator.resources import secrets
from openclaw_operator.resources.meta import MANAGED_BY, OPERATOR

SEED_BYTES = 32


async def ensure_signing_key(context: Context, namespace: str) -> str:
    """Create the key pair once; returns the public key in base64.

    Raises OwnershipConflictError when somebody else's Secret has the name, SpecError when a key was taken out of it.
    """
    live = context.children.get("Secret", namespace, secrets.SIGNING_SECRET)
    if live is None:
        async with context.signing[namespace]:
            live = context.children.get("Secret", namespace, secrets.SIGNING_SECRET)
            if live is None:
                live = await _create(context, namespace)
    public_key: str | None = live.facts.get(secrets.PUBLIC_KEY)
    if not public_key or secrets.PRIVATE_KEY not in live.facts["keys"]:
        raise SpecError(
            "SigningKeyBroken",
            f"Secret {secrets.SIGNING_SECRET} lacks {secrets.PRIVATE_KEY} or {secrets.PUBLIC_KEY}: "
            "delete it, a new pair is then made and sandbox pods are replaced",
        )
    return public_key


async def _create(context: Context, namespace: str) -> Live:
    kind = BY_NAME["Secret"]
    seed = context.random_bytes(SEED_BYTES)
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    try:
        item = await context.client.create(kind, namespace, secrets.signing(namespace, seed, public), "create")
    except ConflictError:
        item = await context.client.get(kind, namespace, secrets.SIGNING_SECRET)
        if (item["metadata"].get("labels") or {}).get(MANAGED_BY) != OPERATOR:
            raise OwnershipConflictError("Secret", secrets.SIGNING_SECRET) from None
    return context.children.observe(kind, item)
