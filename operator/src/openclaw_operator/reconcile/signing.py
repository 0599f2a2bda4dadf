"""The Ed25519 key pair of a namespace: gateways sign sandbox calls with it, sandbox pods check them.

Rotation is a state machine that lives in the Secret, so it goes on wherever the operator was stopped:

1. `next.*` is there: gateways sign with the old key, new pods trust both. Ends when every waiting pod does, and egress
   proxies, if there are any, have surely read the next key, too: the kubelets had the time to bring them the ConfigMap.
2. `former.public.key` is there: the next pair has become the signing one, pods still trust both. Ends when the kubelets
   have surely brought the new private key to all gateways.
3. Neither: pods trust the signing key only, and those that still trust the former one are replaced. `past.public.keys`
   are what egress proxies believe besides, until no grant of a call that began before can be good any more.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from openclaw_operator.cluster.kinds import BY_NAME
from openclaw_operator.cluster.live import Live
from openclaw_operator.errors import ConflictError, OwnershipConflictError, SpecError
from openclaw_operator.reconcile.context import Context
from openclaw_operator.resources import egress, secrets
from openclaw_operator.resources.meta import MANAGED_BY, OPERATOR
from openclaw_operator.resources.sandbox import SIGNING_LABEL
from openclaw_operator.resources.secrets import (
    FORMER_PUBLIC_KEY,
    NEXT_PRIVATE_KEY,
    NEXT_PUBLIC_KEY,
    PAST_PUBLIC_KEYS,
    PRIVATE_KEY,
    PUBLIC_KEY,
    ROTATE,
    ROTATED,
    SIGNS_SINCE,
)

SEED_BYTES = 32
PUBLIC_BYTES = 32
# Gateways go on with what a mounted ConfigMap or Secret held before until the kubelet has brought them the new content:
# up to its sync period of a minute and the life of its cache, https://kubernetes.io/docs/concepts/configuration/secret/.
MOUNT_SECONDS = 150.0
# No grant of a call's way out is good for longer: that of a call of an hour, with what clocks may differ by.
GRANT_SECONDS = 3930.0
# More keys than can be switched in that time.
MAX_PAST = 32


@dataclass(frozen=True)
class SigningKeys:
    """The public keys of a namespace in base64: the one that gateways sign with, and others that pods trust, too.

    `past` are those that grants of calls which still run may be signed with.
    """

    signing: str
    others: tuple[str, ...] = ()
    past: tuple[str, ...] = ()

    @property
    def trusted(self) -> str:
        """All of them, comma separated, always in the same order: what a sandbox pod is given."""
        return ",".join(sorted({self.signing, *self.others}))

    @property
    def grants(self) -> str:
        """Those that an egress proxy believes, comma separated, always in the same order."""
        return ",".join(sorted({self.signing, *self.others, *self.past}))

    @property
    def label(self) -> str:
        """Which keys a pod trusts, as the value of its label."""
        return ".".join(sorted(key_id(key) for key in self.trusted.split(",")))

    def serves(self, pod: Live) -> bool:
        """Whether a pod believes today's gateways."""
        return key_id(self.signing) in trusts(pod)


def key_id(public_key: str) -> str:
    """A public key in a label: the first 10 hex digits of the sha256 of its base64."""
    return hashlib.sha256(public_key.encode()).hexdigest()[:10]


def trusts(pod: Live) -> set[str]:
    """Ids of the keys a pod believes."""
    return set(pod.labels.get(SIGNING_LABEL, "").split("."))


async def ensure_signing_key(context: Context, namespace: str) -> SigningKeys:
    """Create the key pair once; returns the public keys that whoever checks a signature of the namespace must trust.

    Raises OwnershipConflictError when somebody else's Secret has the name, SpecError when a key was taken out of it.
    """
    live = context.children.get("Secret", namespace, secrets.SIGNING_SECRET)
    if live is None:
        async with context.signing[namespace]:
            live = context.children.get("Secret", namespace, secrets.SIGNING_SECRET)
            if live is None:
                live = await _create(context, namespace)
    public_key: str | None = live.facts.get(PUBLIC_KEY)
    if not public_key or PRIVATE_KEY not in live.facts["keys"]:
        raise SpecError(
            "SigningKeyBroken",
            f"Secret {secrets.SIGNING_SECRET} lacks {PRIVATE_KEY} or {PUBLIC_KEY}: "
            "delete it, a new pair is then made and sandbox pods are replaced",
        )
    others = (live.facts.get(name) for name in (NEXT_PUBLIC_KEY, FORMER_PUBLIC_KEY))
    past = base64.b64decode(live.facts.get(PAST_PUBLIC_KEYS, ""))
    each = (past[start : start + PUBLIC_BYTES] for start in range(0, len(past), PUBLIC_BYTES))
    return SigningKeys(
        public_key, tuple(key for key in others if key), tuple(base64.b64encode(key).decode() for key in each)
    )


