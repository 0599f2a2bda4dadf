"""Runs cases against one operator on one API server."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from openclaw_operator.resources.meta import POOL_LABEL
from tests.bench.api import Object, StatusError, collection_of, path_of, resource_path
from tests.bench.waiting import NotReachedError, eventually
from tests.faults import world
from tests.faults.fuzz.cases import Case, Spec, cases, spec_schemas
from tests.faults.harness import BASELINE_QUIET_SECONDS, Stage
from tests.faults.injection import Call
from tests.faults.prediction import outstanding
from tests.unit.gitops.test_argocd_health import health

# Far above what anything takes, so that a busy machine fails nothing.
SETTLE_SECONDS = 120.0
Progress = Callable[["Tally"], None]
# More tries of one request than this within a case are a tight loop.
MOST_TRIES = 12
_PODS = resource_path("v1", "pods", world.NAMESPACE)


@dataclass
class Tally:
    """What became of the cases."""

    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    slowest: float = 0.0

    def __str__(self) -> str:
        parts = ", ".join(f"{count} {outcome}" for outcome, count in self.outcomes.most_common())
        return (
            f"{sum(self.outcomes.values())} cases: {parts}; slowest {self.slowest:.1f} s; {len(self.failures)} failed"
        )


@dataclass
class Fuzzer:
    """Holds the good state and runs one case after another."""

    stage: Stage
    good: dict[str, Any] = field(default_factory=dict)
    specs: dict[tuple[str, str], Object] = field(default_factory=dict)

    async def prepare(self) -> None:
        """From nothing to the good state with a running operator."""
        await self.stage.fresh()
        await world.create(self.stage.api, world.resources())
        await self.stage.start()
        await self.stage.settled(quiet=BASELINE_QUIET_SECONDS)
        self.good = await self.stage.snapshot()
        self.specs = {(item["kind"], item["metadata"]["name"]): item for item in self._all()}

    def _all(self) -> list[Object]:
        return [*world.user_objects(), *world.resources()]

    async def run(self, case: Case) -> str:
        """The outcome in a word or two. Raises AssertionError with what is wrong."""
        calls = len(self.stage.proxy.calls)
        item = self.specs[case.kind, case.name]
        taken = [await self._is_taken(item, spec) for spec in case.steps]
        if not any(taken):
            return "refused by the API server"
        await self.stage.tidy(SETTLE_SECONDS)
        outcome = await self._judge(case)
        await self._is_there()
        await self._look_for_loops(calls)
        await self._revert(item)
        await self.stage.tidy(SETTLE_SECONDS)
        await self._wake()
        await self.stage.becomes(self.good, SETTLE_SECONDS)
        return outcome

    async def _is_taken(self, item: Object, spec: Spec | None) -> bool:
        """Whether the API server takes a step. Raises AssertionError where it refuses one without a reason."""
        try:
            await world.put(self.stage.api, item, spec, SETTLE_SECONDS)
        except StatusError as error:
            if error.code not in {400, 422} or not error.message:
                raise AssertionError(f"the API server answers {error}") from error
            return False
        return True

    async def _revert(self, item: Object) -> None:
        if item["kind"] in world.PRIMARIES:
            try:
                await world.put(self.stage.api, item, item["spec"], SETTLE_SECONDS)
            except StatusError as error:
                if error.code != 422:
                    raise
                # Made anew with what cannot be changed afterwards.
                await world.put(self.stage.api, item, None, SETTLE_SECONDS)
                await world.put(self.stage.api, item, item["spec"], SETTLE_SECONDS)
        else:
            await self.stage.api.create(collection_of(item), item)

    async def _wake(self) -> None:
        """Gateways that come back from nothing have their messages held until one is ready, and none ever is here."""
        held = await world.held_back(self.stage.api)

        async def let_go() -> bool:
            return not await world.held_back(self.stage.api)

        for deployment in held:
            await world.say_ready(self.stage.api, deployment, 1)
        await eventually(let_go, "gateways that are ready get their messages", seconds=SETTLE_SECONDS)
        for deployment in held:
            await world.say_ready(self.stage.api, deployment, 0)

    async def _judge(self, case: Case) -> str:
        """Every resource says whether it is as asked, and if not, why."""
        outcome = "followed"
        for kind in world.PRIMARIES:
            for item in (each for each in self._all() if each["kind"] == kind):
                live = await self.stage.api.find(path_of(item))
                if live is None:
                    continue
                for condition in live["status"]["conditions"]:
                    assert condition["reason"], f"{kind}/{item['metadata']['name']}: {condition} has no reason"
                    assert condition["message"], f"{kind}/{item['metadata']['name']}: {condition} has no message"
                healthy, said = health(kind, live)
                assert said, f"Argo CD is told nothing about {kind}/{item['metadata']['name']}"
                ready = live["status"]["conditions"][-1]
                assert (healthy == "Healthy") == (ready["status"] == "True"), f"Argo CD shows {healthy} for {ready}"
                if (kind, item["metadata"]["name"]) == (case.kind, case.name):
                    outcome = _outcome(live)
        return outcome

    async def _is_there(self) -> None:
        """What is asked is what is there: the operator's own preview of the stored specs would change nothing."""
        left: list[str] = []

        async def nothing() -> bool:
            nonlocal left
            left = await outstanding(self.stage.server, self.stage.api, self.stage.namespace)
            return not left

        # The copies of agents that backups keep come a moment after the status that says so.
        await eventually(nothing, lambda: "what is asked is there\n  " + "\n  ".join(left[:20]), seconds=SETTLE_SECONDS)

    async def _look_for_loops(self, calls: int) -> None:
        """No object is tried again and again; of a pool there may be as many pods more as it has."""
        tries = Counter(map(_tried, (call for call in self.stage.proxy.calls[calls:] if not call.is_watch)))
        pods = await self.stage.api.items(resource_path("v1", "pods", self.stage.namespace))
        wanted = Counter(f"POST {_PODS} of {pod['metadata']['labels'].get(POOL_LABEL)}" for pod in pods)
        looping = {call: count for call, count in tries.items() if count > MOST_TRIES + wanted[call]}
        assert not looping, f"a tight loop: {looping}"


