"""A client that finds out what each write would do, and does none of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from openclaw_operator.cluster.client import FIELD_MANAGER, Client, Object
from openclaw_operator.cluster.kinds import Kind
from openclaw_operator.errors import ForbiddenError, NotFoundError
from openclaw_operator.patches import applied, merged

Key = tuple[str, str, str]
# Resource versions of what is not written: newer than any the server has given out, as those of real answers would be.
FIRST_VERSION = 10**15
# Of an answer of the authorizer; those of admission (a quota, a claim that cannot grow) have words of their own.
# https://kubernetes.io/docs/reference/access-authn-authz/authorization/#determine-the-request-verb
_NO_RIGHT = "cannot patch resource"


@dataclass(frozen=True)
class Change:
    """One object before and after a write that was not done; None stands for absent. `exact`: as the server says."""

    kind: str
    namespace: str
    name: str
    before: Object | None
    after: Object | None
    exact: bool


@dataclass
class Plan:
    """What would be written: children in the order of the writes, and the status of each resource."""

    changes: list[Change] = field(default_factory=list)
    statuses: dict[Key, Object] = field(default_factory=dict)
    # What could not be looked at, and why.
    notes: set[str] = field(default_factory=set)


class DryRunClient(Client):
    """Reads go to the API server, writes to its dry run, or where that is not allowed are worked out here.

    `given` are objects that are to be taken for existing although they are not yet; `expected_keys` are the keys that
    resources name of Secrets which nobody may read.
    """

    plan: Plan
    given: dict[Key, Object]
    expected_keys: Mapping[tuple[str, str], Iterable[str]]

    def prepare(self, given: Iterable[tuple[Kind, Object]], expected_keys: Mapping[tuple[str, str], set[str]]) -> None:
        """Start anew with these objects taken for existing."""
        self.plan = Plan()
        self.given = {_key(kind, item): item for kind, item in given}
        self.expected_keys = expected_keys
        self._live: dict[Key, Object] = {}
        # What a merge patch asked for and would have made, until the next apply.
        self._merged: dict[Key, tuple[Object, Object]] = {}
        self._versions = itertools.count(FIRST_VERSION)

    def remember(self, kind: Kind, item: Object) -> None:
        """An object as it is now, to compare with."""
        self._live[_key(kind, item)] = item

    def live(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """An object as it was remembered."""
        return self._live.get((kind.name, namespace, name))

    async def get(self, kind: Kind, namespace: str, name: str) -> Object:
        """Read one object; of a Secret that may not be read, what resources name of it is taken for being there."""
        given = self.given.get((kind.name, namespace, name))
        if given is not None:
            return given
        try:
            item = await super().get(kind, namespace, name)
        except ForbiddenError:
            if kind.name != "Secret":
                raise
            self.plan.notes.add(f"Secret {namespace}/{name} was not looked at, since you may not read it")
            return {
                "metadata": {"name": name},
                "data": dict.fromkeys(self.expected_keys.get((namespace, name), ()), "?"),
            }
        self.remember(kind, item)
        return item

    async def propose(self, kind: Kind, item: Object, *, merge: Object | None, manager: str) -> Object:
        """What a user's resource would be, with defaults: a merge patch where `merge` is given, else an apply.

        Raises RejectedError when the API server would refuse it, ForbiddenError when you may not write it,
        NotFoundError without its namespace or its CRD.
        """
        meta = item["metadata"]
        headers = {"Content-Type": "application/apply-patch+yaml" if merge is None else "application/merge-patch+json"}
        force = {"force": "true"} if merge is None else {}
        answer = await self._request(
            "PATCH",
            kind.path(meta["namespace"], meta["name"]),
            verb="dry-run",
            params={"fieldManager": manager, "fieldValidation": "Strict", "dryRun": "All", **force},
            body=item if merge is None else merge,
            headers=headers,
        )
        return self.numbered(answer)

    async def create(self, kind: Kind, namespace: str, body: Object, reason: str) -> Object:  # noqa: ARG002
        """Note what would be created. Values of Secrets are made by chance, so there is nothing to ask the server."""
        item = self.numbered({**body, "metadata": {"namespace": namespace, **body["metadata"]}})
        if kind.name != "Event":
            self._note(kind, None, item, exact=False)
        return item

    async def apply(self, kind: Kind, body: Object, reason: str, *, uid: str | None) -> Object:  # noqa: ARG002
        """Ask the server what the apply would make; where that is not allowed, work it out."""
        key, meta = _key(kind, body), body["metadata"]
        content, made = self._merged.pop(key, ({}, {}))
        if content and content == _content(body):
            # The server knows nothing of the merge, and the same content again changes only who holds the fields.
            return made
        precondition = {"uid": uid} if uid else {"resourceVersion": "1"}
        before = self._live.get(key)
        sent = {**body, "metadata": {**meta, **precondition}}
        answer = await self._tried(kind, *key[1:], sent, "application/apply-patch+yaml", force="true")
        after = self.numbered(answer or applied(before, body, FIELD_MANAGER))
        self._note(kind, before, after, exact=answer is not None)
        return after

    async def _tried(
        self, kind: Kind, namespace: str, name: str, body: Object, content_type: str, **params: str
    ) -> Object | None:
        """What the server says a patch would make; None where you may not ask, or the object is not there yet."""
        try:
            return await self._request(
                "PATCH",
                kind.path(namespace, name),
                verb="dry-run",
                params={"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict", "dryRun": "All", **params},
                body=body,
                headers={"Content-Type": content_type},
            )
        except NotFoundError:
            return None
        except ForbiddenError as error:
            if _NO_RIGHT not in error.message:
                # Not you may not, but nobody may: the operator would be told the same.
                raise
            return None

    async def hand_over_replicas(self, namespace: str, name: str, replicas: int, *, uid: str) -> None:
        """Changes who holds a field, not the field."""

    async def set_finalizers(
        self, kind: Kind, namespace: str, name: str, finalizers: tuple[str, ...], *, resource_version: str
    ) -> Object:
        """Changes no child."""
        del kind, finalizers, resource_version
        return self.numbered({"metadata": {"namespace": namespace, "name": name}})

    async def patch_status(self, kind: Kind, namespace: str, name: str, status: Object) -> Object:
        """Note the status."""
        item = self.given.get((kind.name, namespace, name)) or self._live.get((kind.name, namespace, name)) or {}
        self.plan.statuses[kind.name, namespace, name] = status
        return self.numbered({"metadata": {**item.get("metadata", {}), "namespace": namespace, "name": name}})

    async def merge(self, kind: Kind, namespace: str, name: str, body: Object, reason: str) -> Object:  # noqa: ARG002
        """Ask the server what the merge patch would make; where that is not allowed, work it out."""
        key = (kind.name, namespace, name)
        before = self._live[key]
        answer = await self._tried(kind, namespace, name, body, "application/merge-patch+json")
        after = self.numbered(answer or merged(before, body))
        self._merged[key] = (_content(body), after)
        self._note(kind, before, after, exact=answer is not None)
        return after

    async def delete(
        self, kind: Kind, namespace: str, name: str, reason: str, *, uid: str, resource_version: str | None = None
    ) -> None:
        """Note that the object would go."""
        del reason, uid, resource_version
        self._note(kind, self._live.get((kind.name, namespace, name)), None, exact=True, name=name, namespace=namespace)

    def _note(
        self,
        kind: Kind,
        before: Object | None,
        after: Object | None,
        *,
        exact: bool,
        name: str = "",
        namespace: str = "",
    ) -> None:
        meta = (after or before or {}).get("metadata", {})
        change = Change(kind.name, meta.get("namespace", namespace), meta.get("name", name), before, after, exact=exact)
        self.plan.changes.append(change)

    def numbered(self, item: Object) -> Object:
        """The object as an answer to a write has it: with a new resource version, and a uid where it is new."""
        version = str(next(self._versions))
        made = {"uid": f"new-{version}", "creationTimestamp": "1970-01-01T00:00:00Z", "generation": 1}
        return {**item, "metadata": {**made, **item["metadata"], "resourceVersion": version}}


def _content(body: Object) -> Object:
    return {key: value for key, value in body.items() if key not in ("apiVersion", "kind", "metadata")}


def _key(kind: Kind, item: Object) -> Key:
    return (kind.name, item["metadata"]["namespace"], item["metadata"]["name"])
