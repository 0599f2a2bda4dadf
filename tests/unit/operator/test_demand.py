"""How many pods wait: rules that hold whatever happens, and the two ways it moves."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from openclaw_operator.reconcile.demand import IDLE_SECONDS, Bounds, Demand, begin, follow

BOUNDS = st.tuples(st.integers(1, 50), st.integers(0, 200)).map(lambda pair: Bounds(pair[0], pair[0] + pair[1]))
# Seconds since the last look, pods that are ready, pods that were taken.
LOOKS = st.lists(
    st.tuples(st.floats(0, 2 * IDLE_SECONDS), st.integers(0, 60), st.integers(0, 60)), min_size=1, max_size=40
)


@given(bounds=BOUNDS, looks=LOOKS, ready=st.integers(0, 300))
def test_it_stays_within_its_bounds_rises_only_when_all_are_taken_and_never_falls_by_more_than_half(
    bounds: Bounds, looks: list[tuple[float, int, int]], ready: int
) -> None:
    now = 0.0
    demand = begin(ready, bounds, now)
    for seconds, free, taken in looks:
        now += seconds
        before, seen = demand.target(bounds), demand.taken + taken
        began = demand.since
        demand = follow(demand, bounds, free=free, taken=taken, now=now)
        after = demand.target(bounds)
        assert bounds.least <= after <= bounds.most
        if after > before:
            assert free == 0
            assert seen >= before
            assert after == min(2 * before, bounds.most)
        if after < before:
            assert now - began >= IDLE_SECONDS
            assert 2 * after >= before


@given(bounds=BOUNDS, looks=LOOKS)
def test_looking_twice_changes_nothing(bounds: Bounds, looks: list[tuple[float, int, int]]) -> None:
    """Many events wake the operator; how often it looks must not matter."""
    now = 0.0
    demand = begin(0, bounds, now)
    for seconds, free, taken in looks:
        now += seconds
        demand = follow(demand, bounds, free=free, taken=taken, now=now)
        # At the moment of a rise nothing has been taken of what it asks for.
        assert follow(demand, bounds, free=free, taken=0, now=now) == demand


@given(bounds=BOUNDS, ready=st.integers(0, 300))
def test_an_idle_pool_comes_back_to_its_least(bounds: Bounds, ready: int) -> None:
    now = 0.0
    demand = begin(ready, bounds, now)
    rounds = 0
    while (pause := demand.rest(bounds, now)) is not None:
        now += pause
        demand = follow(demand, bounds, free=demand.target(bounds), taken=0, now=now)
        rounds += 1
    assert demand.target(bounds) == bounds.least
    assert rounds <= 8


def test_a_burst_doubles_the_pool_each_time_all_of_it_is_taken() -> None:
    bounds = Bounds(2, 20)
    demand, targets = begin(0, bounds, 0.0), []
    for second in range(6):
        target = demand.target(bounds)
        targets.append(target)
        demand = follow(demand, bounds, free=0, taken=target, now=float(second))
    assert targets == [2, 4, 8, 16, 20, 20]


def test_what_is_missed_regularly_is_kept() -> None:
    """Four of eight are taken at once every minute: eight stay, for half of them would be too few."""
    bounds = Bounds(2, 20)
    demand = begin(8, bounds, 0.0)
    for minute in range(20):
        demand = follow(demand, bounds, free=4, taken=4, now=60.0 * minute)
        demand = follow(demand, bounds, free=8, taken=0, now=60.0 * minute + 30)
    assert demand.target(bounds) == 8


def test_a_lower_least_counts_at_once() -> None:
    demand = Demand(extra=0, since=0.0)
    assert demand.target(Bounds(4, 9)) == 4
    assert demand.target(Bounds(1, 9)) == 1
