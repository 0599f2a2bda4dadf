"""The table of one benchmark: operator, twin and limit side by side, with the goals."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table

from openclaw_operator.reconcile.pool import SHARED
from tests.bench.stats import percentile

Values = Mapping[str, float]
# From how many Agents on what each costs stays the same, and within what: one run differs from the next by a tenth.
FLAT_FROM, FLAT = 100, 1.2
MEMORY_FROM = 1000


@dataclass(frozen=True)
class Goal:
    """An upper bound for the operator: `bound` computes it from the peers' numbers, NaN where there is none."""

    metric: str
    text: str
    bound: Callable[[Mapping[str, Values]], float]


def _times(factor: float, peer: str, metric: str) -> Callable[[Mapping[str, Values]], float]:
    return lambda peers: factor * peers.get(peer, {}).get(metric, math.nan)


def _constant(value: float) -> Callable[[Mapping[str, Values]], float]:
    return lambda _: value


def goals(children: int, size: int, namespaces: int) -> tuple[Goal, ...]:
    """The goals for N = size Agents with that many children each, in so many namespaces.

    What the Agents of a namespace share (a signing key, network policies) is made once for each namespace.
    """
    wall, cpu = "all children exist s", "cpu s"
    shared = len(SHARED) * namespaces / size
    memory = 250.0 if size <= 1000 else 250.0 + (size - 1000) * 30 / 1024
    return (
        Goal(wall, "≤ 1.2 x limit", _times(1.2, "limit", wall)),
        Goal(wall, "≤ twin", _times(1.0, "twin", wall)),
        Goal(cpu, "≤ 1.5 x twin", _times(1.5, "twin", cpu)),
        Goal("writes per agent", f"≤ {children} children + 2", _constant(children + 2 + shared)),
        Goal("peak memory MiB", "< 250, + 30 KB each over 1000", _constant(memory)),
        Goal("idle writes", "0", _constant(0)),
        Goal("idle cpu %", "≤ 1", _constant(1)),
        Goal("restart writes", "0", _constant(0)),
        Goal("restart peak memory MiB", "< 250, + 30 KB each over 1000", _constant(memory)),
        Goal("drift worst s", "≤ 1", _constant(1)),
    )


@dataclass(frozen=True)
class Verdict:
    """One goal and what became of it."""

    metric: str
    text: str
    value: float
    bound: float

    @property
    def met(self) -> bool:
        return self.value <= self.bound


def verdicts(results: Mapping[str, Values], children: int, size: int, namespaces: int = 1) -> list[Verdict]:
    """The goals that can be judged from what was measured."""
    mine = results.get("operator", {})
    judged = []
    for goal in goals(children, size, namespaces):
        bound = goal.bound(results)
        if goal.metric in mine and not math.isnan(bound):
            judged.append(Verdict(goal.metric, goal.text, mine[goal.metric], bound))
    return judged


def poison_verdict(results: Mapping[str, Values]) -> list[Verdict]:
    """Whether Agents that can never work hold up the others; nothing where that was not measured."""
    metric = "children p99 s"
    if "operator, poisoned" not in results:
        return []
    poisoned, clean = results["operator, poisoned"][metric], results["operator"][metric]
    return [Verdict(f"{metric}, poisoned", "≤ 1.1 x without", poisoned, 1.1 * clean)]


def across_sizes(operator: Mapping[int, Values]) -> list[Verdict]:
    """Whether what an Agent costs stays the same from 100 on, and what each above 1,000 needs; `operator` is by N."""
    judged = []
    metric = "cpu per agent ms"
    for size in (size for size in sorted(operator) if size > FLAT_FROM and FLAT_FROM in operator):
        bound = FLAT * operator[FLAT_FROM][metric]
        text = f"≤ {FLAT} x that of {FLAT_FROM}"
        judged.append(Verdict(f"{metric}, {size} agents", text, operator[size][metric], bound))
    for size in (size for size in sorted(operator) if size > MEMORY_FROM and MEMORY_FROM in operator):
        more = operator[size]["peak memory MiB"] - operator[MEMORY_FROM]["peak memory MiB"]
        each = more * 1024 / (size - MEMORY_FROM)
        judged.append(Verdict(f"KB for each further agent, {size} agents", "≤ 30", each, 30.0))
    return judged


def table(title: str, results: Mapping[str, Values]) -> Table:
    """Every metric of every program, and the operator's as a ratio of its peers'."""
    names = [name for name in ("limit", "twin", "operator") if name in results]
    view = Table(title=title, title_justify="left")
    view.add_column("")
    for name in names:
        view.add_column(name, justify="right")
    view.add_column("operator / limit", justify="right")
    view.add_column("operator / twin", justify="right")
    metrics = dict.fromkeys(metric for name in names for metric in results[name])
    for metric in metrics:
        cells = [_number(results[name].get(metric)) for name in names]
        ratios = [_ratio(results, peer, metric) for peer in ("limit", "twin")]
        view.add_row(metric, *cells, *ratios)
    return view


def goal_table(judged: list[Verdict]) -> Table:
    view = Table(title="Goals", title_justify="left")
    view.add_column("metric")
    view.add_column("goal")
    view.add_column("operator", justify="right")
    view.add_column("bound", justify="right")
    view.add_column("")
    for each in judged:
        view.add_row(each.metric, each.text, _number(each.value), _number(each.bound), "met" if each.met else "MISSED")
    return view


def _number(value: float | None) -> str:
    if value is None or math.isnan(value):
        return ""
    return f"{value:.0f}" if value == int(value) or abs(value) >= 1000 else f"{value:.3g}"


def _ratio(results: Mapping[str, Values], peer: str, metric: str) -> str:
    mine, theirs = results.get("operator", {}).get(metric), results.get(peer, {}).get(metric)
    return f"{mine / theirs:.2f}" if mine is not None and theirs else ""


def summarise_drift(repairs: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Median and worst of all repair times, which come by kind and way."""
    times = [seconds for samples in repairs.values() for seconds in samples]
    if not times:
        return {}
    return {"drift p50 s": percentile(times, 0.5), "drift worst s": max(times)}
