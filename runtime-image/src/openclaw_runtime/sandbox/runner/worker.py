"""The child: warm before the pod is ready, confined before it touches anything of the call, gone after one result.

Nothing in here guards the pod. This process may be taken over by the skill it runs; what holds then are the limits the
kernel keeps (see `linux`, `seccomp`) and the runner, which trusts nothing that comes out of it.
"""

import asyncio
import gc
import importlib
import importlib.util
import inspect
import math
import os
import resource
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NoReturn

from openclaw_runtime.sandbox.archive import ArchiveError, unpack
from openclaw_runtime.sandbox.jsonrpc import Failure, Notification, Request, Success, decode, dumps
from openclaw_runtime.sandbox.protocol import CALL_ID, MAX_FRAME_BYTES, CallPayload, ErrorCode
from openclaw_runtime.sandbox.runner import linux, seccomp
from openclaw_runtime.sandbox.runner.channel import FrameReader, Kind
from openclaw_runtime.sandbox.runner.child import Ends
from openclaw_runtime.sandbox.runner.context import BlockingContext, Link, build_context
from openclaw_runtime.sandbox.runner.denied import missing
from openclaw_runtime.sandbox.runner.languages import LanguageError, Languages
from openclaw_runtime.sandbox.runner.languages.node import Allowance, Node
from openclaw_runtime.sandbox.runner.languages.programs import Places, ProgramError, run_program
from openclaw_runtime.sandbox.runner.network import proxy_environment
from openclaw_runtime.sandbox.runner.rehearsal import clear, sample_call, sample_tar
from openclaw_skill import ContextError, SkillError


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


PRELOADED: Final = _words(
    "base64 bisect collections.abc concurrent.futures.thread contextlib copy csv dataclasses datetime decimal difflib "
    "email.message enum fnmatch functools glob hashlib heapq hmac html http.client importlib.machinery "
    "importlib.resources io itertools json logging math mimetypes operator pathlib pprint random re secrets shlex "
    "shutil sqlite3 statistics string struct subprocess tempfile textwrap threading time tomllib traceback types "
    "typing unicodedata urllib.parse urllib.request uuid xml.etree.ElementTree zlib"
)
"""Standard modules that skills use most: importing them is the pod's start-up time, not the call's."""

PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MODULE: Final = "skill_entrypoint"
_READ_SIZE: Final = 256 * 1024
_MAX_DETAIL: Final = 4000
_MAX_MESSAGE: Final = 2000
_CPU_SLACK_SECONDS: Final = 5
_REFUSALS: Final = frozenset({ErrorCode.PERMISSION_DENIED, ErrorCode.ATTACHMENT})
"""Of what a skill asked of its context: how the call ends if the skill does not catch it."""


def warm_up(scratch: Path) -> None:
    """Makes this process what a child starts from: no environment, no privileges, everything loaded and rehearsed.

    It leaves one thread and no open descriptor, so that a process may be forked from it.
    """
    linux.wipe_environment()
    linux.drop_privileges()
    os.environ.update(_environment(scratch))
    sys.dont_write_bytecode = True
    for name in PRELOADED:
        importlib.import_module(name)
    asyncio.run(_rehearse(scratch))
    gc.collect()
    gc.freeze()


def run_child(ends: Ends, workspace: Path, scratch: Path, languages: Languages, zygote: int | None = None) -> NoReturn:
    """The life of the child, called right after fork; never returns. One that a zygote forked is warm already."""
    try:
        os.setsid()
        linux.die_with_parent()
        with open(os.devnull, "rb") as null:  # noqa: PTH123 - a descriptor is what is needed
            os.dup2(null.fileno(), 0)
        os.dup2(ends.stdout, 1)
        os.dup2(ends.stderr, 2)
        linux.close_descriptors_except([ends.channel.fileno()])
        if zygote is None:
            warm_up(scratch)
        linux.seclude()
        asyncio.run(_Worker(ends.channel, workspace, scratch, languages, zygote).run())
    except BaseException:  # noqa: BLE001 - this is the end of the process, whatever it was
        os.write(2, traceback.format_exc().encode(errors="replace")[-_MAX_DETAIL:])
        os._exit(70)
    os._exit(0)


