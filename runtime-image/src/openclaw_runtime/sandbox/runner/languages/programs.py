"""Runtimes bash and image: a program of its own, its input on standard input, its result on standard output.

While it runs, `openclaw-ctx` (and whoever else speaks JSON-RPC 2.0, one message per line) reaches the agent through a
Unix socket in the call's scratch folder. What comes from there is checked here: a mistake is the program's to see, and
does not end the call.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from openclaw_runtime.sandbox.jsonrpc import Fields, Json, Notification, ProtocolError, dumps, loads
from openclaw_runtime.sandbox.protocol import (
    CONTEXT_METHODS,
    LOG_LEVELS,
    MAX_FRAME_BYTES,
    CallPayload,
    ErrorCode,
)
from openclaw_runtime.sandbox.runner.context import Link, read_file
from openclaw_runtime.sandbox.runner.languages import LanguageError
from openclaw_runtime.sandbox.runner.output import LineSplitter
from openclaw_skill import ContextError, SkillError

COMMAND: Final = "openclaw-ctx"
_READ_SIZE: Final = 64 * 1024
_DRAIN_SECONDS: Final = 0.2
_MAX_TAIL: Final = 4000


class ProgramError(Exception):
    """The program ended without a result. `detail` is the end of what it wrote to its log."""

    def __init__(self, message: str, detail: str = "", code: ErrorCode = ErrorCode.SKILL_CRASHED) -> None:
        super().__init__(message)
        self.detail = detail
        self.code = code


@dataclass(frozen=True, slots=True)
class Places:
    """The folders of a call."""

    package: Path
    scratch: Path
    workspace: Path | None


def command_line(payload: CallPayload, package: Path) -> list[str]:
    """Returns what a call runs. Raises `ProgramError` if the entrypoint is not in the package."""
    entrypoint: list[str] = []
    if payload.entrypoint:
        path = package / payload.entrypoint
        if ".." in Path(payload.entrypoint).parts or not path.is_file():
            raise ProgramError(f"entrypoint: {payload.entrypoint} is not in the package", code=ErrorCode.PACKAGE)
        entrypoint = [str(path)]
    command = ["bash"] if payload.runtime == "bash" else list(payload.command)
    if not command or (payload.runtime == "bash" and not entrypoint):
        raise ProgramError(f"command: a call of runtime {payload.runtime} without one", code=ErrorCode.INVALID_PARAMS)
    return [*command, *entrypoint, payload.action]


def environment_of(payload: CallPayload, places: Places, base: Mapping[str, str], socket_path: Path) -> dict[str, str]:
    """Returns the program's environment: secrets by their names, then what the sandbox sets, which wins."""
    environment = dict(payload.secrets) | dict(base)
    environment["PATH"] = f"{socket_path.parent / 'bin'}:{environment.get('PATH', os.defpath)}"
    environment |= {
        "OPENCLAW_CTX": str(socket_path),
        "OPENCLAW_PACKAGE": str(places.package),
        "OPENCLAW_SCRATCH": str(places.scratch),
        "OPENCLAW_CONFIG": dumps(payload.config),
        "OPENCLAW_ALLOWED_DOMAINS": " ".join(payload.allowed_domains),
        "OPENCLAW_CALL_ID": payload.call_id,
        "OPENCLAW_AGENT": payload.agent,
        "OPENCLAW_SESSION": payload.session,
        "OPENCLAW_SKILL": payload.skill,
        "OPENCLAW_ACTION": payload.action,
    }
    if places.workspace is not None:
        environment["OPENCLAW_WORKSPACE"] = str(places.workspace)
    return environment


def install_command(folder: Path) -> None:
    """Puts `openclaw-ctx` into a folder. The interpreter is this one, in isolated mode and without site-packages."""
    from openclaw_runtime.sandbox.runner.languages import ctx

    folder.mkdir()
    target = folder / COMMAND
    target.write_text(f"#!{sys.executable} -IS\n{Path(ctx.__file__).read_text(encoding='utf-8')}", encoding="utf-8")
    target.chmod(0o755)


@dataclass(slots=True)
class ContextService:
    """Serves the program's requests. `failed` is the message it gave for the user."""

    link: Link
    payload: CallPayload
    failed: str | None = None
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers the requests of one connection, in order."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while line := await reader.readline():
                writer.write((dumps(await self._answer(line)) + "\n").encode())
                await writer.drain()
        except (ValueError, ConnectionError):
            # A line over the limit, or a program that went away: the connection is over, the call is not.
            pass
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _answer(self, line: bytes) -> Json:
        identity: object = None
        try:
            body = loads(line)
            identity = body.get("id") if isinstance(body, dict) else None
            request = Fields(body, "request")
            result = await self._do(request.text("method", limit=64), request.mapping("params", optional=True))
        except ProtocolError as error:
            return {"jsonrpc": "2.0", "id": identity, "error": {"code": -32602, "message": str(error)}}
        except ContextError as error:
            return {"jsonrpc": "2.0", "id": identity, "error": {"code": error.code, "message": str(error)}}
        return {"jsonrpc": "2.0", "id": identity, "result": result}

    async def _do(self, method: str, params: Json) -> Any:
        if method in CONTEXT_METHODS:
            return await self.link.request(method, params)
        fields = Fields(params, method)
        match method:
            case "input":
                return self.payload.input
            case "config":
                return self.payload.config
            case "attach":
                await self._attach(fields)
            case "fail":
                self.failed = fields.text("message")
            case "progress":
                report = {"fraction": fields.number("fraction", least=0, most=1), "message": fields.text("message")}
                self.link.send(Notification("progress", report))
            case "log":
                level = fields.text("level", limit=16)
                if level not in LOG_LEVELS:
                    raise ProtocolError(f"log.level: {level!r} is none of {', '.join(LOG_LEVELS)}")
                entry = {"level": level, "message": fields.text("message"), "fields": fields.mapping("fields")}
                self.link.send(Notification("log", entry))
            case _:
                raise ProtocolError(f"method: there is no {method}")
        return None

    async def _attach(self, fields: Fields) -> None:
        path = fields.text("path", limit=4096)
        try:
            data = await asyncio.to_thread(read_file, path)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise ProtocolError(f"attach.path: {path} cannot be read: {reason}") from None
        name = fields.text("name", optional=True) or Path(path).name
        await self.link.attach(name, fields.text("mediaType", optional=True), data)

    def close(self) -> None:
        """Ends the connections that are open."""
        for task in self._tasks:
            task.cancel()


