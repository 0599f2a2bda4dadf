"""What the operator would do about resources: its own reconcilers over a client that writes nothing."""

from __future__ import annotations

import json
import secrets
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from openclaw_operator.cluster.client import Object
from openclaw_operator.cluster.dryrun import Change, DryRunClient, Plan
from openclaw_operator.cluster.kinds import BY_NAME, CHILDREN, PRIMARY
from openclaw_operator.cluster.references import References
from openclaw_operator.cluster.store import ChildStore
from openclaw_operator.errors import ForbiddenError, NotFoundError, OperatorError, RejectedError
from openclaw_operator.patches import applied, merged, three_way
from openclaw_operator.reconcile import unfit
from openclaw_operator.reconcile.agent import AgentReconciler
from openclaw_operator.reconcile.context import Context
from openclaw_operator.reconcile.controller import Reconciler, egress_options, images
from openclaw_operator.reconcile.memorystore import MemoryStoreReconciler
from openclaw_operator.reconcile.primaries import Key, PrimaryStore, condense
from openclaw_operator.reconcile.queue import WorkQueue
from openclaw_operator.reconcile.recorder import Recorder
from openclaw_operator.reconcile.skill import SkillReconciler
from openclaw_operator.reconcile.status import ready_condition
from openclaw_operator.settings import Settings
from openclaw_operator.telemetry import Metrics

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
KUBECTL = "kubectl"
# What a file may bring along for its resources to read.
COMPANIONS = frozenset({"ConfigMap", "Secret"})
# Those that others read come first.
_ORDER = ("Skill", "MemoryStore", "Agent")
# Not MemoryRestores: what they do is no matter of child objects.
KINDS = tuple(kind.name for kind in PRIMARY if kind.name in _ORDER)


class PreviewError(OperatorError):
    """Nothing can be said about the resources; the message tells why."""


@dataclass(frozen=True)
class Preview:
    """What would become of one resource: its children, and its Ready condition where it would report one."""

    kind: str
    namespace: str
    name: str
    # Why it is among those looked at although it is not in the file.
    because: str | None
    children: tuple[Change, ...]
    ready: Object | None
    # Why the API server would not take the resource at all.
    refused: str | None = None


@dataclass(frozen=True)
class Result:
    """Previews in the order of work, and what could not be looked at."""

    previews: tuple[Preview, ...]
    notes: tuple[str, ...]


async def preview(client: DryRunClient, settings: Settings, documents: list[Object]) -> Result:
    """What applying `documents` would do. Raises PreviewError, or an ApiError for a fault."""
    wanted = [item for item in documents if item["kind"] in KINDS]
    companions = [_companion(item) for item in documents if item["kind"] in COMPANIONS]
    client.prepare([(BY_NAME[item["kind"]], item) for item in companions], {})
    context, children = _context(client, settings)
    for namespace in sorted({item["metadata"]["namespace"] for item in wanted}):
        await _load(client, context, children, namespace)
    used = {_key(item): context.primaries.uses(_key(item)) for item in wanted}
    refused: list[Preview] = []
    for item in wanted:
        try:
            problem = await _propose(client, context, item)
        except RejectedError as error:
            problem = error.message
        if problem:
            refused.append(Preview(*_key(item), None, (), None, refused=problem))
    rejected = {(each.kind, each.namespace, each.name) for each in refused}
    named: dict[Key, str | None] = {key: None for key in map(_key, wanted) if key not in rejected}
    client.expected_keys = _named_keys(context.primaries)
    previews = [
        await _reconcile(client, context, key, because)
        for key, because in sorted(
            _with_users(context.primaries, named, used).items(), key=lambda entry: _ORDER.index(entry[0][0])
        )
    ]
    for each in previews:
        # Nobody waits for what is missing.
        context.references.expect((each.kind, each.namespace, each.name), set())
    kept = [each for each in previews if each.because is None or each.children or _is_unfit(each)]
    return Result((*refused, *kept), tuple(sorted(client.plan.notes)))


def _context(client: DryRunClient, settings: Settings) -> tuple[Context, ChildStore]:
    metrics = Metrics()

    async def idle(_key: Key) -> None:
        return None

    def now() -> datetime:
        return datetime.now(UTC)

    queue = WorkQueue(idle, metrics, monotonic=time.monotonic, jitter=lambda: 0.5)
    children = ChildStore(lambda _before, _after: None)
    context = Context(
        client=client,
        children=children,
        primaries=PrimaryStore(),
        references=References(client, queue.add),
        queue=queue,
        recorder=Recorder(client, now, secrets.token_bytes, "diff"),
        metrics=metrics,
        images=images(settings),
        egress=egress_options(settings),
        cluster_domain=settings.cluster_domain,
        now=now,
        monotonic=time.monotonic,
        random_bytes=secrets.token_bytes,
        trusted_skills=settings.trusted_skills,
        monitoring=settings.monitoring_namespaces,
    )
    return context, children


async def _load(client: DryRunClient, context: Context, children: ChildStore, namespace: str) -> None:
    """Everything of a namespace that the operator would know."""
    for kind in (each for each in CHILDREN if each.name != "Pod"):
        try:
            async for page in client.pages(kind, namespace, selector=kind.selector):
                for item in page["items"]:
                    client.remember(kind, item)
                    children.changed(kind, item)
            children.served.add(kind.name)
        except NotFoundError:
            if kind.from_addon is None:
                raise
        except ForbiddenError:
            client.plan.notes.add(
                f"{kind.plural} of namespace {namespace} were not compared, since you may not list them: "
                "those that exist are shown as new"
            )
    for kind in PRIMARY:
        try:
            async for page in client.pages(kind, namespace):
                for item in page["items"]:
                    client.remember(kind, item)
                    context.primaries.put(condense(kind.name, item))
        except NotFoundError as error:
            raise PreviewError(
                f"the API server does not know {kind.plural}.{kind.group}: install the CRDs with kubectl apply -f crds/"
            ) from error


