"""A hundred random changes; `python -m tests.faults.fuzz --cases 2000` is the long run."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.cluster.apiserver import ApiServer
from tests.faults.fuzz.run import run
from tests.faults.harness import open_stage

CASES = 100


@pytest.mark.timeout(1800)
def test_random_changes_are_followed_or_explained_and_can_be_undone(server: ApiServer, tmp_path: Path) -> None:
    with asyncio.Runner() as runner:
        opened = open_stage(server, tmp_path)
        stage = runner.run(opened.__aenter__())
        try:
            tally = run(stage, runner, count=CASES, first_seed=0)
        finally:
            runner.run(opened.__aexit__(None, None, None))
    assert tally.failures == []
    assert tally.outcomes["followed"] > CASES / 10
