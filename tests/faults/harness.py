"""The operator as a process behind the proxy, and ways to wait for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from openclaw_operator.cluster.kinds import CHILDREN
from tests.bench import subjects
from tests.bench.api import Api
from tests.bench.setup import admin_api, create_namespace, identity, install_crd, prepared
from tests.bench.subjects import Subject
from tests.bench.waiting import NotReachedError, eventually, until_quiet
from tests.cluster.addon_crds import addon_crd
from tests.cluster.apiserver import ApiServer, client_context
from tests.cluster.errors import last_lines
from tests.faults import world
from tests.faults.proxy import Proxy

USER = "faults-operator"
# Far above what anything takes, so that a busy machine fails nothing.
CONVERGE_SECONDS = 240.0
QUIET_SECONDS = 1.0
# What is compared with must be the end, on a busy machine too.
BASELINE_QUIET_SECONDS = 6.0


def plain_kubeconfig(path: Path, url: str) -> Path:
    """A kubeconfig without credentials: the proxy has them."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "proxy", "cluster": {"server": url}}],
        "users": [{"name": "proxy", "user": {}}],
        "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "proxy"}}],
        "current-context": "proxy",
    }
    path.write_text(yaml.safe_dump(content))
    return path


@dataclass
class Stage:
    """An API server, the proxy in front of it, and at most one operator. `api` goes past the proxy."""

    server: ApiServer
    api: Api
    proxy: Proxy
    folder: Path
    namespace: str = world.NAMESPACE
    settings: Mapping[str, str] = field(default_factory=dict)
    operator: Subject | None = None
    _started: int = 0

    async def start(self) -> Subject:
        """Start an operator; the one before must have ended."""
        self._started += 1
        kubeconfig = plain_kubeconfig(self.folder / "kubeconfig", self.proxy.url)
        log = self.folder / f"operator-{self._started}.log"
        settings = {"watch_namespaces": self.namespace, "log_format": "text", **self.settings}
        self.operator = subjects.operator(kubeconfig, log, **settings)
        await asyncio.to_thread(self.operator.start)
        return self.operator

    async def stop(self) -> None:
        """Kill the operator, if there is one, and wait until it is gone."""
        if self.operator is not None and self.operator.running.poll() is None:
            await asyncio.to_thread(self.operator.kill)

    async def killed(self) -> None:
        """Wait for the end of an operator that somebody has killed."""
        assert self.operator is not None
        await asyncio.wait_for(asyncio.to_thread(self.operator.running.wait), 60)

    async def fresh(self) -> None:
        """An empty namespace, a proxy that only forwards, no operator; then the user's own objects."""
        await self.stop()
        self.proxy.reset()
        await world.clear(self.api, self.namespace)
        await world.create(self.api, world.user_objects())

    async def settled(self, seconds: float = CONVERGE_SECONDS, quiet: float = QUIET_SECONDS) -> None:
        """Until every resource has a current status and nothing has been written for `quiet` seconds."""

        async def reported() -> bool:
            self._check()
            return await world.all_reported(self.api, self.namespace)

        await self._explained(eventually(reported, "every resource has a current status", seconds=seconds))
        await self.quiet(seconds, quiet)

    async def tidy(self, seconds: float = CONVERGE_SECONDS, quiet: float = QUIET_SECONDS) -> None:
        """Until it is settled, and nothing is left of what is gone."""
        await self.settled(seconds, quiet)
        while await world.collect_garbage(self.api, self.namespace):
            await self.settled(seconds, quiet)

    async def quiet(self, seconds: float = CONVERGE_SECONDS, quiet: float = QUIET_SECONDS) -> None:
        """Until nothing has been written for `quiet` seconds."""
        await self._explained(until_quiet(lambda: len(self.proxy.writes), quiet=quiet, seconds=seconds))

    async def becomes(self, expected: Mapping[str, Any], seconds: float = CONVERGE_SECONDS) -> None:
        """Until everything is as expected, and stays so while the operator is quiet."""
        found: dict[str, Any] = {}

        async def same() -> bool:
            nonlocal found
            self._check()
            found = await world.snapshot(self.api, self.namespace)
            return found == expected

        def what() -> str:
            return "the expected state\n  " + "\n  ".join(world.difference(expected, found)[:20])

        until = time.monotonic() + seconds
        while True:
            await self._explained(eventually(same, what, seconds=until - time.monotonic(), interval=0.2))
            await self.quiet(seconds)
            # What a status tells of pools comes late on purpose: that of the state before may come only now.
            if await same():
                return

    async def snapshot(self) -> dict[str, Any]:
        return await world.snapshot(self.api, self.namespace)

    def _check(self) -> None:
        if self.operator is not None:
            self.operator.check()

    async def _explained(self, waiting: Any) -> None:
        try:
            await waiting
        except NotReachedError as error:
            if self.operator is not None:
                error.add_note(f"last lines of the operator:\n{last_lines(self.operator.log, 25)}")
            raise


async def prepare(server: ApiServer) -> None:
    """Once per API server: CRDs, rights, namespace and identity; and the APIs that addons bring."""
    identity(server, USER)
    async with prepared(server, USER) as api:
        for kind in (each for each in CHILDREN if each.from_addon):
            await install_crd(api, addon_crd(kind))
        await create_namespace(api, world.NAMESPACE)


@asynccontextmanager
async def open_stage(server: ApiServer, folder: Path) -> AsyncIterator[Stage]:
    """An empty namespace behind a proxy that only forwards, on a prepared server; the operator is not started."""
    async with admin_api(server) as api, Proxy(server.url, client_context(server.pki, USER)) as proxy:
        stage = Stage(server, api, proxy, folder)
        await stage.fresh()
        try:
            yield stage
        finally:
            await stage.stop()
