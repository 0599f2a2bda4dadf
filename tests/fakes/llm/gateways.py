"""Whole gateways for tests: the stand-in model, a sandbox without a sandbox, and a client to talk with."""

import asyncio
import json
import random
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from openai import AsyncOpenAI
from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from openclaw_runtime.bus.local import LocalBroker
from openclaw_runtime.config import RuntimeConfig
from openclaw_runtime.gateway.app import create_app
from openclaw_runtime.gateway.assembly import Gateway
from openclaw_runtime.gateway.surroundings import Surroundings
from openclaw_runtime.sandbox.attachments import Attachment
from openclaw_runtime.sandbox.errors import SkillFailedError
from openclaw_runtime.skills.audit import Audit
from openclaw_runtime.skills.errors import ManifestError
from openclaw_runtime.skills.types import ActionSpec, CallContext, InstalledSkill, SkillResult, Trigger
from tests.fakes.llm.serve import serving
from tests.fakes.llm.server import create_app as create_model

TOKEN = "test-token-of-the-gateway"
DIFF = "diff --git a/pay.py b/pay.py\n+++ b/pay.py\n+x = 1\n"
ANSWER = "Done. Committed abc1234: chore: update pay.py (+1 -0 lines)"
"""What an agent with git-ai-helper says after `FakeSkills` has committed."""


class FakeSkills:
    """The skill git-ai-helper without git: it asks for a message, records the commit, and answers.

    `fails` makes it fail, `gate` makes it wait, `refuses` makes the next load fail. `triggers` and `actions` are its
    own, `attachments` come with its results.
    """

    def __init__(self, *names: str) -> None:
        self.names = names
        self.triggers: tuple[Trigger, ...] = ()
        self.actions: tuple[ActionSpec, ...] = (
            ActionSpec("smartCommit", "Commits the work in the workspace.", {"type": "object", "properties": {}}),
        )
        self.calls: list[tuple[str, str, dict[str, Any], str]] = []
        self.fails: str | None = None
        self.gate: asyncio.Event | None = None
        self.called = asyncio.Event()
        self.most_at_once = 0
        self._at_once = 0
        self.refuses: str | None = None
        self.broken: str | None = None
        self.attachments: tuple[Attachment, ...] = ()

    def installed(self) -> list[InstalledSkill]:
        """Returns a skill for each name."""

        async def load() -> bytes:
            return b""

        digest, main = f"sha256:{'0' * 64}", "scripts/main.py"
        return [
            InstalledSkill(name, "1.2.0", "Git", digest, "python", main, self.actions, load, triggers=self.triggers)
            for name in self.names
        ]

    async def call(
        self, skill: InstalledSkill, action: str, arguments: dict[str, Any], *, session: str, context: CallContext
    ) -> SkillResult:
        """Commits nothing, but says so."""
        self.calls.append((skill.name, action, arguments, session))
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        self.called.set()
        try:
            if self.gate is not None:
                await self.gate.wait()
            if self.fails:
                raise SkillFailedError(self.fails)
            await context.progress(0.5, "asking for a message")
            message = await context.llm_generate(f"Write a commit message for this diff:\n{DIFF}", {"temperature": 0})
            text = f"Committed abc1234: {message}"
            await context.memory_add({"kind": "commit", "text": text, "commit": "abc1234"})
            return SkillResult({"summary": text}, 12.5, "0" * 64, "fake", attachments=self.attachments)
        finally:
            self._at_once -= 1

    async def start(self) -> None:
        """There is nothing to start."""

    async def close(self) -> None:
        """There is nothing to close."""

    async def load(self, config: RuntimeConfig) -> None:
        """Refuses what it was told to refuse; `skills.directories` names the skills."""
        if self.refuses:
            raise ManifestError("skill.yaml", [self.refuses])
        if config.skills.directories:
            self.names = tuple(path.name for path in config.skills.directories)

    def watch(self, changed: Any) -> None:
        """Its actions never change."""

    def status(self) -> dict[str, object]:
        """Says what is broken."""
        return {"provider": "fake", "error": self.broken}

    def observe(self, queue: object) -> None:
        """Has no queue to tell of."""