class _Log:
    """What the program writes to standard error, line by line; its end is kept for an error's detail."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._lines = LineSplitter()
        self.tail = b""

    def feed(self, data: bytes) -> None:
        self.tail = (self.tail + data)[-_MAX_TAIL:]
        for line in self._lines.feed(data):
            self._send(line)

    def flush(self) -> None:
        for line in self._lines.flush():
            self._send(line)

    def _send(self, line: str) -> None:
        params = {"level": "info", "message": line, "fields": {"stream": "stderr"}}
        self._link.send(Notification("log", params))


async def run_program(payload: CallPayload, places: Places, link: Link, base: Mapping[str, str]) -> Any:
    """Runs the program of a call and returns its result: what it printed, read as JSON, or else `{"text": …}`.

    Raises `ProgramError`, `SkillError` (the program said `fail`) and `LanguageError` (it cannot be started).
    """
    argv = command_line(payload, places.package)
    socket_path = places.scratch.parent / "ctx"
    install_command(socket_path.parent / "bin")
    service = ContextService(link, payload)
    server = await asyncio.start_unix_server(service.serve, socket_path, limit=MAX_FRAME_BYTES)
    environment = environment_of(payload, places, base, socket_path)
    try:
        process = _start(argv, environment, payload.input)
        return await _result(process, payload, link, service)
    finally:
        server.close()
        service.close()


def _start(argv: Sequence[str], environment: Mapping[str, str], given: Json) -> "subprocess.Popen[bytes]":
    program = shutil.which(argv[0], path=environment["PATH"])
    if program is None:
        raise LanguageError(f"command: {argv[0]} is no program of this sandbox's image")
    # A file in memory, not a pipe: a program that does not read its input blocks nobody.
    stdin = os.memfd_create("input")
    try:
        with os.fdopen(os.dup(stdin), "wb") as file:
            file.write(json.dumps(given, ensure_ascii=False).encode(errors="surrogatepass") + b"\n")
        os.lseek(stdin, 0, os.SEEK_SET)
        return subprocess.Popen(
            [program, *argv[1:]],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(environment),
        )
    except OSError as error:
        raise LanguageError(f"command: {argv[0]} cannot be started: {error.strerror}") from None
    finally:
        os.close(stdin)


async def _result(process: "subprocess.Popen[bytes]", payload: CallPayload, link: Link, service: ContextService) -> Any:
    assert process.stdout is not None
    assert process.stderr is not None
    output, log = bytearray(), _Log(link)
    limit = payload.limits.max_result_bytes

    def collect(data: bytes) -> None:
        output.extend(data)
        if len(output) > limit:
            process.kill()
            raise ProgramError(
                f"the result is more than {limit} bytes, which is what is allowed", code=ErrorCode.RESULT_TOO_LARGE
            )

    readers = [
        asyncio.ensure_future(_read(process.stdout.fileno(), collect)),
        asyncio.ensure_future(_read(process.stderr.fileno(), log.feed)),
    ]
    ended = asyncio.ensure_future(asyncio.to_thread(process.wait))
    try:
        await asyncio.wait([ended, readers[0]], return_when=asyncio.FIRST_COMPLETED)
        if readers[0].done():
            readers[0].result()
        code = await ended
        # A process it left behind may hold the pipes open: what was printed until now counts.
        await asyncio.wait(readers, timeout=_DRAIN_SECONDS)
        if readers[0].done():
            readers[0].result()
        log.flush()
    except asyncio.CancelledError:
        await asyncio.shield(ended)  # it has its moment to clean up; the runner ends both
        raise
    finally:
        for reader in readers:
            reader.cancel()
    return _read_result(code, bytes(output), log, service)


async def _read(descriptor: int, take: Any) -> None:
    loop = asyncio.get_running_loop()
    os.set_blocking(descriptor, False)
    while True:
        readable = loop.create_future()
        loop.add_reader(descriptor, _wake, readable)
        try:
            await readable
        finally:
            loop.remove_reader(descriptor)
        with contextlib.suppress(BlockingIOError):
            data = os.read(descriptor, _READ_SIZE)
            if not data:
                return
            take(data)


def _wake(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


def _read_result(code: int, output: bytes, log: _Log, service: ContextService) -> Any:
    detail = log.tail.decode(errors="replace")
    if code != 0 and service.failed is not None:
        raise SkillError(service.failed)
    if code < 0:
        raise ProgramError(f"the program was killed by {signal.Signals(-code).name}", detail)
    if code > 0:
        raise ProgramError(f"the program ended with exit code {code}", detail)
    text = output.decode(errors="replace")
    try:
        return loads(text)
    except ProtocolError:
        return {"text": text.rstrip("\n")}
