"""The HTTP server of gateways and activators."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.types import ASGIApp


class HttpServer(uvicorn.Server):
    """Stops when told to, not on a signal: what is under way comes first."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Captures none."""
        yield


def http_server(app: ASGIApp, *, grace_seconds: int, **options: Any) -> HttpServer:
    """Returns a server; requests may go on for `grace_seconds` once it is told to stop. `options` are uvicorn's."""
    return HttpServer(
        uvicorn.Config(
            app,
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=grace_seconds,
            **options,
        )
    )
