"""What every reconcile works with: the edges to the cluster, and the outside world as functions."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from openclaw_operator.cluster.client import Client
from openclaw_operator.cluster.kinds import BY_NAME
from openclaw_operator.cluster.references import References
from openclaw_operator.cluster.store import ChildStore
from openclaw_operator.patches import merged
from openclaw_operator.reconcile import status as statuses
from openclaw_operator.reconcile.board import PoolBoard
from openclaw_operator.reconcile.primaries import Primary, PrimaryStore, condense
from openclaw_operator.reconcile.queue import WorkQueue
from openclaw_operator.reconcile.recorder import Recorder
from openclaw_operator.reconcile.stalls import Stalls
from openclaw_operator.resources.egress import EgressOptions
from openclaw_operator.resources.meta import MONITORING, Images
from openclaw_operator.telemetry import Metrics

# How many use a Skill or MemoryStore, and how many pods wait for its calls, is told for information only.
USERS_SETTLE_SECONDS = 2.0


@dataclass
class Context:
    """Shared by all reconciles. `now` is the wall clock in UTC, `random_bytes(n)` a cryptographic random source."""

    client: Client
    children: ChildStore
    primaries: PrimaryStore
    references: References
    queue: WorkQueue
    recorder: Recorder
    metrics: Metrics
    images: Images
    egress: EgressOptions
    cluster_domain: str
    now: Callable[[], datetime]
    monotonic: Callable[[], float]
    random_bytes: Callable[[int], bytes]
    # Skills that may run in gateways, as `namespace/name` or `namespace/*`.
    trusted_skills: tuple[str, ...] = ()
    # Namespaces from which metrics are scraped.
    monitoring: tuple[str, ...] = MONITORING
    # One for each namespace: its agents come together, and one key pair is made for all of them.
    signing: defaultdict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))
    board: PoolBoard = field(init=False)
    stalls: Stalls = field(init=False)

    def __post_init__(self) -> None:
        self.stalls = Stalls(self.client, self.children, self.now, self.monotonic)
        self.board = PoolBoard(self.monotonic)
        self.board.changed = self._pools_changed

    def _pools_changed(self, namespace: str, pools: set[str], matters: bool) -> None:
        """Wake those whose status tells of these pools."""
        agents, skills = self.board.users(namespace, pools)
        for skill in skills:
            self.queue.add_after(("Skill", namespace, skill), 0.0 if matters else USERS_SETTLE_SECONDS)
        for agent in agents if matters else ():
            self.queue.add(("Agent", namespace, agent))

    def timestamp(self) -> str:
        """Now as Kubernetes writes times."""
        return self.now().strftime("%Y-%m-%dT%H:%M:%SZ")

    async def report(
        self,
        primary: Primary,
        old: dict[str, Any],
        fields: dict[str, Any],
        conditions: list[statuses.Condition],
        *,
        observed: int | None = None,
    ) -> None:
        """Write the status where it differs from `old`, and tell the user about a change of Ready.

        `observed` is the generation that `fields` are of where that is not the newest.
        """
        new = {
            **fields,
            "observedGeneration": observed or primary.generation,
            "conditions": statuses.conditions(
                old.get("conditions") or (), conditions, primary.generation, self.timestamp()
            ),
        }
        changes = statuses.patch(old, new)
        if not changes:
            return
        answer = await self.client.patch_status(BY_NAME[primary.kind], primary.namespace, primary.name, changes)
        # Remember what was written: its echo is then no news, and nobody reconciles because of it. But the answer may
        # already carry a spec or labels that no watch has told of: then the echo must stay news, or they were lost.
        content, meta = primary.load(), answer["metadata"]
        known = self.primaries.get(primary.key)
        if (
            known
            and known.uid == meta["uid"]
            and known.content == primary.content
            and known.generation == primary.generation == meta["generation"]
            and (meta.get("labels") or {}) == content["labels"]
        ):
            item = {"metadata": meta, "spec": content["spec"], "status": merged(old, changes)}
            self.primaries.put(condense(primary.kind, item))
            # Those who read this status would have been woken by the echo.
            for name in self.primaries.users(primary.key):
                self.queue.add(("Agent", primary.namespace, name))
        before, after = statuses.ready_condition(old), statuses.ready_condition(new)
        if after:
            await self.recorder.ready_changed(primary, before, after)
