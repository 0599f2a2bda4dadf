"""Who may call a runner, and how often: against the real process."""

import asyncio
import base64
import contextlib
import socket
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from openclaw_runtime.sandbox.client import CallOptions, SandboxClient
from openclaw_runtime.sandbox.endpoint import Endpoint
from openclaw_runtime.sandbox.jsonrpc import Failure, Message, Request, Success, decode, encode
from openclaw_runtime.sandbox.local import LocalRunner
from openclaw_runtime.sandbox.protocol import MAX_FRAME_BYTES, CallPayload, ErrorCode, Limits
from openclaw_runtime.sandbox.runner import server
from openclaw_runtime.sandbox.signing import Signer
from tests.integration.sandbox.conftest import Start
from tests.integration.sandbox.helpers import PACKAGE, RecordingContext, connected, dial, make_call, make_skill, payload


def signed(signer: Signer, call: CallPayload) -> str:
    text = call.encode()
    return encode(Request(1, "call", {"payload": text, "signature": signer.sign(text)}))


async def answer(connection: ClientConnection) -> Message:
    """The next message that is not a log line."""
    while True:
        message = decode(await connection.recv())
        if isinstance(message, Success | Failure):
            return message


async def code_of(connection: ClientConnection) -> int:
    message = await answer(connection)
    assert isinstance(message, Failure), message
    return message.code


async def probe(runner: LocalRunner, path: str) -> int:
    transport = httpx.AsyncHTTPTransport(uds=str(runner.endpoint.address))
    async with httpx.AsyncClient(transport=transport) as client:
        return (await client.get(f"http://pod{path}")).status_code


async def accepts_a_call(runner: LocalRunner, signer: Signer) -> bool:
    async with connected(runner) as (connection, hello):
        await connection.send(PACKAGE.data)
        await connection.send(signed(signer, payload(hello, time.time())))
        return isinstance(await answer(connection), Success)


async def test_a_signed_call_is_answered_and_the_runner_exits(start: Start, signer: Signer) -> None:
    runner = await start()
    async with connected(runner) as (connection, hello):
        assert hello.pod_uid == runner.endpoint.uid
        await connection.send(PACKAGE.data)
        await connection.send(signed(signer, payload(hello, time.time())))
        response = await answer(connection)
    assert isinstance(response, Success)
    assert response.result["output"] == {"ok": True}
    assert await runner.process.wait() == 0


async def test_readiness_follows_the_claim(start: Start, signer: Signer) -> None:
    runner = await start()
    assert [await probe(runner, path) for path in ("/ready", "/health", "/v1/call?x", "/other")] == [200, 200, 404, 404]
    async with connected(runner) as (connection, hello):
        await connection.send(PACKAGE.data)
        call = payload(hello, time.time(), action="stubborn")
        await connection.send(signed(signer, call))
        assert isinstance(decode(await connection.recv()), object)  # its first log line: it runs
        assert [await probe(runner, path) for path in ("/ready", "/health")] == [503, 200]


SLOW_NODE = """#!/bin/bash
until [ -e {file} ]; do read -t 0.02 -u 4; done
printf x >&4
read -u 4
"""


