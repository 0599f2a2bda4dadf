"""`python -m tests.bench.operator`: the operator against its Go twin and the limit of the API server.

For each size and program: a fresh etcd, API server and controller manager on loopback, N Agents created at a rate, then
(operator and twin) an idle window, drift repair and a restart. Medians over the repeats; programs take turns, so that a
busy machine hits all of them alike.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.bench import report, workload
from tests.bench.scenario import Measurement, Options, measure
from tests.bench.stats import medians
from tests.bench.subjects import SUBJECTS, SubjectName, build_twin
from tests.cluster.errors import ClusterError
from tests.cluster.paths import cache_from

MAX_AGENTS = 10_000


@dataclass(frozen=True)
class Plan:
    """What was asked for on the command line."""

    sizes: tuple[int, ...]
    subjects: tuple[SubjectName, ...]
    # None: three up to a hundred Agents, then one.
    repeats: int | None
    poison: int
    options: Options
    json_path: Path | None


def parse(argv: Sequence[str] | None) -> Plan:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.operator", description=__doc__)
    parser.add_argument("--sizes", default="1,100,1000,5000", help="numbers of Agents (default: %(default)s)")
    parser.add_argument("--subjects", default=",".join(SUBJECTS), help="programs to run (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=50, help="Agents created per second (default: %(default)s)")
    parser.add_argument(
        "--repeats", type=int, default=None, help="runs of each size (default: 3 up to 100 Agents, then 1)"
    )
    parser.add_argument("--idle", type=float, default=300, help="seconds of idleness measured (default: %(default)s)")
    parser.add_argument("--drift", type=int, default=3, help="repairs per kind and way (default: %(default)s)")
    parser.add_argument("--per-namespace", type=int, default=100, help="Agents in a namespace (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=8, help="the operator's workers (default: %(default)s)")
    parser.add_argument("--poison", type=int, default=1, help="also measure with that many Agents that can never work")
    parser.add_argument("--timeout", type=float, default=3600, help="seconds before a run is given up")
    parser.add_argument("--json", type=Path, default=None, help="also write everything measured to this file")
    given = parser.parse_args(argv)
    try:
        sizes = tuple(int(part) for part in given.sizes.split(","))
    except ValueError:
        parser.error(f"--sizes {given.sizes!r}: give numbers separated by commas, for example 1,100,1000")
    if not all(1 <= size <= MAX_AGENTS for size in sizes):
        parser.error(f"--sizes {given.sizes!r}: each must be from 1 to {MAX_AGENTS}")
    chosen = tuple(name for name in SUBJECTS if name in given.subjects.split(","))
    unknown = set(given.subjects.split(",")) - set(SUBJECTS)
    if unknown:
        parser.error(f"--subjects: {', '.join(sorted(unknown))} is none of {', '.join(SUBJECTS)}")
    options = Options(given.rate, given.idle, given.per_namespace, given.workers, given.timeout, given.drift)
    repeats = None if given.repeats is None else max(1, given.repeats)
    return Plan(sizes, chosen, repeats, given.poison, options, given.json)


async def run_size(plan: Plan, size: int, twin: Path, console: Console) -> dict[str, list[Measurement]]:
    """All programs at one size, taking turns."""
    repeats = plan.repeats or (3 if size <= 100 else 1)
    results: dict[str, list[Measurement]] = {}
    for turn in range(repeats):
        for name in plan.subjects:
            console.print(f"  {name}, {size} agents, run {turn + 1} of {repeats} …", style="dim")
            result = await measure(name, size, plan.options, twin=twin, full=turn == 0)
            result.values.update(report.summarise_drift(result.drift))
            results.setdefault(name, []).append(result)
        if plan.poison and "operator" in plan.subjects:
            console.print(f"  operator, {size} agents and {plan.poison} poisoned …", style="dim")
            poisoned = await measure("operator", size, plan.options, twin=twin, full=False, poisoned=plan.poison)
            results.setdefault("operator, poisoned", []).append(poisoned)
    return results


def show(
    console: Console, plan: Plan, size: int, results: dict[str, list[Measurement]], children: int
) -> dict[str, Any]:
    """Print one size; what to keep of it as JSON."""
    summary = {name: medians(run.values for run in runs) for name, runs in results.items()}
    console.print()
    console.print(report.table(f"{size} agents with {children} children each", summary))
    namespaces = len(set(workload.namespaces_for(size, plan.options.per_namespace)))
    judged = report.verdicts(summary, children, size, namespaces) + report.poison_verdict(summary)
    console.print(report.goal_table(judged))
    for name, runs in results.items():
        top = ", ".join(f"{verb} {count / size:.2f}" for verb, count in list(runs[0].requests.items())[:14])
        console.print(f"{name}, requests per agent: {top}", style="dim", soft_wrap=True)
    for name in ("twin", "operator"):
        if name in results and results[name][0].drift:
            slowest = {what: max(samples) for what, samples in results[name][0].drift.items() if samples}
            slow = sorted(slowest.items(), key=lambda item: -item[1])[:4]
            console.print(f"{name}, slowest repairs: " + ", ".join(f"{what} {time:.3f} s" for what, time in slow))
    return {
        "size": size,
        "summary": summary,
        "goals": [{**asdict(each), "met": each.met} for each in judged],
        "runs": [asdict(run) for runs in results.values() for run in runs],
    }


async def bench(plan: Plan, console: Console, command: str) -> None:
    twin = build_twin(cache_from(os.environ)) if "twin" in plan.subjects else Path()
    children = len(workload.build_templates().children)
    machine = f"{os.cpu_count()} CPUs, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"
    console.print(f"{command}\n{machine}")
    kept: list[dict[str, Any]] = []
    for size in plan.sizes:
        kept.append(show(console, plan, size, await run_size(plan, size, twin, console), children))
        if plan.json_path is not None:
            plan.json_path.write_text(json.dumps({"command": command, "machine": machine, "sizes": kept}, indent=1))
    across = report.across_sizes(
        {each["size"]: each["summary"]["operator"] for each in kept if "operator" in each["summary"]}
    )
    if across:
        console.print(report.goal_table(across))


def main(argv: Sequence[str] | None = None) -> int:
    plan = parse(argv)
    console = Console(highlight=False, width=max(120, Console().width))
    command = "$ python -m tests.bench.operator " + shlex.join(sys.argv[1:] if argv is None else argv)
    try:
        asyncio.run(bench(plan, console, command))
    except (ClusterError, RuntimeError, TimeoutError) as error:
        notes = getattr(error, "__notes__", [])
        console.print("\n".join([f"error: {error}", *notes]), style="red", soft_wrap=True, markup=False)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
