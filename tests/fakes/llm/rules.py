"""The rules of the stand-in model: what it answers to which conversation. Pure and deterministic.

`RULES` is the table; the first rule whose condition holds answers.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

Message = Mapping[str, Any]

CONVERSION = re.compile(r"[Cc]onvert (\d+) (\w+) to (\w+)")


@dataclass(frozen=True)
class Text:
    """The model says something."""

    text: str


@dataclass(frozen=True)
class ToolCall:
    """The model calls a tool."""

    name: str
    arguments: dict[str, Any]


Reply = Text | ToolCall


@dataclass(frozen=True)
class Conversation:
    """What the rules look at: the messages of a request and the tools it offers, by name."""

    messages: Sequence[Message]
    tools: Mapping[str, Mapping[str, Any]]

    @cached_property
    def last_role(self) -> str:
        """The role of the last message that says something.

        Images of a tool come after its own message: one of the user, which does not count, and a note of the system.
        """
        roles = [str(message.get("role", "")) for message in self.messages if not shows_images(message)]
        return next((role for role in reversed(roles) if role not in ("system", "developer")), "")

    @cached_property
    def user(self) -> str:
        """The last thing the user said."""
        mine = [each for each in self.messages if each.get("role") == "user" and not shows_images(each)]
        said = [text_of(message) for message in mine]
        return said[-1] if said else ""

    @cached_property
    def tool_result(self) -> str:
        """The content of the last tool message."""
        results = [text_of(message) for message in self.messages if message.get("role") == "tool"]
        return results[-1] if results else ""

    @cached_property
    def recalled(self) -> list[dict[str, Any]]:
        """The memories the prompt recalls: one JSON object per line inside <recalled-memory>."""
        told = [text_of(message) for message in self.messages if message.get("role") in ("system", "developer")]
        found: list[dict[str, Any]] = []
        for block in re.findall(r"<recalled-memory>\n(.*?)\n?</recalled-memory>", "\n".join(told), re.DOTALL):
            found.extend(json.loads(line) for line in block.splitlines() if line.startswith("{"))
        return found


def text_of(message: Message) -> str:
    """Returns the text of a message whose content is a string or a list of parts."""
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "\n".join(str(part.get("text", "")) for part in content)


def shows_images(message: Message) -> bool:
    """Returns whether a message has images of a tool among its parts, rather than the user's."""
    content = message.get("content")
    shows = isinstance(content, list) and any(part.get("type") == "image_url" for part in content)
    return shows and "<pyai:tool_result" in text_of(message)


# --- conditions ------------------------------------------------------------------------------------------------------


def wants_a_commit_message(conversation: Conversation) -> bool:
    """A diff is there and a commit message is asked for."""
    return "commit message" in conversation.user.lower() and "diff --git" in conversation.user


def got_a_tool_result(conversation: Conversation) -> bool:
    """A tool has just answered."""
    return conversation.last_role == "tool"


def asks_for_the_last_commit(conversation: Conversation) -> bool:
    """The user asks what was committed."""
    return bool(re.search(r"\bwhat\b.*\bcommit", conversation.user.lower()))


def wants_a_commit(conversation: Conversation) -> bool:
    """The user asks to commit work."""
    return bool(re.search(r"\bcommit\b", conversation.user.lower()))


def wants_a_conversion(conversation: Conversation) -> bool:
    """The user wants a value in another unit."""
    return CONVERSION.search(conversation.user) is not None


def both(*conditions: Callable[[Conversation], bool]) -> Callable[[Conversation], bool]:
    """Returns the condition that all hold."""
    return lambda conversation: all(condition(conversation) for condition in conditions)


def offers(tool: str) -> Callable[[Conversation], bool]:
    """Returns the condition that a tool is offered."""
    return lambda conversation: tool in conversation.tools


def remembers_a_commit(conversation: Conversation) -> bool:
    """The prompt recalls a commit."""
    return last_commit(conversation.recalled) is not None


# --- replies ---------------------------------------------------------------------------------------------------------


def write_the_commit_message(conversation: Conversation) -> Reply:
    """A conventional commit message from the names and line counts in the diff."""
    return Text(commit_message(conversation.user))


def quote_the_tool_result(conversation: Conversation) -> Reply:
    """A sentence that holds what the tool answered."""
    result = readable(conversation.tool_result)
    # A delegated task comes back with the sentence another agent's stand-in said.
    return Text(result if result.startswith("Done. ") else f"Done. {result}")


def quote_the_memory(conversation: Conversation) -> Reply:
    """A sentence that holds the recalled commit."""
    memory = last_commit(conversation.recalled)
    assert memory is not None
    return Text(f"From memory ({memory.get('agent', 'unknown')}, {memory.get('time', 'unknown')}): {memory['text']}")


