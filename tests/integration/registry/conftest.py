"""The real `distribution` registry on loopback, open or with either way of authentication."""

from __future__ import annotations

import base64
import json
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import yaml
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from openclaw_runtime.skills.credentials import Credential
from openclaw_runtime.skills.distribution import open_http
from tests.cluster import devtools
from tests.cluster.processes import Component, free_ports

LOGIN = Credential(username="publisher", secret="correct horse")
# bcrypt of the password above, cost 4.
HTPASSWD = "publisher:$2b$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e\n"
StartRegistry = Callable[..., AbstractContextManager[str]]


@pytest.fixture(scope="session")
def registry_program() -> Path:
    return devtools.build("registry")


@pytest.fixture
def start_registry(registry_program: Path, tmp_path: Path) -> StartRegistry:
    """Start a registry with the given auth section; its HOST:PORT is the context's value.

    `folder` keeps what it holds, `tls` are the files of its certificate and key.
    """

    @contextmanager
    def start(auth: dict[str, Any], folder: Path | None = None, tls: tuple[Path, Path] | None = None) -> Iterator[str]:
        (port,) = free_ports(1)
        host = f"127.0.0.1:{port}"
        storage: dict[str, Any] = {"filesystem": {"rootdirectory": str(folder)}} if folder else {"inmemory": {}}
        encrypted = {"tls": {"certificate": str(tls[0]), "key": str(tls[1])}} if tls else {}
        config = {
            "version": "0.1",
            "log": {"level": "warn"},
            "storage": {**storage, "delete": {"enabled": True}},
            "http": {"addr": host, "secret": "only this test", **encrypted},
            **({"auth": auth} if auth else {}),
        }
        path = tmp_path / f"registry-{port}.yaml"
        path.write_text(yaml.safe_dump(config))
        command: list[str | Path] = [registry_program, "serve", path]
        component = Component.start(
            "registry", command, tmp_path / f"registry-{port}.log", {"OTEL_SDK_DISABLED": "true"}
        )
        try:
            component.wait_until(lambda: _answers(f"{'https' if tls else 'http'}://{host}/v2/"), seconds=30)
            yield host
        finally:
            component.stop()

    return start


def _answers(url: str) -> bool:
    try:
        # Whether it is the right one is not asked here.
        urllib.request.urlopen(url, timeout=5, context=ssl._create_unverified_context()).close()
    except urllib.error.HTTPError as error:
        return error.code == 401
    except OSError:
        return False
    return True


@pytest.fixture
def registry(start_registry: StartRegistry) -> Iterator[str]:
    """A registry that lets everybody in."""
    with start_registry({}) as host:
        yield host


@pytest.fixture
def htpasswd_registry(start_registry: StartRegistry, tmp_path: Path) -> Iterator[str]:
    """A registry that asks for a user name and a password."""
    path = tmp_path / "htpasswd"
    path.write_text(HTPASSWD)
    with start_registry({"htpasswd": {"realm": "test", "path": str(path)}}) as host:
        yield host


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with open_http() as client:
        yield client


class TokenServer:
    """Gives signed tokens to whoever knows the login: what a registry's `Bearer` challenge points at.

    Claims: https://distribution.github.io/distribution/spec/auth/jwt/
    """

    issuer = "token server of the tests"
    service = "registry of the tests"

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.scopes: list[str] = []
        self.lifetime_seconds = 300
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer._answer(self)

            def log_message(self, *_: Any) -> None:
                """Quiet: the test says what is wrong."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.realm = f"http://127.0.0.1:{self._server.server_port}/token"

    def start(self) -> None:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def jwks(self) -> dict[str, Any]:
        numbers = self.key.public_key().public_numbers()
        x, y = (_base64(number.to_bytes(32, "big")) for number in (numbers.x, numbers.y))
        return {"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "test", "x": x, "y": y}]}

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        expected = "Basic " + base64.b64encode(f"{LOGIN.username}:{LOGIN.secret}".encode()).decode()
        if request.headers.get("Authorization") != expected:
            request.send_error(401)
            return
        query = parse_qs(urlsplit(request.path).query)
        self.scopes += query.get("scope", [])
        body = json.dumps({"token": self._token(query.get("scope", []))}).encode()
        request.send_response(200)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def _token(self, scopes: list[str]) -> str:
        access = []
        for scope in scopes:
            kind, name, actions = scope.split(":")
            access.append({"type": kind, "name": name, "actions": actions.split(",")})
        now = int(time.time())
        claims = {"iss": self.issuer, "sub": "publisher", "aud": self.service, "jti": str(len(self.scopes))}
        claims_of_now = {"iat": now, "nbf": now - 5, "exp": now + self.lifetime_seconds, "access": access}
        header = {"typ": "JWT", "alg": "ES256", "kid": "test"}
        signed = ".".join(_base64(json.dumps(part).encode()) for part in (header, claims | claims_of_now))
        r, s = decode_dss_signature(self.key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{_base64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@pytest.fixture
def token_server() -> Iterator[TokenServer]:
    server = TokenServer()
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def token_registry(start_registry: StartRegistry, token_server: TokenServer, tmp_path: Path) -> Iterator[str]:
    """A registry that trusts the token server."""
    jwks = tmp_path / "jwks.json"
    jwks.write_text(json.dumps(token_server.jwks()))
    auth = {
        "realm": token_server.realm,
        "service": token_server.service,
        "issuer": token_server.issuer,
        "jwks": str(jwks),
        "signingalgorithms": ["ES256"],
    }
    with start_registry({"token": auth}) as host:
        yield host
