"""One run: a fresh API server, one program under test, N Agents; then idleness, drift and a restart."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from tests.bench import audit, subjects, workload
from tests.bench.api import PLURALS, Api, Object, resource_path
from tests.bench.observer import Expected, Key, Observer, complete, told
from tests.bench.procfs import usage
from tests.bench.setup import create_namespace, identity, prepared
from tests.bench.stats import percentile
from tests.bench.subjects import SUBJECTS, Subject, SubjectName, user_of
from tests.bench.waiting import until_quiet
from tests.cluster.apiserver import ApiServer, api_server
from tests.cluster.errors import last_lines

MIB = 1024 * 1024
QUIET_SECONDS = 2.0
COMPONENT = "app.kubernetes.io/component"
_PODS_AT_ONCE = 16
_RUNNING = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}


@dataclass(frozen=True)
class Options:
    """What a run is made of. Times in seconds."""

    rate: float
    idle_seconds: float
    per_namespace: int
    workers: int
    timeout: float
    drift_samples: int


@dataclass
class Measurement:
    """Numbers by name (units are in the names), and the requests behind them."""

    subject: SubjectName
    size: int
    values: dict[str, float] = field(default_factory=dict)
    requests: dict[str, int] = field(default_factory=dict)
    # `what kind` → seconds of each repair.
    drift: dict[str, list[float]] = field(default_factory=dict)


@dataclass
class Run:
    """A prepared cluster with a program under test that has not been started."""

    name: SubjectName
    options: Options
    server: ApiServer
    api: Api
    observer: Observer
    subject: Subject
    audit: audit.AuditTail

    async def quiet(self, seconds: float = QUIET_SECONDS) -> None:
        """Until the program has asked for nothing for that long."""
        await until_quiet(self.audit.poll, quiet=seconds, seconds=self.options.timeout)

    async def start(self) -> None:
        """Start it and let it carry one Agent through, so that caches are filled and code is loaded."""
        self.subject.start(stdin=subprocess.PIPE if self.name == "limit" else subprocess.DEVNULL)
        await create_namespace(self.api, "bench-warm")
        warm = await self._create("warm", "bench-warm")
        await self._converged([warm])
        await self.quiet()

    async def _create(self, name: str, namespace: str, *, poisoned: bool = False) -> Expected:
        expected = self.observer.expect(namespace, name)
        body = (workload.poisoned if poisoned else workload.agent)(name, namespace)
        made = await self.api.create(resource_path("openclaw.io/v1alpha1", "agents", namespace), body)
        if self.name == "limit" and self.subject.running.stdin is not None:
            self.subject.running.stdin.write(f"{namespace} {name} {made['metadata']['uid']}\n".encode())
            self.subject.running.stdin.flush()
        return expected

    async def _converged(self, agents: list[Expected]) -> None:
        waiting = self.observer.wait(agents, complete if self.name == "limit" else told, seconds=self.options.timeout)
        await self._while_alive(asyncio.ensure_future(waiting))

    async def _while_alive(self, waiting: asyncio.Future[None]) -> None:
        while not waiting.done():
            await asyncio.wait({waiting}, timeout=1)
            if not waiting.done():
                try:
                    self.subject.check()
                except RuntimeError:
                    waiting.cancel()
                    raise
        waiting.result()

    async def load(self, size: int) -> tuple[dict[str, float], dict[str, int]]:
        """Create Agents at the rate and measure until all have converged."""
        namespaces = workload.namespaces_for(size, self.options.per_namespace)
        for namespace in sorted(set(namespaces)):
            await create_namespace(self.api, namespace)
        self.audit.take()
        before, others = self.subject.usage(), self._cpu_of_others()
        agents: list[Expected] = []
        created: list[float] = []
        started = time.monotonic()

        async def create(index: int) -> None:
            await asyncio.sleep(max(0.0, started + index / self.options.rate - time.monotonic()))
            agents.append(await self._create(f"agent-{index:05}", namespaces[index]))
            created.append(time.monotonic())

        await asyncio.gather(*(create(index) for index in range(size)))
        creating = time.monotonic() - started
        await self._converged(agents)
        after = self.subject.usage()
        others = {name: spent - others[name] for name, spent in self._cpu_of_others().items()}
        await self.quiet()
        settled = self.subject.usage()
        requests = self.audit.take()
        complete = [agent.complete_at - at for agent, at in zip(agents, created, strict=True) if agent.complete_at]
        last_child = max(agent.complete_at or 0.0 for agent in agents)
        values = {
            "create all agents s": creating,
            "all children exist s": last_child - started,
            "children p50 s": percentile(complete, 0.5),
            "children p99 s": percentile(complete, 0.99),
            "cpu s": settled.cpu_seconds - before.cpu_seconds,
            "cpu until complete s": after.cpu_seconds - before.cpu_seconds,
            "cpu per agent ms": (settled.cpu_seconds - before.cpu_seconds) / size * 1000,
            "peak memory MiB": settled.peak_rss_bytes / MIB,
            "memory before MiB": before.rss_bytes / MIB,
            "memory after MiB": settled.rss_bytes / MIB,
            "requests per agent": sum(request.verb != "watch" for request in requests) / size,
            "writes per agent": len(audit.writes(requests)) / size,
            "refused requests": float(sum(request.code >= 400 for request in requests)),
            **{f"{name} cpu until complete s": spent for name, spent in others.items()},
        }
        if self.name != "limit":
            values["all converged s"] = max(agent.reported_at or 0.0 for agent in agents) - started
        return values, audit.by_verb_and_resource(requests)

    def _cpu_of_others(self) -> dict[str, float]:
        """What the rest of the machine's work has cost until now: the control plane and this benchmark itself."""
        return {name: usage(pid).cpu_seconds for name, pid in {**self.server.pids, "bench": os.getpid()}.items()}

    async def healthy(self) -> dict[str, float]:
        """Say of every pod what a kubelet would, until all Agents are ready: what idles then is a cluster at work."""
        path, started = resource_path("v1", "pods", None), time.monotonic()
        found, slots = await self.api.get(path), asyncio.Semaphore(_PODS_AT_ONCE)

        async def run(pod: Object) -> None:
            async with slots:
                place = resource_path("v1", "pods", pod["metadata"]["namespace"], pod["metadata"]["name"])
                await self.api.merge(f"{place}/status", {"status": _RUNNING})

        async def run_new() -> None:
            async for event in self.api.watch(path, found["metadata"]["resourceVersion"]):
                if event["type"] == "ADDED":
                    await run(event["object"])

        async with asyncio.TaskGroup() as group:
            coming = group.create_task(run_new())
            await asyncio.gather(*map(run, found["items"]))
            agents = self.observer.agents.values()
            await self.observer.wait(agents, lambda agent: agent.ready, seconds=self.options.timeout)
            took = time.monotonic() - started
            coming.cancel()
        await self.quiet()
        return {"all ready s": took}

    async def idle(self) -> dict[str, float]:
        """Leave it alone."""
        self.audit.take()
        before = self.subject.usage()
        await asyncio.sleep(self.options.idle_seconds)
        after = self.subject.usage()
        requests = self.audit.take()
        return {
            "idle writes": float(len(audit.writes(requests))),
            "idle requests": float(sum(request.verb != "watch" for request in requests)),
            "idle cpu %": (after.cpu_seconds - before.cpu_seconds) / self.options.idle_seconds * 100,
        }

    async def restart(self) -> dict[str, float]:
        """Stop and start it with everything in place."""
        stopping = time.monotonic()
        self.subject.stop()
        stopped = time.monotonic()
        self.audit.take()
        started = time.time()
        self.subject.start()
        await until_quiet(self._requests_after_the_first, quiet=3.0, seconds=self.options.timeout)
        requests = self.audit.take()
        return {
            "stop s": stopped - stopping,
            "restart until quiet s": max((request.finished for request in requests), default=started) - started,
            "restart writes": float(len(audit.writes(requests))),
            "restart requests": float(sum(request.verb != "watch" for request in requests)),
            "restart cpu s": self.subject.usage().cpu_seconds,
            "restart peak memory MiB": self.subject.usage().peak_rss_bytes / MIB,
        }

    def _requests_after_the_first(self) -> int:
        """Never still before there was one, nor while a list is streamed: what starts up is not quiet."""
        self.subject.check()
        count = self.audit.poll()
        return time.monotonic_ns() if self.audit.streams else count or time.monotonic_ns()

    async def drift(self, seed: int) -> dict[str, list[float]]:
        """Edit and delete children of every kind; seconds until each is back, by `what kind`."""
        generator = random.Random(seed)
        agents = sorted(self.observer.agents)
        repairs: dict[str, list[float]] = {}
        for child in self.observer.templates.children:
            kind = child["kind"]
            for what in ("edit", "delete") if kind != "PersistentVolumeClaim" else ("edit",):
                samples: list[float] = []
                for _ in range(self.options.drift_samples):
                    namespace, name = generator.choice(agents)
                    child_name = child["metadata"]["name"].replace(self.observer.templates.name, name)
                    path = resource_path(child["apiVersion"], PLURALS[kind], namespace, child_name)
                    samples.append(await self._repair(what, path, (kind, namespace, child_name)))
                repairs.setdefault(f"{what} {kind}", []).extend(samples)
        return repairs

    async def _repair(self, what: str, path: str, key: Key) -> float:
        before = self.observer.present[key]["metadata"]
        after = 0
        if what == "edit":
            edited = await self.api.merge(path, {"metadata": {"labels": {COMPONENT: "drifted"}}})
            after = int(edited["metadata"]["resourceVersion"])
        else:
            await self.api.delete(path)
        started = time.monotonic()

        def repaired() -> bool:
            metadata = self.observer.present.get(key, {}).get("metadata")
            if metadata is None or metadata["labels"].get(COMPONENT) != before["labels"][COMPONENT]:
                return False
            same = metadata["uid"] == before["uid"]
            return same and int(metadata["resourceVersion"]) > after if what == "edit" else not same

        return await self.observer.until(repaired, f"{what} of {key} is repaired", seconds=30) - started


