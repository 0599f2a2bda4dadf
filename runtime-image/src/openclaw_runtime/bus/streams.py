"""The bus over Redis Streams: one stream per agent read by a consumer group of its replicas.

Nothing is lost when a replica dies: an entry is acknowledged only together with its answer (one transaction), an entry
whose replica stopped renewing its lease is taken over with XAUTOCLAIM, and each message id is handled once. Streams
stay short: handled entries are deleted, and entries older than any deadline are trimmed.
https://redis.io/docs/latest/develop/data-types/streams/
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, TypeVar

import msgspec
from redis import asyncio as aioredis
from redis.exceptions import RedisError, ResponseError

from openclaw_runtime.bus.messages import Handle, Message, OnReply
from openclaw_runtime.errors import BusError

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

_GROUP = "replicas"
_BLOCK_MS = 2_000
_RETENTION_MS = 900_000
_REPLY_EXPIRY_S = 900
_MAX_RUNNING = 64
_IDLE_CONSUMER_MS = 3_600_000


class RedisTransport:
    """One replica's transport. `replica` is unique among all replicas of all agents.

    `lease_ms` is how long an entry may go without a sign of life before another replica takes it over.
    """

    def __init__(
        self,
        url: str,
        *,
        namespace: str,
        replica: str,
        now_ms: Callable[[], int],
        password: str | None = None,
        lease_ms: int = 15_000,
    ) -> None:
        # One hash tag keeps a namespace's keys in one slot: an answer and its acknowledgement are one transaction.
        self._prefix = f"{{openclaw:{namespace}}}:"
        self._replica = replica
        self._now_ms = now_ms
        self._lease_ms = lease_ms
        self._redis = aioredis.Redis.from_url(url, password=password, socket_timeout=10, socket_connect_timeout=5)
        self._agent = ""
        self._handle: Handle | None = None
        self._loops: list[asyncio.Task[None]] = []
        self._running: dict[bytes, asyncio.Task[None]] = {}
        self._room = asyncio.Event()
        self._room.set()
        self._paused = False

    async def start(self, agent: str, handle: Handle, on_reply: OnReply) -> None:
        """See `Transport`."""
        self._agent, self._handle = agent, handle
        try:
            await self._join()
        except RedisError as error:
            raise BusError(f"the bus cannot be reached: {error}") from error
        loops: dict[str, Callable[[], Awaitable[None]]] = {
            "read": self._read,
            "renew": self._renew,
            "replies": lambda: self._read_replies(on_reply),
        }
        self._loops = [asyncio.create_task(self._forever(loop), name=f"bus-{name}") for name, loop in loops.items()]

    async def publish(self, agent: str, message: Message) -> None:
        """See `Transport`."""
        oldest = self._now_ms() - _RETENTION_MS - message.timeout
        fields: dict[Any, Any] = {"message": message.encode(), "reply": self._key("reply", self._replica)}
        sending = asyncio.ensure_future(
            self._redis.xadd(self._key("agent", agent), fields, minid=str(max(oldest, 0)), approximate=True)
        )
        try:
            # Shielded: a cancellation can be lost in the client while it opens a connection, and with it the caller's
            # timeout. What is sent too late is not executed.
            await asyncio.shield(sending)
        except asyncio.CancelledError:
            sending.add_done_callback(_forget)
            raise
        except RedisError as error:
            raise BusError(f"the bus cannot be reached: {error}") from error

    @property
    def address(self) -> str:
        """See `Transport`."""
        return self._replica if self._agent else ""

    async def direct(self, address: str, message: Message) -> None:
        """See `Transport`. What a replica that is gone left unread expires."""
        key = self._key("reply", address)
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.xadd(key, {"message": message.encode()})
            pipe.expire(key, _REPLY_EXPIRY_S)
            await self._reached(pipe.execute())

    async def hold(self, name: str, seconds: float) -> None:
        """See `Transport`."""
        key = self._key("held", self._agent, name)
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.zadd(key, {self._replica: self._now_ms()}, nx=True)
            pipe.expire(key, int(seconds) + 1)
            await self._reached(pipe.execute())

    async def let_go(self, name: str, address: str) -> None:
        """See `Transport`."""
        await self._reached(self._redis.zrem(self._key("held", self._agent, name), address))

    async def holder(self, name: str) -> str | None:
        """See `Transport`."""
        oldest: Any = await self._reached(self._redis.zrange(self._key("held", self._agent, name), 0, 0))
        return oldest[0].decode() if oldest else None

    async def _reached(self, sending: Awaitable[_T]) -> _T:
        try:
            return await sending
        except RedisError as error:
            raise BusError(f"the bus cannot be reached: {error}") from error

    async def agents(self) -> Sequence[str]:
        """See `Transport`."""
        try:
            names: set[bytes] = await self._redis.smembers(self._key("agents"))  # type: ignore[assignment]
            return sorted(name.decode() for name in names)
        except RedisError as error:
            raise BusError(f"the bus cannot be reached: {error}") from error

    async def ping(self) -> None:
        """See `Transport`."""
        try:
            await self._redis.ping()
        except RedisError as error:
            raise BusError(f"the bus cannot be reached: {error}") from error

    async def backlog(self) -> int:
        """See `Transport`. Entries leave the stream when they were handled."""
        try:
            return int(await self._redis.xlen(self._stream))
        except RedisError as error:
            raise BusError(f"the bus cannot be reached: {error}") from error

    async def pause(self) -> None:
        """See `Transport`."""
        self._paused = True
        await _cancel(self._loops[:1])

    async def close(self, drain_seconds: float) -> None:
        """See `Transport`. Answers to this replica are read until its own handlers are done."""
        await self.pause()
        if self._running:
            _, late = await asyncio.wait(self._running.values(), timeout=drain_seconds)
            # Not acknowledged: another replica takes these over once their lease ends.
            await _cancel(late)
        await _cancel(self._loops[1:])
        self._loops = []
        with contextlib.suppress(RedisError):
            await self._leave()
        await self._redis.aclose()

    def _key(self, *parts: str) -> str:
        return self._prefix + ":".join(parts)

    @property
    def _stream(self) -> str:
        return self._key("agent", self._agent)

    async def _join(self) -> None:
        # From the first entry on: what was sent before the agent started is still wanted, deadlines permitting.
        with contextlib.suppress(ResponseError):
            await self._redis.xgroup_create(self._stream, _GROUP, id="0", mkstream=True)
        await self._redis.sadd(self._key("agents"), self._agent)

    async def _leave(self) -> None:
        await self._redis.delete(self._key("reply", self._replica))
        await self._drop_consumers(lambda consumer: consumer["name"] == self._replica.encode())

    async def _drop_consumers(self, chosen: Callable[[dict[str, Any]], bool]) -> None:
        """Removes consumers from the group. One with entries is kept: removing it would lose them."""
        for consumer in await self._redis.xinfo_consumers(self._stream, _GROUP):
            if consumer["pending"] == 0 and chosen(consumer):
                await self._redis.xgroup_delconsumer(self._stream, _GROUP, consumer["name"])

    async def _forever(self, step: Callable[[], Awaitable[None]]) -> None:
        pause = 0.05
        me = asyncio.current_task()
        # Asked, not only cancelled: a cancellation that meets a connection being opened can be lost in the client.
        while me is not None and not me.cancelling():
            try:
                await step()
                pause = 0.05
            except RedisError as error:
                logger.warning("bus: %s; trying again", error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, 2.0)
                with contextlib.suppress(RedisError):
                    await self._join()

    async def _read(self) -> None:
        await self._room.wait()
        found = await self._redis.xreadgroup(
            _GROUP, self._replica, {self._stream: ">"}, count=1, block=min(_BLOCK_MS, self._lease_ms)
        )
        for _, entries in _streams(found):
            for entry_id, fields in entries:
                self._accept(entry_id, fields)

    async def _renew(self) -> None:
        """Renews the lease on entries being handled, and takes over those whose replica went silent.

        It never waits for room: an entry whose lease ends meanwhile would be handled a second time elsewhere.
        """
        await asyncio.sleep(self._lease_ms / 3000)
        if self._running:
            await self._redis.xclaim(self._stream, _GROUP, self._replica, 0, list(self._running), justid=True)
        if self._room.is_set() and not self._paused:
            count = min(16, _MAX_RUNNING - len(self._running))
            claimed = await self._redis.xautoclaim(self._stream, _GROUP, self._replica, self._lease_ms, count=count)
            for entry_id, fields in claimed[1]:
                if entry_id not in self._running:
                    logger.info("bus: took over an entry", extra={"entry": entry_id.decode()})
                    self._accept(entry_id, fields)
        await self._drop_consumers(lambda consumer: consumer["idle"] > _IDLE_CONSUMER_MS)

    def _accept(self, entry_id: bytes, fields: dict[bytes, bytes]) -> None:
        task = asyncio.create_task(self._serve(entry_id, fields), name=f"bus-message-{entry_id.decode()}")
        self._running[entry_id] = task
        if len(self._running) >= _MAX_RUNNING:
            self._room.clear()

        def done(_: asyncio.Task[None]) -> None:
            self._running.pop(entry_id, None)
            if len(self._running) < _MAX_RUNNING:
                self._room.set()

        task.add_done_callback(done)

    async def _serve(self, entry_id: bytes, fields: dict[bytes, bytes]) -> None:
        assert self._handle is not None
        try:
            message = Message.decode(fields[b"message"])
        except (KeyError, msgspec.MsgspecError):
            logger.warning("bus: unreadable entry dropped", extra={"entry": entry_id.decode()})
            await self._settle(entry_id, None, None, b"")
            return
        try:
            mark = self._key("handled", self._agent, message.id)
            keep_ms = message.timeout + _RETENTION_MS
            owner = await self._redis.set(mark, entry_id, nx=True, px=keep_ms, get=True)
            # The same entry again means that its former replica died. Another entry with this id is a repeated send.
            answer = await self._handle(message) if owner in (None, entry_id) else None
            await self._settle(entry_id, mark, answer, fields.get(b"reply", b""))
        except RedisError as error:
            # Still pending: after the lease it is delivered again.
            logger.warning("bus: answer not sent: %s", error, extra={"message_id": message.id})

    async def _settle(self, entry_id: bytes, mark: str | None, answer: Message | None, reply: bytes) -> None:
        async with self._redis.pipeline(transaction=True) as pipe:
            if answer is not None and reply:
                pipe.xadd(reply, {"message": answer.encode()})
                pipe.expire(reply, _REPLY_EXPIRY_S)
            if mark is not None:
                pipe.set(mark, b"done", xx=True, keepttl=True)
            pipe.xack(self._stream, _GROUP, entry_id)
            pipe.xdel(self._stream, entry_id)
            await pipe.execute()

    async def _read_replies(self, on_reply: OnReply) -> None:
        key = self._key("reply", self._replica)
        found = await self._redis.xread({key: "0-0"}, block=_BLOCK_MS)
        for _, entries in _streams(found):
            for _, fields in entries:
                with contextlib.suppress(KeyError, msgspec.MsgspecError):
                    on_reply(Message.decode(fields[b"message"]))
            await self._redis.xdel(key, *(entry_id for entry_id, _ in entries))


def _streams(found: Any) -> list[tuple[bytes, list[tuple[bytes, dict[bytes, bytes]]]]]:
    """Normalises what XREAD and XREADGROUP return: a list of pairs in RESP2, a mapping in RESP3."""
    if not found:
        return []
    if isinstance(found, dict):
        return [(name, [pair for batch in batches for pair in batch]) for name, batches in found.items()]
    return list(found)


def _forget(sending: "asyncio.Future[Any]") -> None:
    """Takes note of how a send ended that nobody waits for any more."""
    if not sending.cancelled() and (error := sending.exception()) is not None:
        logger.warning("bus: a message was not sent: %s", error)


async def _cancel(tasks: Collection[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
