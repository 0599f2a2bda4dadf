"""bubblewrap: what a walled local sandbox sees of the machine, and what it still does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from openclaw_runtime.sandbox import bubblewrap
from openclaw_runtime.sandbox.archive import PackageFile
from openclaw_runtime.sandbox.local_executor import SubprocessExecutor
from openclaw_runtime.skills.package import pack_files
from tests.integration.sandbox.helpers import RecordingContext, make_call, make_skill

MAIN = b"""
import errno
import os
import socket
from pathlib import Path


def _try(work):
    try:
        return work()
    except OSError as error:
        return type(error).__name__


def fill(ctx, input):
    own = Path(os.environ["TMPDIR"])
    return [_fill(folder) for folder in (own, own.parent, Path("/tmp"), Path("/dev/shm"), Path("/dev"), Path("/"))]


def _fill(folder):
    opened = []
    try:
        for number in range(48):
            path = folder / f"fill-{number}"
            with path.open("wb", buffering=0) as file:
                file.write(bytes(1 << 20))
                opened.append(os.dup(file.fileno()))
            path.unlink()
        return "not stopped"
    except OSError as error:
        return errno.errorcode[error.errno]
    finally:
        for descriptor in opened:
            os.close(descriptor)


def look(ctx, input):
    mine = Path(input["workspace"])
    return {
        "home": _try(Path(input["secret"]).read_text),
        "read": _try((mine / "given").read_text),
        "write": _try(lambda: (mine / "made").write_text("by the skill")),
        "scratch": _try(lambda: (Path(ctx.scratch) / "note").write_text("note")),
        "connect": _try(lambda: socket.create_connection(("127.0.0.1", input["port"]), 5).recv(2).decode()),
    }
"""
PACKAGE = pack_files([PackageFile("scripts/main.py", MAIN)])
PROGRAM_TEXT = b'''cd "$OPENCLAW_SCRATCH"; printf hello > f; openclaw-ctx attach f
home=$(ls -A "$(openclaw-ctx input home)" 2>/dev/null)
openclaw-ctx json home="$home" interfaces="$(tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' ')"'''
PROGRAM = pack_files([PackageFile("scripts/main.sh", PROGRAM_TEXT)])
READ, WRITE, NETWORK = "filesystem:read", "filesystem:write", "network:external"


@pytest.fixture
async def walled(tmp_path: Path) -> AsyncIterator[SubprocessExecutor]:
    found, reason = await bubblewrap.find()
    if found is None:
        pytest.skip(f"{reason} (make programs installs it)")
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    (workspace / "given").write_text("of the user")
    executor = SubprocessExecutor(workspace=workspace, warm=0, limit=4)
    await executor.start()
    assert executor.status()["isolation"] == "bubblewrap"
    yield executor
    await executor.close()


@pytest.mark.parametrize(
    ("permissions", "seen"),
    [
        ((), {"read": "FileNotFoundError", "write": "FileNotFoundError", "connect": "PermissionError"}),
        ((READ,), {"read": "of the user", "write": "OSError", "connect": "PermissionError"}),
        ((READ, WRITE, NETWORK), {"read": "of the user", "write": 12, "connect": "hi"}),
    ],
)
async def test_a_walled_skill_sees_what_it_declares_and_nothing_of_its_user(
    walled: SubprocessExecutor,
    context: RecordingContext,
    tmp_path: Path,
    permissions: tuple[str, ...],
    seen: dict[str, Any],
) -> None:
    """The workspace is seen though the folder it is in, with the secret, is not."""
    secret = tmp_path / "id_ed25519"
    secret.write_text("private")

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            writer.write(b"hi")
            await writer.drain()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        given = {"secret": str(secret), "workspace": str(tmp_path / "workspace"), "port": port}
        skill = make_skill("look", PACKAGE, permissions=permissions)
        output = (await walled.execute(make_call(skill, given), context)).output
    assert output == {"home": "FileNotFoundError", "scratch": 4, **seen}
    made = tmp_path / "workspace" / "made"
    assert made.exists() == (WRITE in permissions)


async def test_a_walled_skill_can_fill_nothing_of_the_machine(
    walled: SubprocessExecutor, context: RecordingContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With files that are deleted while they are open: whoever looks at the folder sees nothing."""
    monkeypatch.setattr(bubblewrap, "SCRATCH_BYTES", 32 << 20)
    monkeypatch.setattr(bubblewrap, "SHARED_BYTES", 32 << 20)
    result = await walled.execute(make_call(make_skill("fill", PACKAGE)), context)
    assert result.output == [*["ENOSPC"] * 4, "EROFS", "EROFS"]


async def test_a_program_finds_neither_a_home_nor_a_network_interface(
    walled: SubprocessExecutor, context: RecordingContext
) -> None:
    """Not only the system call filter is in the way: they are not there."""
    skill = make_skill("run", PROGRAM, runtime="bash", entrypoint="scripts/main.sh", permissions=("process:execute",))
    home = Path.home()
    result = await walled.execute(make_call(skill, {"home": str(home)}), context)
    output = result.output
    assert [(each.name, each.data) for each in result.attachments] == [("f", b"hello")]
    # Python may be installed there, as with pyenv; what is beside it is not seen.
    installed = [path.relative_to(home).parts[0] for path in bubblewrap.interpreter_folders() if home in path.parents]
    assert output["interfaces"] == "lo"
    assert set(output["home"].split()) == set(installed)
