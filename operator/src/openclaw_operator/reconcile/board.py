"""What the status of Skills and Agents tells about sandbox pools: not every change, or each call would cost a write."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from openclaw_operator.reconcile.shortage import PoolState

# That a pool is short, why, and that it is no longer, has to last for so long before it is told.
SETTLE_SECONDS = 3.0
# Numbers have to differ for so long from what was told: a call that comes and goes is never written down.
NUMBERS_SECONDS = 30.0
# namespace, what changed for which pools, and whether it is more than numbers
Changed = Callable[[str, set[str], bool], None]


@dataclass
class _Told:
    """A pool as it was told last, and since when it is otherwise: at all, and in what matters."""

    state: PoolState
    differs: float | None = None
    matters: float | None = None


class PoolBoard:
    """The pools as they are told; `changed` is called when that is something else than before."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._told: dict[str, dict[str, _Told]] = {}
        # namespace → agent → skill → pool
        self._uses: dict[str, dict[str, dict[str, str]]] = {}
        self.changed: Changed = lambda *_: None

    def use(self, namespace: str, agent: str, pools: Mapping[str, str]) -> set[str]:
        """An agent's skills and the pools they run in. Returns the skills of which that is news."""
        known = self._uses.setdefault(namespace, {})
        before = known.pop(agent, {})
        if pools:
            known[agent] = dict(pools)
        return {skill for skill in before.keys() | pools.keys() if before.get(skill) != pools.get(skill)}

    def observe(self, namespace: str, states: Mapping[str, PoolState]) -> float | None:
        """All pools of a namespace as they are now. Returns after how many seconds to look again, if at all."""
        now = self._monotonic()
        before = self._told.get(namespace, {})
        after: dict[str, _Told] = {}
        numbers, matters, dues = set(before) - set(states), set[str](), []
        for name, state in states.items():
            told = before.get(name)
            if told is None:
                after[name] = _Told(state)
                (numbers if state.available else matters).add(name)
                continue
            after[name] = told
            told.differs = None if state == told.state else (now if told.differs is None else told.differs)
            same = state.gist == told.state.gist
            told.matters = None if same else (now if told.matters is None else told.matters)
            due = min(
                (
                    since + pause
                    for since, pause in ((told.differs, NUMBERS_SECONDS), (told.matters, SETTLE_SECONDS))
                    if since is not None
                ),
                default=None,
            )
            if due is None:
                continue
            if due > now:
                dues.append(due - now)
                continue
            (numbers if same else matters).add(name)
            after[name] = _Told(state)
        self._told[namespace] = after
        if numbers:
            self.changed(namespace, numbers, False)
        if matters:
            self.changed(namespace, matters, True)
        return min(dues, default=None)

    def knows(self, namespace: str) -> bool:
        """Whether the pools of a namespace have been seen since the operator started."""
        return namespace in self._told

    def of_skill(self, namespace: str, skill: str) -> dict[str, PoolState]:
        """The pools a Skill runs in, by name, as they are told."""
        uses = self._uses.get(namespace, {}).values()
        return self._states(namespace, {pools[skill] for pools in uses if skill in pools})

    def of_agent(self, namespace: str, agent: str) -> dict[str, PoolState]:
        """The skills of an agent and their pools, as they are told."""
        pools = self._uses.get(namespace, {}).get(agent, {})
        told = self._told.get(namespace, {})
        return {skill: told[pool].state for skill, pool in sorted(pools.items()) if pool in told}

    def users(self, namespace: str, pools: set[str]) -> tuple[set[str], set[str]]:
        """The agents and the skills that run in any of these pools."""
        uses = [
            (agent, skill)
            for agent, skills in self._uses.get(namespace, {}).items()
            for skill, pool in skills.items()
            if pool in pools
        ]
        return {agent for agent, _ in uses}, {skill for _, skill in uses}

    def _states(self, namespace: str, pools: set[str]) -> dict[str, PoolState]:
        told = self._told.get(namespace, {})
        return {pool: told[pool].state for pool in sorted(pools) if pool in told}
