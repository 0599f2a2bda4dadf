"""`python -m tests.bench.sandbox`: what a skill call costs, in one run on one cluster.

For each level and language: calls that do nothing, one at a time and many at once, measured by a client in the pod of a
gateway; a Job per call and a bare process beside them; the API writes, from the audit log of the local cluster; pods
replaced per second, beside what the node can start; and the answer of a pool without a pod. Nothing is asserted:
compare the ratios of one run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.bench.sandbox import jobs, limit, report, workload
from tests.bench.sandbox.report import Results
from tests.bench.sandbox.workload import AGENT, LANGUAGES, LEVELS, NAMESPACE, Case
from tests.bench.sandbox.writes import writes_between
from tests.cluster.errors import ClusterError
from tests.cluster.paths import cache_from
from tests.cluster.progress import Progress
from tests.demo import clusters, steps
from tests.demo.errors import DemoError
from tests.demo.kube import Kube

CLIENT = Path(__file__).with_name("client.py")
READY_SECONDS = 300.0
LOADED_SECONDS = 180.0
PAUSE_SECONDS = 0.5
AFTER_SECONDS = 3.0
"""What a call causes in the cluster goes on for a while: the pod's end, its replacement's start."""


@dataclass(frozen=True)
class Plan:
    """What was asked for on the command line."""

    measured: list[Case]
    calls: int
    parallel: int
    rounds: int
    jobs: int
    cold: int
    sustained: float
    keep: bool
    json_path: Path | None

    @property
    def cold_case(self) -> Case | None:
        """What is called on a cold pool."""
        return next((case for case in self.measured if case.level == "isolated"), None) if self.cold else None


def parse(argv: Sequence[str] | None) -> Plan:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.sandbox", description=__doc__)
    parser.add_argument("--levels", default=",".join(LEVELS), help="default: %(default)s")
    parser.add_argument("--languages", default=",".join(LANGUAGES), help="default: %(default)s")
    parser.add_argument("--calls", type=int, default=100, help="serial calls of each case (default: %(default)s)")
    parser.add_argument("--parallel", type=int, default=20, help="calls at the same time (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of parallel calls (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=10, help="serial Jobs; 0 leaves Jobs out (default: %(default)s)")
    parser.add_argument("--cold", type=int, default=5, help="calls of a cold pool (default: %(default)s)")
    parser.add_argument("--sustained", type=float, default=30, help="seconds of calls without pause; 0 leaves it out")
    parser.add_argument("--keep", action="store_true", help="leave the namespace for a look")
    parser.add_argument("--json", type=Path, default=None, help="also write everything measured to this file")
    given = parser.parse_args(argv)
    chosen: dict[str, tuple[str, ...]] = {}
    for name, known in (("levels", LEVELS), ("languages", tuple(LANGUAGES))):
        chosen[name] = tuple(getattr(given, name).split(","))
        if unknown := set(chosen[name]) - set(known):
            parser.error(f"--{name}: {', '.join(sorted(unknown))} is none of {', '.join(known)}")
    for name in ("calls", "parallel", "rounds"):
        if getattr(given, name) < 1:
            parser.error(f"--{name} {getattr(given, name)}: give 1 or more")
    measured = workload.cases(chosen["levels"], chosen["languages"])
    if not measured:
        parser.error(f"--levels {given.levels}: only skills in python can be trusted; add it to --languages")
    return Plan(
        measured,
        given.calls,
        given.parallel,
        given.rounds,
        given.jobs,
        given.cold,
        given.sustained,
        given.keep,
        given.json,
    )


class Run:
    """One benchmark on a cluster that is up."""

    def __init__(self, plan: Plan, kube: Kube, audit_log: Path | None, console: Console) -> None:
        self.plan = plan
        self.kube = kube
        self.audit_log = audit_log
        self.console = console
        self.results = Results()

    def prepare(self) -> None:
        """The namespace with the Agent and its Skills, and a gateway that knows them."""
        steps.make_namespace(self.kube)
        skills = [workload.skill(case, 1) for case in self.plan.measured]
        if self.plan.cold_case is not None:
            skills.append(workload.cold_skill(self.plan.cold_case))
        names = [each["metadata"]["name"] for each in skills]
        self.kube.apply(*skills, workload.agent(names, self.plan.parallel))
        for _ in self.kube.wait_all_ready([*(f"skill/{name}" for name in names), f"agent/{AGENT}"], READY_SECONDS):
            pass
        until = time.monotonic() + LOADED_SECONDS
        while not all(name in self._mounted_config() for name in names):
            if time.monotonic() > until:
                raise DemoError(
                    "the gateway's configuration does not list the skills; see kubectl describe agent bench"
                )
            time.sleep(2)

    def _mounted_config(self) -> str:
        return self.kube.exec(self._gateway(), "sh", "-c", 'cat "$OPENCLAW_CONFIG_PATH"')

    def _gateway(self) -> str:
        pods = self.kube.items("pods", f"openclaw.io/agent={AGENT},app.kubernetes.io/name=gateway")
        running = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
        if not running:
            raise DemoError("the gateway of agent bench has no pod; see kubectl get pods")
        return str(running[0]["metadata"]["name"])

    def orders(self, *orders: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Has the client carry them out; yields its answers. Raises DemoError with what it said."""
        command = [*self.kube.command, "exec", "--stdin", self._gateway(), "--"]
        process = subprocess.Popen(
            [*command, "python", "-", json.dumps(orders)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            process.stdin.write(CLIENT.read_text())
            process.stdin.close()
            for line in process.stdout:
                yield json.loads(line)
            # The last word is kubectl's, which only knows the exit code.
            said = [line for line in process.stderr.read().splitlines() if line and "exit code" not in line]
            if process.wait():
                raise DemoError(f"the measuring client: {said[-1] if said else 'ended without a word'}")
        finally:
            process.kill()
            process.wait()

    def set_warm(self, case: Case, warm: int) -> None:
        if case.level != "trusted":
            patch = json.dumps({"spec": {"sandbox": {"warm": warm}}})
            self.kube.run("patch", "skill", case.skill, "--type=merge", "-p", patch)

    def measure(self, case: Case) -> None:
        """Serial and parallel calls of one case."""
        plan, serial = self.plan, f"{case.title}, one at a time"
        self.console.print(f"  {case.title} …", style="dim")
        self.set_warm(case, 4)
        order: dict[str, Any] = {"do": "serial", "skill": case.skill, "calls": plan.calls, "warm": 4}
        (found,) = self.orders({**order, "pause": PAUSE_SECONDS})
        self.results.times[serial] = found["times"]
        self.results.steps[serial] = found["steps"]
        if case.level == "restricted":
            self.results.times[f"{case.title}, first of a session"] = [found["first"]]
        if self.audit_log is not None:
            time.sleep(AFTER_SECONDS)
            counted = writes_between(self.audit_log, found["started"], found["ended"] + AFTER_SECONDS)
            self.results.writes[serial] = plan.calls, counted
        if case.level == "restricted":
            (found,) = self.orders({**order, "pause": 0.0})
            self.results.times[f"{case.title}, without a pause"] = found["times"]
        self.set_warm(case, plan.parallel)
        order = {"do": "parallel", "skill": case.skill, "width": plan.parallel, "rounds": plan.rounds}
        (found,) = self.orders({**order, "warm": plan.parallel})
        self.results.times[f"{case.title}, {plan.parallel} at once"] = found["times"]
        if case == Case("isolated", "python") and plan.sustained:
            (found,) = self.orders(
                {"do": "sustained", "skill": case.skill, "width": plan.parallel, "seconds": plan.sustained}
            )
            self.results.per_second[case.title] = found["per_second"]
            self.measure_limit(found["pool"])
        self.set_warm(case, 1)
        self.rest()

    def rest(self) -> None:
        """Until pods neither come nor go: the next case is not to pay for this one."""
        until = time.monotonic() + LOADED_SECONDS
        names: set[str] | None = None
        while (now := {pod["metadata"]["name"] for pod in self.kube.items("pods")}) != names:
            if time.monotonic() > until:
                raise DemoError(f"pods still come and go after {LOADED_SECONDS:.0f} s; see kubectl get pods --watch")
            names = now
            time.sleep(AFTER_SECONDS)

    def measure_limit(self, pool: str) -> None:
        """What the node can start of the same pods, whoever asks for them."""
        pods = self.kube.items("pods", f"openclaw.io/pool={pool}")
        if not pods:
            raise DemoError(f"pool {pool} has no pod left to look at; see kubectl get pods")
        with jobs.proxy(self.kube) as address:
            rate = asyncio.run(limit.per_second(address, pods[0], self.plan.parallel, self.plan.sustained))
        self.results.per_second[report.LIMIT] = rate

    def measure_cold(self) -> None:
        """Calls on a pool whose pods are deleted just before."""
        self.console.print("  a cold pool …", style="dim")
        for found in self.orders({"do": "cold", "skill": workload.COLD_SKILL, "calls": self.plan.cold}):
            if "delete" in found:
                selector = f"openclaw.io/pool={found['delete']}"
                self.kube.run("delete", "pods", "--selector", selector, "--force", "--grace-period=0", "--wait=false")
            else:
                self.results.times[report.COLD] = found["times"]

    def measure_others(self) -> None:
        """A bare process, the start of a runner, and Jobs."""
        self.console.print("  processes and Jobs …", style="dim")
        (found,) = self.orders({"do": "floor", "calls": 30})
        self.results.times["floor: a process that does nothing"] = found["process"]
        self.results.times["a runner's start, which pools do ahead"] = found["runner"]
        if not self.plan.jobs:
            return
        with jobs.proxy(self.kube) as address:
            started = time.time()
            times = asyncio.run(jobs.serial(address, steps.SANDBOX_IMAGE, self.plan.jobs))
            ended = time.time() + AFTER_SECONDS
            self.results.times[report.JOB] = times
            if self.audit_log is not None:
                time.sleep(AFTER_SECONDS)
                self.results.writes[report.JOB] = self.plan.jobs, writes_between(self.audit_log, started, ended)
            name = f"a Job per call, {self.plan.parallel} at once"
            self.results.times[name] = asyncio.run(jobs.parallel(address, steps.SANDBOX_IMAGE, self.plan.parallel))

    def all(self) -> None:
        for case in self.plan.measured:
            self.measure(case)
        if self.plan.cold_case is not None:
            self.measure_cold()
        self.measure_others()


def bench(plan: Plan, console: Console, command: str) -> None:
    cache = cache_from(os.environ)
    cluster = clusters.choose(os.environ.get("CLUSTER", "auto"), cache, Progress())
    cluster.check()
    cluster.install_tools()
    cluster.up()
    cluster.build_images()
    cluster.load_images()
    tools = steps.Tools.of(cache, cluster)
    kube = tools.kube(NAMESPACE)
    kube.in_namespace("default").run(
        "delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=120s", seconds=130
    )
    steps.install_chart(tools, cluster, {"sandbox.trustedSkills": json.dumps([f"{NAMESPACE}/*"])})
    audit_log = cluster.cluster.paths.audit_log if isinstance(cluster, clusters.Local) else None
    machine = f"{os.cpu_count()} CPUs, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"
    console.print(f"{command}\n{machine}, {cluster.title}")
    run = Run(plan, kube, audit_log, console)
    try:
        run.prepare()
        run.all()
    finally:
        if not plan.keep:
            kube.in_namespace("default").run("delete", "namespace", NAMESPACE, "--wait=false")
        show(run, console, command, machine)


def show(run: Run, console: Console, command: str, machine: str) -> None:
    """Print what was measured, also when it ended early."""
    results, plan = run.results, run.plan
    judged = report.goals(results, f"{Case('isolated', 'python').title}, one at a time")
    console.print()
    console.print(report.times_table(results))
    console.print(report.steps_table(results))
    if results.writes:
        console.print(report.writes_table(results))
    else:
        console.print("API writes: only the local cluster has an audit log to read", style="dim")
    if results.per_second:
        console.print(report.rates_table(results.per_second))
    console.print(report.goals_table(judged))
    if plan.json_path is not None:
        # Not asdict: it makes a Counter of a Counter's pairs.
        kept = {"command": command, "machine": machine, **vars(results), "goals": [asdict(goal) for goal in judged]}
        plan.json_path.write_text(json.dumps(kept, indent=1))


def main(argv: Sequence[str] | None = None) -> int:
    plan = parse(argv)
    console = Console(highlight=False, width=max(140, Console().width))
    command = "$ python -m tests.bench.sandbox " + shlex.join(sys.argv[1:] if argv is None else argv)
    try:
        bench(plan, console, command)
    except (ClusterError, DemoError) as error:
        console.print(f"error: {error}", style="red", soft_wrap=True, markup=False)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