@contextlib.asynccontextmanager
async def at_port(scratch: Path, signer: Signer, **more: str) -> AsyncIterator[int]:
    """A runner that listens at a port, as in a pod; the port is open, the runner need not be ready."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    environment = {
        "OPENCLAW_SANDBOX_PUBLIC_KEYS": base64.b64encode(signer.public_key).decode(),
        "OPENCLAW_SANDBOX_HOST": "127.0.0.1",
        "OPENCLAW_SANDBOX_PORT": str(port),
        "OPENCLAW_SANDBOX_SCRATCH": str(scratch),
        "POD_UID": "uid",
    }
    command = (sys.executable, "-I", "-m", "openclaw_runtime.sandbox.runner")
    process = await asyncio.create_subprocess_exec(*command, env=environment | more, cwd="/")
    try:
        async with asyncio.timeout(60):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    break
                except ConnectionRefusedError:
                    await asyncio.sleep(0.01)
        writer.close()
        yield port
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def test_who_asks_a_pod_that_starts_is_answered_once_it_is_ready(tmp_path: Path, signer: Signer) -> None:
    """The kubelet asks when it sees the container run, and then once a second."""
    node, file = tmp_path / "node", tmp_path / "go"
    node.write_text(SLOW_NODE.format(file=file))
    node.chmod(0o755)
    own = {"OPENCLAW_SANDBOX_RUNTIME": "node", "OPENCLAW_SANDBOX_NODE": str(node)}
    async with at_port(tmp_path, signer, **own) as port, asyncio.timeout(60):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /ready HTTP/1.1\r\nHost: pod\r\n\r\n")
        file.touch()
        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        writer.close()


async def test_a_skill_does_not_inherit_the_port_of_its_pod(
    tmp_path: Path, signer: Signer, context: RecordingContext
) -> None:
    """It is open before the process of the skill is forked; who holds it could take calls meant for others.

    Not at level restricted: between calls that clears all a pod has to write to, and /dev/shm is the machine's here.
    """
    async with at_port(tmp_path, signer) as port:
        endpoint = Endpoint("sandbox", "uid", ("127.0.0.1", port))
        options = CallOptions(PACKAGE.data, Limits(), frozenset(), lambda _: None)
        result = await SandboxClient(signer).call(endpoint, make_call(make_skill("sockets")), options, context)
    assert set(result.output) == {"AF_UNIX"}


async def test_a_second_caller_is_told_to_try_another_pod(start: Start, signer: Signer) -> None:
    runner = await start()
    async with connected(runner) as (first, hello), connected(runner) as (early, early_hello):
        await first.send(PACKAGE.data)
        await first.send(signed(signer, payload(hello, time.time(), action="stubborn")))
        await first.recv()
        await early.send(PACKAGE.data)
        await early.send(signed(signer, payload(early_hello, time.time())))
        assert await code_of(early) == ErrorCode.BUSY
        late = await dial(runner)
        assert await code_of(late) == ErrorCode.BUSY


async def refused(start: Start, signer: Signer, code: int, **changes: Any) -> None:
    """A call with these changes is refused with the code, and the runner is still there for a good one."""
    runner = await start()
    async with connected(runner) as (connection, hello):
        await connection.send(PACKAGE.data)
        await connection.send(signed(signer, payload(hello, time.time(), **changes)))
        assert await code_of(connection) == code
        with pytest.raises(ConnectionClosed):
            await connection.recv()
    assert await accepts_a_call(runner, Signer(SEED))


SEED = b"\x07" * 32


@pytest.fixture
def signer() -> Signer:
    return Signer(SEED)


async def test_a_forged_signature_is_refused(start: Start, signer: Signer) -> None:
    runner = await start()
    async with connected(runner) as (connection, hello):
        await connection.send(signed(Signer.generate(), payload(hello, time.time())))
        assert await code_of(connection) == ErrorCode.UNAUTHORIZED
    assert await accepts_a_call(runner, signer)


async def test_a_changed_payload_is_refused(start: Start, signer: Signer) -> None:
    runner = await start()
    async with connected(runner) as (connection, hello):
        text = payload(hello, time.time()).encode()
        params = {"payload": text.replace("noop", "echo"), "signature": signer.sign(text)}
        await connection.send(encode(Request(1, "call", params)))
        assert await code_of(connection) == ErrorCode.UNAUTHORIZED
    assert await accepts_a_call(runner, signer)


async def test_a_signature_for_something_else_is_refused(start: Start, signer: Signer) -> None:
    """The same bytes signed without the protocol's context are not a call."""
    runner = await start()
    async with connected(runner) as (connection, hello):
        text = payload(hello, time.time()).encode()
        bare = base64.b64encode(Ed25519PrivateKey.from_private_bytes(SEED).sign(text.encode())).decode()
        await connection.send(encode(Request(1, "call", {"payload": text, "signature": bare})))
        assert await code_of(connection) == ErrorCode.UNAUTHORIZED


async def test_a_replayed_call_is_refused(start: Start, signer: Signer) -> None:
    """A frame recorded on one connection is worth nothing on the next one."""
    runner = await start()
    async with connected(runner) as (_, hello):
        recorded = signed(signer, payload(hello, time.time()))
    async with connected(runner) as (connection, _):
        await connection.send(PACKAGE.data)
        await connection.send(recorded)
        assert await code_of(connection) == ErrorCode.UNAUTHORIZED
    assert await accepts_a_call(runner, signer)


async def test_an_expired_call_is_refused(start: Start, signer: Signer) -> None:
    await refused(start, signer, ErrorCode.UNAUTHORIZED, expires_at=int(time.time()) - 60)


