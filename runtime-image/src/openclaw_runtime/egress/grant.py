"""What one call may reach: a short-lived statement that a gateway signs and a skill shows as its proxy password."""

import base64
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from openclaw_runtime.sandbox.signing import CLOCK_SKEW_SECONDS, SIGNATURE_BYTES, Checks, Signs

CONTEXT: Final = b"openclaw.egress.v1\n"
MAX_TOKEN_CHARACTERS: Final = 6000
"""Squid hands user and password to its helpers in lines of 8 KiB."""
MAX_VALIDITY_SECONDS: Final = 3600 + 300
"""No action runs for longer than an hour; see `protocol.MAX_TIMEOUT_SECONDS`."""
_MAX_CLAIMS_BYTES: Final = 65_536


class GrantError(Exception):
    """A token is no grant, or a grant is not good. `str()` is the reason in one word, as metrics count it."""


@dataclass(frozen=True, slots=True)
class Grant:
    """One call's way out. `client` is the address of its pod; `expires_at` is Unix seconds."""

    call_id: str
    agent: str
    skill: str
    client: str
    domains: tuple[str, ...]
    internal: bool
    external: bool
    expires_at: int


def issue(signer: Signs, grant: Grant) -> str:
    """Returns the token: URL-safe, `<claims>.<signature>`. Raises `GrantError` if the domains are too many for one."""
    claims = {
        "call": grant.call_id,
        "agent": grant.agent,
        "skill": grant.skill,
        "client": grant.client,
        "domains": list(grant.domains),
        "internal": grant.internal,
        "external": grant.external,
        "expiresAt": grant.expires_at,
    }
    body = _encode(zlib.compress(json.dumps(claims, separators=(",", ":")).encode(), 9))
    token = f"{body}.{_encode(base64.b64decode(signer.sign(body, CONTEXT)))}"
    if len(token) > MAX_TOKEN_CHARACTERS:
        raise GrantError(
            f"allowedDomains: {len(grant.domains)} names are too much text for one call; use wildcards such as "
            "*.example.com, or split the skill"
        )
    return token


def verify(keys: Checks, token: str) -> Grant:
    """Returns what a gateway signed, whoever shows it and whenever.

    Raises `GrantError` with `token_forged` or `token_malformed`.
    """
    body, _, tail = token.partition(".")
    try:
        packed, signature = _decode(body), _decode(tail)
    except ValueError:
        raise GrantError("token_malformed") from None
    if len(signature) != SIGNATURE_BYTES or not keys.signed(CONTEXT + body.encode(), signature):
        raise GrantError("token_forged")
    try:
        # Only what is signed gets here, and still nobody should be able to fill the memory.
        claims: Mapping[str, Any] = json.loads(zlib.decompressobj().decompress(packed, _MAX_CLAIMS_BYTES))
        return Grant(
            call_id=str(claims["call"]),
            agent=str(claims["agent"]),
            skill=str(claims["skill"]),
            client=str(claims["client"]),
            domains=tuple(str(item) for item in claims["domains"]),
            internal=claims["internal"] is True,
            external=claims["external"] is True,
            expires_at=int(claims["expiresAt"]),
        )
    except (zlib.error, ValueError, KeyError, TypeError):
        raise GrantError("token_malformed") from None


def refusal(grant: Grant, *, client: str, now: float) -> str | None:
    """Returns why a grant is not good for this client's address at this moment (Unix seconds), or None if it is."""
    if grant.client != client:
        return "token_of_another_pod"
    if grant.expires_at + CLOCK_SKEW_SECONDS < now:
        return "token_expired"
    if grant.expires_at > now + MAX_VALIDITY_SECONDS + CLOCK_SKEW_SECONDS:
        return "token_too_long"
    return None


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _decode(text: str) -> bytes:
    if not text.isascii():
        raise ValueError("not ASCII")
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
