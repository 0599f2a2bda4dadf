"""The message that travels between agents, and the contract of what carries it."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import msgspec

EVERYONE = "*"
MessageType = Literal["request", "response", "broadcast", "error", "question", "cancel"]
"""A question goes back to whoever sent a request, before its response; a cancel ends a talk of two replicas."""


class Message(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One message. `timestamp` is Unix milliseconds of sending, `timeout` milliseconds from then on.

    `to` is one agent, several, or "*". A response, error or question carries the `id` of its request as
    `correlation_id`. `reply_to` is the address of the very replica that sent it.
    """

    id: str
    sender: str = msgspec.field(name="from")
    to: str | list[str]
    type: MessageType
    payload: dict[str, Any]
    timestamp: int
    correlation_id: str | None = None
    requires_response: bool = False
    timeout: int = 30_000
    reply_to: str = ""

    @property
    def deadline(self) -> int:
        """Unix milliseconds after which nobody waits for this message any more."""
        return self.timestamp + self.timeout

    def encode(self) -> bytes:
        """Returns the message as JSON."""
        return msgspec.json.encode(self)

    @classmethod
    def decode(cls, data: bytes) -> "Message":
        """Reads a message from JSON. Raises `msgspec.ValidationError` or `msgspec.DecodeError`."""
        return msgspec.json.decode(data, type=cls)


@dataclass(frozen=True, slots=True)
class Answer:
    """What one agent answered to a broadcast: a payload, or the reason why there is none."""

    agent: str
    payload: dict[str, Any] | None = None
    error: str | None = None


Handle = Callable[[Message], Awaitable[Message | None]]
"""Takes a delivered message and returns the answer to send back, if any. Does not raise."""

OnReply = Callable[[Message], None]


class Transport(Protocol):
    """Carries messages to agents and answers back to the very replica that asked.

    At least once: a message whose handler did not finish is delivered again, to any replica of the agent. A message
    id that was handled before is not handled again.
    """

    @property
    def address(self) -> str:
        """Where `direct` finds this very replica; empty before it has started."""
        ...

    async def direct(self, address: str, message: Message) -> None:
        """Leaves a message at one replica, for its `on_reply`. One that is gone never gets it, and nobody is told.

        Raises `BusError`.
        """

    async def hold(self, name: str, seconds: float) -> None:
        """Notes for all replicas of this agent, for so long, that this one holds `name`. Raises `BusError`."""

    async def let_go(self, name: str, address: str) -> None:
        """Takes such a note back. Raises `BusError`."""

    async def holder(self, name: str) -> str | None:
        """Returns the address of the replica that has held `name` for longest. Raises `BusError`."""
        ...

    async def start(self, agent: str, handle: Handle, on_reply: OnReply) -> None:
        """Joins as a replica of `agent` and begins to deliver."""

    async def publish(self, agent: str, message: Message) -> None:
        """Leaves a message for one replica of `agent`. Raises `BusError`."""

    async def agents(self) -> Sequence[str]:
        """Returns the names of the agents that have joined. Raises `BusError`."""
        ...

    async def ping(self) -> None:
        """Returns when the transport works. Raises `BusError`."""

    async def backlog(self) -> int:
        """Returns how many messages to this agent are not handled yet. Raises `BusError`."""
        ...

    async def pause(self) -> None:
        """Takes no more messages; answers to this replica still arrive."""

    async def close(self, drain_seconds: float) -> None:
        """Takes no more messages, lets running handlers finish for `drain_seconds`, then leaves."""
