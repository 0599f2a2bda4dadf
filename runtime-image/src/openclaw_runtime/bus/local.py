"""The bus inside one process: for a laptop, and for agents that share a process."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Sequence
from itertools import count

from openclaw_runtime.bus.messages import Handle, Message, OnReply
from openclaw_runtime.errors import BusError

logger = logging.getLogger(__name__)

_REMEMBERED_IDS = 10_000


class LocalBroker:
    """What the transports of one process share: the queue of each agent and the way back to each replica."""

    def __init__(self) -> None:
        self.queues: dict[str, asyncio.Queue[tuple[str, Message]]] = {}
        self.replies: dict[str, OnReply] = {}
        self.members: dict[str, int] = {}
        self.held: dict[tuple[str, str], list[str]] = {}
        self.handled: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._replicas = count(1)

    def queue(self, agent: str) -> asyncio.Queue[tuple[str, Message]]:
        """Returns the queue of an agent; it exists before the agent joins, so that no early message is lost."""
        return self.queues.setdefault(agent, asyncio.Queue())

    def join(self, agent: str, on_reply: OnReply) -> str:
        """Registers a replica and returns its reply address."""
        address = f"{agent}/{next(self._replicas)}"
        self.replies[address] = on_reply
        self.members[agent] = self.members.get(agent, 0) + 1
        return address

    def leave(self, agent: str, address: str) -> None:
        """Takes a replica away."""
        self.replies.pop(address, None)
        self.members[agent] -= 1
        if not self.members[agent]:
            del self.members[agent]

    def first_time(self, agent: str, message_id: str) -> bool:
        """Returns whether this message is new to this agent, and remembers it."""
        key = (agent, message_id)
        if key in self.handled:
            return False
        self.handled[key] = None
        if len(self.handled) > _REMEMBERED_IDS:
            self.handled.popitem(last=False)
        return True


class LocalTransport:
    """One replica's transport on a `LocalBroker`."""

    def __init__(self, broker: LocalBroker) -> None:
        self._broker = broker
        self._agent = ""
        self._address = ""
        self._reader: asyncio.Task[None] | None = None
        self._running: set[asyncio.Task[None]] = set()

    async def start(self, agent: str, handle: Handle, on_reply: OnReply) -> None:
        """See `Transport`."""
        self._agent = agent
        self._address = self._broker.join(agent, on_reply)
        self._reader = asyncio.create_task(self._read(handle), name=f"bus-{agent}")

    @property
    def address(self) -> str:
        """See `Transport`."""
        return self._address

    async def direct(self, address: str, message: Message) -> None:
        """See `Transport`."""
        if not self._address:
            raise BusError("the bus is closed")
        if (on_reply := self._broker.replies.get(address)) is not None:
            asyncio.get_running_loop().call_soon(on_reply, message)

    async def hold(self, name: str, seconds: float) -> None:
        """See `Transport`. A note lasts until it is taken back: it goes with this process."""
        del seconds
        holders = self._broker.held.setdefault((self._agent, name), [])
        if self._address not in holders:
            holders.append(self._address)

    async def let_go(self, name: str, address: str) -> None:
        """See `Transport`."""
        holders = self._broker.held.get((self._agent, name), [])
        if address in holders:
            holders.remove(address)
        if not holders:
            self._broker.held.pop((self._agent, name), None)

    async def holder(self, name: str) -> str | None:
        """See `Transport`."""
        return next(iter(self._broker.held.get((self._agent, name), [])), None)

    async def publish(self, agent: str, message: Message) -> None:
        """See `Transport`."""
        if not self._address:
            raise BusError("the bus is closed")
        self._broker.queue(agent).put_nowait((self._address, message))

    async def agents(self) -> Sequence[str]:
        """See `Transport`."""
        return sorted(self._broker.members)

    async def ping(self) -> None:
        """See `Transport`."""
        if self._reader is None or self._reader.done():
            raise BusError("the bus is not running")

    async def backlog(self) -> int:
        """See `Transport`."""
        return self._broker.queue(self._agent).qsize() + len(self._running)

    async def pause(self) -> None:
        """See `Transport`."""
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
            self._reader = None

    async def close(self, drain_seconds: float) -> None:
        """See `Transport`."""
        if not self._address:
            return
        await self.pause()
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=drain_seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        self._broker.leave(self._agent, self._address)
        self._address = ""

    async def _read(self, handle: Handle) -> None:
        queue = self._broker.queue(self._agent)
        while True:
            reply_to, message = await queue.get()
            if self._broker.first_time(self._agent, message.id):
                task = asyncio.create_task(self._serve(handle, reply_to, message), name=f"bus-message-{message.id}")
                self._running.add(task)
                task.add_done_callback(self._running.discard)

    async def _serve(self, handle: Handle, reply_to: str, message: Message) -> None:
        answer = await handle(message)
        on_reply = self._broker.replies.get(reply_to)
        if answer is not None and on_reply is not None:
            on_reply(answer)
