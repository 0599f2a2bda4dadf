"""The one way out of the local cluster, opened only when the user names a model: a relay to its API and nothing else.

No packet can leave the node's network namespace. This process listens on the node's address inside it and sends each
request to the user's API from the host. It ends with the node.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.cluster.node import NODE_IP
from tests.cluster.paths import REPOSITORY, ClusterPaths
from tests.cluster.processes import ProcessId, end, identify
from tests.demo.errors import SetUpError

PORT = 8010
ADDRESS = f"http://{NODE_IP}:{PORT}"
CLONE_NEWNET = 0x40000000
ANSWER_SECONDS = 300.0
# RFC 9110, section 7.6.1: they belong to one connection. Host and length are set anew for the next.
_PER_CONNECTION = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
    | {"host", "content-length", "accept-encoding", "content-encoding"}
)


def passed_on(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that belong to the message and not to its connection."""
    return {name: value for name, value in headers.items() if name.lower() not in _PER_CONNECTION}


def create_app(base_url: str, transport: httpx.AsyncBaseTransport | None = None) -> Starlette:
    """Sends /PATH to BASE_URL/PATH and streams the answer back; 502 in OpenAI's shape when there is none."""
    client = httpx.AsyncClient(transport=transport, timeout=httpx.Timeout(ANSWER_SECONDS, connect=10.0))

    async def relay(request: Request) -> Response:
        url = f"{base_url.rstrip('/')}/{request.path_params['path']}"
        sent = client.build_request(
            request.method,
            url,
            params=request.query_params,
            headers=passed_on(request.headers),
            content=await request.body(),
        )
        try:
            answer = await client.send(sent, stream=True)
        except httpx.HTTPError as error:
            message = f"{base_url} does not answer: {type(error).__name__} {error}".rstrip()
            return JSONResponse({"error": {"message": message, "type": "server_error", "code": None}}, 502)

        async def body() -> AsyncIterator[bytes]:
            try:
                async for chunk in answer.aiter_bytes():
                    yield chunk
            finally:
                await answer.aclose()

        return StreamingResponse(body(), answer.status_code, headers=passed_on(answer.headers))

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with client:
            yield

    return Starlette(routes=[Route("/{path:path}", relay, methods=["GET", "POST"])], lifespan=lifespan)


def listen_inside(pid: int) -> socket.socket:
    """A listening socket in the network namespace of a process; this one is back in its own afterwards."""
    libc = ctypes.CDLL(None, use_errno=True)

    def enter(file: int) -> None:
        if libc.setns(file, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")

    own = os.open("/proc/self/ns/net", os.O_RDONLY)
    other = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    enter(other)
    try:
        return socket.create_server((NODE_IP, PORT))
    finally:
        enter(own)
        os.close(own)
        os.close(other)


async def serve(base_url: str, node: int) -> None:
    """Relay until the node's first process is gone."""
    listener = listen_inside(node)
    server = uvicorn.Server(uvicorn.Config(create_app(base_url), log_level="warning"))
    watched = os.pidfd_open(node)

    def stop() -> None:
        server.should_exit = True

    asyncio.get_running_loop().add_reader(watched, stop)
    print("listening", flush=True)
    await server.serve(sockets=[listener])


def start(base_url: str, node: ProcessId, paths: ClusterPaths) -> str:
    """Start a relay in place of an earlier one; returns the base URL for pods. Raises SetUpError."""
    record = paths.root / "relay.json"
    if record.exists():
        end(ProcessId(**json.loads(record.read_text())), grace_seconds=5)
    with Path(paths.logs / "relay.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.demo.relay", base_url, str(node.pid)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=REPOSITORY,
            start_new_session=True,
        )
    if process.stdout is None or process.stdout.readline() != b"listening\n":
        raise SetUpError(f"the relay to {base_url} does not start; its log: {log.name}")
    identity = identify(process.pid)
    if identity is None:
        raise SetUpError(f"the relay to {base_url} ended at once; its log: {log.name}")
    record.write_text(json.dumps(asdict(identity)))
    return ADDRESS


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2])))
