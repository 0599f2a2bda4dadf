"""How a registry asks for credentials, and what to answer.

Challenges: RFC 9110 section 11.6.1. Token flow: https://distribution.github.io/distribution/spec/auth/token/ .
"""

import base64
import re
from collections.abc import Iterable
from dataclasses import dataclass

import httpx

from openclaw_runtime.skills.credentials import Credential
from openclaw_runtime.skills.oci_errors import RegistryAuthError, RegistryContentError, RegistryError
from openclaw_runtime.skills.references import is_loopback

_PARAMETER = re.compile(r'([A-Za-z_-]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_MAX_TOKEN_BYTES = 64 * 1024
# Registries that take a token alone ignore the user name that Basic needs.
_TOKEN_USER = "token"  # noqa: S105


@dataclass(frozen=True, slots=True)
class Challenge:
    """One WWW-Authenticate header: scheme in lower case, parameters as sent."""

    scheme: str
    parameters: dict[str, str]


def parse_challenge(header: str) -> Challenge:
    """Reads a WWW-Authenticate header that holds one challenge."""
    scheme, _, rest = header.strip().partition(" ")
    found = {name.lower(): re.sub(r"\\(.)", r"\1", quoted) or bare for name, quoted, bare in _PARAMETER.findall(rest)}
    return Challenge(scheme.lower(), found)


def basic(credential: Credential) -> str:
    """Returns the Authorization value of Basic (RFC 7617)."""
    pair = f"{credential.username or _TOKEN_USER}:{credential.secret}"
    return "Basic " + base64.b64encode(pair.encode()).decode()


async def answer(
    http: httpx.AsyncClient, host: str, headers: Iterable[str], scope: str | None, credential: Credential | None
) -> str:
    """Returns the Authorization value that a 401 asks for. Raises `RegistryAuthError`.

    `headers` are the WWW-Authenticate values, `scope` is `repository:<path>:<actions>` (None: only log in).
    """
    challenges = {challenge.scheme: challenge for challenge in map(parse_challenge, headers)}
    if "bearer" in challenges:
        return "Bearer " + await _fetch_token(http, host, challenges["bearer"], scope, credential)
    if "basic" in challenges:
        if credential is None:
            raise RegistryAuthError(f"{host}: asks for credentials; fix: openclaw registry login {host}")
        return basic(credential)
    raise RegistryAuthError(
        f"{host}: asks for {', '.join(challenges) or 'an unnamed scheme'}; Basic and Bearer are known"
    )


def _realm(host: str, challenge: Challenge) -> httpx.URL:
    """The address of the token server. Credentials go there, so it must be as safe as the registry itself."""
    text = challenge.parameters.get("realm", "")
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        url = httpx.URL("")
    safe = url.scheme == "https" or (url.scheme == "http" and is_loopback(url.host) and is_loopback(host))
    if not safe or not url.host or url.userinfo:
        raise RegistryAuthError(f"{host}: names {text!r} as its token server; only https is accepted")
    return url


async def _fetch_token(
    http: httpx.AsyncClient, host: str, challenge: Challenge, scope: str | None, credential: Credential | None
) -> str:
    url = _realm(host, challenge)
    query = {"service": challenge.parameters.get("service"), "scope": scope}
    headers = {"Authorization": basic(credential)} if credential else {}
    try:
        response = await http.get(
            url.copy_merge_params({key: value for key, value in query.items() if value}), headers=headers
        )
    except httpx.HTTPError as error:
        raise RegistryError(
            f"{host}: its token server {url.host} cannot be reached: {error or type(error).__name__}"
        ) from None
    if response.status_code in {400, 401, 403}:
        advice = "refused these credentials" if credential else "asks for credentials"
        raise RegistryAuthError(f"{host}: token server {advice}; fix: openclaw registry login {host}")
    if not response.is_success:
        raise RegistryError(f"{host}: token server answered {response.status_code}; try again later")
    if len(response.content) > _MAX_TOKEN_BYTES:
        raise RegistryContentError(f"{host}: token server sent more than {_MAX_TOKEN_BYTES} bytes")
    try:
        data = response.json()
        token = data.get("token") or data.get("access_token")
    except (ValueError, AttributeError):
        token = None
    if not isinstance(token, str) or not re.fullmatch(r"[\x21-\x7e]+", token):
        raise RegistryContentError(f"{host}: token server sent no token")
    return token
