"""References, credentials and challenges; and answers no honest registry gives."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openclaw_runtime.skills import credentials, registry_auth
from openclaw_runtime.skills.credentials import Credential, Credentials
from openclaw_runtime.skills.distribution import MAX_MANIFEST_BYTES, Manifest, RegistryClient
from openclaw_runtime.skills.oci_errors import (
    CredentialError,
    ReferenceFormatError,
    RegistryAuthError,
    RegistryContentError,
    RegistryError,
)
from openclaw_runtime.skills.references import (
    Reference,
    Repository,
    complete,
    is_loopback,
    matching,
    parse_reference,
    parse_version,
    tag_of,
    version_of,
)

DIGEST = "sha256:" + "a" * 64
SECRET = "not to be seen"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("ghcr.io/acme/git", Reference(Repository("ghcr.io", "acme/git"))),
        ("oci://ghcr.io/acme/git:1.2.0", Reference(Repository("ghcr.io", "acme/git"), "1.2.0")),
        ("localhost/git:>=1.2 <2", Reference(Repository("localhost", "git"), ">=1.2 <2")),
        (f"[::1]:5000/git:^1@{DIGEST}", Reference(Repository("[::1]:5000", "git"), "^1", DIGEST)),
        (f"registry:5000/a/b-c/d_e@{DIGEST}", Reference(Repository("registry:5000", "a/b-c/d_e"), None, DIGEST)),
    ],
)
def test_references(text: str, wanted: Reference) -> None:
    assert parse_reference(text) == wanted
    assert parse_reference(str(wanted)) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "",
        "git",
        "acme/git",
        "ghcr.io/",
        "ghcr.io/Acme",
        "ghcr.io/a//b",
        "ghcr.io/../b",
        "ghcr.io/a:latest",
        "ghcr.io/a@sha512:00",
        "user@ghcr.io/a",
        "ghcr.io/a?x=1",
        "ghcr.io:99999999/a",
    ],
)
def test_malformed_references_are_named(text: str) -> None:
    with pytest.raises(ReferenceFormatError):
        parse_reference(text)


def test_a_short_name_is_completed_with_the_default() -> None:
    assert complete("git:^1", "ghcr.io/acme") == "ghcr.io/acme/git:^1"
    assert complete("tools/git:1.2.0", "oci://ghcr.io/acme/") == "ghcr.io/acme/tools/git:1.2.0"
    assert complete("localhost/git", "ghcr.io/acme") == "localhost/git"


@pytest.mark.parametrize(
    ("host", "wanted"),
    [
        ("localhost:5000", True),
        ("127.0.0.2", True),
        ("[::1]:5000", True),
        ("localhost.example.com", False),
        ("127.0.0.1.example.com", False),
        ("10.0.0.1:5000", False),
        ("[::2]", False),
    ],
)
def test_loopback(host: str, wanted: bool) -> None:
    assert is_loopback(host) is wanted


NUMBER = st.integers(0, 10**6)
WORD = st.from_regex(r"[a-z][0-9a-z-]{0,8}", fullmatch=True)


@given(NUMBER, NUMBER, NUMBER, st.lists(WORD, max_size=3), st.lists(WORD, max_size=3))
def test_every_version_has_a_tag_of_its_own(
    major: int, minor: int, patch: int, pre: list[str], build: list[str]
) -> None:
    text = f"{major}.{minor}.{patch}" + ("-" + ".".join(pre) if pre else "") + ("+" + ".".join(build) if build else "")
    tag = tag_of(parse_version(text))
    assert "+" not in tag
    assert str(version_of(tag)) == text


def test_tags_that_are_no_versions_are_passed_over() -> None:
    assert [str(version) for version in matching(["latest", "1.0.0", "sha256-" + "a" * 64, "v2", "1.1.0_b"], "*")] == [
        "1.1.0+b",
        "1.0.0",
    ]


def test_credentials_come_back(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "registry.json"
    assert credentials.load(file) == Credentials()
    known = Credentials().with_login("a.example", Credential(SECRET, "me"), "a.example/skills")
    known = known.with_login("b.example", Credential("other"), None)
    credentials.save(file, known)
    assert credentials.load(file) == known
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    credentials.save(file, known.without("a.example"))
    assert credentials.load(file) == Credentials({"b.example": Credential("other")}, None)
    assert [path.name for path in file.parent.iterdir()] == ["registry.json"]


def test_a_secret_is_in_no_repr() -> None:
    known = Credentials().with_login("a.example", Credential(SECRET, "me"), None)
    assert SECRET not in repr(known)


@pytest.mark.parametrize("content", ["", "[]", '{"version": 2, "registries": {}}', '{"version": 1}', '{"a'])
def test_a_file_that_is_something_else_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "registry.json"
    file.write_text(content)
    file.chmod(0o600)
    with pytest.raises(CredentialError, match="log in again"):
        credentials.load(file)


def test_a_file_others_can_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "registry.json"
    credentials.save(file, Credentials({"a.example": Credential(SECRET)}))
    file.chmod(0o640)
    with pytest.raises(CredentialError, match=r"mode 0640\); fix: chmod 600") as caught:
        credentials.load(file)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("header", "scheme", "parameters"),
    [
        ('Basic realm="x"', "basic", {"realm": "x"}),
        (
            'Bearer realm="https://a.example/token",service="a b",scope="repository:x:pull,push"',
            "bearer",
            {"realm": "https://a.example/token", "service": "a b", "scope": "repository:x:pull,push"},
        ),
        (r'Bearer realm="a\"b" , service=plain', "bearer", {"realm": 'a"b', "service": "plain"}),
        ("Negotiate", "negotiate", {}),
    ],
)
def test_challenges(header: str, scheme: str, parameters: dict[str, str]) -> None:
    assert registry_auth.parse_challenge(header) == registry_auth.Challenge(scheme, parameters)


def client_of(handler: Any, credential: Credential | None = None, host: str = "r.example") -> RegistryClient:
    return RegistryClient(httpx.AsyncClient(transport=httpx.MockTransport(handler)), host, credential)


@pytest.mark.parametrize(
    "realm", ["http://r.example/token", "ftp://r.example", "", "https://a:b@r.example/", "https://"]
)
async def test_credentials_go_only_to_a_safe_token_server(realm: str) -> None:
    asked: list[httpx.URL] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request.url)
        return httpx.Response(401, headers={"WWW-Authenticate": f'Bearer realm="{realm}"'})

    with pytest.raises(RegistryAuthError, match="only https is accepted"):
        await client_of(handler, Credential(SECRET)).check()
    assert len(asked) == 1


async def test_a_token_alone_is_sent_under_a_placeholder_name() -> None:
    seen: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.host == "auth.example":
            seen.append(base64.b64decode(request.headers["Authorization"].removeprefix("Basic ")).decode())
            return httpx.Response(200, json={"access_token": "granted"})
        if request.headers.get("Authorization") == "Bearer granted":
            return httpx.Response(200)
        return httpx.Response(401, headers={"WWW-Authenticate": 'Bearer realm="https://auth.example/token"'})

    await client_of(handler, Credential(SECRET)).check()
    assert seen == [f"token:{SECRET}"]


@pytest.mark.parametrize("token", [None, 7, "", "two words", "line\nbreak"])
async def test_a_token_that_is_none_is_refused(token: object) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/token":
            return httpx.Response(200, json={"token": token})
        return httpx.Response(401, headers={"WWW-Authenticate": 'Bearer realm="https://auth.example/token"'})

    with pytest.raises(RegistryContentError, match="sent no token"):
        await client_of(handler).check()


async def test_an_upload_address_elsewhere_gets_no_credentials() -> None:
    sent: dict[str, str | None] = {}

    def handler(request: httpx.Request) -> httpx.Response:
        sent[f"{request.method} {request.url.host}"] = request.headers.get("Authorization")
        if request.url.host == "storage.example":
            return httpx.Response(201)
        if "Authorization" not in request.headers:
            return httpx.Response(401, headers={"WWW-Authenticate": 'Basic realm="x"'})
        if request.method == "POST":
            return httpx.Response(202, headers={"Location": "https://storage.example/upload?state=1"})
        return httpx.Response(404)

    await client_of(handler, Credential(SECRET)).put_blob("a", b"content")
    assert sent["POST r.example"] is not None
    assert sent["PUT storage.example"] is None


async def test_a_download_elsewhere_gets_no_credentials_and_no_plain_http() -> None:
    sent: dict[str, str | None] = {}
    target = "https://storage.example/blob"

    def handler(request: httpx.Request) -> httpx.Response:
        sent[request.url.host] = request.headers.get("Authorization")
        if request.url.host == "storage.example":
            return httpx.Response(200, content=b"{}")
        if "Authorization" not in request.headers:
            return httpx.Response(401, headers={"WWW-Authenticate": 'Basic realm="x"'})
        return httpx.Response(307, headers={"Location": target})

    client = client_of(handler, Credential(SECRET))
    digest = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    assert await client.blob("a", digest, 10) == b"{}"
    assert sent["r.example"] is not None
    assert sent["storage.example"] is None
    target = "http://storage.example/blob"
    with pytest.raises(RegistryContentError, match="redirects from https to http"):
        await client.blob("a", digest, 10)


@pytest.mark.parametrize(
    ("response", "error", "says"),
    [
        (httpx.Response(200, content=b"x" * (MAX_MANIFEST_BYTES + 1)), RegistryContentError, "sent more than"),
        (httpx.Response(200, content=b"[]"), RegistryContentError, "sent no JSON object"),
        (httpx.Response(200, content=b"[" * 100_000), RegistryContentError, "sent no JSON object"),
        (
            httpx.Response(200, content=b"{}", headers={"Docker-Content-Digest": DIGEST}),
            RegistryContentError,
            "not sha256",
        ),
        (httpx.Response(401), RegistryAuthError, "asks for an unnamed scheme"),
        (httpx.Response(401, headers={"WWW-Authenticate": "Negotiate"}), RegistryAuthError, "asks for negotiate"),
        (
            httpx.Response(403, json={"errors": [{"code": "DENIED"}]}),
            RegistryAuthError,
            "403 DENIED; your login has no",
        ),
        (httpx.Response(429, headers={"Retry-After": "7"}), RegistryError, "try again in 7 s"),
        (httpx.Response(500, content=b"<html>"), RegistryError, "cannot be read: 500"),
    ],
)
async def test_answers_that_are_no_use(response: httpx.Response, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        await client_of(lambda _: response).manifest("a", "1.0.0")


async def test_a_blob_with_another_digest_is_refused() -> None:
    client = client_of(lambda _: httpx.Response(200, content=b"something else"))
    with pytest.raises(RegistryContentError, match=f"blob {DIGEST} has digest sha256:"):
        await client.blob("a", DIGEST, 1000)


async def test_a_list_without_end_is_given_up() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        return httpx.Response(
            200, json={"tags": ["1.0.0"]}, headers={"Link": '</v2/a/tags/list?n=1&last=x>; rel="next"'}
        )

    with pytest.raises(RegistryContentError, match="more than 100 pages"):
        await client_of(handler).tags("a")


async def test_pages_are_followed() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.params.get("last"):
            return httpx.Response(200, json={"tags": ["2.0.0"]})
        return httpx.Response(
            200, json={"tags": ["1.0.0"]}, headers={"Link": '</v2/a/tags/list?last=1.0.0>; rel="next"'}
        )

    assert await client_of(handler).tags("a") == ["1.0.0", "2.0.0"]


async def test_a_referrers_api_is_used_where_there_is_one() -> None:
    stored: list[str] = []
    entry = {"mediaType": "m", "digest": DIGEST, "size": 1, "artifactType": "t"}
    other = {**entry, "artifactType": "another"}

    def handler(request: httpx.Request) -> httpx.Response:
        if request.method == "PUT":
            stored.append(request.url.path)
            return httpx.Response(201)
        return httpx.Response(200, json={"manifests": [entry, other]})

    client = client_of(handler)
    assert await client.referrers("a", DIGEST, "t") == [entry]
    await client.add_referrer("a", Manifest(DIGEST, 1, {}), {"artifactType": "t"})
    # No index under a fallback tag: the registry keeps the list itself.
    assert len(stored) == 1
    assert stored[0].startswith("/v2/a/manifests/sha256:")
