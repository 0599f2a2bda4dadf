"""One API server for all fault tests; each test gets it empty."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.apiserver import ApiServer
from tests.cluster.apiserver import api_server as start_api_server
from tests.faults import world
from tests.faults.harness import BASELINE_QUIET_SECONDS, Stage, open_stage, prepare


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--crash-points",
        default="",
        help="kill the operator only after these of its writes: 67, 60-86, or a part of a path such as openclaw-egress",
    )


@pytest.fixture(scope="package")
def server() -> Iterator[ApiServer]:
    with start_api_server() as started:
        asyncio.run(prepare(started))
        yield started


@pytest.fixture
async def stage(server: ApiServer, tmp_path: Path) -> AsyncIterator[Stage]:
    """An empty namespace behind a proxy that only forwards; the operator is not started."""
    async with open_stage(server, tmp_path) as opened:
        yield opened


@pytest.fixture(scope="package")
def known() -> dict[str, Any]:
    """Filled by the first test that asks for `expected`."""
    return {}


@pytest.fixture
async def expected(stage: Stage, known: dict[str, Any]) -> dict[str, Any]:
    """The state a run without any fault ends in."""
    if not known:
        await world.create(stage.api, world.resources())
        await stage.start()
        await stage.settled(quiet=BASELINE_QUIET_SECONDS)
        known.update(await stage.snapshot())
        await stage.fresh()
    return known