def _environment(scratch: Path) -> dict[str, str]:
    home = str(scratch)
    return {"PATH": PATH, "HOME": home, "TMPDIR": home, "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}


class _Worker:
    def __init__(
        self, channel: socket.socket, workspace: Path, scratch: Path, languages: Languages, zygote: int | None
    ) -> None:
        self._channel = channel
        self._languages = languages
        self._node: Node | None = None
        self._workspace = workspace
        self._scratch = scratch
        self._zygote = zygote
        self._link = Link(channel)
        self._frames = FrameReader(MAX_FRAME_BYTES * 2)
        self._package = b""
        self._job: asyncio.Future[CallPayload] | None = None

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        self._job = loop.create_future()
        loop.add_reader(self._channel, self._read)
        if self._languages.runtime == "node":
            policy = seccomp.Policy(False, False, _protected(self._zygote), lasting_ipc=self._zygote is None)
            self._node = Node(
                self._languages.node, self._channel, dict(os.environ), policy, self._languages.memory_bytes
            )
            await self._node.start(Allowance.of(self._languages.allowances))
        self._link.send(Notification("ready", {}))
        payload = await self._job
        task = asyncio.ensure_future(self._answer(payload))
        loop.add_signal_handler(signal.SIGTERM, task.cancel)
        message = await task
        loop.remove_reader(self._channel)
        try:
            self._link.send(message)
        except BrokenPipeError:
            os._exit(71)
        # The runner reads what this process used and kills it; exiting by itself would make it wait for the memory to
        # be torn down. Threads and exit handlers of the skill are not waited for either way.
        self._channel.recv(1)
        os._exit(0)

    def _read(self) -> None:
        try:
            data = self._channel.recv(_READ_SIZE, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        if not data:  # the runner is gone
            os._exit(72)
        for kind, body in self._frames.feed(data):
            if kind is Kind.PACKAGE:
                self._package = body
                continue
            message = decode(body)
            if isinstance(message, Request) and message.method == "run":
                assert self._job is not None
                self._job.set_result(CallPayload.parse(message.params["payload"]))
            elif isinstance(message, Success | Failure):
                self._link.answer(message)

    async def _answer(self, payload: CallPayload) -> Success | Failure:
        """Runs the call and returns its response, whatever happens inside."""
        try:
            output = await self._call(payload)
            try:
                size = len(dumps(output))
            except (TypeError, ValueError) as error:
                return _failure(ErrorCode.SKILL_CRASHED, f"the result of {payload.action} is not JSON: {error}")
            if size > payload.limits.max_result_bytes:
                limit = payload.limits.max_result_bytes
                return _failure(ErrorCode.RESULT_TOO_LARGE, f"the result is {size} bytes; at most {limit} are allowed")
            return Success(CALL_ID, {"output": output})
        except SkillError as error:
            return _failure(ErrorCode.SKILL_ERROR, str(error) or "the skill failed without a message")
        except _RefusedError as error:
            return _failure(error.code, str(error))
        except LanguageError as error:
            return _failure(ErrorCode.INVALID_PARAMS, str(error))
        except ProgramError as error:
            return _failure(error.code, str(error), error.detail)
        except ArchiveError as error:
            return _failure(ErrorCode.PACKAGE, str(error))
        except asyncio.CancelledError:
            return _failure(ErrorCode.CANCELLED, "the call was ended")
        except MemoryError:
            return _failure(ErrorCode.SKILL_CRASHED, f"out of memory: {payload.limits.memory_hint}")
        except BaseException as error:  # noqa: BLE001 - SystemExit and the like end the call, not the protocol
            if refusal := self._refusal(error, payload):
                return refusal
            return _failure(ErrorCode.SKILL_CRASHED, f"{type(error).__name__}: {error}", traceback.format_exc())

    def _refusal(self, error: BaseException, payload: CallPayload) -> Failure | None:
        """Returns the response where a skill did what it may not."""
        if isinstance(error, ContextError) and error.code in _REFUSALS:
            return _failure(error.code, str(error))
        permission = missing(error, payload.permissions, self._workspace)
        if permission is None and not isinstance(error, PermissionError):
            return None
        hint = f"; the skill does not declare {permission}: add it to its permissions" if permission else ""
        more = {"permission": permission} if permission else {}
        return _failure(ErrorCode.PERMISSION_DENIED, f"{error}{hint}", traceback.format_exc(), **more)

    async def _call(self, payload: CallPayload) -> Any:
        folders = _make_folders(self._scratch, self._workspace if _uses_files(payload) else None)
        os.environ.update(proxy_environment(payload))
        if self._node is not None:
            await self._node.prepare(Allowance.of(payload.permissions))
            self._node.limit(payload.limits.memory_bytes, _cpu_seconds(payload))
        _confine(payload, self._zygote)
        unpack(self._package, folders.package)
        self._package = b""
        if payload.runtime != "python":
            return await self._call_program(payload, folders)
        context = build_context(payload, link=self._link, workspace=folders.workspace, scratch=folders.work)
        if payload.mcp:
            from openclaw_runtime.sandbox.runner import mcp

            return await mcp.call(payload, folders.package, context)
        action = _load_action(folders.package, payload)
        if inspect.iscoroutinefunction(action):
            return await action(context, payload.input)
        blocking = BlockingContext(context, asyncio.get_running_loop())
        return await asyncio.to_thread(action, blocking, payload.input)

    async def _call_program(self, payload: CallPayload, folders: "_Folders") -> Any:
        """Runs a call in another language."""
        places = Places(folders.package, folders.work, folders.workspace)
        if self._node is not None:
            return await self._node.run(payload, places)
        if payload.runtime == "bash":
            return await run_program(payload, places, self._link, dict(os.environ))
        base = dict(self._languages.environment) | {"HOME": str(self._scratch), "TMPDIR": str(self._scratch)}
        return await run_program(payload, places, self._link, base | proxy_environment(payload))


@dataclass(frozen=True, slots=True)
class _Folders:
    package: Path
    work: Path
    workspace: Path | None


def _make_folders(scratch: Path, workspace: Path | None) -> _Folders:
    """Makes the folders of a call and goes to where it works."""
    present = workspace if workspace is not None and workspace.is_dir() else None
    folders = _Folders(scratch / "package", scratch / "work", present)
    folders.package.mkdir()
    folders.work.mkdir()
    os.chdir(present or folders.work)
    return folders


async def _rehearse(scratch: Path) -> None:
    """Runs a call that does nothing, without confining anything."""
    tar = sample_tar()
    payload = CallPayload.parse(sample_call(tar).encode())
    folders = _make_folders(scratch, None)
    seccomp.program(seccomp.Policy(execute=True, network=True), seccomp.architecture())
    unpack(tar, folders.package)
    path = list(sys.path)
    await _load_action(folders.package, payload)(None, {})
    dumps({})
    sys.path[:] = path
    sys.modules.pop(_MODULE, None)
    importlib.invalidate_caches()
    os.chdir("/")
    clear(scratch)


class _RefusedError(Exception):
    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code


def _failure(code: int, message: str, detail: str = "", **more: str) -> Failure:
    # The end of a traceback says what went wrong; its start only how it was reached.
    data = {"detail": detail[-_MAX_DETAIL:]} if detail else {}
    return Failure(CALL_ID, code, message[:_MAX_MESSAGE], {**data, **more})


def _uses_files(payload: CallPayload) -> bool:
    return any(permission.startswith("filesystem:") for permission in payload.permissions)


def _confine(payload: CallPayload, zygote: int | None) -> None:
    """Lowers the limits and installs the filter; nothing of the skill has been read yet."""
    allowance = Allowance.of(payload.permissions)
    used = math.ceil(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]))
    linux.limit_resources(
        memory_bytes=payload.limits.memory_bytes,
        cpu_seconds=_cpu_seconds(payload) + used,
        address_space=payload.runtime == "python",
    )
    policy = seccomp.Policy(
        allowance.execute, allowance.network, _protected(zygote), own=os.getpid(), lasting_ipc=zygote is None
    )
    seccomp.install(seccomp.program(policy, seccomp.architecture()))


