"""`python -m tests.faults.fuzz --cases 2000`: the long run. The same seed gives the same cases."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.cluster.apiserver import api_server
from tests.faults.fuzz.run import Tally, run
from tests.faults.harness import open_stage, prepare


class Show:
    """A line now and then, and each failure at once: the run may be ended before it is over."""

    def __init__(self) -> None:
        self._shown = 0

    def __call__(self, tally: Tally) -> None:
        for failure in tally.failures[self._shown :]:
            print(f"\nFAILED {failure}", flush=True)
        self._shown = len(tally.failures)
        if tally.outcomes.total() % 25 == 0:
            print(f"{tally}", file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(argv)
    with (
        tempfile.TemporaryDirectory(prefix="openclaw-fuzz-") as folder,
        api_server() as server,
        asyncio.Runner() as runner,
    ):
        runner.run(prepare(server))
        opened = open_stage(server, Path(folder))
        stage = runner.run(opened.__aenter__())
        try:
            tally = run(stage, runner, count=given.cases, first_seed=given.seed, progress=Show())
        finally:
            runner.run(opened.__aexit__(None, None, None))
    print(tally)
    return 1 if tally.failures else 0


if __name__ == "__main__":
    sys.exit(main())