async def test_a_call_that_is_good_for_ever_is_refused(start: Start, signer: Signer) -> None:
    await refused(start, signer, ErrorCode.UNAUTHORIZED, expires_at=int(time.time()) + 86_400)


async def test_a_call_for_another_pod_is_refused(start: Start, signer: Signer) -> None:
    await refused(start, signer, ErrorCode.UNAUTHORIZED, pod_uid="another")


async def test_an_unknown_runtime_is_refused(start: Start, signer: Signer) -> None:
    await refused(start, signer, ErrorCode.INVALID_PARAMS, runtime="cobol")


@pytest.mark.parametrize(
    "frame",
    [
        "",
        "null",
        "[]",
        "{}",
        '{"jsonrpc":"2.0"}',
        '{"jsonrpc":"1.0","id":1,"method":"call","params":{}}',
        '{"jsonrpc":"2.0","id":1,"method":"call","params":[]}',
        '{"jsonrpc":"2.0","id":2,"method":"call","params":{"payload":"","signature":""}}',
        '{"jsonrpc":"2.0","id":1,"method":"run","params":{}}',
        '{"jsonrpc":"2.0","id":1,"method":"call","params":{"payload":1,"signature":""}}',
        '{"jsonrpc":"2.0","id":1,"result":{}}',
        '{"jsonrpc":"2.0","method":"cancel","params":{}}',
        "[" * 100_000,
        '{"a":NaN}',
        "\ufeff{}",
    ],
)
async def test_garbage_is_refused_and_the_runner_goes_on(start: Start, signer: Signer, frame: str) -> None:
    runner = await start()
    async with connected(runner) as (connection, _):
        await connection.send(frame)
        assert await code_of(connection) in {ErrorCode.INVALID_REQUEST, ErrorCode.UNAUTHORIZED}
    assert await accepts_a_call(runner, signer)


async def test_an_oversize_frame_closes_the_connection(start: Start, signer: Signer) -> None:
    runner = await start()
    async with connected(runner) as (connection, _):
        with contextlib.suppress(ConnectionClosed):
            await connection.send("x" * (MAX_FRAME_BYTES + 1))
        with pytest.raises(ConnectionClosed):
            await connection.recv()
    assert await accepts_a_call(runner, signer)


async def test_a_package_over_the_limit_is_refused(start: Start, signer: Signer) -> None:
    runner = await start()
    async with connected(runner) as (connection, hello):
        await connection.send(b"\x1f\x8b" + bytes(hello.max_package_bytes))
        assert await code_of(connection) == ErrorCode.PACKAGE
    assert await accepts_a_call(runner, signer)


async def test_two_packages_are_refused(start: Start, signer: Signer) -> None:
    runner = await start()
    async with connected(runner) as (connection, _):
        await connection.send(PACKAGE.data)
        await connection.send(PACKAGE.data)
        assert await code_of(connection) == ErrorCode.INVALID_REQUEST
    assert await accepts_a_call(runner, signer)


async def test_connections_that_say_nothing_are_capped_in_number(start: Start, signer: Signer) -> None:
    runner = await start()
    idle = [await dial(runner) for _ in range(server.MAX_CONNECTIONS)]
    with pytest.raises(InvalidStatus, match="503"):
        await dial(runner)
    await idle.pop().close()
    assert await accepts_a_call(runner, signer)


async def test_a_connection_that_says_nothing_is_closed(start: Start) -> None:
    runner = await start()
    async with connected(runner) as (connection, _):
        with pytest.raises(ConnectionClosed) as closed:
            await asyncio.wait_for(connection.recv(), 10 * server.HANDSHAKE_SECONDS)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1008


async def test_bytes_that_are_no_http_do_not_hurt(start: Start, signer: Signer) -> None:
    runner = await start()
    for garbage in (b"\x00" * 1000, b"GET / HTTP/1.1\r\n" * 10_000, b"POST /ready HTTP/1.1\r\n\r\n", b"\x16\x03\x01"):
        reader, writer = await asyncio.open_unix_connection(str(runner.endpoint.address))
        writer.write(garbage)
        writer.write_eof()
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()
    assert await accepts_a_call(runner, signer)


async def test_the_runner_ends_with_whoever_started_it(start: Start) -> None:
    runner = await start()
    runner.lifeline.close()
    assert await runner.process.wait() == 0


async def test_sigterm_ends_an_idle_runner(start: Start) -> None:
    runner = await start()
    runner.process.terminate()
    assert await runner.process.wait() == 0