def _cpu_seconds(payload: CallPayload) -> int:
    return math.ceil(payload.limits.timeout_seconds * (os.cpu_count() or 1)) + _CPU_SLACK_SECONDS


def _protected(zygote: int | None) -> tuple[int, ...]:
    """Returns who may not be signalled: the runner, its zygote and, on a laptop, whoever started it."""
    runner = os.getppid()
    starter = _parent_of(runner)
    others = [each for each in (zygote, starter if starter > 1 else None) if each is not None]
    return seccomp.protect(runner) + tuple(identity for each in others for identity in seccomp.protect(each))


def _parent_of(process: int) -> int:
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    return int(stat.rpartition(")")[2].split()[1])


def _load_action(package: Path, payload: CallPayload) -> Callable[..., Any]:
    entrypoint = package / payload.entrypoint
    if ".." in Path(payload.entrypoint).parts or not entrypoint.is_file():
        raise _RefusedError(ErrorCode.PACKAGE, f"entrypoint: {payload.entrypoint} is not in the package")
    sys.path[:0] = list(dict.fromkeys([str(entrypoint.parent), str(package)]))
    module = _import(entrypoint)
    action = getattr(module, payload.action, None)
    if not inspect.isfunction(action):
        raise _RefusedError(
            ErrorCode.INVALID_PARAMS, f"action: {payload.entrypoint} defines no function {payload.action}"
        )
    return action


def _import(entrypoint: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(_MODULE, entrypoint)
    if spec is None or spec.loader is None:
        raise _RefusedError(ErrorCode.PACKAGE, f"entrypoint: {entrypoint.name} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
