"""Percentiles and medians of small samples."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import median


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile: the smallest value that at least `share` (0 to 1) of the values do not exceed."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def medians(runs: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The median of each key over the runs that have it."""
    collected: dict[str, list[float]] = {}
    for run in runs:
        for key, value in run.items():
            collected.setdefault(key, []).append(value)
    return {key: median(values) for key, values in collected.items()}
