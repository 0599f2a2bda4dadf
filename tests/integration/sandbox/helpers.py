"""Calls to make on real runner processes, and a context that keeps what it was asked."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, unix_connect
from websockets.typing import Subprotocol

from openclaw_runtime.sandbox.archive import PackageFile
from openclaw_runtime.sandbox.jsonrpc import Notification, decode
from openclaw_runtime.sandbox.local import LocalRunner
from openclaw_runtime.sandbox.protocol import CALL_PATH, SUBPROTOCOL, CallPayload, Hello, Limits
from openclaw_runtime.skills.package import Package, pack_files
from openclaw_runtime.skills.types import ActionSpec, InstalledSkill, SkillCall

ATTACKS = Path(__file__).with_name("attacks.py").read_bytes()
PACKAGE = pack_files([PackageFile("scripts/main.py", ATTACKS), PackageFile("scripts/data.txt", b"data")])


@dataclass
class RecordingContext:
    """Answers at once and keeps everything; `held` makes the model wait until the test lets it go."""

    logs: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    reports: list[tuple[float, str]] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)
    logged: asyncio.Event = field(default_factory=asyncio.Event)

    async def log(self, level: str, message: str, fields: Mapping[str, Any]) -> None:
        self.logs.append((level, message, dict(fields)))
        self.logged.set()

    async def progress(self, fraction: float, message: str) -> None:
        self.reports.append((fraction, message))

    async def memory_add(self, record: dict[str, Any]) -> str:
        self.records.append(record)
        return f"record-{len(self.records)}"

    async def memory_search(self, query: str, limit: int) -> list[dict[str, Any]]:
        return [{"query": query, "limit": limit}]

    async def llm_generate(self, prompt: str, options: dict[str, Any]) -> str:
        return f"{prompt} {options}"

    async def ask(self, question: str) -> str:
        return f"{question} yes"


def make_skill(
    action: str = "noop",
    package: Package = PACKAGE,
    timeout: float = 20.0,
    permissions: tuple[str, ...] = (),
    **more: Any,
) -> InstalledSkill:
    async def load() -> bytes:
        return package.data

    base = InstalledSkill(
        name="attacks",
        version="1.0.0",
        description="",
        digest=package.digest,
        runtime="python",
        entrypoint="scripts/main.py",
        actions=(ActionSpec(action, timeout_seconds=timeout),),
        load_package=load,
        permissions=frozenset(permissions),
    )
    return replace(base, **more)


def make_call(skill: InstalledSkill, given: dict[str, Any] | None = None, deadline: float = 60.0) -> SkillCall:
    return SkillCall("call-1", "agent-1", "session-1", skill, skill.actions[0].name, given or {}, deadline)


async def dial(runner: LocalRunner) -> ClientConnection:
    """A raw WebSocket connection to a runner."""
    return await unix_connect(
        str(runner.endpoint.address),
        f"ws://localhost{CALL_PATH}",
        subprotocols=[Subprotocol(SUBPROTOCOL)],
        compression=None,
        max_size=None,
    )


@contextlib.asynccontextmanager
async def connected(runner: LocalRunner) -> AsyncIterator[tuple[ClientConnection, Hello]]:
    """A raw connection to a runner, past its hello."""
    connection = await dial(runner)
    try:
        message = decode(await connection.recv())
        assert isinstance(message, Notification)
        yield connection, Hello.parse(message.params)
    finally:
        # asyncio of Python 3.11 trips over closing a transport that was lost with bytes unsent.
        if not connection.transport.is_closing():
            await connection.close()


def payload(hello: Hello, now: float, **changes: Any) -> CallPayload:
    base = CallPayload(
        nonce=hello.nonce,
        pod_uid=hello.pod_uid,
        expires_at=int(now) + 30,
        call_id="call-1",
        agent="agent-1",
        session="session-1",
        skill="attacks",
        version="1.0.0",
        digest=PACKAGE.digest,
        runtime="python",
        entrypoint="scripts/main.py",
        action="noop",
        input={},
        limits=Limits(timeout_seconds=20),
    )
    return replace(base, **changes)
