"""Brings the children of an owner to what is desired, with as few writes as possible."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from openclaw_operator.cluster.client import Client
from openclaw_operator.cluster.kinds import BY_NAME
from openclaw_operator.cluster.live import APPLIED_HASH, Live, strip
from openclaw_operator.cluster.store import ChildStore
from openclaw_operator.errors import (
    ApiError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    OwnershipConflictError,
    RejectedError,
    SpecError,
)
from openclaw_operator.reconcile.diff import contains
from openclaw_operator.reconcile.status import Condition
from openclaw_operator.resources.agent_deployment import SCALED_BY
from openclaw_operator.resources.meta import MANAGED_BY, OPERATOR, Object, Owner, digest, owner_reference
from openclaw_operator.resources.secrets import encode, generated

# The kind of Owner that stands for what all agents of a namespace share.
NAMESPACE = "Namespace"
# Applied last: pods find what they mount, and the API server refuses a RoleBinding (404) while its Role is missing.
AUTOSCALERS = ("HorizontalPodAutoscaler", "ScaledObject")
LAST = frozenset({"RoleBinding", "Deployment", "StatefulSet", "CronJob", *AUTOSCALERS})


@dataclass
class Outcome:
    """What came of it: a problem only the user can solve, or a refusal (rights, quota) worth another try."""

    problem: SpecError | None = None
    refusal: ApiError | None = None
    # Whether no pod was left, before this was applied, of what an agent's gateway was before.
    rolled_out: bool = False


def applied_condition(outcome: Outcome) -> Condition:
    """Whether the children are what they should be."""
    if outcome.problem:
        return Condition("ChildrenApplied", False, outcome.problem.reason, outcome.problem.message)
    if outcome.refusal:
        return Condition("ChildrenApplied", False, "Refused", outcome.refusal.message)
    return Condition("ChildrenApplied", True, "Applied", "every child object is as desired")


class Children:
    """The children of one owner."""

    def __init__(self, client: Client, store: ChildStore, owner: Owner) -> None:
        self._client = client
        self._store = store
        self._owner = owner

    async def converge(self, desired: list[Object], *, keep: Iterable[tuple[str, str]] = ()) -> Outcome:
        """Apply what differs, then delete what is owned but in neither `desired` nor `keep` (kind, name).

        Pods are not started on what is missing or somebody else's: without their NetworkPolicy, as a ServiceAccount or
        over a volume that the user could not use himself. Raises an ApiError for a passing fault.
        """
        outcome = Outcome()
        first = [item for item in desired if item["kind"] not in LAST]
        last = [item for item in desired if item["kind"] in LAST]
        _collect(outcome, await asyncio.gather(*(self.ensure(item) for item in first), return_exceptions=True))
        unfit = [item for item in first if not self.owns(item["kind"], item["metadata"]["name"])]
        if not unfit:
            _collect(outcome, await asyncio.gather(*(self.ensure(item) for item in last), return_exceptions=True))
        elif not (outcome.problem or outcome.refusal):
            # What is not there at all was deleted meanwhile: that wakes the owner, and all of it is looked at again.
            names = [(item["kind"], item["metadata"]["name"]) for item in unfit]
            taken = [(kind, name) for kind, name in names if self._store.get(kind, self._owner.namespace, name)]
            outcome.problem = OwnershipConflictError(*taken[0]) if taken else None
        wanted = {(item["kind"], item["metadata"]["name"]) for item in desired} | set(keep)
        surplus = [
            live
            for live in self._store.owned_by(self._owner.uid)
            if (live.kind, live.name) not in wanted and not live.deleting
        ]
        _collect(outcome, await asyncio.gather(*(self._delete(live) for live in surplus), return_exceptions=True))
        return outcome

    async def ensure(self, desired: Object) -> Live:
        """Bring one child to what is desired.

        Raises OwnershipConflictError, SpecError when the server refuses the object, ApiError for a fault.
        """
        kind, meta = desired["kind"], desired["metadata"]
        wanted = digest(desired)
        live = self._store.get(kind, meta["namespace"], meta["name"]) or await self._in_the_way(kind, meta["name"])
        if live is None:
            try:
                return await self._apply(desired, wanted, "create", uid=None)
            except ConflictError:
                live = await self._find(kind, meta["namespace"], meta["name"])
        self.check_owned(live)
        if live.deleting or live.verified == wanted:
            return live
        if live.applied_hash != wanted:
            return await self._apply(desired, wanted, "update", uid=live.uid)
        if live.content is not None and contains(live.stripped(), strip(kind, desired)):
            live.verified, live.content = wanted, None
            return live
        return await self._apply(desired, wanted, "drift", uid=live.uid)

    async def ensure_shared(self, desired: Object) -> Live:
        """Like ensure, for an object that belongs to a namespace and carries no owner."""
        live = self._store.get(desired["kind"], desired["metadata"]["namespace"], desired["metadata"]["name"])
        if live is not None and live.owner is not None:
            raise OwnershipConflictError(live.kind, live.name)
        return await self.ensure(desired)

    async def drop_shared(self, parts: Iterable[tuple[str, str]]) -> None:
        """Delete those of the objects (kind, name) that are there and carry no owner, one after the other."""
        for kind, name in parts:
            live = self._store.get(kind, self._owner.namespace, name)
            if live is not None and live.owner is None and not live.deleting:
                # Whatever it looks like by now.
                await self._client.delete(BY_NAME[kind], live.namespace, name, "prune", uid=live.uid)

    async def stop(self, deployment: str) -> None:
        """Scale a Deployment of the owner to nothing, and take away what would scale it. Raises ApiError."""
        parts = (self._store.get(kind, self._owner.namespace, deployment) for kind in (*AUTOSCALERS, "Deployment"))
        for live in parts:
            if live is None or live.deleting or not self._is_ours(live):
                continue
            if live.kind in AUTOSCALERS:
                await self._delete(live)
            elif live.facts["wanted"]:
                # As of one that is not left to an autoscaler, so that it is handed over when it starts again.
                meta = {"uid": live.uid, "labels": {SCALED_BY: "agent"}}
                body = {"metadata": meta, "spec": {"replicas": 0}}
                patched = await self._client.merge(BY_NAME[live.kind], live.namespace, live.name, body, "stop")
                self._store.observe(BY_NAME[live.kind], patched)

    async def ensure_secret(
        self, name: str, kind: str, keys: tuple[str, ...], make: Callable[[], bytes], *, owned: bool = True
    ) -> None:
        """Create a Secret with a value from `make` for each key, once; later only what is missing is added.

        `owned=False` leaves it behind when the owner goes.
        """
        owner = self._owner
        live = self._store.get("Secret", owner.namespace, name) or await self._in_the_way("Secret", name)
        if live is None:
            body = generated(name, owner, kind, {key: make() for key in keys})
            if not owned:
                del body["metadata"]["ownerReferences"]
            try:
                created = await self._client.create(BY_NAME["Secret"], owner.namespace, body, "create")
            except ConflictError:
                live = await self._find("Secret", owner.namespace, name)
            else:
                self._store.observe(BY_NAME["Secret"], created)
                return
        self.check_owned(live)
        missing = {key: make() for key in keys if key not in live.facts["keys"]}
        changes: Object = {"data": encode(missing)} if missing else {}
        if owned != (live.owner is not None):
            changes["metadata"] = {"ownerReferences": [owner_reference(owner)] if owned else None}
        wanted = generated(name, owner, kind, {})["metadata"]["labels"]
        if any(live.labels.get(key) != value for key, value in wanted.items()):
            changes.setdefault("metadata", {})["labels"] = wanted
        if changes and not live.deleting:
            patched = await self._client.merge(BY_NAME["Secret"], owner.namespace, name, changes, "drift")
            self._store.observe(BY_NAME["Secret"], patched)

    def check_owned(self, live: Live) -> None:
        """Raise OwnershipConflictError unless the object is controlled by the owner, or was left behind by one."""
        if not self._is_ours(live) and not (live.owner and live.deleting):
            raise OwnershipConflictError(live.kind, live.name)

    def owns(self, kind: str, name: str) -> bool:
        """Whether that object is there and belongs to the owner, or was left behind by one of its name."""
        live = self._store.get(kind, self._owner.namespace, name)
        return live is not None and self._is_ours(live)

    def _is_ours(self, live: Live) -> bool:
        owner = self._owner
        if live.owner is not None:
            return live.owner.uid == owner.uid
        return live.labels.get(MANAGED_BY) == OPERATOR and (
            owner.kind == NAMESPACE or live.labels.get(owner.label) == owner.name
        )

    async def _in_the_way(self, kind: str, name: str) -> Live | None:
        """What had taken a name when it was last looked at, if it still does: a write would only be refused again."""
        key = (kind, self._owner.namespace, name)
        if key not in self._store.taken:
            return None
        try:
            return await self._find(*key)
        except NotFoundError:
            self._store.taken.discard(key)
            return None

    async def _find(self, kind: str, namespace: str, name: str) -> Live:
        """An object that is there, although no watch has told of it: somebody else's, or one without our label."""
        item = await self._client.get(BY_NAME[kind], namespace, name)
        from_cluster = self._store.get(kind, namespace, name)
        labelled = (item["metadata"].get("labels") or {}).get(MANAGED_BY) == OPERATOR
        if from_cluster is None and not labelled:
            self._store.taken.add((kind, namespace, name))
            return self._store.condense(BY_NAME[kind], item)
        return self._store.observe(BY_NAME[kind], item)

    async def _apply(self, desired: Object, wanted: str, reason: str, *, uid: str | None) -> Live:
        kind = BY_NAME[desired["kind"]]
        meta = desired["metadata"]
        annotations = {**(meta.get("annotations") or {}), APPLIED_HASH: wanted}
        body = {**desired, "metadata": {**meta, "annotations": annotations}}
        try:
            try:
                with self._store.applying(kind.name, meta["namespace"], meta["name"], wanted):
                    answer = await self._client.apply(kind, body, reason, uid=uid)
            except RejectedError as error:
                # 500 is a field of the wrong name or type, which a merge patch is answered with a fault for.
                if uid is None or error.status == 500:
                    raise
                # Apply merges lists by key: an entry that somebody else added may clash with ours for ever. A merge
                # patch replaces whole lists; the apply after it makes the fields ours again.
                content = {key: value for key, value in desired.items() if key not in ("apiVersion", "kind")}
                # Exactly that object: a uid is never changed by a patch, so one of another is refused.
                content["metadata"] = {"uid": uid}
                await self._client.merge(kind, meta["namespace"], meta["name"], content, reason)
                answer = await self._client.apply(kind, body, reason, uid=uid)
        except RejectedError as error:
            raise rejection(kind.name, meta["name"], error) from error
        live = self._store.observe(kind, answer)
        if live.resource_version == answer["metadata"]["resourceVersion"]:
            live.verified, live.content = wanted, None
        elif live.verified != wanted:
            self._store.news(live)
        return live

    async def _delete(self, live: Live) -> None:
        await self._client.delete(
            BY_NAME[live.kind],
            live.namespace,
            live.name,
            "prune",
            uid=live.uid,
            resource_version=live.resource_version,
        )


def rejection(kind: str, name: str, error: RejectedError) -> SpecError:
    """The mistake behind a refusal: the server's first line, which names the field; a dump of the object follows it."""
    lines = error.message.strip().splitlines() or [error.reason]
    fix = "correct what spec says about that field"
    if kind == "ConfigMap" and "Too long: may not be more than" in lines[0]:
        fix = "it holds the texts of spec (for an Agent soul, schedules and skills[].config), so shorten those"
    return SpecError("ChildRejected", f"{kind} {name} was refused: {lines[0].rstrip(' :.')}: {fix}")


def _collect(outcome: Outcome, results: Iterable[object]) -> None:
    """Sort failures out: the first of each sort is kept, faults are raised once everything was tried."""
    fault: BaseException | None = None
    for result in results:
        if isinstance(result, SpecError):
            outcome.problem = outcome.problem or result
        elif isinstance(result, ForbiddenError):
            outcome.refusal = outcome.refusal or result
        elif isinstance(result, BaseException):
            fault = fault or result
    if fault:
        raise fault


def of_namespace(client: Client, store: ChildStore, namespace: str) -> Children:
    """What all agents of a namespace share; it carries no owner."""
    return Children(client, store, Owner(NAMESPACE, namespace, namespace, ""))
