"""Secrets that are made once. Their values come in; nothing here invents one."""

from __future__ import annotations

import base64

from openclaw_operator.resources.meta import MANAGED_BY, OPERATOR, Object, Owner, child, labels
from openclaw_operator.resources.shared import shared

SIGNING_SECRET = "openclaw-sandbox-signing"  # noqa: S105 - the name of it
PRIVATE_KEY, PUBLIC_KEY = "private.key", "public.key"
# While the key is rotated: the pair that comes, then the public half of the one that goes.
NEXT_PRIVATE_KEY, NEXT_PUBLIC_KEY = "next.private.key", "next.public.key"
FORMER_PUBLIC_KEY = "former.public.key"
# One after the other: the public halves of keys that only grants of calls which still run may be signed with.
PAST_PUBLIC_KEYS = "past.public.keys"
# On the signing Secret: any new value asks for a rotation; the operator notes which one it has seen, and when the key
# that signs began to.
ROTATE, ROTATED, SIGNS_SINCE = "openclaw.io/rotate", "openclaw.io/rotated", "openclaw.io/signs-since"


def generated(name: str, owner: Owner, kind: str, values: dict[str, bytes]) -> Object:
    """A Secret of an owner; `kind` is the app.kubernetes.io/name of what it is for."""
    return child("v1", "Secret", name, owner, labels(owner, kind, "credentials"), type="Opaque", data=encode(values))


def signing(namespace: str, private: bytes, public: bytes) -> Object:
    """The key pair that gateways of a namespace sign sandbox calls with; it belongs to the namespace."""
    own = {
        MANAGED_BY: OPERATOR,
        "app.kubernetes.io/name": "sandbox",
        "app.kubernetes.io/component": "credentials",
    }
    data = encode({PRIVATE_KEY: private, PUBLIC_KEY: public})
    return shared("v1", "Secret", SIGNING_SECRET, namespace, own, type="Opaque", data=data)


def encode(values: dict[str, bytes]) -> dict[str, str]:
    """Values as the data of a Secret."""
    return {key: base64.b64encode(value).decode() for key, value in values.items()}
