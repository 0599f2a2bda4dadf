"""The context a skill is given, inside the child: every method is a message to the gateway."""

import asyncio
import errno
import itertools
import logging
import os
import socket
import stat
import threading
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from openclaw_runtime.sandbox.attachments import (
    MAX_ATTACHMENT_BYTES,
    AttachmentError,
    Offer,
    check,
    media_type_of,
)
from openclaw_runtime.sandbox.jsonrpc import (
    Failure,
    Json,
    Message,
    Notification,
    Request,
    Success,
    encode,
)
from openclaw_runtime.sandbox.protocol import CallPayload, ErrorCode
from openclaw_runtime.sandbox.runner.channel import Kind, pack
from openclaw_skill import Call, ContextError

_T = TypeVar("_T")
_LEVELS = ((logging.ERROR, "error"), (logging.WARNING, "warning"), (logging.INFO, "info"), (0, "debug"))


class Link:
    """The child's end of the channel. Writing blocks and is safe from any thread; reading belongs to the loop."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._lock = threading.Lock()
        self._ids = itertools.count(1)
        self._pending: dict[str, asyncio.Future[Any]] = {}

    def send(self, message: Message) -> None:
        """Writes one message."""
        self._write(Kind.MESSAGE, encode(message).encode())

    def _write(self, kind: Kind, body: bytes) -> None:
        data = pack(kind, body)
        with self._lock:
            self._channel.sendall(data)

    async def request(self, method: str, params: Json) -> Any:
        """Sends a request and returns its result. Raises `ContextError` if the gateway refuses."""
        return await self._answered(lambda identity: self.send(Request(identity, method, params)))

    async def attach(self, name: str, media_type: str, data: bytes) -> None:
        """Hands an attachment over. Raises `ContextError` if the call may not give it."""
        try:
            # Never sent where its size says enough: the runner takes no frame that is so much larger.
            check(name, media_type or media_type_of(name), len(data))
        except AttachmentError as error:
            raise ContextError(str(error), ErrorCode.ATTACHMENT) from None
        await self._answered(
            lambda identity: self._write(Kind.ATTACHMENT, Offer(identity, name, media_type, data).encode())
        )

    async def _answered(self, send: Callable[[str], None]) -> Any:
        identity = f"c{next(self._ids)}"
        future = asyncio.get_running_loop().create_future()
        self._pending[identity] = future
        try:
            send(identity)
            return await future
        finally:
            self._pending.pop(identity, None)

    def answer(self, message: Success | Failure) -> None:
        """Hands a response to whoever waits for it."""
        future = self._pending.get(str(message.id))
        if future is None or future.done():
            return
        if isinstance(message, Success):
            future.set_result(message.result)
        else:
            future.set_exception(ContextError(message.message, message.code))


def read_file(path: str | os.PathLike[str]) -> bytes:
    """Returns what a file holds, or a byte more than may be attached. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
        with os.fdopen(os.dup(descriptor), "rb") as file:
            return file.read(MAX_ATTACHMENT_BYTES + 1)
    finally:
        os.close(descriptor)


class LogHandler(logging.Handler):
    """Turns log records into `log` notifications. `extra={"fields": {...}}` adds fields."""

    def __init__(self, link: Link) -> None:
        super().__init__()
        self._link = link

    def emit(self, record: logging.LogRecord) -> None:
        """Sends one record; a record that cannot be written is reported on stderr like any logging error."""
        try:
            level = next(name for number, name in _LEVELS if record.levelno >= number)
            fields = getattr(record, "fields", None)
            params: Json = {"level": level, "message": self.format(record)}
            params["fields"] = fields if isinstance(fields, dict) else {}
            self._link.send(Notification("log", params))
        except Exception:  # noqa: BLE001 - logging's own contract: a handler never raises into the code that logs
            self.handleError(record)


class _LLM:
    def __init__(self, link: Link) -> None:
        self._link = link

    async def generate(self, prompt: str, **options: Any) -> str:
        return str(await self._link.request("llm.generate", {"prompt": prompt, "options": options}))


