"""The measuring client: runs in a gateway's pod, with that gateway's configuration, key and rights.

It is sent to the pod's Python on standard input, so it imports nothing of the tests. The argument is a JSON list of
orders; each is answered with one JSON line. Times are milliseconds of the caller, from `execute()` to its result.
"""

import asyncio
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import uvloop

from openclaw_runtime.config import load_config
from openclaw_runtime.sandbox.errors import SandboxError
from openclaw_runtime.sandbox.executors import create_executor
from openclaw_runtime.sandbox.kube import KubeApi
from openclaw_runtime.sandbox.local import start_runner, stop_runner
from openclaw_runtime.skills.registry import SkillRegistry
from openclaw_runtime.skills.types import InstalledSkill, SkillCall

SETTLE_SECONDS = 300.0
DEADLINE_SECONDS = 60.0
REST_SECONDS = 4.0


class NoContext:
    """A context that is never used."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the action asked for {name}")


class Bench:
    """Carries out orders."""

    def __init__(self, executor: Any, skills: dict[str, InstalledSkill]) -> None:
        self._executor = executor
        self._skills = skills
        self._number = 0

    async def call(self, skill: InstalledSkill, session: str) -> tuple[float, dict[str, float]]:
        """One call: its time, and the steps of it."""
        self._number += 1
        call = SkillCall(f"bench-{self._number}", "bench", session, skill, "noop", {}, DEADLINE_SECONDS)
        began = time.perf_counter()
        result = await self._executor.execute(call, NoContext())
        return (time.perf_counter() - began) * 1000, {**result.timings, "sandbox_ms": result.duration_ms}

    def warm(self, skill: InstalledSkill) -> int:
        """How many sandboxes wait for a call of the skill."""
        if skill.pool is None:
            return 2**30
        return int(self._executor.status()["pools"].get(skill.pool, {}).get("warm", 0))

    async def until_warm(self, skill: InstalledSkill, count: int) -> None:
        until = time.monotonic() + SETTLE_SECONDS
        while self.warm(skill) < count:
            if time.monotonic() > until:
                raise SystemExit(
                    f"{self.warm(skill)} of {count} sandboxes of {skill.name} are warm; see kubectl get pods"
                )
            await asyncio.sleep(0.01)

    async def serial(self, skill: InstalledSkill, calls: int, warm: int, pause: float) -> dict[str, Any]:
        """Calls one after the other, each when the pool is full again: replacing a pod is not part of a call.

        `pause` seconds after that, in which the node comes to rest, or in a lease the next process gets ready.
        """
        await self.until_warm(skill, warm)
        if skill.level == "trusted":
            await self.call(skill, "warm-up")
            await asyncio.sleep(1)
        first, _ = await self.call(skill, "serial")
        await self.until_warm(skill, warm)
        started = time.time()
        times, steps = [], []
        for _ in range(calls):
            if skill.level == "isolated":
                await self.until_warm(skill, warm)
            if pause:
                await asyncio.sleep(pause)
            spent, parts = await self.call(skill, "serial")
            times.append(spent)
            steps.append(parts)
        ended = time.time()
        await self.until_warm(skill, warm)
        medians = {name: sorted(part[name] for part in steps)[len(steps) // 2] for name in steps[0]}
        return {"times": times, "first": first, "started": started, "ended": ended, "steps": medians}

    async def parallel(self, skill: InstalledSkill, width: int, rounds: int, warm: int) -> dict[str, Any]:
        """Rounds of calls that start together, each when the pool is full; leases are taken in a round of their own."""
        times: list[float] = []
        for number in range(rounds + 1):
            if skill.level != "restricted" or number == 0:
                await self.until_warm(skill, warm)
            if skill.level == "trusted":
                await asyncio.sleep(1)
            spent = await asyncio.gather(*(self.call(skill, f"parallel-{index}") for index in range(width)))
            if number:
                times += [each for each, _ in spent]
        return {"times": times}

    async def sustained(self, skill: InstalledSkill, width: int, seconds: float) -> dict[str, Any]:
        """As many calls as pods are replaced: `width` callers that never pause."""
        until = time.monotonic() + seconds
        count = 0

        async def caller() -> None:
            nonlocal count
            while time.monotonic() < until:
                await self.call(skill, "sustained")
                # Those that had been waiting warm are not a rate.
                count += time.monotonic() > begin

        begin = time.monotonic() + seconds / 3
        await asyncio.gather(*(caller() for _ in range(width)))
        return {"per_second": count / (time.monotonic() - begin), "pool": skill.pool}

    async def cold(self, skill: InstalledSkill, calls: int) -> dict[str, Any]:
        """Calls on a pool without a pod: whoever reads our lines deletes them when told so."""
        times = []
        for _ in range(calls):
            await self.until_warm(skill, 1)
            # The end of the pod before is not part of this start.
            await asyncio.sleep(REST_SECONDS)
            print(json.dumps({"delete": skill.pool}), flush=True)
            while self.warm(skill):  # noqa: ASYNC110
                await asyncio.sleep(0.002)
            spent, _ = await self.call(skill, "cold")
            times.append(spent)
        return {"times": times}

    async def floor(self, calls: int) -> dict[str, Any]:
        """What cannot be undercut: a process that does nothing; and the start of a runner, which a pool does ahead."""
        processes, runners = [], []
        for _ in range(calls):
            began = time.perf_counter()
            process = await asyncio.create_subprocess_exec(sys.executable, "-I", "-c", "pass")
            await process.wait()
            processes.append((time.perf_counter() - began) * 1000)
        with tempfile.TemporaryDirectory() as folder:
            for _ in range(max(3, calls // 5)):
                began = time.perf_counter()
                runner = await start_runner("A" * 43 + "=", Path(folder), None)
                runners.append((time.perf_counter() - began) * 1000)
                await stop_runner(runner)
        return {"process": processes, "runner": runners}

    async def obey(self, order: dict[str, Any]) -> dict[str, Any]:
        kind = order.pop("do")
        if "skill" in order:
            order["skill"] = self._skills[order["skill"]]
        answer: dict[str, Any] = await getattr(self, kind)(**order)
        return answer


async def main() -> None:
    config = load_config(Path(os.environ["OPENCLAW_CONFIG_PATH"]))
    api = KubeApi.in_cluster(dict(os.environ))
    registry = SkillRegistry(config.claw.namespace, api, {})
    await registry.load(config.skills)
    executor = create_executor(config, os.environ, api=lambda: api)
    await executor.start()
    bench = Bench(executor, {skill.name: skill for skill in registry.installed()})
    try:
        for order in json.loads(sys.argv[1]):
            print(json.dumps(await bench.obey(order)), flush=True)
    except SandboxError as error:
        raise SystemExit(f"{error.type}: {error}") from None
    finally:
        await executor.close()
        await api.close()


uvloop.run(main())