async def rotate_signing_key(
    context: Context, namespace: str, waiting: Iterable[Live], max_age_seconds: float | None
) -> float | None:
    """Take the next step of a rotation, if there is one to take; `waiting` are the pods that calls may still be given.

    Returns after how many seconds to look again; None when only an event can bring news. Raises ApiError.
    """
    live = context.children.get("Secret", namespace, secrets.SIGNING_SECRET)
    if live is None:
        return None
    now, facts = context.now(), live.facts
    step: Callable[[Context, Mapping[str, Any]], dict[str, Any]]
    age = (now - datetime.fromisoformat(facts.get(SIGNS_SINCE) or live.created)).total_seconds()
    if facts.get(NEXT_PUBLIC_KEY) and NEXT_PRIVATE_KEY in facts["keys"]:
        coming = key_id(facts[NEXT_PUBLIC_KEY])
        if any(coming not in trusts(pod) for pod in waiting):
            return None
        lag = _lag_of_proxies(context, namespace, facts[NEXT_PUBLIC_KEY])
        if lag > 0:
            return lag
        step = _switch
    elif facts.get(FORMER_PUBLIC_KEY):
        if age < MOUNT_SECONDS:
            return MOUNT_SECONDS - age
        step = _finish
    elif facts.get(ROTATE) not in (None, facts.get(ROTATED)) or age >= (max_age_seconds or math.inf):
        step = _begin
    elif facts.get(PAST_PUBLIC_KEYS):
        left = MOUNT_SECONDS + GRANT_SECONDS - age
        if left > 0:
            return left
        step = _forget
    else:
        return None
    kind = BY_NAME["Secret"]
    item = await context.client.get(kind, namespace, secrets.SIGNING_SECRET)
    if item["metadata"]["resourceVersion"] == live.resource_version:
        changes = step(context, item)
        meta = {**changes.get("metadata", {}), "resourceVersion": item["metadata"]["resourceVersion"]}
        try:
            body = {**changes, "metadata": meta}
            item = await context.client.merge(kind, namespace, secrets.SIGNING_SECRET, body, "rotate")
        except ConflictError:
            # Somebody was faster: the next look decides by what is there then.
            item = await context.client.get(kind, namespace, secrets.SIGNING_SECRET)
    context.children.observe(kind, item)
    context.queue.add(("Pool", namespace, ""))
    return None


def _begin(context: Context, item: Mapping[str, Any]) -> dict[str, Any]:
    private, public = _pair(context)
    asked = (item["metadata"].get("annotations") or {}).get(ROTATE)
    return {
        "metadata": {"annotations": {ROTATED: asked}} if asked else {},
        "data": secrets.encode({NEXT_PRIVATE_KEY: private, NEXT_PUBLIC_KEY: public}),
    }


def _switch(context: Context, item: Mapping[str, Any]) -> dict[str, Any]:
    data = item["data"]
    return {
        "metadata": {"annotations": {SIGNS_SINCE: context.timestamp()}},
        "data": {
            PRIVATE_KEY: data[NEXT_PRIVATE_KEY],
            PUBLIC_KEY: data[NEXT_PUBLIC_KEY],
            FORMER_PUBLIC_KEY: data[PUBLIC_KEY],
            NEXT_PRIVATE_KEY: None,
            NEXT_PUBLIC_KEY: None,
        },
    }


def _finish(_context: Context, item: Mapping[str, Any]) -> dict[str, Any]:
    data = item["data"]
    past = base64.b64decode(data.get(PAST_PUBLIC_KEYS, "")) + base64.b64decode(data[FORMER_PUBLIC_KEY])
    kept = secrets.encode({PAST_PUBLIC_KEYS: past[-MAX_PAST * PUBLIC_BYTES :]})
    return {"data": {FORMER_PUBLIC_KEY: None, **kept}}


def _forget(_context: Context, _item: Mapping[str, Any]) -> dict[str, Any]:
    return {"data": {PAST_PUBLIC_KEYS: None}}


def _lag_of_proxies(context: Context, namespace: str, key: str) -> float:
    """For how many seconds an egress proxy may not have read of a public key yet."""
    if context.children.get("Deployment", namespace, egress.NAME) is None:
        return 0.0
    keys = context.children.get("ConfigMap", namespace, egress.KEYS_NAME)
    if keys is None or key not in keys.facts["public_keys"].split(","):
        return MOUNT_SECONDS
    return MOUNT_SECONDS - (context.now() - datetime.fromisoformat(keys.facts["written"])).total_seconds()


def _pair(context: Context) -> tuple[bytes, bytes]:
    seed = context.random_bytes(SEED_BYTES)
    key = Ed25519PrivateKey.from_private_bytes(seed).public_key()
    return seed, key.public_bytes(Encoding.Raw, PublicFormat.Raw)


async def _create(context: Context, namespace: str) -> Live:
    kind = BY_NAME["Secret"]
    try:
        item = await context.client.create(kind, namespace, secrets.signing(namespace, *_pair(context)), "create")
    except ConflictError:
        item = await context.client.get(kind, namespace, secrets.SIGNING_SECRET)
        if (item["metadata"].get("labels") or {}).get(MANAGED_BY) != OPERATOR:
            raise OwnershipConflictError("Secret", secrets.SIGNING_SECRET) from None
    return context.children.observe(kind, item)
