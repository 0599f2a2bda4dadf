"""The limit: applies the children of each Agent as fast as the API server takes them, and does nothing else.

Reads `NAMESPACE NAME UID` lines on standard input, prints `done COUNT` after the last one. No cache, no watch, no
comparison, no status: no operator that creates the same objects can be faster than this on the same API server.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import ssl
import sys
from collections.abc import Sequence
from pathlib import Path

import aiohttp
import uvloop

from tests.bench.api import path_of
from tests.bench.workload import Templates

CONCURRENCY = 32


class Limit:
    """Server-side apply of rendered templates."""

    def __init__(self, templates: Templates, session: aiohttp.ClientSession) -> None:

        self._templates = templates
        self._parts = [(path_of(child), json.dumps(child)) for child in templates.children]
        self._session = session
        self._slots = asyncio.Semaphore(CONCURRENCY)
        self.applied = 0

    def _render(self, text: str, namespace: str, name: str, uid: str) -> str:
        known = self._templates
        return text.replace(known.namespace, namespace).replace(known.name, name).replace(known.uid, uid)

    async def _apply(self, path: str, body: str) -> None:
        async with (
            self._slots,
            self._session.patch(
                path,
                params={"fieldManager": "openclaw-limit", "force": "true"},
                data=body.encode(),
                headers={"Content-Type": "application/apply-patch+yaml"},
            ) as answer,
        ):
            content = await answer.read()
            if answer.status >= 400:
                raise RuntimeError(f"{path}: {answer.status} {content.decode(errors='replace')[:300]}")
            self.applied += 1

    async def agent(self, namespace: str, name: str, uid: str) -> None:
        """Apply all children of one Agent; RoleBindings last, they are refused while their Role is missing."""
        for last in (False, True):
            async with asyncio.TaskGroup() as group:
                for path, text in self._parts:
                    if ("/rolebindings/" in path) is last:
                        filled = (self._render(part, namespace, name, uid) for part in (path, text))
                        group.create_task(self._apply(*filled))


async def run(server: str, tls: ssl.SSLContext, templates: Templates) -> int:
    """Apply what standard input names until it ends; the number of objects applied."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    connector = aiohttp.TCPConnector(ssl=tls, limit=CONCURRENCY)
    async with aiohttp.ClientSession(server, connector=connector) as session:
        limit = Limit(templates, session)
        async with asyncio.TaskGroup() as group:
            while line := (await reader.readline()).decode().split():
                namespace, name, uid = line
                group.create_task(limit.agent(namespace, name, uid))
        return limit.applied


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.limit", description=__doc__)
    parser.add_argument("--server", required=True)
    parser.add_argument("--pki", type=Path, required=True, help="folder with ca.crt and the identity's files")
    parser.add_argument("--identity", required=True)
    parser.add_argument("--templates", type=Path, required=True)
    options = parser.parse_args(argv)
    tls = ssl.create_default_context(cafile=str(options.pki / "ca.crt"))
    tls.load_cert_chain(options.pki / f"{options.identity}.crt", options.pki / f"{options.identity}.key")
    templates = Templates.from_json(options.templates.read_text())
    applied = uvloop.run(run(options.server, tls, templates))
    print(f"done {applied}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
