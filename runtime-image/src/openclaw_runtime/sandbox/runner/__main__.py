"""Entry point of a sandbox pod.

The order matters: the port is open before anything more is loaded, and the child, or the zygote of all children, is
forked while this process is small and knows nothing. What a fork inherits of the port, it closes.
"""

import os
import socket
import sys
from pathlib import Path

from openclaw_runtime.environ import SettingsError
from openclaw_runtime.sandbox.runner.settings import Settings, read_settings


def main() -> int:
    """Runs one sandbox and returns its exit code."""
    if sys.platform != "linux":
        print(f"error: platform: {sys.platform} cannot confine a skill; use Linux", file=sys.stderr)  # noqa: T201
        return 2
    try:
        settings = read_settings(os.environ)
    except SettingsError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    try:
        listener = _listen(settings)
    except OSError as error:
        place = f"{settings.host}:{settings.port}"
        print(f"error: OPENCLAW_SANDBOX_PORT: cannot listen on {place}: {error.strerror}", file=sys.stderr)  # noqa: T201
        return 1
    import shutil
    import tempfile

    scratch = Path(tempfile.mkdtemp(prefix="openclaw-", dir=settings.scratch_root))
    try:
        return _serve(settings, scratch, listener)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _serve(settings: Settings, scratch: Path, listener: socket.socket) -> int:
    import asyncio
    import logging
    import signal

    from openclaw_runtime.sandbox.runner import linux
    from openclaw_runtime.sandbox.runner.child import fork_child
    from openclaw_runtime.sandbox.runner.zygote import fork_zygote

    linux.adopt_orphans()
    languages = settings.languages
    zygote = fork_zygote(settings.workspace, scratch, languages) if settings.leased else None
    child = None if zygote else fork_child(settings.workspace, scratch, languages)
    linux.hide()
    # As the first process of a pod it would not be ended by the signal, and nothing below is worth waiting for.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    from openclaw_runtime.jsonlog import JsonFormatter
    from openclaw_runtime.sandbox.runner import server
    from openclaw_runtime.sandbox.runner.nursery import Nursery, Rooms
    from openclaw_runtime.sandbox.signing import SigningError, Verifier

    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler])
    # Failed handshakes are somebody else's mistake; the library would write a traceback for each.
    logging.getLogger("websockets").setLevel(logging.CRITICAL)
    try:
        verifier = Verifier.from_text(settings.public_keys)
    except SigningError as error:
        print(f"error: OPENCLAW_SANDBOX_PUBLIC_KEYS: {error}", file=sys.stderr)  # noqa: T201
        return 2

    async def run() -> int:
        rooms = Rooms(scratch, _rooms(settings, scratch))
        nursery = Nursery(child, zygote, rooms, server.MAX_CHILD_FRAME)
        return await server.run(settings, verifier, nursery, listener)

    return asyncio.run(run())


def _listen(settings: Settings) -> socket.socket:
    """Returns what calls come in at: what we were started with, else the port of a pod, open from now on.

    The kubelet asks whether we are ready as soon as it sees the container run, and then once a second. Where it finds
    the port open, it waits for the answer; where it does not, the pod is ready a second later than it could be.
    """
    if settings.listener is not None:
        return socket.socket(fileno=settings.listener)
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    return socket.create_server((settings.host, settings.port), family=family)


def _rooms(settings: Settings, scratch: Path) -> tuple[Path, ...]:
    """Returns what a call can write to. In a pod that is more than its scratch folder, and all of it is ours."""
    if settings.lifeline is not None:
        return (scratch,)
    shared_memory = Path("/dev/shm")  # noqa: S108 - every container has one, and it is writable
    return (settings.scratch_root, *([shared_memory] if shared_memory.is_dir() else []))


if __name__ == "__main__":
    sys.exit(main())
