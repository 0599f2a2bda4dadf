"""Which key an embedding API is called with."""

from __future__ import annotations

from pathlib import Path

import pytest

from openclaw_runtime.config import Embedding
from openclaw_runtime.errors import ConfigError
from openclaw_runtime.gateway.stores import embedder
from openclaw_runtime.memory.embeddings import EndpointEmbedder

AGENTS_OWN = {"OPENAI_API_KEY": "of the agent"}


def key_of(embedding: Embedding, environment: dict[str, str]) -> str | None:
    made = embedder(embedding, environment)
    assert isinstance(made, EndpointEmbedder)
    return made._api_key.get_secret_value() if made._api_key else None


def test_the_key_of_its_own_comes_before_that_of_the_agent(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("of the embedding\n")
    own = Embedding(provider="openai", model="m", api_key_file=file)
    assert key_of(own, AGENTS_OWN) == "of the embedding"
    assert key_of(own, {}) == "of the embedding"
    assert key_of(Embedding(provider="openai", model="m"), AGENTS_OWN) == "of the agent"


def test_openai_without_any_key_is_refused() -> None:
    with pytest.raises(ConfigError, match="api_key_file, or OPENAI_API_KEY"):
        embedder(Embedding(provider="openai", model="m"), {})
