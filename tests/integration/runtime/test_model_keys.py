"""API keys that are replaced while a gateway runs, as the kubelet replaces a mounted Secret."""

from __future__ import annotations

import asyncio
from pathlib import Path
from unittest.mock import Mock

import pytest
from pydantic_ai.direct import model_request, model_request_stream
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import ModelRequest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from openclaw_runtime.config import Embedding, RuntimeConfig
from openclaw_runtime.errors import MemoryStoreError
from openclaw_runtime.gateway.stores import embedder
from openclaw_runtime.models.factory import ModelParts, build_model
from openclaw_runtime.models.retry import Pauses
from tests.fakes.llm.serve import serving

ASKED = [ModelRequest.user_text_prompt("hi")]


class Provider:
    """Refuses every request, and keeps the key it came with."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.app = Starlette(routes=[Route("/{path:path}", self._answer, methods=["POST"])])

    async def _answer(self, request: Request) -> JSONResponse:
        own = request.headers.get("x-api-key")
        self.keys.append(own or request.headers["authorization"].removeprefix("Bearer "))
        return JSONResponse({"error": {"message": "no"}}, status_code=401)


def replace(file: Path, key: str) -> None:
    """A new file in the place of the old one."""
    new = file.with_suffix(".new")
    new.write_text(f"{key}\n")
    new.rename(file)


@pytest.mark.parametrize("provider", ["openai", "anthropic", "groq", "local", "openai-compatible"])
async def test_the_next_request_has_the_key_of_the_file(
    provider: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "openclaw_runtime")
    file, asked = tmp_path / "key", Provider()
    replace(file, "hush-1")
    async with serving(asked.app) as address:
        claw = {"model_provider": provider, "model": "m", "base_url": address, "api_key_file": str(file)}
        config = RuntimeConfig.model_validate({"claw": claw})
        pauses = Pauses(asyncio.sleep, lambda: 0.0)
        model = build_model(config, ModelParts({}, pauses, Mock(), Mock(), lambda: 0.0, Mock()))
        with pytest.raises(ModelHTTPError):
            await model_request(model, ASKED)
        replace(file, "hush-2")
        with pytest.raises(ModelHTTPError):
            await model_request(model, ASKED)
        replace(file, "hush-3")
        with pytest.raises(ModelHTTPError):
            async with model_request_stream(model, ASKED):
                pass
        # One that is not there for a moment, or never again: the last one is better than none.
        file.unlink()
        with pytest.raises(ModelHTTPError):
            await model_request(model, ASKED)
    assert asked.keys == ["hush-1", "hush-2", "hush-3", "hush-3"]
    assert "was replaced" in caplog.text
    assert "hush" not in caplog.text


async def test_the_embedding_api_is_asked_with_the_key_of_the_file(tmp_path: Path) -> None:
    file, asked = tmp_path / "key", Provider()
    replace(file, "hush-1")
    async with serving(asked.app) as address:
        made = embedder(Embedding(provider="openai", model="m", base_url=address, api_key_file=file), {})
        for key in ("hush-1", "hush-2"):
            replace(file, key)
            with pytest.raises(MemoryStoreError):
                await made.embed(["x"])
    assert asked.keys == ["hush-1", "hush-2"]
