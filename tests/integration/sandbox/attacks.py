"""A skill whose actions try what a skill must not be able to do. Packed and run by the tests, never imported."""
# mypy: ignore-errors
# ruff: noqa: ASYNC251, PTH109, PTH115, PTH123, PTH208

import asyncio
import fcntl
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

from openclaw_skill import ContextError, SkillError


async def noop(ctx, given):
    return {"ok": True}


async def echo(ctx, given):
    return {
        "input": given,
        "config": ctx.config,
        "secrets": dict(ctx.secrets),
        "domains": list(ctx.allowed_domains),
        "call": [ctx.call.id, ctx.call.agent, ctx.call.session, ctx.call.skill, ctx.call.action],
        "workspace": str(ctx.workspace) if ctx.workspace else None,
        "cwd": os.getcwd(),
        "scratch": str(ctx.scratch),
    }


async def talk(ctx, given):
    ctx.logger.info("one %s", 1, extra={"fields": {"n": 1}})
    print("two", flush=True)
    print("three", file=sys.stderr, flush=True)
    await ctx.progress(0.5, "half")
    return


async def callbacks(ctx, given):
    return {
        "id": await ctx.memory.add({"type": "note"}),
        "found": await ctx.memory.search("q", limit=2),
        "text": await ctx.llm.generate("prompt", temperature=0.1),
        "answer": await ctx.ask("really?"),
    }


async def pause(ctx, given):
    return await ctx.ask("may I go on?")


def blocking(ctx, given):
    ctx.progress(0.1, "sync")
    return [ctx.memory.add({"type": "sync"}), ctx.ask("sync?")]


async def many(ctx, given):
    return await asyncio.gather(*(ctx.llm.generate(str(number)) for number in range(20)))


async def search(ctx, given):
    try:
        return await ctx.memory.search("secret")
    except ContextError as error:
        return [error.code, str(error)]


async def fail(ctx, given):
    raise SkillError("no such branch: main")


async def crash(ctx, given):
    return 1 // 0


async def die(ctx, given):
    os._exit(3)


async def segfault(ctx, given):
    os.kill(os.getpid(), signal.SIGSEGV)


async def leave(ctx, given):
    sys.exit("bye")


async def not_json(ctx, given):
    return {1, 2}


async def nan(ctx, given):
    return float("nan")


async def surrogate(ctx, given):
    return "\ud800"


async def huge(ctx, given):
    return "x" * given["size"]


async def sleep(ctx, given):
    try:
        ctx.logger.info("sleeping")
        await asyncio.sleep(3600)
    finally:
        (ctx.workspace / "cleaned").write_text("yes")


async def stubborn(ctx, given):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ctx.logger.info("ignoring %s", os.getpid())
    while True:
        time.sleep(1)


def environment(ctx, given):
    return {"environ": dict(os.environ), "proc": Path("/proc/self/environ").read_bytes().replace(b"\0", b"").decode()}


def _try(work):
    try:
        return ["did", str(work())[:100]]
    except OSError as error:
        return ["refused", error.errno]


def runner(ctx, given):
    """Everything a process of the same uid might do to the runner."""
    return reach(os.getppid())


def zygote(ctx, given):
    """The same, to the process that will fork the child of the next call."""
    return reach(_siblings()[0])


def neighbour(ctx, given):
    """The same, to whoever else this user runs."""
    return reach(given["pid"])


def _siblings():
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if parent == os.getppid():
                found.append(int(entry.name))
    return found