class Model:
    """The stand-in model, which keeps what it was asked and answers with `failures` first."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.failures: list[Response] = []
        self._app = create_model()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serves a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = await Request(scope, receive).body()
        if body:
            import json

            self.requests.append(json.loads(body))
        if self.failures:
            await self.failures.pop(0)(scope, receive, send)
            return

        unread = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> Any:
            return unread.pop() if unread else await receive()

        await self._app(scope, again, send)

    def system(self, number: int = -1) -> str:
        """Returns the system prompt of a request."""
        return "\n".join(
            str(message["content"])
            for message in self.requests[number]["messages"]
            if message["role"] in ("system", "developer")
        )


def failure(status: int, message: str, *, code: str | None = None) -> Response:
    """Returns an error as a model provider sends it."""
    error = {"message": message, "type": "error", "param": None, "code": code}
    return JSONResponse({"error": error}, status_code=status)


def answer(text: str, finish: str) -> Response:
    """Returns an answer as a model provider sends it, and why it ended there."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    base = {"id": "c", "object": "chat.completion", "created": 1, "model": "m"}
    return JSONResponse(base | {"choices": [choice]})


def broken_stream() -> Response:
    """Returns an answer that begins and then reports an error."""

    async def events() -> AsyncIterator[str]:
        choice = {"index": 0, "delta": {"role": "assistant", "content": "Half an"}}
        base = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        yield f"data: {json.dumps(base | {'choices': [choice]})}\n\n"
        yield 'data: {"error":{"message":"the server is on fire","type":"server_error","code":null}}\n\n'

    return StreamingResponse(events(), media_type="text/event-stream")


class House:
    """Makes gateways of one namespace that share a bus, and their clients."""

    def __init__(self, folder: Path, model_url: str) -> None:
        self.folder = folder
        self.model_url = model_url
        self.broker = LocalBroker()
        self.memory: dict[str, Any] = {}
        self.bus: dict[str, Any] = {}
        self.waits: list[float] = []
        self.now: Callable[[], float] = time.time
        self.audit = Audit([])

    def config(self, name: str, *, team: tuple[str, ...] = (), **sections: Any) -> RuntimeConfig:
        """Returns the configuration of an agent; with a team it is a coordinator."""
        claw = {
            "name": name,
            "role": "coordinator" if team else "expert",
            "model_provider": "openai-compatible",
            "model": "stand-in",
            "base_url": self.model_url,
            "namespace": "demo",
        }
        members = [{"name": member, "role": "code_expert", "skills": ["git-ai-helper"]} for member in team]
        whole = {"claw": claw, "team": {"members": members}, "memory": self.memory, "bus": self.bus}
        return RuntimeConfig.model_validate(whole | sections)

    def around(self, name: str) -> Surroundings:
        """Returns clocks (`now` may be another), a folder of its own, and a sleep that only notes how long it was."""

        async def sleep(seconds: float) -> None:
            self.waits.append(seconds)
            await asyncio.sleep(0)

        return Surroundings(
            environment={},
            environ={},
            data_dir=self.folder / name,
            version="1.2.3",
            replica=f"{name}-{uuid.uuid4().hex}",
            now=self.now,
            timer=time.monotonic,
            new_id=lambda: str(uuid.uuid4()),
            random=random.Random(7).random,
            sleep=sleep,
            broker=self.broker,
            audit=self.audit,
        )

    @asynccontextmanager
    async def gateway(
        self, config: RuntimeConfig, skills: FakeSkills, *, wait: bool = True
    ) -> AsyncIterator[tuple[Gateway, AsyncOpenAI]]:
        """Yields a running gateway and a client of it; with `wait` everything is open."""
        gateway = Gateway(config, self.around(config.claw.name), skills)
        await gateway.start()
        if wait:
            await gateway.opened()
        try:
            async with (
                serving(create_app(gateway.state, SecretStr(TOKEN))) as address,
                AsyncOpenAI(api_key=TOKEN, base_url=f"{address}/v1", max_retries=0) as client,
            ):
                yield gateway, client
        finally:
            await gateway.close(0)
