"""How a registry asks for credentials, and what to answer.

Token flow: https://distribution.github.io/distribution/spec/auth/token/ . Credentials in a Secret:
https://kubernetes.io/docs/tasks/configure-pod-container/pull-image-private-registry/
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass, field

from yarl import URL

from openclaw_operator.errors import FetchError
from openclaw_operator.fetch.web import Web

DOCKER_CONFIG = ".dockerconfigjson"
_PARAMETER = re.compile(r'([A-Za-z_-]+)=(?:"([^"]*)"|([^\s,"]+))')
_NEXT = re.compile(r'<[^>?]*\?([^>]+)>\s*;[^,]*rel="?next"?')
_MAX_TOKEN_BYTES = 64 * 1024


@dataclass(frozen=True)
class Login:
    """A user name and what proves it."""

    username: str
    password: str = field(repr=False)

    @property
    def basic(self) -> str:
        """The Authorization value of Basic (RFC 7617)."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


def login_for(content: str, host: str) -> Login | None:
    """The login of a registry in a .dockerconfigjson text. Raises ValueError when it is no such text."""
    auths = json.loads(content)["auths"]
    for name, entry in auths.items():
        if re.sub(r"^https?://", "", name).partition("/")[0] != host:
            continue
        if entry.get("username"):
            return Login(entry["username"], entry.get("password") or "")
        try:
            username, _, password = base64.b64decode(entry["auth"], validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError, KeyError):
            raise ValueError(f"auths[{name!r}] has no auth") from None
        return Login(username, password)
    return None


async def answer(web: Web, host: str, header: str, scope: str, login: Login | None, *, plain_http: bool) -> str | None:
    """The Authorization value a 401 asks for, None when there is nothing to answer with. Raises FetchError."""
    scheme, _, rest = header.strip().partition(" ")
    if scheme.lower() == "basic":
        return login.basic if login else None
    if scheme.lower() != "bearer":
        raise FetchError("SourceUnauthorized", f"{host} asks for {scheme!r}: only Basic and Bearer are known")
    parameters = {name.lower(): quoted or bare for name, quoted, bare in _PARAMETER.findall(rest)}
    realm = URL(parameters.get("realm", ""))
    # Credentials go there: it must be as safe as the registry itself, and no other host without TLS.
    safe = realm.scheme == "https" or (
        plain_http and realm.scheme == "http" and realm.host == URL(f"http://{host}").host
    )
    if not safe or not realm.host or realm.user:
        raise FetchError(
            "SourceRefused", f"{host} names {parameters.get('realm')!r} as its token server: only https is accepted"
        )
    query = {"service": parameters.get("service"), "scope": scope}
    url = realm.update_query({key: value for key, value in query.items() if value})
    headers = {"Authorization": login.basic} if login else {}
    reply = await web.get(str(url), limit=_MAX_TOKEN_BYTES, headers=headers)
    if reply.status in (400, 401, 403):
        return None
    try:
        data = json.loads(reply.body) if reply.status == 200 else {}
        token = data.get("token") or data.get("access_token")
    except (ValueError, AttributeError):
        token = None
    if not isinstance(token, str) or not re.fullmatch(r"[\x21-\x7e]+", token):
        raise FetchError(
            "SourceUnavailable", f"the token server of {host} answered {reply.status} and no token", passing=True
        )
    return f"Bearer {token}"


def next_page(link: str | None) -> str | None:
    """The query of the next page in a Link header (RFC 8288), None at the last."""
    found = _NEXT.search(link or "")
    return found[1] if found else None
