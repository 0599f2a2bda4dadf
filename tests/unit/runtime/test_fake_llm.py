"""The stand-in model: its rules, and its HTTP side as the real openai client sees it."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from openai import AsyncOpenAI, BadRequestError

from tests.fakes.llm.rules import Reply, Text, ToolCall, answer
from tests.fakes.llm.server import create_app

DELEGATE = {"properties": {"agent": {"enum": ["writer", "code-expert"]}}}
DIFF = """diff --git a/src/app.py b/src/app.py
--- a/src/app.py
+++ b/src/app.py
@@ -1,2 +1,3 @@
-print("a")
+print("b")
+print("c")
"""


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def system_recalling(*lines: str) -> dict[str, Any]:
    return {"role": "system", "content": "\n".join(["soul", "<recalled-memory>", *lines, "</recalled-memory>"])}


COMMIT = '{"agent": "code-expert", "kind": "commit", "time": "2026-01-02", "text": "Committed abc: feat: add x"}'
OLDER = '{"agent": "code-expert", "kind": "commit", "time": "2026-01-01", "text": "Committed 000: fix: y"}'


@pytest.mark.parametrize(
    ("messages", "tools", "expected"),
    [
        (
            [user("Please commit my work")],
            {"delegate": DELEGATE},
            ToolCall("delegate", {"agent": "code-expert", "task": "Please commit my work"}),
        ),
        (
            [user("Please commit my work")],
            {"delegate": {"properties": {"agent": {"enum": ["writer"]}}}},
            ToolCall("delegate", {"agent": "writer", "task": "Please commit my work"}),
        ),
        ([user("commit it")], {"git-ai-helper__smartCommit": {}}, ToolCall("git-ai-helper__smartCommit", {})),
        (
            [user("commit it"), {"role": "tool", "content": '{"summary": "Committed abc"}'}],
            {"delegate": DELEGATE},
            Text("Done. Committed abc"),
        ),
        ([user("commit it"), {"role": "tool", "content": "plain"}], {}, Text("Done. plain")),
        ([user(f"Write a commit message for this diff:\n{DIFF}")], {}, Text("fix: update app.py (+2 -1 lines)")),
        (
            [system_recalling(OLDER, COMMIT), user("What did you commit last?")],
            {"memory_search": {}},
            Text("From memory (code-expert, 2026-01-02): Committed abc: feat: add x"),
        ),
        (
            [user("What did you commit last?")],
            {"memory_search": {}},
            ToolCall("memory_search", {"query": "What did you commit last?"}),
        ),
        ([user("What did you commit last?")], {}, Text("I remember no commit.")),
        ([user("hello")], {}, Text("I am a stand-in model without a rule for this. You said: hello")),
    ],
)
def test_the_first_rule_that_fits_answers(messages: list[Any], tools: dict[str, Any], expected: Reply) -> None:
    assert answer(messages, tools) == expected


@pytest.mark.parametrize(
    ("diff", "message"),
    [
        ("diff --git a/README.md b/README.md\n+++ b/README.md\n+more\n", "docs: update README.md (+1 -0 lines)"),
        ("diff --git a/tests/a.py b/tests/a.py\n+x\n", "test: update a.py (+1 -0 lines)"),
        ("diff --git a/n.py b/n.py\nnew file mode 100644\n+x\n", "feat: add n.py (+1 -0 lines)"),
        ("".join(f"diff --git a/{n}.py b/{n}.py\n+x\n" for n in range(4)), "chore: update 4 files (+4 -0 lines)"),
    ],
)
def test_a_commit_message_tells_files_and_line_counts(diff: str, message: str) -> None:
    assert answer([user(f"a commit message, please\n{diff}")], {}) == Text(message)


@pytest.fixture
async def client() -> AsyncIterator[AsyncOpenAI]:
    http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app=create_app()), base_url="http://stand-in/v1")
    async with AsyncOpenAI(api_key="none", base_url="http://stand-in/v1", http_client=http, max_retries=0) as made:
        yield made


async def test_the_openai_client_lists_the_labelled_model(client: AsyncOpenAI) -> None:
    models = [model async for model in client.models.list()]
    assert [(model.id, "stand-in" in model.owned_by) for model in models] == [("stand-in", True)]


async def test_the_openai_client_reads_a_text(client: AsyncOpenAI) -> None:
    done = await client.chat.completions.create(model="stand-in", messages=[{"role": "user", "content": "hello"}])
    assert done.choices[0].finish_reason == "stop"
    assert done.choices[0].message.content == "I am a stand-in model without a rule for this. You said: hello"
    assert done.usage is not None
    assert done.usage.total_tokens == done.usage.prompt_tokens + done.usage.completion_tokens


async def test_the_openai_client_reads_a_stream_with_usage(client: AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model="stand-in",
        messages=[{"role": "user", "content": "hello"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "I am a stand-in model without a rule for this. You said: hello"
    assert chunks[-1].usage is not None
    assert chunks[-2].choices[0].finish_reason == "stop"


@pytest.mark.parametrize("streamed", [False, True])
async def test_the_openai_client_reads_a_tool_call(client: AsyncOpenAI, streamed: bool) -> None:
    tool: Any = {
        "type": "function",
        "function": {"name": "git-ai-helper__smartCommit", "parameters": {"type": "object"}},
    }
    asked: Any = {"model": "stand-in", "messages": [user("commit it")], "tools": [tool]}
    if streamed:
        chunks = [chunk async for chunk in await client.chat.completions.create(**asked, stream=True)]
        calls = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
        finish = chunks[-1].choices[0].finish_reason
    else:
        done = await client.chat.completions.create(**asked)
        calls, finish = done.choices[0].message.tool_calls, done.choices[0].finish_reason
    assert [call.function.name for call in calls] == ["git-ai-helper__smartCommit"]
    assert finish == "tool_calls"


async def test_the_same_request_gets_the_same_answer(client: AsyncOpenAI) -> None:
    asked: Any = {"model": "stand-in", "messages": [user("hello")]}
    assert await client.chat.completions.create(**asked) == await client.chat.completions.create(**asked)


async def test_a_request_without_messages_is_refused(client: AsyncOpenAI) -> None:
    with pytest.raises(BadRequestError, match="must be JSON with messages"):
        await client.post("/chat/completions", body={"model": "stand-in"}, cast_to=object)
