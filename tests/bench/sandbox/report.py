"""The tables of one run: times with their ratios, writes, and what became of the goals."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.table import Table

from tests.bench.stats import percentile

JOB = "a Job per call, one at a time"
COLD = "cold pool: call to answer"
LIMIT = "a bare loop that creates the same pods: the node's limit"


@dataclass
class Results:
    """What was measured. `times` are milliseconds by name, `writes` API writes of so many calls by name."""

    times: dict[str, list[float]] = field(default_factory=dict)
    steps: dict[str, dict[str, float]] = field(default_factory=dict)
    writes: dict[str, tuple[int, Counter[str]]] = field(default_factory=dict)
    per_second: dict[str, float] = field(default_factory=dict)


def _cells(values: Sequence[float]) -> list[str]:
    return [f"{percentile(values, share):.1f}" for share in (0.5, 0.9, 0.99)]


def ratio(results: Results, name: str) -> float:
    """How many times slower a Job is than `name`, by the medians."""
    return percentile(results.times.get(JOB, []), 0.5) / percentile(results.times.get(name, []), 0.5)


def times_table(results: Results) -> Table:
    view = Table(title="Milliseconds, as the caller sees them", title_justify="left")
    for column in ("", "calls", "p50", "p90", "p99", "times faster than a Job"):
        view.add_column(column, justify="left" if not column else "right")
    for name, values in results.times.items():
        faster = ratio(results, name)
        shown = "" if math.isnan(faster) or name == JOB else f"{faster:.1f}"
        view.add_row(name, str(len(values)), *_cells(values), shown)
    return view


def steps_table(results: Results) -> Table:
    """Medians of the steps of serial calls; `sandbox_ms` is the part of `run_ms` from the claim to the skill's end."""
    view = Table(title="Where the time of a serial call goes (medians, ms)", title_justify="left")
    names = list(dict.fromkeys(step for steps in results.steps.values() for step in steps))
    for column in ("", *names):
        view.add_column(column, justify="left" if not column else "right")
    for name, steps in results.steps.items():
        view.add_row(name, *(f"{steps[step]:.1f}" if step in steps else "" for step in names))
    return view


def writes_table(results: Results) -> Table:
    view = Table(title="API writes per call, from the audit log", title_justify="left")
    for column in ("", "by the caller", "all", "of it"):
        view.add_column(column, justify="left" if column in {"", "of it"} else "right")
    for name, (calls, counts) in results.writes.items():
        own = sum(count for what, count in counts.items() if what.startswith("gateway "))
        detail = ", ".join(f"{what} {count / calls:.2g}" for what, count in counts.most_common())
        view.add_row(name, f"{own / calls:.3g}", f"{counts.total() / calls:.3g}", detail)
    return view


@dataclass(frozen=True)
class Goal:
    """One goal and what was measured."""

    text: str
    value: float
    met: bool


def goals(results: Results, serial: str) -> list[Goal]:
    """The goals that can be judged; `serial` names the times of serial isolated calls in Python."""
    found: list[Goal] = []
    if times := results.times.get(serial):
        p50, p99 = percentile(times, 0.5), percentile(times, 0.99)
        found += [Goal("warm isolated call p50 ≤ 10 ms", p50, p50 <= 10), Goal("p99 ≤ 40 ms", p99, p99 <= 40)]
        if JOB in results.times:
            faster = ratio(results, serial)
            found.append(Goal("≥ 50 times faster than a Job per call", faster, faster >= 50))
    if serial in results.writes:
        own = sum(count for what, count in results.writes[serial][1].items() if what.startswith("gateway "))
        found.append(Goal("0 API writes on the path of a call", own, own == 0))
    if cold := results.times.get(COLD):
        worst = max(cold)
        found.append(Goal("a cold pool answers in under 2000 ms", worst, worst < 2000))
    return found


def goals_table(judged: Sequence[Goal]) -> Table:
    view = Table(title="Goals", title_justify="left")
    for column in ("goal", "measured", ""):
        view.add_column(column)
    for goal in judged:
        view.add_row(goal.text, f"{goal.value:.1f}", "met" if goal.met else "MISSED")
    return view


def rates_table(rates: Mapping[str, float]) -> Table:
    view = Table(title="Pods replaced per second, while callers never pause", title_justify="left")
    for column in ("", "per second", "of the limit"):
        view.add_column(column, justify="left" if not column else "right")
    limit = rates.get(LIMIT)
    for name, value in rates.items():
        view.add_row(name, f"{value:.2f}", f"{value / limit:.2f}" if limit else "")
    return view