async def _propose(client: DryRunClient, context: Context, item: Object) -> str | None:
    """Take a resource of the file for what it would be once it was applied the way it was before.

    Returns what of it is wrong where nobody but this command has looked. Raises RejectedError where the API server did.
    """
    kind, meta = BY_NAME[item["kind"]], item["metadata"]
    live = client.live(kind, meta["namespace"], meta["name"])
    last = (live or {}).get("metadata", {}).get("annotations", {}).get(LAST_APPLIED)
    # An apply of the client's, as kubectl does by default, else one of the server's.
    patch = three_way(_parsed(last), item) if live and last else None
    try:
        proposed = await client.propose(kind, item, merge=patch, manager=KUBECTL)
    except NotFoundError as error:
        raise PreviewError(f"namespace {meta['namespace']} does not exist: create it or name another") from error
    except ForbiddenError:
        client.plan.notes.add(
            f"you may not write {kind.plural}: what the API server itself would say about them is not known"
        )
        made = applied(live, item, KUBECTL) if patch is None else merged(live or {}, patch)
        problem = unfit.fault_of(kind.name, made.get("spec"))
        # What is wrong already and stays so, an API server lets through.
        if problem and (live is None or problem != unfit.fault_of(kind.name, live.get("spec"))):
            return problem
        proposed = client.numbered(made)
        if live and live["spec"] != proposed["spec"]:
            proposed["metadata"]["generation"] = live["metadata"]["generation"] + 1
    client.given[kind.name, meta["namespace"], meta["name"]] = proposed
    context.primaries.put(condense(kind.name, proposed))
    return None


def _with_users(
    primaries: PrimaryStore, named: dict[Key, str | None], used: Mapping[Key, frozenset[Key]]
) -> dict[Key, str | None]:
    """Also the agents that read what is in the file, and the stores that back it up, each with the reason.

    `used` are the resources that those of the file use until it is applied.
    """
    result = dict(named)
    for key in named:
        kind, namespace, name = key
        if kind == "Agent":
            for each in primaries.uses(key) | used[key]:
                found = primaries.get(each)
                if each[0] == "MemoryStore" and found and not found.deleting:
                    result.setdefault(each, f"backs up Agent {name}")
            for coordinator in primaries.coordinators(namespace):
                result.setdefault(("Agent", namespace, coordinator), f"may delegate to Agent {name}")
        for user in primaries.users((kind, namespace, name)):
            result.setdefault(("Agent", namespace, user), f"uses {kind} {name}")
    return result


async def _reconcile(client: DryRunClient, context: Context, key: Key, because: str | None) -> Preview:
    kind, namespace, name = key
    primary = context.primaries.get(key)
    if primary is None:
        raise PreviewError(f"{kind} {namespace}/{name} is gone meanwhile: run this again")
    reconcilers: dict[str, Reconciler] = {
        "Skill": SkillReconciler(context, None, lambda: 0.5),
        "MemoryStore": MemoryStoreReconciler(context),
        "Agent": AgentReconciler(context, defaultdict(dict)),
    }
    seen = len(client.plan.changes)
    try:
        await reconcilers[kind].reconcile(primary)
    except ForbiddenError as error:
        # A quota: the resource reports it, and so does its condition below.
        client.plan.notes.add(error.message)
    except ValidationError as error:
        # Stored under a CRD that let it through: the operator leaves what runs, and says so.
        await unfit.report(context, primary, error)
    after = client.plan.statuses.get(key)
    status = merged(primary.load()["status"], after) if after else primary.load()["status"]
    ready = ready_condition(status)
    if kind == "Skill" and ready and ready["reason"] == "Fetching":
        client.plan.notes.add(
            f"Skill {namespace}/{name} depends on a remote source, which is not fetched here: what its new package "
            "changes for agents that use it is not shown"
        )
    return Preview(kind, namespace, name, because, _last(client.plan, seen), dict(ready) if ready else None)


def _is_unfit(each: Preview) -> bool:
    """Whether a change of what it uses does not reach it."""
    return each.ready is not None and each.ready["reason"] == unfit.REASON


def _last(plan: Plan, seen: int) -> tuple[Change, ...]:
    """The changes since, one for each object."""
    changes: dict[Key, Change] = {}
    for change in plan.changes[seen:]:
        key = (change.kind, change.namespace, change.name)
        first = changes.get(key)
        before = first.before if first else change.before
        changes[key] = Change(*key, before, change.after, exact=change.exact)
    return tuple(changes.values())


def _named_keys(primaries: PrimaryStore) -> dict[tuple[str, str], set[str]]:
    """Secret → the keys that resources name of it."""
    found: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for primary in primaries:
        for ref in _key_refs(primary.load()["spec"]):
            found[primary.namespace, ref["name"]].add(ref["key"])
    return found


def _key_refs(node: Any) -> Iterable[dict[str, str]]:
    if isinstance(node, dict):
        if isinstance(node.get("name"), str) and isinstance(node.get("key"), str):
            yield node
        for value in node.values():
            yield from _key_refs(value)
    elif isinstance(node, list):
        for value in node:
            yield from _key_refs(value)


def _companion(item: Object) -> Object:
    """A Secret as the server would return it: plain text has become data."""
    texts = item.get("stringData") or {}
    return {**item, "data": {**(item.get("data") or {}), **texts}} if texts else item


def _key(item: Object) -> Key:
    return (item["kind"], item["metadata"]["namespace"], item["metadata"]["name"])


def _parsed(text: str) -> Object:
    try:
        found: Object = json.loads(text)
    except ValueError:
        return {}
    return found
