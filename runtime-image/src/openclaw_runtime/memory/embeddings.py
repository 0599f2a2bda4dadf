"""Embedders: offline with wordllama, or any OpenAI-compatible endpoint."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openclaw_runtime.errors import MemoryStoreError
from openclaw_runtime.secrets import Secret

if TYPE_CHECKING:
    from openai import AsyncOpenAI


class WordLlamaEmbedder:
    """Static word vectors averaged over a text: 256 dimensions, no network, under a millisecond per text."""

    dimensions = 256

    def __init__(self) -> None:
        self._model: Any = None
        self._loading = asyncio.Lock()

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """See `Embedder`."""
        async with self._loading:
            if self._model is None:
                self._model = await asyncio.to_thread(_load_wordllama)
        # A text without a single token has no average.
        wanted = [text if text.strip() else "empty" for text in texts]
        vectors = await asyncio.to_thread(self._model.embed, wanted, norm=True)
        return [[float(number) for number in vector] for vector in vectors]


def _load_wordllama() -> Any:
    import wordllama

    # The wheel holds weights and tokenizer; they are only found as a "cache", and nothing may be downloaded.
    folder = Path(wordllama.__file__).parent
    return wordllama.WordLlama.load(cache_dir=folder, dim=256, disable_download=True)


class EndpointEmbedder:
    """An OpenAI-compatible `/embeddings` endpoint."""

    def __init__(
        self,
        model: str,
        dimensions: int,
        *,
        base_url: str | None,
        api_key: Secret | None,
        client: "AsyncOpenAI | None" = None,
    ) -> None:
        self._model = model
        self._dimensions = dimensions
        self._base_url = base_url
        self._api_key = api_key
        self._client = client

    @property
    def dimensions(self) -> int:
        """How many numbers a vector has."""
        return self._dimensions

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """See `Embedder`."""
        from openai import AsyncOpenAI, OpenAIError

        key = self._api_key.get_secret_value() if self._api_key else "none"
        if self._client is None:
            self._client = AsyncOpenAI(base_url=self._base_url, api_key=key, max_retries=3, timeout=30)
        self._client.api_key = key
        try:
            answer = await self._client.embeddings.create(
                model=self._model, input=[text or " " for text in texts], encoding_format="float"
            )
        except OpenAIError as error:
            raise MemoryStoreError(f"the embedding endpoint failed: {error}") from error
        vectors = [item.embedding for item in sorted(answer.data, key=lambda item: item.index)]
        if any(len(vector) != self._dimensions for vector in vectors):
            raise MemoryStoreError(
                f"embedding model {self._model} has {len(vectors[0])} dimensions, not {self._dimensions}; "
                "set memory.embedding.dimensions to what the model has"
            )
        return vectors