async def measure(
    name: SubjectName, size: int, options: Options, *, twin: Path, full: bool, poisoned: int = 0
) -> Measurement:
    """A run from nothing. `full` adds idleness, drift and a restart; `poisoned` Agents are there before the others."""
    with tempfile.TemporaryDirectory(prefix="openclaw-bench-") as folder, api_server(controllers=True) as server:
        async with AsyncExitStack() as stack:
            api = await stack.enter_async_context(prepared(server, *map(user_of, SUBJECTS)))
            templates = workload.build_templates()
            file = Path(folder) / "templates.json"
            file.write_text(templates.to_json())
            observer = await stack.enter_async_context(Observer(api, templates))
            subject = _subject(name, server, file, Path(folder) / "subject.log", twin, options)
            stack.callback(subject.stop)
            run = Run(name, options, server, api, observer, subject, audit.AuditTail(server.audit_log, user_of(name)))
            result = Measurement(name, size)
            started = time.monotonic()
            stack.push(_with_log(subject))
            await run.start()
            result.values["start and first agent s"] = time.monotonic() - started
            if poisoned:
                await _poison(run, poisoned)
            values, result.requests = await run.load(size)
            result.values.update(values)
            if full and name != "limit":
                result.values.update(await run.healthy())
                result.values.update(await run.idle())
                result.drift = await run.drift(seed=size)
                await run.quiet()
                result.values.update(await run.restart())
            if subject.running.stdin is not None:
                subject.running.stdin.close()
                subject.running.wait(10)
            return result


def _with_log(subject: Subject) -> Callable[..., bool]:
    """An exit callback that adds the end of the program's log to an error."""

    def leave(kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        if error is not None:
            error.add_note(f"last lines of {subject.name}:\n{last_lines(subject.log, 40)}")
        return False

    return leave


async def _poison(run: Run, count: int) -> None:
    await create_namespace(run.api, "bench-poison")
    path = resource_path("openclaw.io/v1alpha1", "agents", "bench-poison")
    for index in range(count):
        await run.api.create(path, workload.poisoned(f"poison-{index}", "bench-poison"))


def _subject(name: SubjectName, server: ApiServer, templates: Path, log: Path, twin: Path, options: Options) -> Subject:
    kubeconfig = identity(server, user_of(name))
    match name:
        case "operator":
            return subjects.operator(kubeconfig, log, workers=str(options.workers))
        case "twin":
            return subjects.twin(twin, kubeconfig, templates, log)
        case "limit":
            return subjects.limit(server, templates, log)
