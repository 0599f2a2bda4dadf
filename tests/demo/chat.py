"""Talks to a gateway the way any OpenAI client does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from tests.demo.errors import DemoError

# A turn may hold several model requests, a delegation and a skill call.
TURN = httpx.Timeout(10.0, read=180.0)


@dataclass(frozen=True)
class Gateway:
    """An agent's OpenAI-compatible API."""

    url: str
    token: str
    model: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def ask(self, question: str, *, session: str | None = None) -> Iterator[str]:
        """The answer, piece by piece as it is streamed. Raises DemoError with what the gateway said."""
        body: dict[str, object] = {
            "model": self.model,
            "stream": True,
            "messages": [{"role": "user", "content": question}],
        }
        if session is not None:
            body["user"] = session
        try:
            with httpx.stream(
                "POST", f"{self.url}/v1/chat/completions", json=body, headers=self.headers, timeout=TURN
            ) as answer:
                if answer.status_code != httpx.codes.OK:
                    raise DemoError(f"{self.model} answered {answer.status_code}: {answer.read().decode()}")
                yield from pieces(answer.iter_lines())
        except httpx.HTTPError as error:
            raise DemoError(f"{self.model} did not answer: {error!r}") from error

    def skill_calls(self, session: str) -> list[SkillCall]:
        """The skill calls of a session, delegated ones included, as the gateway recorded them."""
        messages = self.get(f"/api/v1/sessions/{session}")["messages"]
        return [
            SkillCall(use["skill"], use["action"], use["outcome"], use["sandbox"], use["duration_ms"])
            for message in messages
            for use in message["metadata"].get("skills", [])
        ]

    def get(self, path: str) -> dict[str, Any]:
        """A JSON answer. Raises DemoError."""
        try:
            answer = httpx.get(f"{self.url}{path}", headers=self.headers, timeout=TURN)
        except httpx.HTTPError as error:
            raise DemoError(f"{self.model} did not answer: {error!r}") from error
        if answer.status_code != httpx.codes.OK:
            raise DemoError(f"{path} answered {answer.status_code}: {answer.text}")
        content: dict[str, Any] = answer.json()
        return content


@dataclass(frozen=True)
class SkillCall:
    """What the gateway recorded of a skill call."""

    skill: str
    action: str
    outcome: str
    sandbox: str
    duration_ms: float


def pieces(lines: Iterator[str]) -> Iterator[str]:
    """The text of a stream of chat.completion.chunk events. Raises DemoError on an error event or a cut stream.

    https://platform.openai.com/docs/api-reference/chat-streaming
    """
    for line in lines:
        if not line.startswith("data:"):
            continue
        data = line.removeprefix("data:").strip()
        if data == "[DONE]":
            return
        event = json.loads(data)
        if "error" in event:
            raise DemoError(f"the turn failed: {event['error'].get('message', event['error'])}")
        for choice in event.get("choices", []):
            if text := choice.get("delta", {}).get("content"):
                yield text
    raise DemoError("the answer was cut off: the stream ended without [DONE]")
