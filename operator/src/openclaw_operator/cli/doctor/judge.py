"""What the facts about a cluster mean, and what to do. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

from openclaw_operator import rbac
from openclaw_operator.api import VERSION, crds
from openclaw_operator.cli.doctor.finding import Finding, failure, ok, warning
from openclaw_operator.cli.doctor.selectors import disjoint
from openclaw_operator.cli.installation import Installation
from openclaw_operator.cluster.inspector import Right

Object = dict[str, Any]
SHOWN = 5
# Minor version of the oldest Kubernetes 1 that takes all of what the operator makes: gateways sleep in a preStop hook.
OLDEST_MINOR = 30
UPGRADE_CRDS = "helm upgrade the chart with crds.install=true, or kubectl apply --server-side -f crds/"
DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
# What the operator never needs, and what a thief of its token would like best.
NEVER: tuple[tuple[str, str, str], ...] = (
    ("", "pods/exec", "create"),
    ("", "users", "impersonate"),
    ("", "nodes/proxy", "get"),
    ("openclaw.io", "agents", "update"),
    ("rbac.authorization.k8s.io", "roles", "escalate"),
    ("rbac.authorization.k8s.io", "clusterrolebindings", "create"),
)


# --- the API and the operator ---
def kubernetes(version: Mapping[str, str]) -> list[Finding]:
    """`version`: what the API server says of itself at /version."""
    check = "Kubernetes"
    name = version.get("gitVersion", "of an unknown version")
    # Some distributions write 30+.
    minor = int("".join(filter(str.isdigit, version.get("minor", ""))) or 0)
    if minor < OLDEST_MINOR:
        fix = f"upgrade the cluster to 1.{OLDEST_MINOR} or newer"
        return [failure(check, f"the API server is {name}, which does not keep all of what the operator makes", fix)]
    return [ok(check, f"the API server is {name}")]


def custom_resources(found: Mapping[str, Object | None]) -> list[Finding]:
    """`found`: name of each CRD → what is installed."""
    check = "CRDs"
    problems: list[Finding] = []
    for kind in crds.KINDS:
        wanted = crds.crd(kind)
        name = wanted["metadata"]["name"]
        live = found.get(name)
        if live is None:
            problems.append(failure(check, f"{name} is not installed", UPGRADE_CRDS))
            continue
        version = next((each for each in live["spec"]["versions"] if each["name"] == VERSION), None)
        if version is None or not version["served"]:
            problems.append(failure(check, f"{name} does not serve {VERSION}", UPGRADE_CRDS))
        elif not _established(live):
            problems.append(
                failure(check, f"{name} is not established", f"see its conditions with kubectl describe crd {name}")
            )
        elif _without_defaults(version) != _without_defaults(wanted["spec"]["versions"][0]):
            problems.append(failure(check, f"{name} has a schema of another version than this command", UPGRADE_CRDS))
    return problems or [ok(check, f"{len(crds.KINDS)} are installed, with the schemas of this version")]


def _established(live: Object) -> bool:
    conditions = (live.get("status") or {}).get("conditions") or ()
    return any(each["type"] == "Established" and each["status"] == "True" for each in conditions)


def _without_defaults(version: Object) -> Object:
    """The API server writes out fields that are unset."""
    columns = [
        {key: value for key, value in column.items() if value not in (0, "")}
        for column in version.get("additionalPrinterColumns") or ()
    ]
    return {
        "schema": version["schema"],
        "subresources": version.get("subresources"),
        "columns": columns,
        "storage": version["storage"],
    }


def operators(found: Sequence[Installation], problems: Sequence[str], version: str) -> list[Finding]:
    """`problems`: what is wrong with those that could not be read; `version` is that of this command."""
    check = "Operator"
    findings = [
        failure(check, problem, "use the command of that version, or upgrade the operator") for problem in problems
    ]
    if not found and not problems:
        fix = "helm install it, or name its namespace with --operator-namespace"
        return [failure(check, "no operator can be seen", fix)]
    for each in found:
        where = f"{each.namespace}/{each.name}"
        if not each.ready:
            fix = f"kubectl -n {each.namespace} describe deployment {each.name}"
            findings.append(failure(check, f"{where} is not running", fix))
        elif each.version and each.version != version:
            fix = "use the command of its version, or upgrade it"
            findings.append(warning(check, f"{where} is version {each.version}, this command {version}", fix))
        else:
            findings.append(ok(check, f"{where} runs, version {each.version or 'not labelled'}"))
    return findings


def shares(found: Sequence[Installation], held: Mapping[str, Mapping[str, int]]) -> list[Finding]:
    """Several operators. `held`: namespace → operator (`namespace/name`) → how many resources there it serves."""
    check = "Shares"
    problems = []
    for one, other in combinations(found, 2):
        common = _common_namespaces(one, other)
        if common is None or disjoint(one.settings.agent_selector, other.settings.agent_selector):
            continue
        problems.append(
            failure(
                check,
                f"{one.namespace}/{one.name} and {other.namespace}/{other.name} may serve the same resources{common}",
                "give each a chart value agentSelector that the other's excludes, or watchNamespaces of its own",
            )
        )
    for namespace, counts in sorted(held.items()):
        served = sorted(name for name, count in counts.items() if count)
        if len(served) > 1:
            problems.append(
                warning(
                    check,
                    f"namespace {namespace} holds resources of {' and '.join(served)}, which share its sandbox pods",
                    "keep the resources of one operator in namespaces of their own",
                )
            )
    if problems or len(found) < 2:
        return problems
    return [ok(check, f"{len(found)} operators, and no resource is served by two")]


def _common_namespaces(one: Installation, other: Installation) -> str | None:
    """Where both are at work, in words; None: nowhere."""
    left, right = set(one.settings.watch_namespaces), set(other.settings.watch_namespaces)
    if not left and not right:
        return ""
    both = sorted(left & right if left and right else left | right)
    return f" in {', '.join(both)}" if both else None


def unserved(count: int, total: int) -> list[Finding]:
    """Resources that no operator takes for its own."""
    if not count:
        return []
    fix = "label them as a chart value agentSelector asks, or add their namespace to watchNamespaces"
    return [warning("Shares", f"{count} of {total} resources are served by no operator", fix)]


def needed_rights(namespaces: Sequence[str]) -> list[Right]:
    """Every right of the chart's table, in each served namespace or, without any, cluster-wide."""
    return [
        Right(rule.api_group, resource, verb, namespace)
        for namespace in (namespaces or (None,))
        for rule in rbac.RULES
        for resource in rule.resources
        for verb in rule.verbs
    ]