def reach(parent):
    """Signals are number 0, which the kernel checks like any other and which does no harm where it gets through."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)

    def call(*arguments):
        if libc.syscall(*arguments) < 0:
            raise OSError(ctypes.get_errno(), "syscall")

    ours, _theirs = socket.socketpair()
    owner = struct.pack("ii", 1, parent)  # F_OWNER_PID
    return {
        "setown": _try(lambda: fcntl.fcntl(ours, fcntl.F_SETOWN, parent)),
        "setown_group": _try(lambda: fcntl.fcntl(ours, fcntl.F_SETOWN, -os.getpgid(parent))),
        "setown_ex": _try(lambda: fcntl.fcntl(ours, 15, owner)),
        "setsig": _try(lambda: fcntl.fcntl(ours, 10, signal.SIGKILL)),
        "fiosetown": _try(lambda: fcntl.ioctl(ours, 0x8901, struct.pack("i", parent))),
        "siocspgrp": _try(lambda: fcntl.ioctl(ours, 0x8902, struct.pack("i", parent))),
        "priority": _try(lambda: os.setpriority(os.PRIO_PROCESS, parent, 19)),
        "user_priority": _try(lambda: os.setpriority(os.PRIO_USER, 0, 0)),
        "environ": _try(lambda: Path(f"/proc/{parent}/environ").read_bytes()),
        "mem": _try(lambda: Path(f"/proc/{parent}/mem").open("rb")),
        "fd": _try(lambda: os.readlink(f"/proc/{parent}/fd/0")),
        "ptrace": _try(lambda: call(101, 16, parent, 0, 0)),
        "readv": _try(lambda: call(310, parent, 0, 0, 0, 0, 0)),
        "kill": _try(lambda: os.kill(parent, 0)),
        "killpg": _try(lambda: os.kill(-os.getpgid(parent), 0)),
        "everyone": _try(lambda: os.kill(-1, 0)),
        "prlimit": _try(lambda: call(302, parent, 0, 0, 0)),
        "pidfd": _try(lambda: os.pidfd_open(parent)),
        "unshare": _try(lambda: call(272, 0x10000000)),
        "io_uring": _try(lambda: call(425, 1, 0)),
        "self": _try(lambda: [os.kill(os.getpid(), 0), os.nice(1), signal.pthread_kill(threading.get_ident(), 0)]),
    }


def execute(ctx, given):
    return subprocess.run(["/bin/echo", "ran"], capture_output=True, text=True, check=True).stdout


def fork(ctx, given):
    return os.fork()


def thread(ctx, given):
    done = []
    worker = threading.Thread(target=lambda: done.append(1))
    worker.start()
    worker.join()
    return done


def connect(ctx, given):
    socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    return "socket"


def children(ctx, given):
    """Ends its own: a process, a group, and a shell its child."""
    first = subprocess.Popen(["/bin/sleep", "60"])
    first.terminate()
    second = subprocess.Popen(["/bin/sleep", "60"], start_new_session=True)
    os.killpg(second.pid, signal.SIGKILL)
    third = subprocess.run(["/bin/sh", "-c", "sleep 60 & kill $! && wait $!"])
    return [first.wait(), second.wait(), third.returncode]


def orphan(ctx, given):
    """Leaves a process behind that left the session and ignores what it can."""
    script = "trap '' TERM HUP INT; while :; do sleep 1; done"
    child = subprocess.Popen(["/bin/sh", "-c", script], start_new_session=True)
    return child.pid


def bomb(ctx, given):
    for _ in range(1000):  # enough to be noticed, too few to hurt where it is not
        subprocess.Popen(["/bin/sleep", "60"])
    return "not stopped"


def flood(ctx, given):
    for _ in range(given["lines"]):
        os.write(1, b"spam " * 200 + b"\n")
    return "done"


def log_flood(ctx, given):
    for number in range(5000):
        ctx.logger.info("line %s", number)
    return "done"


def one_line(ctx, given):
    os.write(1, b"y" * given["size"])
    return "done"


def memory(ctx, given):
    return len(bytearray(given["bytes"]))


def big_file(ctx, given):
    with open(ctx.scratch / "big", "wb") as file:
        file.seek(given["bytes"])
        file.write(b"x")
    return "written"


def limits(ctx, given):
    import resource

    return {
        name: resource.getrlimit(getattr(resource, name)) for name in ("RLIMIT_CORE", "RLIMIT_NOFILE", "RLIMIT_DATA")
    }


def channel(ctx, given):
    """Writes straight into the channel to the runner, as a skill that took over its process would."""
    for name in os.listdir("/proc/self/fd"):
        descriptor = int(name)
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
        if target.startswith("socket:") and descriptor > 2:
            try:
                connection = socket.socket(fileno=os.dup(descriptor))
                if connection.type != socket.SOCK_STREAM or connection.family != socket.AF_UNIX:
                    continue
                connection.sendall(bytes.fromhex(given["hex"]))
            except OSError:
                continue
    time.sleep(30)


def sockets(ctx, given):
    """The families of the sockets this process holds."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                found.append(socket.socket(fileno=os.dup(int(name))).family.name)
        except OSError:
            continue
    return sorted(found)


async def forge(ctx, given):
    """Answers in the runner's name."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "error": {"code": given["code"], "message": "forged"}}).encode()
    await asyncio.to_thread(channel, ctx, {"hex": (len(body).to_bytes(4, "big") + b"\x01" + body).hex()})


def litter(ctx, given):
    """Leaves behind what it can, and says who it was."""
    sys.modules["littered"] = sys
    os.environ["LITTER"] = "yes"
    os.umask(0)
    (ctx.scratch / "file").write_text("litter")
    (Path(os.environ["TMPDIR"]) / "other").write_text("litter")
    (Path(os.environ["TMPDIR"]) / "link").symlink_to("/etc")
    return seen(ctx, given)


def seen(ctx, given):
    """What there is of a call before."""
    home = Path(os.environ["TMPDIR"])
    return {
        "pid": os.getpid(),
        "module": "littered" in sys.modules,
        "environ": "LITTER" in os.environ,
        "umask": os.umask(0o77),
        "files": sorted(str(path.relative_to(home)) for path in home.rglob("*") if "package" not in path.parts),
        "siblings": len(_siblings()),
        "secrets": dict(ctx.secrets),
    }


def lasting(ctx, given):
    """Makes shared memory that would outlive the call."""
    import ctypes

    return _try(lambda: _check(ctypes.CDLL(None, use_errno=True).shmget(0, 4096, 0o1600)))


def _check(result):
    import ctypes

    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return result


def locked(ctx, given):
    """Leaves a folder that cannot be emptied by others."""
    folder = Path(os.environ["TMPDIR"]) / "locked"
    folder.mkdir()
    (folder / "file").write_text("x")
    folder.chmod(0)
    return "done"


def data_file(ctx, given):
    return (Path(__file__).parent / "data.txt").read_text()
