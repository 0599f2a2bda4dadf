"""A real Squid with our decisions on loopback, and an outside for it to reach: one HTTP and one HTTPS server."""

from __future__ import annotations

import asyncio
import base64
import http.server
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from openclaw_runtime.egress.grant import Grant, issue
from openclaw_runtime.egress.policy import PRIVATE, Rules, literal
from openclaw_runtime.egress.service import Service
from openclaw_runtime.egress.settings import Settings
from openclaw_runtime.sandbox.signing import Signer, Verifier
from tests.cluster.processes import free_ports

CLIENT = "127.0.0.1"


def host_address() -> str:
    """An address of this host that is not loopback: what the proxy may be let to."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        found: str = probe.getsockname()[0]
        return found


class Echo(http.server.BaseHTTPRequestHandler):
    """Says what it was asked."""

    def do_GET(self) -> None:
        body = f"{self.path} host={self.headers['Host']} auth={self.headers.get('Proxy-Authorization')}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[int]:
    server = http.server.ThreadingHTTPServer((host_address(), 0), Echo)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


@dataclass
class Outside:
    """The servers' ports, the certificate of the one with TLS, and what names stand for."""

    http: int
    https: int
    ca: Path
    names: dict[str, list[str]] = field(default_factory=dict)

    async def resolve(self, host: str) -> Sequence[str]:
        return self.names.get(host, [])


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("outside")
    key, cert = folder / "key.pem", folder / "cert.pem"
    names = "subjectAltName=DNS:allowed.test,DNS:other.test"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "2", "-subj", "/CN=allowed.test", "-addext", names, "-keyout", str(key), "-out", str(cert)),
        ],
        check=True,
        capture_output=True,
    )
    return key, cert


@pytest.fixture(scope="session")
def outside(certificate: tuple[Path, Path]) -> Iterator[Outside]:
    key, cert = certificate
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    here = host_address()
    names = {
        "allowed.test": [here],
        "sub.allowed.test": [here],
        "other.test": [here],
        "inside.test": ["10.255.255.1"] if not private(here) else ["192.0.2.1"],
        "metadata.test": ["169.254.169.254"],
        "rebinding.test": [here, "127.0.0.1"],
        "mapped.test": ["::ffff:169.254.169.254"],
        "api.test": ["192.0.2.77"],
    }
    with serving() as plain, serving(context) as secure:
        yield Outside(plain, secure, cert, names)


def private(address: str) -> bool:
    found = literal(address)
    assert found is not None
    return any(found in network for network in PRIVATE if network.version == found.version)


@dataclass
class Proxy:
    """The proxy under test and the key that it believes in."""

    port: int
    api_port: int
    signer: Signer
    outside: Outside
    lines: list[dict[str, Any]]

    def grant(self, *domains: str, **changes: Any) -> Grant:
        here = private(host_address())
        grant = Grant("call-1", "writer", "fetch", CLIENT, domains, here, not here, int(time.time()) + 60)
        return replace(grant, **changes)

    def token(self, *domains: str, **changes: Any) -> str:
        return issue(self.signer, self.grant(*domains, **changes))

    def url(self, token: str) -> str:
        return f"http://call-1:{token}@{CLIENT}:{self.port}"

    async def connect(self, host: str, port: int, token: str | None, *, sni: str | None = "", data: bytes = b"") -> str:
        """What becomes of CONNECT, a TLS handshake and a GET: `ok`, the proxy's status, or `closed`."""
        return await asyncio.to_thread(self._connect, host, port, token, sni, data)

    def _connect(self, host: str, port: int, token: str | None, sni: str | None, data: bytes) -> str:
        with socket.create_connection((CLIENT, self.port), timeout=10) as raw:
            head = f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n"
            if token is not None:
                head += f"Proxy-Authorization: Basic {base64.b64encode(f'call-1:{token}'.encode()).decode()}\r\n"
            raw.sendall(f"{head}\r\n".encode())
            status = raw.recv(4096).split(b" ")[1].decode()
            if status != "200":
                return status
            try:
                if data:
                    raw.sendall(data)
                    return "ok" if raw.recv(4096) else "closed"
                context = ssl.create_default_context(cafile=str(self.outside.ca))
                context.check_hostname = False
                with context.wrap_socket(raw, server_hostname=host if sni == "" else sni) as secure:
                    secure.sendall(b"GET /tls HTTP/1.0\r\n\r\n")
                    return "ok" if secure.recv(4096) else "closed"
            except (OSError, ssl.SSLError):
                return "closed"

    async def end(self, token: str, call: str) -> httpx.Response:
        async with httpx.AsyncClient(timeout=60) as client:
            headers = {"Authorization": f"Bearer {token}"}
            return await client.get(f"http://{CLIENT}:{self.api_port}/v1/calls/{call}/end", headers=headers)

    async def line(self, reason: str) -> dict[str, Any]:
        """The logged decision with that reason, once its connection is over."""
        async with asyncio.timeout(10):
            while True:
                for line in self.lines:
                    if line["reason"] == reason:
                        return line
                await asyncio.sleep(0.02)


def system_python() -> str:
    """The interpreter of the host: Squid's user may not get to the one of the tests."""
    found = shutil.which("python3", path="/usr/bin:/usr/local/bin")
    assert found
    return found


@pytest.fixture(scope="module")
def program() -> str:
    found = shutil.which("squid", path="/usr/sbin:/usr/bin:/sbin")
    assert found, "squid is missing: make programs installs it (squid-openssl)"
    return found


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Squid started by root becomes another user, who has to get to its files and sockets."""
    path = Path(tempfile.mkdtemp(prefix="openclaw-egress-"))
    path.chmod(0o755)
    mask = os.umask(0)
    yield path
    os.umask(mask)
    shutil.rmtree(path)


@pytest.fixture
def proxy(running_proxy: Proxy) -> Proxy:
    running_proxy.lines.clear()
    return running_proxy


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running_proxy(outside: Outside, program: str, folder: Path) -> AsyncIterator[Proxy]:
    signer = Signer.generate()
    api = literal("192.0.2.77")
    assert api is not None
    rules = Rules(api_server=frozenset({api}))
    port, api_port = free_ports(2)
    settings = Settings(
        public_keys=Path(),
        rules=rules,
        host=CLIENT,
        port=port,
        api_port=api_port,
        folder=folder,
        program=program,
        interpreter=system_python(),
    )
    lines: list[dict[str, Any]] = []
    service = Service(settings, Verifier([signer.public_key]), outside.resolve, lines.append)
    running = asyncio.ensure_future(service.run())
    found = Proxy(settings.port, settings.api_port, signer, outside, lines)
    async with asyncio.timeout(30), httpx.AsyncClient() as client:
        while True:
            assert not running.done(), "the proxy ended by itself"
            try:
                if (await client.get(f"http://{CLIENT}:{found.api_port}/ready")).status_code == 200:
                    break
            except httpx.HTTPError:
                pass
            await asyncio.sleep(0.05)
    yield found
    service.stop()
    assert await running == 0