def unwanted_rights(namespaces: Sequence[str]) -> list[Right]:
    """What it must not have; of a namespaced install also anything outside of its namespaces."""
    never = [Right(*each, None) for each in NEVER]
    return [*never, Right("", "secrets", "list", None)] if namespaces else never


def rights(who: str, allowed: Mapping[Right, bool], needed: Collection[Right]) -> list[Finding]:
    """`allowed`: what the API server says about each right, needed or not."""
    check = "Rights"
    missing = sorted((right for right in needed if not allowed[right]), key=str)
    surplus = sorted((right for right, given in allowed.items() if given and right not in needed), key=str)
    findings = []
    if missing:
        fix = "set the chart value rbac.create, or give it the rules that openclaw-operator rbac prints"
        findings.append(failure(check, f"{who} may not {_some(missing)}", fix))
    if surplus:
        fix = "take it away: it needs the rules that openclaw-operator rbac prints, and no others"
        findings.append(warning(check, f"{who} may also {_some(surplus)}", fix))
    return findings or [ok(check, f"{who} has the {len(needed)} it needs, and none of those it must not have")]


def _some(items: Sequence[object]) -> str:
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return f"{', '.join(map(str, items[:SHOWN]))}{more}"


# --- what agents stand on ---
def unfit(item: Object, fault: str) -> Finding:
    """A resource that an older CRD let through; `fault` is what this version does not take of it."""
    return failure("Resources", f"{title(item)}: {fault}", "correct it; until then what runs is left as it is")


