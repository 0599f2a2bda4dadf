"""Host names to addresses, for whoever judges them before anything is dialled."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

RESOLVE_SECONDS: Final = 5.0
RESOLVER_THREADS: Final = 64

Resolve = Callable[[str], Awaitable[Sequence[str]]]
"""Returns the addresses of a host name; none if it has none or the answer took too long."""


class Resolver:
    """Host names to addresses through the resolver of this machine, in threads of its own."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(RESOLVER_THREADS, thread_name_prefix="resolve")

    async def __call__(self, host: str) -> Sequence[str]:
        """Returns the addresses in the order in which they should be tried; none if there are none in time."""
        loop = asyncio.get_running_loop()
        lookup = loop.run_in_executor(self._threads, _lookup, host)
        try:
            async with asyncio.timeout(RESOLVE_SECONDS):
                return await lookup
        except (OSError, UnicodeError, TimeoutError):
            return []


def _lookup(host: str) -> list[str]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return list(dict.fromkeys(str(item[4][0]).partition("%")[0] for item in found))