def _tried(call: Call) -> str:
    """What a request is another try of: of those that make objects whose names are made up, what they are for."""
    if call.method != "POST":
        return f"{call.method} {call.path}"
    body = json.loads(call.body)
    if call.path.endswith("/events"):
        return f"POST {call.path} of {body['reason']} about {body['regarding']['name']}"
    return f"POST {call.path} of {body['metadata'].get('labels', {}).get(POOL_LABEL, body['metadata']['name'])}"


def _outcome(live: Object) -> str:
    wrong = [each for each in live["status"]["conditions"] if each["status"] == "False" and each["type"] != "Ready"]
    reasons = [each["reason"] for each in wrong if each["type"] != "Available"]
    return f"reported {reasons[0]}" if reasons else "followed"


def run(
    stage: Stage,
    runner: asyncio.Runner,
    *,
    count: int,
    first_seed: int,
    progress: Callable[[Tally], None] | None = None,
) -> Tally:
    """Run `count` cases; the same seed gives the same cases. After a failure the next case starts from nothing."""
    fuzzer = Fuzzer(stage)
    tally = Tally()
    # With one worker there is always more work than workers, and what is only told comes late.
    stage.settings = {"workers": "1"} if first_seed % 2 else {}
    runner.run(fuzzer.prepare())
    strategy = cases(world.resources(), world.user_objects(), spec_schemas())

    @seed(first_seed)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def one(case: Case) -> None:
        started = time.monotonic()
        try:
            tally.outcomes[runner.run(fuzzer.run(case))] += 1
        except (AssertionError, NotReachedError, RuntimeError, StatusError) as error:
            tally.outcomes["failed"] += 1
            notes = "\n".join(getattr(error, "__notes__", ()))
            tally.failures.append(f"{case}\n{error}\n{notes}")
            runner.run(fuzzer.prepare())
        tally.slowest = max(tally.slowest, time.monotonic() - started)
        if progress is not None:
            progress(tally)

    one()
    return tally
