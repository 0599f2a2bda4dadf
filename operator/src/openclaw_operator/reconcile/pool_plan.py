"""What is to be done about the pods of a namespace: a pure comparison of what there is with what is wanted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from openclaw_operator.cluster.live import Live
from openclaw_operator.reconcile.pods import FINISHED
from openclaw_operator.reconcile.signing import SigningKeys
from openclaw_operator.resources import sandbox
from openclaw_operator.resources.meta import EGRESS_LABEL, POOL_LABEL
from openclaw_operator.resources.pool import Pool


@dataclass
class Plan:
    """What to do about the pods of a namespace: create so many per pool, delete these."""

    create: dict[str, int] = field(default_factory=dict)
    delete: list[Live] = field(default_factory=list)


def plan(
    pools: Mapping[str, Pool],
    pods: Iterable[Live],
    served: set[str],
    keys: SigningKeys,
    *,
    complete: bool = True,
    retiring: Collection[str] = (),
    cramped: Collection[str] = (),
) -> Plan:
    """Compare pods with pools. `served` are uids of pods that have been ready.

    While `pools` is not `complete`, a pod that seems not to be wanted may be: then only finished and stale ones go.
    Ready pods of `retiring` pools are kept, but no more are made.
    A pod that was ready and no longer is has taken a call: it does not count as waiting, and its replacement is made
    while it still works. Never more pods than warm ones plus calls that can run at once, whatever readiness says, those
    that are being deleted included.
    Ready pods that trust other keys than they should, but today's too, go once as many others are ready in their
    place; in `cramped` pools, where no pod can be added, one by one before.
    """
    result = Plan()
    by_pool: dict[str, list[Live]] = {}
    outdated: dict[str, list[Live]] = {}
    ending: Counter[str] = Counter()
    for pod in pods:
        pool = pod.labels.get(POOL_LABEL, "")
        if pod.deleting:
            ending[pool] += pod.facts["phase"] not in FINISHED
            continue
        # Policies go by labels: a pod whose class somebody changed is not what its pool asks for.
        changed = pool in pools and pod.labels.get(EGRESS_LABEL) != pools[pool].shape.egress
        current = pod.labels.get(sandbox.SIGNING_LABEL) == keys.label
        stale = changed or (not current and not (keys.serves(pod) and pod.facts["ready"]))
        busy = pod.uid in served and not pod.facts["ready"]
        retires = pool in retiring and pod.facts["ready"]
        unwanted = stale or (complete and pool not in pools and not retires)
        if pod.facts["phase"] in FINISHED or (unwanted and not busy):
            result.delete.append(pod)
        elif current or busy:
            by_pool.setdefault(pool, []).append(pod)
        else:
            outdated.setdefault(pool, []).append(pod)
    for name, wanted in pools.items():
        present = by_pool.get(name, [])
        waiting = [pod for pod in present if pod.facts["ready"] or pod.uid not in served]
        # A call may go on in a pod that is deleted. One whose node is gone for good must not keep others from starting.
        working = len(present) + min(ending[name], wanted.busy)
        missing = min(wanted.warm - len(waiting), wanted.warm + wanted.busy - working)
        if missing > 0:
            result.create[name] = missing
        elif complete and missing < 0 and len(waiting) > wanted.warm:
            # Those that are not ready yet go first: nobody can have chosen them.
            surplus = sorted(waiting, key=lambda pod: (pod.facts["ready"], pod.created))
            result.delete += surplus[: len(waiting) - wanted.warm]
        old = outdated.get(name, [])
        if sum(1 for pod in waiting if pod.facts["ready"]) >= wanted.warm:
            result.delete += old
        elif name in cramped:
            result.delete += sorted(old, key=lambda pod: pod.created)[:1]
    return result
