"""Sandbox pools of a namespace: pods wait warm, used ones go, new ones come at once."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from openclaw_operator.cluster.kinds import BY_NAME
from openclaw_operator.cluster.live import Live
from openclaw_operator.errors import ConflictError, ForbiddenError, RejectedError, SpecError
from openclaw_operator.reconcile import egress
from openclaw_operator.reconcile.children import of_namespace
from openclaw_operator.reconcile.context import Context
from openclaw_operator.reconcile.demand import Bounds, Demand, begin, follow
from openclaw_operator.reconcile.pods import FINISHED, START_SECONDS, age_seconds
from openclaw_operator.reconcile.pool_plan import Plan, plan
from openclaw_operator.reconcile.queue import Key, soonest
from openclaw_operator.reconcile.shortage import (
    PoolState,
    Shortage,
    ended,
    of_pod,
    of_problem,
    of_refusal,
)
from openclaw_operator.reconcile.signing import (
    MOUNT_SECONDS,
    SigningKeys,
    ensure_signing_key,
    rotate_signing_key,
)
from openclaw_operator.reconcile.status import Condition
from openclaw_operator.resources import network, sandbox, secrets
from openclaw_operator.resources.meta import EGRESS_LABEL, POOL_LABEL
from openclaw_operator.resources.pool import Pool, merge, workspace_claim
from openclaw_operator.telemetry import about

LOG = logging.getLogger(__name__)
FIRST_PAUSE_SECONDS = 1.0
LAST_PAUSE_SECONDS = 60.0
REFUSED_RECHECK_SECONDS = 15.0
# Gateways go on calling the pools of their old configuration until they have the new one.
RETIRE_SECONDS = MOUNT_SECONDS
# What the pools of a namespace have in common, in the order in which it goes.
SHARED = (
    ("NetworkPolicy", network.SANDBOX_POLICY),
    ("NetworkPolicy", network.SANDBOX_NAME_POLICY),
    ("Secret", secrets.SIGNING_SECRET),
)
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


@dataclass
class _Health:
    """What keeps a pool from getting its pods: those that ended before they were ever ready, in a row, and refusals."""

    failures: int = 0
    not_before: float = 0.0
    last_end: str = ""
    refused: Shortage | None = None


class PoolReconciler:
    """Reconciles the pools of a namespace; `pools[namespace][agent]` is what each agent asks for.

    `selective` means that other operators serve other agents: a namespace without agents of ours may be theirs.
    """

    def __init__(
        self,
        context: Context,
        pools: dict[str, dict[str, list[Pool]]],
        *,
        selective: bool = False,
        max_key_age_seconds: float | None = None,
    ) -> None:
        self._context = context
        self._pools = pools
        self._selective = selective
        self._max_key_age = max_key_age_seconds
        self._demand: dict[tuple[str, str], Demand] = {}
        # Pods that were given to calls since the demand was last looked at, by namespace and pool.
        self._taken: Counter[tuple[str, str]] = Counter()
        # Uids of pods the operator deletes: what they turn into says nothing about calls.
        self._dismissed: set[str] = set()
        self._served: set[str] = set()
        self._health: dict[tuple[str, str], _Health] = {}
        self._observed: dict[str, set[str]] = {}
        # What agents with skills that go out say of the proxy, by namespace.
        self._egress_told: dict[str, tuple[Condition | None, bool]] = {}
        # Until when the pods of a pool that nobody asks for any more are kept, by namespace and pool.
        self._retiring: dict[str, dict[str, float]] = {}

    def pod_changed(self, before: Live | None, after: Live | None) -> None:
        """Follow one pod from a watch event."""
        live = after or before
        if live is None:
            return
        key = (live.namespace, live.labels.get(POOL_LABEL, ""))
        waited = before is not None and before.facts["ready"] and not before.deleting
        waits = after is not None and after.facts["ready"] and not after.deleting
        if waited and not waits and live.uid not in self._dismissed:
            self._taken[key] += 1
        if after is None:
            self._served.discard(live.uid)
            self._dismissed.discard(live.uid)
            self._room(live.namespace)
            return
        if after.facts["was_ready"]:
            self._served.add(after.uid)
        health = self._health.get(key)
        if after.facts["ready"] and health:
            health.failures, health.not_before = 0, 0.0
        is_over = after.facts["phase"] in FINISHED
        was_running = before is not None and before.uid == after.uid and before.facts["phase"] not in FINISHED
        if is_over and was_running and after.uid not in self._served:
            health = self._health.setdefault(key, _Health())
            health.failures += 1
            health.last_end = (after.facts["problem"] or ("", "no reason given"))[1]
            pause = min(FIRST_PAUSE_SECONDS * 2 ** (health.failures - 1), LAST_PAUSE_SECONDS)
            health.not_before = self._context.monotonic() + pause
            with about("Pod", after.namespace, after.name):
                LOG.warning(
                    "pod %s/%s ended before it was ready; its pool pauses %.0f s", after.namespace, after.name, pause
                )

    def _room(self, namespace: str) -> None:
        """A pod is gone: what was refused for a quota may now be let in."""
        for (place, _), health in self._health.items():
            if place == namespace and health.refused:
                health.not_before = 0.0

    async def reconcile(self, key: Key) -> float | None:
        """Bring the pods of one namespace to what its agents need. Raises ApiError for a passing fault."""
        context, namespace = self._context, key[1]
        known = self._pools.get(namespace, {})
        agents = context.primaries.agents(namespace)
        pods = list(context.children.of_kind("Pod", namespace))
        if not agents:
            if namespace in self._pools or not self._selective:
                await self._leave(namespace, pods, theirs=self._selective and await self._has_agents(namespace))
            return None
        pools = merge([pool for wanted in known.values() for pool in wanted])
        # Until every agent has said what it needs, what is there may be wanted. Each calls again, if it ever can.
        complete = all(name in known for name in agents)
        try:
            keys = await ensure_signing_key(context, namespace)
            children = of_namespace(context.client, context.children, namespace)
            for policy in network.sandbox_policies(namespace):
                await children.ensure_shared(policy)
            retry = await self._keep_egress(namespace, pools, pods, keys.grants, complete=complete)
        except SpecError as error:
            LOG.warning("sandbox pools of namespace %s: %s", namespace, error.message)
            pause = self._observe(namespace, pools, pods, complete=complete, problem=of_problem(error))
            return min(REFUSED_RECHECK_SECONDS, pause or REFUSED_RECHECK_SECONDS)
        retiring = self._retire(namespace, known, pools, pods)
        pools, pauses = self._follow_demand(namespace, pools, pods)
        cramped = [name for name in pools if (health := self._health.get((namespace, name))) and health.refused]
        todo = plan(pools, pods, self._served, keys, complete=complete, retiring=retiring, cramped=cramped)
        pauses += [retry, *retiring.values(), await self._carry_out(namespace, pools, todo, keys)]
        pods = list(context.children.of_kind("Pod", namespace))
        pauses.append(self._observe(namespace, pools, pods, complete=complete))
        waiting = [pod for pod in pods if self._waits(pod)]
        pauses.append(await rotate_signing_key(context, namespace, waiting, self._max_key_age))
        return soonest(*pauses)

    def _waits(self, pod: Live) -> bool:
        """Whether a pod may still be given a call."""
        started = pod.facts["ready"] or pod.uid not in self._served
        return started and not pod.deleting and pod.facts["phase"] not in FINISHED

    def _follow_demand(
        self, namespace: str, pools: dict[str, Pool], pods: Iterable[Live]
    ) -> tuple[dict[str, Pool], list[float | None]]:
        """The pools with as many warm pods as the calls of late ask for, and when to look at each again."""
        now = self._context.monotonic()
        free = [pod for pod in pods if pod.facts["ready"] and not pod.deleting]
        ready = Counter(pod.labels.get(POOL_LABEL, "") for pod in free)
        # While a key is rotated there are two generations of pods, and one of them is to go.
        generations = Counter((pod.labels.get(POOL_LABEL, ""), pod.labels.get(sandbox.SIGNING_LABEL)) for pod in free)
        adapted, pauses = {}, []
        for name, pool in pools.items():
            key, bounds = (namespace, name), Bounds(pool.warm, pool.most)
            before = self._demand.get(key)
            if before is None:
                largest = max((count for (pool_id, _), count in generations.items() if pool_id == name), default=0)
                demand = begin(largest, bounds, now)
            else:
                demand = follow(before, bounds, free=ready[name], taken=self._taken[key], now=now)
            self._taken.pop(key, None)
            self._demand[key] = demand
            adapted[name] = replace(pool, warm=demand.target(bounds))
            pauses.append(demand.rest(bounds, now))
        for key in [key for key in self._demand if key[0] == namespace and key[1] not in pools]:
            del self._demand[key]
        for key in [key for key in self._health if key[0] == namespace and key[1] not in pools]:
            del self._health[key]
        return adapted, pauses

    async def _keep_egress(
        self, namespace: str, pools: Mapping[str, Pool], pods: Iterable[Live], public_keys: str, *, complete: bool
    ) -> float | None:
        """The egress proxy stays as long as a pool, or a pod that is left of one, may use it.

        Returns when to try again where something is in its way.

        While `pools` is not `complete`, somebody may want what seems not to be wanted: then nothing of it goes.
        """
        context = self._context
        proxied = [pool for pool in pools.values() if pool.shape.egress == "proxied"]
        # A call may go on in a pod that is deleted.
        left = any(pod.labels.get(EGRESS_LABEL) == "proxied" and pod.facts["phase"] not in FINISHED for pod in pods)
        is_kept = True
        if proxied or left:
            internal = any(pool.internal for pool in proxied) or (False if complete else None)
            is_kept = await egress.keep(context, namespace, public_keys, internal=internal)
        elif complete:
            await egress.drop(context, namespace)
        again = await egress.look(context, namespace)
        # Until its pods were looked at, agents repeat what they told before the operator started anew.
        told = (egress.condition(context, namespace, ["skills"]), egress.looked_at(context, namespace))
        if self._egress_told.get(namespace) != told:
            self._egress_told[namespace] = told
            for name, wanted in self._pools.get(namespace, {}).items():
                if any(pool.shape.egress == "proxied" for pool in wanted):
                    context.queue.add(("Agent", namespace, name))
        return again if is_kept else REFUSED_RECHECK_SECONDS

    def _retire(
        self, namespace: str, known: Mapping[str, list[Pool]], pools: Mapping[str, Pool], pods: Iterable[Live]
    ) -> dict[str, float]:
        """The pools that nobody asks for any more but gateways may still call, and for how many seconds."""
        # Of an agent that was deleted or suspended, nobody calls; its volume must not be held either.
        claims = {workspace_claim(name) for name, wanted in known.items() if wanted}
        now = self._context.monotonic()
        before, until = self._retiring.pop(namespace, {}), dict[str, float]()
        for pod in pods:
            pool, claim = pod.labels.get(POOL_LABEL, ""), pod.labels.get(sandbox.WORKSPACE_LABEL)
            # One that lost its label is of no pool, and nobody calls it.
            if pool and pod.facts["ready"] and pool not in pools and claims and (claim is None or claim in claims):
                until[pool] = before.get(pool, now + RETIRE_SECONDS)
        if until:
            self._retiring[namespace] = until
        return {pool: end - now for pool, end in until.items() if end > now}

    async def _carry_out(
        self, namespace: str, pools: Mapping[str, Pool], todo: Plan, keys: SigningKeys
    ) -> float | None:
        """Delete and create, all at once. Returns when to try again what has to wait; raises ApiError for a fault."""
        now = self._context.monotonic()
        pauses: list[float] = []
        creates: dict[str, int] = {}
        for name, count in todo.create.items():
            health = self._health.get((namespace, name))
            if health and health.not_before > now:
                pauses.append(health.not_before - now)
                continue
            # Where the last one was refused, one tries whether the next is let in.
            creates[name] = 1 if health and health.refused else count
        for name in pools.keys() - todo.create.keys():
            if health := self._health.get((namespace, name)):
                health.refused = None
        deletes = asyncio.gather(*(self._delete(pod) for pod in todo.delete), return_exceptions=True)
        fills = asyncio.gather(*(self._fill(namespace, pools[name], count, keys) for name, count in creates.items()))
        outcomes, results = await fills, await deletes
        for name, made in zip(creates, outcomes, strict=True):
            pause = self._note_refusals((namespace, name), made)
            pauses += [] if pause is None else [pause]
        for result in (*(each for made in outcomes for each in made), *results):
            if isinstance(result, BaseException) and not isinstance(result, ForbiddenError | RejectedError):
                raise result
        return min(pauses) if pauses else None

    async def _fill(self, namespace: str, pool: Pool, count: int, keys: SigningKeys) -> list[BaseException | None]:
        """Create pods, in batches that double: where the first is refused, a hundred more would be as well.

        As ReplicaSets are filled: https://github.com/kubernetes/kubernetes/blob/master/pkg/controller/replicaset.
        """
        outcomes: list[BaseException | None] = []
        while len(outcomes) < count and not any(outcomes):
            batch = min(len(outcomes) + 1, count - len(outcomes))
            jobs = (self._create(namespace, pool, keys) for _ in range(batch))
            outcomes += await asyncio.gather(*jobs, return_exceptions=True)
        return outcomes

    def _note_refusals(self, key: tuple[str, str], outcomes: Iterable[object]) -> float | None:
        """Remember whether pods of a pool are let in; returns when to try again."""
        refusal = next((each for each in outcomes if isinstance(each, ForbiddenError | RejectedError)), None)
        health = self._health.get(key)
        if refusal is None:
            if health and health.refused:
                # There is room again: the rest follows at once.
                health.refused = None
                return 0.0
            return None
        health = self._health.setdefault(key, _Health())
        if health.refused is None:
            with about("Pool", *key):
                LOG.warning("sandbox pods of pool %s in namespace %s are refused: %s", key[1], key[0], refusal)
        health.refused = of_refusal(refusal)
        health.not_before = self._context.monotonic() + REFUSED_RECHECK_SECONDS
        return REFUSED_RECHECK_SECONDS

    async def _create(self, namespace: str, pool: Pool, keys: SigningKeys) -> None:
        context = self._context
        letters = context.random_bytes(sandbox.SUFFIX_LENGTH)
        suffix = "".join(_ALPHABET[value % len(_ALPHABET)] for value in letters)
        body = sandbox.pod(namespace, pool.shape, suffix, keys.trusted, keys.label, context.images.pull_policy)
        try:
            item = await context.client.create(BY_NAME["Pod"], namespace, body, "pool")
        except ConflictError:
            # The random name is taken: the next round takes another.
            context.queue.add(("Pool", namespace, ""))
            return
        context.children.observe(BY_NAME["Pod"], item)

    async def _delete(self, pod: Live) -> None:
        # No resource version: a pod's status changes all the time, and a finished or surplus one stays so.
        self._dismissed.add(pod.uid)
        await self._context.client.delete(BY_NAME["Pod"], pod.namespace, pod.name, "pool", uid=pod.uid)

    async def _has_agents(self, namespace: str) -> bool:
        """Whether there are agents that other operators serve, of whom nothing is known here."""
        pages = self._context.client.pages(BY_NAME["Agent"], namespace, metadata_only=True)
        return any(["deletionTimestamp" not in item["metadata"] async for page in pages for item in page["items"]])

    async def _leave(self, namespace: str, pods: list[Live], *, theirs: bool) -> None:
        """The last agent is gone: leave nothing behind, or all of it when it is `theirs` by now."""
        context = self._context
        self._pools.pop(namespace, None)
        self._retiring.pop(namespace, None)
        self._egress_told.pop(namespace, None)
        self._follow_demand(namespace, {}, pods)
        self._observe(namespace, {}, pods, complete=True)
        if theirs:
            return
        await egress.drop(context, namespace)
        for pod in pods:
            if not pod.deleting:
                await context.client.delete(BY_NAME["Pod"], namespace, pod.name, "prune", uid=pod.uid)
        children = of_namespace(context.client, context.children, namespace)
        await children.drop_shared(SHARED)

    def _observe(
        self,
        namespace: str,
        pools: Mapping[str, Pool],
        pods: list[Live],
        *,
        complete: bool,
        problem: Shortage | None = None,
    ) -> float | None:
        """Tell of the pools: in metrics at once, in the status of Skills and Agents when it is worth a write.

        `problem` is one that keeps all of them from getting pods.
        """
        gauge = self._context.metrics.pool_pods
        # A pool that is gone must not go on counting as wanted.
        for name in self._observed.pop(namespace, set()) - pools.keys():
            gauge.remove_by_labels({"namespace": namespace, "pool": name})
        if pools:
            self._observed[namespace] = set(pools)
        by_pool: dict[str, list[Live]] = {name: [] for name in pools}
        for pod in pods:
            if not pod.deleting and pod.facts["phase"] not in FINISHED:
                by_pool.setdefault(pod.labels.get(POOL_LABEL, ""), []).append(pod)
        states: dict[str, PoolState] = {}
        pauses: list[float | None] = []
        for name, pool in pools.items():
            mine = by_pool[name]
            ready = sum(1 for pod in mine if pod.facts["ready"])
            starting = [pod for pod in mine if not pod.facts["ready"] and pod.uid not in self._served]
            busy = len(mine) - ready - len(starting)
            shortage, pause = (problem, None) if problem else self._shortage((namespace, name), starting)
            pauses.append(pause)
            states[name] = PoolState(pool.warm, ready, busy, len(starting), shortage)
            for state, count in zip(
                ("wanted", "ready", "busy", "starting"), (pool.warm, ready, busy, len(starting)), strict=True
            ):
                gauge.labels(namespace, name, state).set(count)
        if complete:
            pauses.append(self._context.board.observe(namespace, states))
        return soonest(*pauses)

    def _shortage(self, key: tuple[str, str], starting: Iterable[Live]) -> tuple[Shortage | None, float | None]:
        """What keeps a pool short, and when that is to be looked at again though nothing happens."""
        health = self._health.get(key)
        if health and health.refused:
            return health.refused, None
        now, due = self._context.now(), None
        for pod in starting:
            age = age_seconds(pod.created, now)
            shortage = of_pod(pod, age)
            if shortage:
                return shortage, None
            if pod.facts["scheduled"]:
                due = min(due or START_SECONDS, max(0.0, START_SECONDS - age))
        return (ended(health.last_end), None) if health and health.failures else (None, due)
