"""The control loop: what is told by watches goes in, keys go to the queue, one reconcile per kind comes out."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Protocol

from pydantic import ValidationError

from openclaw_operator import telemetry
from openclaw_operator.api.memorystore import FINALIZER
from openclaw_operator.cluster.client import Client, Object
from openclaw_operator.cluster.kinds import BY_NAME, CHILDREN, PRIMARY, Kind
from openclaw_operator.cluster.live import Live
from openclaw_operator.cluster.references import References
from openclaw_operator.cluster.reflector import (
    ABSENT_SECONDS,
    FIRST_BACKOFF_SECONDS,
    LAST_BACKOFF_SECONDS,
    Reflector,
)
from openclaw_operator.cluster.snapshot import snapshot
from openclaw_operator.cluster.store import ChildStore
from openclaw_operator.errors import ApiError, GoneError, NotFoundError, RejectedError, SettingsError
from openclaw_operator.fetch.guard import Guard
from openclaw_operator.reconcile import activator, pause, unfit
from openclaw_operator.reconcile.agent import AgentReconciler
from openclaw_operator.reconcile.context import USERS_SETTLE_SECONDS, Context
from openclaw_operator.reconcile.memoryrestore import MemoryRestoreReconciler
from openclaw_operator.reconcile.memorystore import MemoryStoreReconciler
from openclaw_operator.reconcile.pool import PoolReconciler
from openclaw_operator.reconcile.primaries import Key, Primary, PrimaryStore, condense
from openclaw_operator.reconcile.queue import WorkQueue
from openclaw_operator.reconcile.recorder import Recorder
from openclaw_operator.reconcile.skill import SkillReconciler
from openclaw_operator.reconcile.status import HIBERNATED
from openclaw_operator.resources.activator import COMPONENT as ACTIVATOR
from openclaw_operator.resources.egress import EgressOptions
from openclaw_operator.resources.meta import Images
from openclaw_operator.resources.pool import Pool
from openclaw_operator.settings import Settings
from openclaw_operator.telemetry import Metrics

LOG = logging.getLogger(__name__)
# Changes of children come in bursts; this much later one reconcile sees them all.
CHILD_SETTLE_SECONDS = 0.05
# A status of a child is only passed on: a workload that starts changes it several times in a moment.
CHILD_STATUS_SETTLE_SECONDS = 0.2
COUNT_SECONDS = 15.0
DAY_SECONDS = 86400.0
_OWNER_KINDS = frozenset(kind.name for kind in PRIMARY)


class Reconciler(Protocol):
    """What brings one kind of resource to its spec."""

    async def reconcile(self, primary: Primary) -> float | None:
        """Bring one to its spec; returns after how many seconds to look again, None for not before it changes."""

    def gone(self, key: Key) -> None:
        """One was deleted."""


class SharedReconciler(Protocol):
    """What brings a part of a namespace that its agents share to what they need."""

    async def reconcile(self, key: Key) -> float | None:
        """Bring that of one namespace there; returns after how many seconds to look again."""


def images(settings: Settings) -> Images:
    """The images of the settings."""
    return Images(
        runtime=settings.runtime_image,
        sandbox=settings.sandbox_image,
        sandbox_node=settings.sandbox_node_image,
        qdrant=settings.qdrant_image,
        postgresql=settings.postgresql_image,
        redis=settings.redis_image,
        backup=settings.backups,
        pull_policy=settings.image_pull_policy,
        pull_secrets=settings.image_pull_secrets,
    )


def egress_options(settings: Settings) -> EgressOptions:
    """The egress proxy of the settings; without an image there is none."""
    return EgressOptions(
        image=settings.egress_image if settings.egress_enabled else "",
        pull_policy=settings.image_pull_policy,
        pull_secrets=settings.image_pull_secrets,
        replicas=settings.egress_replicas,
        denied=settings.egress_denied_networks,
        allow_api_server=settings.egress_allow_api_server,
        resources=settings.egress_resources.model_dump(exclude_defaults=False),
    )


class Controller:
    """Everything between the watches and the writes. Start it, feed it primary events, run it."""

    def __init__(
        self,
        client: Client,
        settings: Settings,
        metrics: Metrics,
        *,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
        jitter: Callable[[], float],
        random_bytes: Callable[[int], bytes],
        instance: str,
    ) -> None:
        self._client = client
        self._settings = settings
        self._metrics = metrics
        self._jitter = jitter
        self._primaries = PrimaryStore()
        self._children = ChildStore(self._child_changed)
        self._queue = WorkQueue(self._reconcile, metrics, monotonic=monotonic, jitter=jitter)
        self._references = References(client, self._queue.add)
        context = Context(
            client=client,
            children=self._children,
            primaries=self._primaries,
            references=self._references,
            queue=self._queue,
            recorder=Recorder(client, now, random_bytes, instance),
            metrics=metrics,
            images=images(settings),
            egress=egress_options(settings),
            cluster_domain=settings.cluster_domain,
            now=now,
            monotonic=monotonic,
            random_bytes=random_bytes,
            trusted_skills=settings.trusted_skills,
            monitoring=settings.monitoring_namespaces,
        )
        self._context = context
        pools: dict[str, dict[str, list[Pool]]] = {}
        self._pool = PoolReconciler(
            context,
            pools,
            selective=bool(settings.agent_selector),
            max_key_age_seconds=settings.signing_key_max_age_days * DAY_SECONDS or None,
        )
        # What the agents of a namespace have in common.
        self._shared: dict[str, SharedReconciler] = {
            "Pool": self._pool,
            activator.KIND: activator.ActivatorReconciler(
                context, selective=bool(settings.agent_selector), replicas=settings.activator_replicas
            ),
        }
        self._reconcilers: dict[str, Reconciler] = {
            "Agent": AgentReconciler(context, pools),
            "Skill": SkillReconciler(context, Guard(settings.source_hosts, settings.source_private_hosts), jitter),
            "MemoryStore": MemoryStoreReconciler(context),
            "MemoryRestore": MemoryRestoreReconciler(context),
        }

    async def run(self, ready: asyncio.Event) -> None:
        """List what is there, then work for ever; `ready` is set once everything has been listed.

        Raises SettingsError when the CRDs are missing.
        """
        namespaces: tuple[str | None, ...] = self._settings.watch_namespaces or (None,)
        reflectors = [
            Reflector(
                self._client,
                kind,
                namespace,
                self._children,
                self._metrics,
                selector=kind.selector,
                on_served=self._addon_seen,
                absent_seconds=min(ABSENT_SECONDS, self._settings.resync_seconds),
            )
            for kind in CHILDREN
            for namespace in namespaces
        ]
        reflectors += [
            Reflector(
                self._client,
                BY_NAME["ConfigMap"],
                namespace,
                self._references,
                self._metrics,
                selector=None,
                metadata_only=True,
            )
            for namespace in namespaces
        ]
        async with asyncio.TaskGroup() as group:
            for reflector in reflectors:
                group.create_task(reflector.run())
            for reflector in reflectors:
                await reflector.synced.wait()
            await self._begin()
            ready.set()
            group.create_task(self._queue.run(self._settings.workers))
            group.create_task(self._resync())
            group.create_task(self._count_resources())

    # --- what is told ---
    def primary_changed(self, kind: str, item: Object) -> None:
        """An Agent, Skill or MemoryStore was added or modified."""
        after = condense(kind, item)
        used, hibernated = self._primaries.uses(after.key), self._primaries.hibernates(after.key)
        before = self._primaries.put(after)
        if self._primaries.get(after.key) is not after:
            return
        if before and before.uid == after.uid and _same(before, after):
            return
        if hibernated or self._primaries.hibernates(after.key):
            self._queue.add_after((activator.KIND, after.namespace, ""), CHILD_SETTLE_SECONDS)
        if before and before.generation != after.generation:
            self._queue.add_changed(after.key)
        else:
            self._queue.add(after.key)
        self._wake_related(before, after)
        for related in used - self._primaries.uses(after.key):
            self._queue.add_after(related, USERS_SETTLE_SECONDS)

    def primary_removed(self, kind: str, namespace: str, name: str, version: str) -> None:
        """An Agent, Skill or MemoryStore is gone since resource version `version`."""
        key = (kind, namespace, name)
        used, hibernated = self._primaries.uses(key), self._primaries.hibernates(key)
        before = self._primaries.remove(key, version)
        if before is None:
            return
        self._queue.forget(key)
        self._reconcilers[kind].gone(key)
        self._wake_related(before, None)
        for related in used:
            self._queue.add_after(related, USERS_SETTLE_SECONDS)
        if kind == "Agent":
            self._queue.add(("Pool", namespace, ""))
        if hibernated:
            self._queue.add((activator.KIND, namespace, ""))

    def _addon_seen(self, kind: Kind, served: bool) -> None:
        """Whether the API server serves a kind of an add-on; agents that ask for one look again when that changes."""
        if served == (kind.name in self._children.served):
            return
        if served:
            self._children.served.add(kind.name)
        else:
            self._children.served.discard(kind.name)
            self._children.kind_gone(kind)
        for primary in self._primaries:
            if primary.kind == "Agent":
                self._queue.add_after(primary.key, CHILD_SETTLE_SECONDS)

    def _wake_related(self, before: Primary | None, after: Primary | None) -> None:
        """Wake those whose children or status depend on a resource."""
        known = after or before
        if known is None:
            return
        if known.kind == "Agent":
            for related in self._primaries.uses(known.key):
                self._queue.add_after(related, USERS_SETTLE_SECONDS)
            for name in self._primaries.coordinators(known.namespace):
                if name != known.name:
                    self._queue.add_after(("Agent", known.namespace, name), CHILD_SETTLE_SECONDS)
            return
        if known.kind == "MemoryRestore":
            pause.wake(self._context, known.namespace, known.load()["spec"]["storeRef"]["name"])
            return
        for name in self._primaries.users(known.key):
            self._queue.add_after(("Agent", known.namespace, name), CHILD_SETTLE_SECONDS)

    def _child_changed(self, before: Live | None, after: Live | None) -> None:
        live = after or before
        if live is None:
            return
        if live.kind == "Pod":
            self._pool.pod_changed(before, after)
            self._queue.add(("Pool", live.namespace, ""))
            return
        only_status = (
            before is not None
            and after is not None
            and before is not after
            and before.uid == after.uid
            and before.fingerprint == after.fingerprint
        )
        pause = CHILD_STATUS_SETTLE_SECONDS if only_status else CHILD_SETTLE_SECONDS
        for seen in (before, after):
            if seen:
                key = _owner_key(seen)
                if key[0] in self._shared or self._primaries.get(key):
                    # Of one that hibernates somebody waits for what comes next: it wakes.
                    news = only_status and key[0] == "Agent" and not self._primaries.hibernates(key)
                    self._queue.add_after(key, pause, news=news)
                if seen.kind == "Secret" and self._primaries.hibernates(key):
                    # The activator knows the token by its hash.
                    self._queue.add_after((activator.KIND, live.namespace, ""), pause)

    # --- what is done ---
    async def _reconcile(self, key: Key) -> float | None:
        kind, namespace, name = key
        attributes = {"k8s.namespace.name": namespace, "openclaw.kind": kind, "openclaw.name": name}
        with telemetry.TRACER.start_as_current_span(f"reconcile {kind}", attributes=attributes):
            if kind in self._shared:
                return await self._shared[kind].reconcile(key)
            primary = self._primaries.get(key)
            if primary is None or (primary.deleting and FINALIZER not in primary.finalizers):
                return None
            try:
                return await self._reconcilers[kind].reconcile(primary)
            except NotFoundError:
                now = self._primaries.get(key)
                if now is None or now.uid != primary.uid:
                    return None
                # Of one that is there it is a fault like others, whatever it has become meanwhile.
                raise
            except ValidationError as error:
                # Only possible where it was stored under a CRD that is not the one this operator was built with.
                return await self._report_unfit(primary, error)
            finally:
                if self._primaries.get(key) is None:
                    # Deleted meanwhile: what it has asked for since then is nobody's wish any more.
                    self._reconcilers[kind].gone(key)

    async def _report_unfit(self, primary: Primary, error: ValidationError) -> float:
        try:
            await unfit.report(self._context, primary, error)
        except RejectedError as refusal:
            # An API server that checks the whole resource whenever its status is written.
            LOG.error("%s %s/%s: %s (%s)", *primary.key, unfit.message(primary.kind, error), refusal)  # noqa: TRY400
        return self._settings.resync_seconds

    async def _begin(self) -> None:
        """List what there is, again after a passing fault: all the children would be listed anew for it."""
        backoff = FIRST_BACKOFF_SECONDS
        while True:
            try:
                await self._list_primaries()
            except ApiError as error:
                if not (error.passing or isinstance(error, GoneError)):
                    raise
                pause = max(backoff, min(error.retry_after or 0.0, LAST_BACKOFF_SECONDS))
                LOG.warning("the first list: %s; again in %.1f s", error, pause)
                await asyncio.sleep(pause * (0.75 + self._jitter() / 2))
                backoff = min(backoff * 2, LAST_BACKOFF_SECONDS)
            else:
                return

    async def _list_primaries(self) -> None:
        """Compare with the API server: what was missed comes in, what is gone goes out."""
        selector = self._settings.agent_selector or None
        for kind in PRIMARY:
            for namespace in self._settings.watch_namespaces or (None,):
                try:
                    present, version = await snapshot(
                        self._client, kind, namespace, partial(self.primary_changed, kind.name), selector=selector
                    )
                except NotFoundError as error:
                    raise SettingsError(
                        f"the API server does not know {kind.plural}.{kind.group}: install the CRDs with kubectl apply "
                        "-f crds/"
                    ) from error
                keys = {(kind.name, *each) for each in present}
                for key in self._primaries.missing(kind.name, namespace, keys, version):
                    self.primary_removed(*key, version)
        for namespace in {live.namespace for live in self._children.all_of_kind("Pod")}:
            self._queue.add(("Pool", namespace, ""))
        # The policy is the first of an activator that comes, and the last that goes.
        for live in self._children.all_of_kind("NetworkPolicy"):
            if _owner_key(live)[0] == activator.KIND:
                self._queue.add((activator.KIND, live.namespace, ""))

    async def _resync(self) -> None:
        """Now and then look at everything again: a net below the watches, spread out so that nobody notices."""
        while True:
            seconds = self._settings.resync_seconds
            await asyncio.sleep(seconds * (0.9 + self._jitter() / 5))
            try:
                await self._list_primaries()
            except ApiError as error:
                LOG.warning("resync: %s; again in %.0f s", error, seconds)
                continue
            for primary in self._primaries:
                self._queue.add_after(primary.key, self._jitter() * seconds / 2)

    async def _count_resources(self) -> None:
        while True:
            counts = Counter((primary.kind, primary.ready) for primary in self._primaries)
            for kind in PRIMARY:
                for state in ("True", "False", "Unknown", "Suspended", HIBERNATED):
                    self._metrics.resources.labels(kind.name, state).set(counts[kind.name, state])
            await asyncio.sleep(COUNT_SECONDS)


def _same(before: Primary, after: Primary) -> bool:
    """Whether nothing changed that a reconcile could be about; annotations and the like are not."""
    return (
        before.generation == after.generation
        and before.deleting == after.deleting
        and before.finalizers == after.finalizers
        and before.content == after.content
    )


def _owner_key(live: Live) -> Key:
    """Whom to wake about a child: its controller, or the resource its labels name, or the pools of its namespace."""
    if live.owner and live.owner.kind in _OWNER_KINDS:
        return (live.owner.kind, live.namespace, live.owner.name)
    for kind in _OWNER_KINDS:
        name = live.labels.get(f"openclaw.io/{kind.lower()}")
        if name:
            return (kind, live.namespace, name)
    is_activators = live.labels.get("app.kubernetes.io/component") == ACTIVATOR
    return (activator.KIND if is_activators else "Pool", live.namespace, "")
