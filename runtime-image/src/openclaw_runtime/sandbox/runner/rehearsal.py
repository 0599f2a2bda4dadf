"""Walking through a call before the first one: code that ran once is several times faster than code that never did.

The interpreter loads, specialises and caches on first use; here that is part of starting up. Nothing of a rehearsal is
left: the server's part ends in a refusal, the child's part runs before anything is confined.
"""

import asyncio
import base64
import io
import os
import shutil
import socket
import tarfile
from pathlib import Path
from typing import Final

from openclaw_runtime.sandbox.archive import digest_of
from openclaw_runtime.sandbox.jsonrpc import Request, Success, canonical_sha256, decode, encode
from openclaw_runtime.sandbox.protocol import (
    CALL_ID,
    CALL_PATH,
    NONCE_BYTES,
    SUBPROTOCOL,
    CallPayload,
    CallResult,
)

SOURCE: Final = b"async def rehearse(ctx, input):\n    return {}\n"
_SECONDS: Final = 2.0


def sample_tar() -> bytes:
    """Returns a package's tar with one action that does nothing."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        member = tarfile.TarInfo("scripts/main.py")
        member.size = len(SOURCE)
        archive.addfile(member, io.BytesIO(SOURCE))
    return buffer.getvalue()


def sample_call(tar: bytes) -> CallPayload:
    """Returns a call of that action."""
    return CallPayload(
        nonce=bytes(NONCE_BYTES),
        pod_uid="rehearsal",
        expires_at=0,
        call_id="rehearsal",
        agent="rehearsal",
        session="rehearsal",
        skill="rehearsal",
        version="0.0.0",
        digest=digest_of(tar),
        runtime="python",
        entrypoint="scripts/main.py",
        action="rehearse",
        input={},
    )


def _upgrade() -> bytes:
    """Returns the opening handshake of RFC 6455, section 4.1."""
    key = base64.b64encode(os.urandom(16)).decode()
    lines = (
        f"GET {CALL_PATH} HTTP/1.1",
        "Host: localhost",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Protocol: {SUBPROTOCOL}",
    )
    return "\r\n".join((*lines, "", "")).encode()


def _frame(opcode: int, body: bytes) -> bytes:
    """Returns one final frame of RFC 6455, section 5.2, with a mask of zeros; up to 64 KiB."""
    return bytes((0x80 | opcode, 0x80 | 126)) + len(body).to_bytes(2, "big") + bytes(4) + body


async def rehearse_server(address: str | tuple[str, int]) -> None:
    """Makes a call with a wrong signature on our own server.

    Raises OSError, EOFError or TimeoutError if it does not answer as it should.
    """
    tar = sample_tar()
    text = sample_call(tar).encode()
    params = {"payload": text, "signature": base64.b64encode(bytes(64)).decode()}
    async with asyncio.timeout(_SECONDS):
        if isinstance(address, str):
            reader, writer = await asyncio.open_unix_connection(address)
        else:
            reader, writer = await asyncio.open_connection(*address)
        try:
            writer.write(_upgrade() + _frame(2, b"package"))
            writer.write(_frame(1, encode(Request(CALL_ID, "call", params)).encode()))
            # Not until the end of the connection: the server would wait for us to take part in closing it.
            await reader.readuntil(b'"unauthorized"')
        finally:
            writer.close()
    # What comes after a call was accepted, as far as it is pure.
    CallPayload.parse(text)
    decode(encode(Success(CALL_ID, CallResult({}, 0.0, canonical_sha256({})).wire())))


def own_address(listener: socket.socket) -> str | tuple[str, int]:
    """Returns where our own listening socket can be reached from this machine."""
    name = listener.getsockname()
    if isinstance(name, str):
        return name
    loopback = {"0.0.0.0": "127.0.0.1", "::": "::1"}
    return loopback.get(name[0], name[0]), name[1]


def clear(folder: Path) -> None:
    """Empties the scratch folder that a rehearsal in the child used."""
    for entry in folder.iterdir():
        shutil.rmtree(entry)
