"""A skill that tries what a skill must not be able to do. Runs inside a sandbox pod, with the standard library only."""

import os
import socket
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any


def connect(_ctx: object, given: dict[str, Any]) -> dict[str, str]:
    """{"host:port": "connected" or the error} for each of the targets, all tried at once.

    Those that end in "udp" are asked as name servers.
    """
    targets: list[list[Any]] = [list(target) for target in given["targets"]]
    with ThreadPoolExecutor(len(targets)) as threads:
        found = threads.map(_connect, targets)
        return {":".join(map(str, target)): outcome for target, outcome in zip(targets, found, strict=True)}


def _connect(target: list[Any]) -> str:
    host, port, *protocol = target
    try:
        if protocol:
            ask(host, port)
        else:
            socket.create_connection((host, port), timeout=1.5).close()
    except OSError as error:
        return type(error).__name__
    return "connected"


def ask(host: str, port: int) -> None:
    """Sends a question to a name server and waits for what it says. A datagram may be lost, so it asks again."""
    name = b"".join(
        bytes([len(part)]) + part for part in (b"kubernetes", b"default", b"svc", b"cluster", b"local", b"")
    )
    question = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00" + name + b"\x00\x01\x00\x01"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(1)
        asking.connect((host, port))
        asking.send(question)
        try:
            asking.recv(512)
        except TimeoutError:
            asking.send(question)
            asking.recv(512)


def look(_ctx: object, _given: dict[str, Any]) -> dict[str, Any]:
    """Who the skill is, what it sees, and where it can write."""
    writable = []
    for folder in ("/", "/etc", "/usr", "/opt/openclaw", "/workspace", "/tmp"):
        try:
            path = Path(folder, ".probe")
            path.write_text("x")
            path.unlink()
            writable.append(folder)
        except OSError:
            continue
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    return {
        "uid": os.getuid(),
        "environment": dict(os.environ),
        "token": Path("/var/run/secrets/kubernetes.io/serviceaccount").exists(),
        "mounted_secrets": [line for line in Path("/proc/mounts").read_text().splitlines() if "secret" in line],
        "writable": writable,
        "capabilities": int(status["CapEff"], 16),
        "no_new_privileges": status["NoNewPrivs"].strip(),
        "seccomp": status["Seccomp"].strip(),
        "parent_environment": environment_of_others(),
    }


def environment_of_others() -> list[str]:
    """Names of variables of other processes of the pod, as far as they can be read."""
    names: set[str] = set()
    for file in Path("/proc").glob("[0-9]*/environ"):
        try:
            names.update(part.split(b"=")[0].decode() for part in file.read_bytes().split(b"\0") if part)
        except OSError:
            continue
    return sorted(names)


def own_data(_ctx: object, _given: dict[str, Any]) -> dict[str, Any]:
    """What a skill sees and can do of the place where an agent keeps its own data on the workspace."""
    folder = Path("/workspace/.openclaw")
    tries: dict[str, Callable[[], object]] = {
        "write": lambda: (folder / "x").write_text("x"),
        "remove": folder.rmdir,
        "rename": lambda: folder.rename("/workspace/moved"),
    }
    done = []
    for name, work in tries.items():
        try:
            work()
            done.append(name)
        except OSError:
            continue
    return {"seen": sorted(entry.name for entry in folder.iterdir()), "done": done}


def give(ctx: Any, given: dict[str, Any]) -> None:
    """Gives a file of a size with the result."""
    ctx.attach("large.bin", bytes(given["size"]))


def fetch(_ctx: object, given: dict[str, Any]) -> dict[str, Any]:
    """{URL: status or the error} of each of the URLs, all at once, as an ordinary program fetches them."""
    urls: list[str] = given["urls"]
    with ThreadPoolExecutor(len(urls)) as threads:
        return dict(zip(urls, threads.map(_fetch, urls), strict=True))


def _fetch(url: str) -> int | str:
    try:
        with urllib.request.urlopen(url, timeout=15) as answer:
            status: int = answer.status
            return status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError as error:
        return str(error)
