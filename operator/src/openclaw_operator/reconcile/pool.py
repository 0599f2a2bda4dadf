"""Sandbox pools of a namespace: pods wait warm, used ones go, new ones come at once."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from openclaw_operator.cluster.kinds import BY_NAME
from openclaw_operator.cluster.live import Live
from openclaw_operator.errors import ConflictError, ForbiddenError, RejectedError, SpecError
from openclaw_operator.reconcile import egress
from openclaw_operator.reconcile.children import NAMESPACE, Children
from openclaw_operator.reconcile.context import Context
from openclaw_operator.reconcile.queue import Key
from openclaw_operator.reconcile.signing import ensure_signing_key
from openclaw_operator.resources import network, sandbox, secrets
from openclaw_operator.resources.meta import EGRESS_LABEL, EGRESS_NAME, POOL_LABEL, Owner
from openclaw_operator.resources.pool import Pool, merge, workspace_claim

LOG = logging.getLogger(__name__)
FIRST_PAUSE_SECONDS = 1.0
LAST_PAUSE_SECONDS = 60.0
REFUSED_RECHECK_SECONDS = 15.0
# Gateways go on calling the pools of their old configuration until the kubelet has brought them the new one: up to its
# sync period of a minute and the life of its cache, https://kubernetes.io/docs/concepts/configuration/configmap/.
RETIRE_SECONDS = 150.0
FINISHED = frozenset({"Succeeded", "Failed"})
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


@dataclass
class Plan:
    """What to do about the pods of a namespace: create so many per pool, delete these."""

    create: dict[str, int] = field(default_factory=dict)
    delete: list[Live] = field(default_factory=list)


@dataclass
class _Health:
    """Pods of a pool that ended before they were ever ready, in a row."""

    failures: int = 0
    not_before: float = 0.0


def plan(
    pools: Mapping[str, Pool],
    pods: Iterable[Live],
    served: set[str],
    signing: str,
    *,
    complete: bool = True,
    retiring: Collection[str] = (),
) -> Plan:
    """Compare pods with pools. `served` are uids of pods that have been ready; `signing` the label of today's key.

    While `pools` is not `complete`, a pod that seems not to be wanted may be: then only finished and stale ones go.
    Ready pods of `retiring` pools are kept, but no more are made.
    A pod that was ready and no longer is has taken a call: it does not count as waiting, and its replacement is made
    while it still works. Never more pods than warm ones plus calls that can run at once, whatever readiness says.
    """
    result = Plan()
    by_pool: dict[str, list[Live]] = {}
    for pod in pods:
        pool = pod.labels.get(POOL_LABEL, "")
        if pod.deleting:
            continue
        # Policies go by labels: a pod whose class somebody changed is not what its pool asks for.
        changed = pool in pools and pod.labels.get(EGRESS_LABEL) != pools[pool].shape.egress
        stale = changed or pod.labels.get(sandbox.SIGNING_LABEL) != signing
        busy = pod.uid in served and not pod.facts["ready"]
        retires = pool in retiring and pod.facts["ready"]
        unwanted = stale or (complete and pool not in pools and not retires)
        if pod.facts["phase"] in FINISHED or (unwanted and not busy):
            result.delete.append(pod)
        else:
            by_pool.setdefault(pool, []).append(pod)
    for name, pool_wanted in pools.items():
        present = by_pool.get(name, [])
        waiting = [pod for pod in present if pod.facts["ready"] or pod.uid not in served]
        missing = min(pool_wanted.warm - len(waiting), pool_wanted.warm + pool_wanted.busy - len(present))
        if missing > 0:
            result.create[name] = missing
        elif complete and missing < 0 and len(waiting) > pool_wanted.warm:
            # Those that are not ready yet go first: nobody can have chosen them.
            surplus = sorted(waiting, key=lambda pod: (pod.facts["ready"], pod.created))
            result.delete += surplus[: len(waiting) - pool_wanted.warm]
    return result


class PoolReconciler:
    """Reconciles the pools of a namespace; `pools[namespace][agent]` is what each agent asks for.

    `selective` means that other operators serve other agents: a namespace without agents of ours may be theirs.
    """

    def __init__(self, context: Context, pools: dict[str, dict[str, list[Pool]]], *, selective: bool = False) -> None:
        self._context = context
        self._pools = pools
        self._selective = selective
        self._served: set[str] = set()
        self._health: dict[tuple[str, str], _Health] = {}
        self._told_refused: set[str] = set()
        self._observed: dict[str, set[str]] = {}
        self._egress_ready: dict[str, bool] = {}
        # Until when the pods of a pool that nobody asks for any more are kept, by namespace and pool.
        self._retiring: dict[str, dict[str, float]] = {}

    def pod_changed(self, before: Live | None, after: Live | None) -> None:
        """Follow one pod from a watch event."""
        if after is None:
            if before:
                self._served.discard(before.uid)
            return
        key = (after.namespace, after.labels.get(POOL_LABEL, ""))
        if after.facts["was_ready"]:
            self._served.add(after.uid)
        if after.facts["ready"]:
            self._health.pop(key, None)
        ended = after.facts["phase"] in FINISHED
        was_running = before is not None and before.uid == after.uid and before.facts["phase"] not in FINISHED
        if ended and was_running and after.uid not in self._served:
            health = self._health.setdefault(key, _Health())
            health.failures += 1
            pause = min(FIRST_PAUSE_SECONDS * 2 ** (health.failures - 1), LAST_PAUSE_SECONDS)
            health.not_before = self._context.monotonic() + pause
            LOG.warning(
                "pod %s/%s ended before it was ready; its pool pauses %.0f s", after.namespace, after.name, pause
            )

    async def reconcile(self, key: Key) -> float | None:
        """Bring the pods of one namespace to what its agents need. Raises ApiError for a passing fault."""
        context, namespace = self._context, key[1]
        known = self._pools.get(namespace, {})
        agents = context.primaries.agents(namespace)
        pods = list(context.children.of_kind("Pod", namespace))
        if not agents:
            if namespace in self._pools or not self._selective:
                await self._leave(namespace, pods)
            return None
        pools = merge([pool for wanted in known.values() for pool in wanted])
        try:
            public_key = await ensure_signing_key(context, namespace)
            owner = Owner(NAMESPACE, namespace, namespace, "")
            children = Children(context.client, context.children, owner)
            for policy in network.sandbox_policies(namespace):
                await children.ensure_shared(policy)
            await self._keep_egress(namespace, pools, pods, public_key, complete=all(name in known for name in agents))
        except SpecError as error:
            LOG.warning("sandbox pools of namespace %s: %s", namespace, error.message)
            return REFUSED_RECHECK_SECONDS
        label = hashlib.sha256(public_key.encode()).hexdigest()[:10]
        # Until every agent has said what it needs, what is there may be wanted. Each calls again, if it ever can.
        complete = all(name in known for name in agents)
        retiring = self._retire(namespace, known, pools, pods)
        todo = plan(pools, pods, self._served, label, complete=complete, retiring=retiring)
        self._observe(namespace, pools, pods)
        pause = await self._carry_out(namespace, pools, todo, public_key, label)
        return min([*retiring.values(), *([] if pause is None else [pause])], default=None)

    async def _keep_egress(
        self, namespace: str, pools: Mapping[str, Pool], pods: Iterable[Live], public_keys: str, *, complete: bool
    ) -> None:
        """The egress proxy stays as long as a pool, or a pod that is left of one, may use it.

        One that is there is not touched while `pools` is not `complete`: nobody knows yet what it has to be.
        """
        context = self._context
        live = context.children.get("Deployment", namespace, EGRESS_NAME)
        if live is not None and not complete:
            return
        proxied = [pool for pool in pools.values() if pool.shape.egress == "proxied"]
        left = any(pod.labels.get(EGRESS_LABEL) == "proxied" and not pod.deleting for pod in pods)
        if proxied or left:
            await egress.keep(context, namespace, public_keys, internal=any(pool.internal for pool in proxied))
        else:
            await egress.drop(context, namespace)
        ready = egress.ready(context.children.get("Deployment", namespace, EGRESS_NAME))
        if self._egress_ready.get(namespace, False) != ready:
            self._egress_ready[namespace] = ready
            for name, wanted in self._pools.get(namespace, {}).items():
                if any(pool.shape.egress == "proxied" for pool in wanted):
                    context.queue.add(("Agent", namespace, name))

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
        self, namespace: str, pools: Mapping[str, Pool], todo: Plan, public_key: str, label: str
    ) -> float | None:
        now = self._context.monotonic()
        pauses: list[float] = []
        jobs = [self._delete(pod) for pod in todo.delete]
        for name, count in todo.create.items():
            health = self._health.get((namespace, name))
            if health and health.not_before > now:
                pauses.append(health.not_before - now)
                continue
            jobs += [self._create(namespace, pools[name], public_key, label) for _ in range(count)]
        results = await asyncio.gather(*jobs, return_exceptions=True)
        refused = [result for result in results if isinstance(result, ForbiddenError | RejectedError)]
        for result in results:
            if isinstance(result, BaseException) and result not in refused:
                raise result
        if refused:
            if namespace not in self._told_refused:
                LOG.warning("sandbox pods of namespace %s are refused: %s", namespace, refused[0])
            self._told_refused.add(namespace)
            pauses.append(REFUSED_RECHECK_SECONDS)
        else:
            self._told_refused.discard(namespace)
        return min(pauses) if pauses else None

    async def _create(self, namespace: str, pool: Pool, public_key: str, label: str) -> None:
        context = self._context
        letters = context.random_bytes(sandbox.SUFFIX_LENGTH)
        suffix = "".join(_ALPHABET[value % len(_ALPHABET)] for value in letters)
        body = sandbox.pod(namespace, pool.shape, suffix, public_key, label, context.images.pull_policy)
        try:
            item = await context.client.create(BY_NAME["Pod"], namespace, body, "pool")
        except ConflictError:
            # The random name is taken: the next round takes another.
            context.queue.add(("Pool", namespace, ""))
            return
        context.children.observe(BY_NAME["Pod"], item)

    async def _delete(self, pod: Live) -> None:
        # No resource version: a pod's status changes all the time, and a finished or surplus one stays so.
        await self._context.client.delete(BY_NAME["Pod"], pod.namespace, pod.name, "pool", uid=pod.uid)

    async def _leave(self, namespace: str, pods: list[Live]) -> None:
        """The last agent is gone: leave nothing behind."""
        context = self._context
        self._pools.pop(namespace, None)
        self._retiring.pop(namespace, None)
        self._egress_ready.pop(namespace, None)
        self._observe(namespace, {}, pods)
        await egress.drop(context, namespace)
        shared = (
            context.children.get("NetworkPolicy", namespace, network.SANDBOX_POLICY),
            context.children.get("NetworkPolicy", namespace, network.SANDBOX_NAME_POLICY),
            context.children.get("Secret", namespace, secrets.SIGNING_SECRET),
        )
        for live in [*(pod for pod in pods if not pod.deleting), *(item for item in shared if item)]:
            await context.client.delete(BY_NAME[live.kind], namespace, live.name, "prune", uid=live.uid)

    def _observe(self, namespace: str, pools: Mapping[str, Pool], pods: list[Live]) -> None:
        gauge = self._context.metrics.pool_pods
        # A pool that is gone must not go on counting as wanted.
        for name in self._observed.pop(namespace, set()) - pools.keys():
            gauge.remove_by_labels({"namespace": namespace, "pool": name})
        if pools:
            self._observed[namespace] = set(pools)
        for name in pools:
            mine = [pod for pod in pods if pod.labels.get(POOL_LABEL) == name and not pod.deleting]
            ready = sum(1 for pod in mine if pod.facts["ready"])
            busy = sum(1 for pod in mine if pod.uid in self._served and not pod.facts["ready"])
            gauge.labels(namespace, name, "wanted").set(pools[name].warm)
            gauge.labels(namespace, name, "ready").set(ready)
            gauge.labels(namespace, name, "busy").set(busy)
            gauge.labels(namespace, name, "starting").set(len(mine) - ready - busy)