def storage(classes: Sequence[Object], resources: Sequence[Object]) -> list[Finding]:
    """StorageClasses, and the specs of Agents and MemoryStores."""
    check = "Storage"
    names = {item["metadata"]["name"] for item in classes}
    defaults = [item for item in classes if (item["metadata"].get("annotations") or {}).get(DEFAULT_CLASS) == "true"]
    findings: list[Finding] = []
    wanted: defaultdict[str, list[str]] = defaultdict(list)
    undecided = []
    for item in resources:
        named = set(_named(item["spec"], "storageClassName"))
        for name in named:
            wanted[name].append(title(item))
        if not named:
            undecided.append(title(item))
    findings += [
        failure(check, f"StorageClass {name} does not exist, named by {_some(wanted[name])}", "create it or correct it")
        for name in sorted(wanted.keys() - names)
    ]
    if not defaults:
        fix = f"annotate one with {DEFAULT_CLASS}=true, or set storageClassName in the resources"
        if undecided:
            findings.append(failure(check, f"no StorageClass is the default, needed by {_some(undecided)}", fix))
        else:
            findings.append(warning(check, "no StorageClass is the default", fix))
        return findings
    if len(defaults) > 1:
        both = _some(sorted(item["metadata"]["name"] for item in defaults))
        findings.append(
            warning(check, f"{both} are all the default: the newest is used", "leave one of them the default")
        )
    chosen = max(defaults, key=lambda item: str(item["metadata"].get("creationTimestamp", "")))
    name = chosen["metadata"]["name"]
    if not chosen.get("allowVolumeExpansion"):
        fix = f"set allowVolumeExpansion on StorageClass {name} if its driver can, or choose sizes that last"
        findings.append(warning(check, f"default class {name}: its volumes cannot grow", fix))
    return findings or [ok(check, f"default class {name}, its volumes can grow")]


def metrics_api(problem: str | None, resources: Sequence[Object]) -> list[Finding]:
    """`problem`: why the metrics API gives nothing, None when it does."""
    check = "Metrics"
    if problem is None:
        return [ok(check, "metrics.k8s.io answers")]
    scaled = [title(item) for item in resources if _gateway(item).get("autoscaling")]
    fix = "install metrics-server, or see kubectl describe apiservice v1beta1.metrics.k8s.io"
    if scaled:
        return [failure(check, f"{problem}, so {_some(scaled)} cannot be scaled", fix)]
    return [warning(check, f"{problem}; no Agent is autoscaled yet", fix)]


def _gateway(item: Object) -> Object:
    return item["spec"].get("gateway") or {}


def runtime_classes(existing: Collection[str], resources: Sequence[Object]) -> list[Finding]:
    """RuntimeClasses that Agents and Skills name."""
    check = "RuntimeClass"
    wanted: defaultdict[str, list[str]] = defaultdict(list)
    for item in resources:
        for name in set(_named(item["spec"], "runtimeClassName")):
            wanted[name].append(title(item))
    missing = [
        failure(check, f"{name} does not exist, named by {_some(wanted[name])}", "create it or correct the name")
        for name in sorted(wanted.keys() - set(existing))
    ]
    if missing or not wanted:
        return missing
    return [ok(check, f"{_some(sorted(wanted))}: there")]


def title(item: Object) -> str:
    """An object as a person calls it."""
    meta = item["metadata"]
    return f"{item['kind']} {meta['namespace']}/{meta['name']}"


def _named(node: Any, field: str) -> Iterable[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == field and isinstance(value, str):
                yield value
            yield from _named(value, field)
    elif isinstance(node, list):
        for value in node:
            yield from _named(value, field)