def search_the_memory(conversation: Conversation) -> Reply:
    """Looks the commit up."""
    return ToolCall("memory_search", {"query": conversation.user})


def delegate_it(conversation: Conversation) -> Reply:
    """Hands the task to code-expert, or to the first agent of the team."""
    agent = conversation.tools["delegate"].get("properties", {}).get("agent", {})
    team = agent.get("enum", ["code-expert"])
    return ToolCall(
        "delegate", {"agent": "code-expert" if "code-expert" in team else team[0], "task": conversation.user}
    )


def commit_it(conversation: Conversation) -> Reply:
    """Calls the skill; everything it can find out itself is left to it, but for files that the user wants to choose."""
    choose = "choose" in conversation.user.lower()
    return ToolCall("git-ai-helper__smartCommit", {"stageAll": False} if choose else {})


def convert_it(conversation: Conversation) -> Reply:
    """Calls the tool of the example's MCP server."""
    match = CONVERSION.search(conversation.user)
    assert match is not None
    return ToolCall("unit-converter__convert", {"value": float(match[1]), "from": match[2], "to": match[3]})


def say_what_it_is(conversation: Conversation) -> Reply:
    """There is no rule for this."""
    return Text(f"I am a stand-in model without a rule for this. You said: {conversation.user}")


def know_of_no_commit(conversation: Conversation) -> Reply:
    """Nothing is recalled and there is nowhere to look."""
    return Text("I remember no commit.")


@dataclass(frozen=True)
class Rule:
    """When `when` holds, `then` answers."""

    when: Callable[[Conversation], bool]
    then: Callable[[Conversation], Reply]


RULES = (
    Rule(when=wants_a_commit_message, then=write_the_commit_message),
    Rule(when=got_a_tool_result, then=quote_the_tool_result),
    Rule(when=both(asks_for_the_last_commit, remembers_a_commit), then=quote_the_memory),
    Rule(when=both(asks_for_the_last_commit, offers("memory_search")), then=search_the_memory),
    Rule(when=asks_for_the_last_commit, then=know_of_no_commit),
    Rule(when=both(wants_a_commit, offers("delegate")), then=delegate_it),
    Rule(when=both(wants_a_commit, offers("git-ai-helper__smartCommit")), then=commit_it),
    Rule(when=both(wants_a_conversion, offers("unit-converter__convert")), then=convert_it),
    Rule(when=lambda _: True, then=say_what_it_is),
)


def answer(messages: Sequence[Message], tools: Mapping[str, Mapping[str, Any]]) -> Reply:
    """Returns the reply. `tools` maps a tool's name to the JSON Schema of its arguments."""
    conversation = Conversation(messages, tools)
    return next(rule.then(conversation) for rule in RULES if rule.when(conversation))


# --- helpers ---------------------------------------------------------------------------------------------------------


def last_commit(memories: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Returns the newest memory about a commit: one that a skill wrote as such, else one that mentions it."""
    for about in (
        [memory for memory in memories if memory.get("kind") in ("commit", "git_commit")],
        [memory for memory in memories if "committed" in str(memory.get("text", "")).lower()],
    ):
        if about:
            return max(about, key=lambda memory: str(memory.get("time", "")))
    return None


def readable(result: str) -> str:
    """Returns the sentence inside a tool's JSON result, or the result as it is."""
    try:
        data = json.loads(result)
    except ValueError:
        return result
    if isinstance(data, dict):
        for key in ("answer", "summary", "message", "error", "results"):
            if data.get(key):
                return readable(json.dumps(data[key])) if isinstance(data[key], dict | list) else str(data[key])
    if isinstance(data, list) and data and isinstance(data[0], dict) and "text" in data[0]:
        best = last_commit(data) or data[0]
        return str(best["text"])
    return result


def commit_message(diff: str) -> str:
    """Returns a conventional commit message for a unified diff (https://www.conventionalcommits.org/en/v1.0.0/)."""
    files = re.findall(r"^diff --git a/(.+?) b/", diff, re.MULTILINE)
    added = len(re.findall(r"^\+(?!\+\+ )", diff, re.MULTILINE))
    removed = len(re.findall(r"^-(?!-- )", diff, re.MULTILINE))
    if all(name.endswith((".md", ".rst", ".txt")) for name in files):
        kind = "docs"
    elif all(re.search(r"(^|/)tests?/|(^|/)test_", name) for name in files):
        kind = "test"
    elif re.search(r"^new file mode", diff, re.MULTILINE):
        kind = "feat"
    else:
        kind = "fix" if removed else "chore"
    names = [name.rpartition("/")[2] for name in files]
    listed = f"{len(names)} files" if len(names) > 3 else ", ".join(names)
    verb = "add" if kind == "feat" else "update"
    return f"{kind}: {verb} {listed} (+{added} -{removed} lines)"
