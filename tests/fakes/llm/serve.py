"""Runs an ASGI application on a free port, of loopback unless told otherwise, inside the running event loop."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import uvicorn


class QuietServer(uvicorn.Server):
    """A server that leaves the process's signals alone."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Captures none."""
        yield


@asynccontextmanager
async def serving(app: Any, host: str = "127.0.0.1") -> AsyncIterator[str]:
    """Yields the address. The socket listens before the server runs: whoever connects early waits."""
    with socket.create_server((host, 0)) as listener:
        config = uvicorn.Config(app, log_config=None, lifespan="auto", ws="none", timeout_graceful_shutdown=1)
        server = QuietServer(config)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield f"http://{host}:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task
