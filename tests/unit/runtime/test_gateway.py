"""The whole gateway with the stand-in model, SQLite, the embedded vector engine and a fake sandbox, as the real openai
client sees it."""

import asyncio
import random
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI
from pydantic import SecretStr

from openclaw_runtime.agent.context import nobody_to_ask
from openclaw_runtime.bus.local import LocalBroker
from openclaw_runtime.config import RuntimeConfig
from openclaw_runtime.errors import ConfigError
from openclaw_runtime.gateway.app import create_app
from openclaw_runtime.gateway.assembly import Gateway, Surroundings
from openclaw_runtime.sandbox.errors import SkillFailedError
from openclaw_runtime.skills.types import ActionSpec, CallContext, InstalledSkill, SkillResult
from tests.fakes.llm.serve import serving
from tests.fakes.llm.server import create_app as create_model

TOKEN = "test-token-of-the-gateway"
DIFF = "diff --git a/pay.py b/pay.py\n+++ b/pay.py\n+x = 1\n"


class FakeSkills:
    """The skill git-ai-helper without git: it asks for a message, records the commit, and answers."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.calls: list[tuple[str, str, dict[str, Any], str]] = []
        self.fails: str | None = None
        self.gate: asyncio.Event | None = None
        self.refuses: str | None = None

    def installed(self) -> list[InstalledSkill]:
        async def load() -> bytes:
            return b""

        action = ActionSpec("smartCommit", "Commits the work in the workspace.", {"type": "object", "properties": {}})
        return [
            InstalledSkill(name, "1.2.0", "Git", f"sha256:{'0' * 64}", "python", "scripts/main.py", (action,), load)
            for name in self.names
        ]

    async def call(
        self, skill: InstalledSkill, action: str, arguments: dict[str, Any], *, session: str, context: CallContext
    ) -> SkillResult:
        self.calls.append((skill.name, action, arguments, session))
        if self.gate is not None:
            await self.gate.wait()
        if self.fails:
            raise SkillFailedError(self.fails)
        await context.progress(0.5, "asking for a message")
        message = await context.llm_generate(f"Write a commit message for this diff:\n{DIFF}", {"temperature": 0})
        text = f"Committed abc1234: {message}"
        await context.memory_add({"kind": "commit", "text": text, "commit": "abc1234"})
        return SkillResult({"summary": text}, 12.5, "0" * 64, "fake")

    async def start(self) -> None:
        return None

    async def close(self) -> None:
        return None

    async def load(self, config: RuntimeConfig) -> None:
        if self.refuses:
            raise ConfigError("skills", [])

    def status(self) -> dict[str, object]:
        return {"error": None}


@pytest.fixture
async def model_url() -> AsyncIterator[str]:
    """The stand-in model on a real port."""
    async with serving(create_model()) as address:
        yield f"{address}/v1"


class House:
    """Makes gateways of one namespace that share a bus, and their clients."""

    def __init__(self, folder: Path, model_url: str) -> None:
        self.folder = folder
        self.model_url = model_url
        self.broker = LocalBroker()
        self.memory: dict[str, Any] = {}
        self.bus: dict[str, Any] = {}
        self.waits: list[float] = []

    def config(self, name: str, *, team: tuple[str, ...] = (), **sections: Any) -> RuntimeConfig:
        claw = {
            "name": name,
            "role": "coordinator" if team else "expert",
            "model_provider": "openai-compatible",
            "model": "stand-in",
            "base_url": self.model_url,
            "namespace": "demo",
        }
        members = [{"name": member, "role": "code_expert", "skills": ["git-ai-helper"]} for member in team]
        return RuntimeConfig.model_validate(
            {"claw": claw, "team": {"members": members}, "memory": self.memory, "bus": self.bus, **sections}
        )

    def around(self, name: str) -> Surroundings:
        async def sleep(seconds: float) -> None:
            self.waits.append(seconds)
            await asyncio.sleep(0)

        return Surroundings(
            environment={},
            environ={},
            data_dir=self.folder / name,
            version="1.2.3",
            replica=f"{name}-{uuid.uuid4().hex}",
            now=time.time,
            timer=time.monotonic,
            new_id=lambda: str(uuid.uuid4()),
            random=random.Random(7).random,
            sleep=sleep,
            broker=self.broker,
        )

    @asynccontextmanager
    async def gateway(self, config: RuntimeConfig, skills: FakeSkills) -> AsyncIterator[tuple[Gateway, AsyncOpenAI]]:
        gateway = Gateway(config, self.around(config.claw.name), skills, nobody_to_ask)
        await gateway.start()
        await gateway.opened()
        try:
            async with serving(create_app(gateway.state, SecretStr(TOKEN))) as address:
                async with AsyncOpenAI(api_key=TOKEN, base_url=f"{address}/v1", max_retries=0) as client:
                    yield gateway, client
        finally:
            await gateway.close(0)


@pytest.fixture
def house(tmp_path: Path, model_url: str) -> House:
    return House(tmp_path, model_url)


async def say(client: AsyncOpenAI, text: str, session: str = "s1", **options: Any) -> str:
    done = await client.chat.completions.create(
        model="stand-in",
        messages=[{"role": "user", "content": text}],
        extra_headers={"X-OpenClaw-Session": session},
        **options,
    )
    return str(done.choices[0].message.content)


async def stream(client: AsyncOpenAI, text: str, session: str = "s1") -> tuple[str, list[Any]]:
    chunks = [
        chunk
        async for chunk in await client.chat.completions.create(
            model="stand-in",
            messages=[{"role": "user", "content": text}],
            stream=True,
            stream_options={"include_usage": True},
            extra_headers={"X-OpenClaw-Session": session},
        )
    ]
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices), chunks


ANSWER = "Done. Committed abc1234: chore: update pay.py (+1 -0 lines)"


async def test_a_commit_is_made_streamed_and_remembered(house: House) -> None:
    skills = FakeSkills("git-ai-helper")
    async with house.gateway(house.config("code-expert"), skills) as (gateway, client):
        text, chunks = await stream(client, "Please commit my work")
        assert text == ANSWER
        assert skills.calls == [("git-ai-helper", "smartCommit", {}, "s1")]
        assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
        assert chunks[-1].usage.total_tokens == chunks[-1].usage.prompt_tokens + chunks[-1].usage.completion_tokens > 0
        assert len({chunk.id for chunk in chunks}) == 1
        second = await say(client, "What did you commit last?", session="another")
        assert "Committed abc1234: chore: update pay.py" in second
        assert second.startswith("From memory (code-expert")
        log = next((house.folder / "code-expert/memories").glob("2*.md")).read_text()
        assert "Committed abc1234" in log
        assert "Committed abc1234" in (house.folder / "code-expert/memories/MEMORY.md").read_text()
        record = (await gateway.state.memory.recent(kinds=["commit"]))[0]
        assert (record.scope, record.metadata["skill"], record.metadata["commit"]) == (
            "team",
            "git-ai-helper",
            "abc1234",
        )


async def test_without_streaming_the_answer_is_the_same(house: House) -> None:
    async with house.gateway(house.config("code-expert"), FakeSkills("git-ai-helper")) as (_, client):
        done = await client.chat.completions.create(
            model="code-expert", messages=[{"role": "user", "content": "commit it"}], user="s9"
        )
        assert done.choices[0].message.content == ANSWER
        assert done.choices[0].finish_reason == "stop"
        assert done.object == "chat.completion"
        assert done.model == "code-expert"
        assert done.usage is not None
        assert done.usage.prompt_tokens > 0