class _Memory:
    def __init__(self, link: Link) -> None:
        self._link = link

    async def add(self, record: dict[str, Any]) -> str:
        return str(await self._link.request("memory.add", {"record": record}))

    async def search(self, query: str, limit: int = 5) -> list[dict[str, Any]]:
        return list(await self._link.request("memory.search", {"query": query, "limit": limit}))


@dataclass(frozen=True, slots=True)
class Facts:
    """The part of a context that only says what is."""

    logger: logging.Logger
    workspace: Path | None
    scratch: Path
    config: Mapping[str, Any]
    secrets: Mapping[str, str]
    allowed_domains: tuple[str, ...]
    call: Call


class RemoteContext:
    """What an `async def` action is given; the shape is `openclaw_skill.Context`."""

    def __init__(self, facts: Facts, link: Link) -> None:
        self.logger = facts.logger
        self.workspace = facts.workspace
        self.scratch = facts.scratch
        self.config = facts.config
        self.secrets = facts.secrets
        self.allowed_domains = facts.allowed_domains
        self.call = facts.call
        self.llm = _LLM(link)
        self.memory = _Memory(link)
        self._link = link

    async def ask(self, question: str) -> str:
        """Asks the user and returns the answer."""
        return str(await self._link.request("ask", {"question": question}))

    async def attach(
        self, name: str, data: bytes | None = None, *, path: str | os.PathLike[str] | None = None, media_type: str = ""
    ) -> None:
        """Gives a file with the result."""
        if (data is None) == (path is None):
            raise TypeError(f"attach {name!r}: give either data, the bytes, or path, a file that holds them")
        content = await asyncio.to_thread(read_file, path) if path is not None else bytes(data or b"")
        await self._link.attach(name, media_type, content)

    async def progress(self, fraction: float, message: str = "") -> None:
        """Reports how far the work is."""
        self.report(fraction, message)

    def report(self, fraction: float, message: str) -> None:
        """Like `progress`, for code that is not a coroutine."""
        self._link.send(Notification("progress", {"fraction": float(fraction), "message": message}))


class _Blocking:
    """Runs coroutines of the child's loop from another thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def __call__(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()


class _BlockingPart:
    """Offers the methods of an asynchronous object as blocking ones."""

    def __init__(self, part: object, wait: _Blocking) -> None:
        self._part = part
        self._wait = wait

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._part, name)

        def call(*arguments: Any, **options: Any) -> Any:
            return self._wait(method(*arguments, **options))

        return call


class BlockingContext:
    """What a plain `def` action is given; the shape is `openclaw_skill.SyncContext`."""

    def __init__(self, context: RemoteContext, loop: asyncio.AbstractEventLoop) -> None:
        wait = _Blocking(loop)
        self.logger = context.logger
        self.workspace = context.workspace
        self.scratch = context.scratch
        self.config = context.config
        self.secrets = context.secrets
        self.allowed_domains = context.allowed_domains
        self.call = context.call
        self.llm = _BlockingPart(context.llm, wait)
        self.memory = _BlockingPart(context.memory, wait)
        self._context = context
        self._wait = wait

    def ask(self, question: str) -> str:
        """Asks the user and returns the answer."""
        return self._wait(self._context.ask(question))

    def attach(
        self, name: str, data: bytes | None = None, *, path: str | os.PathLike[str] | None = None, media_type: str = ""
    ) -> None:
        """Gives a file with the result."""
        self._wait(self._context.attach(name, data, path=path, media_type=media_type))

    def progress(self, fraction: float, message: str = "") -> None:
        """Reports how far the work is."""
        self._wait(self._context.progress(fraction, message))


def build_context(payload: CallPayload, *, link: Link, workspace: Path | None, scratch: Path) -> RemoteContext:
    """Returns the context of one call; its logger (and the root logger) writes `log` notifications."""
    logging.basicConfig(level=logging.INFO, handlers=[LogHandler(link)], format="%(message)s", force=True)
    call = Call(payload.call_id, payload.agent, payload.session, payload.skill, payload.action)
    logger = logging.getLogger(payload.skill)
    facts = Facts(logger, workspace, scratch, payload.config, dict(payload.secrets), payload.allowed_domains, call)
    return RemoteContext(facts, link)
