"""What came of asking for images, connections and lists of models, and what to do. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from openclaw_operator.cli.doctor.finding import Finding, failure, ok, warning
from openclaw_operator.settings import Settings

Object = dict[str, Any]


# --- images ---
@dataclass(frozen=True)
class Image:
    """An image that is needed. `problem`: why no node gets it, None when one does; `known`: whether that is known."""

    name: str
    problem: str | None = None
    known: bool = True


def needed_images(settings: Settings, resources: Iterable[Object]) -> list[str]:
    """The images that pods of these resources run."""
    needed = {settings.runtime_image, settings.sandbox_image}
    for item in resources:
        spec = item["spec"]
        if item["kind"] == "Skill":
            if spec.get("runtime") == "node":
                needed.add(settings.sandbox_node_image)
            if spec.get("image"):
                needed.add(spec["image"])
            if settings.egress_enabled and any(each.startswith("network:") for each in spec.get("permissions") or ()):
                needed.add(settings.egress_image)
        elif item["kind"] == "MemoryStore":
            for part, server, image in (
                ("vector", "qdrant", settings.qdrant_image),
                ("records", "postgresql", settings.postgresql_image),
                ("cache", "redis", settings.redis_image),
            ):
                # Managed where nothing is said of it.
                managed = spec.get(part, {}).get(server, {"managed": {}}).get("managed")
                if managed is not None:
                    needed.add(managed.get("image") or image)
            if spec.get("backup"):
                needed.add(settings.backups)
    return sorted(needed)


def images(found: Sequence[Image], pull_secrets: bool) -> list[Finding]:
    """`pull_secrets`: whether agents' namespaces have secrets for pulling, which a probe has not."""
    check = "Images"
    findings = []
    for image in found:
        if not image.known:
            fix = "leave --no-probe out to have one pulled"
            findings.append(warning(check, f"{image.name}: on no node so far, so not known", fix))
        elif image.problem and pull_secrets:
            fix = "agents have imagePullSecrets, which were not used here: see kubectl describe pods of an agent"
            findings.append(warning(check, f"{image.name}: {image.problem}", fix))
        elif image.problem:
            fix = "correct the chart value images, push the image, or let the nodes reach its registry"
            findings.append(failure(check, f"{image.name}: {image.problem}", fix))
    return findings or [ok(check, f"nodes have or get all {len(found)} that are in use")]


# --- network policies ---
@dataclass(frozen=True)
class Reached:
    """What connected: before there was a policy, and with one on each side. None: the probe could not be made."""

    before: bool
    ingress_closed: bool
    egress_closed: bool
    allowed: bool


def network_policies(reached: Reached | None, problem: str = "") -> list[Finding]:
    """`problem`: why there was no probe."""
    check = "NetworkPolicy"
    if reached is None:
        return [warning(check, f"not probed: {problem}", "see docs/security.md for what depends on it")]
    if not reached.before:
        fix = "look for a policy of the whole cluster, or a network fault between nodes"
        return [warning(check, "two pods do not reach each other even without a policy, so nothing is known", fix)]
    open_ = [
        name for name, closed in (("ingress", reached.ingress_closed), ("egress", reached.egress_closed)) if not closed
    ]
    if open_:
        fix = "install a network plugin that enforces them (Calico, Cilium, …): without it sandboxes are open"
        return [failure(check, f"{' and '.join(open_)} rules are not enforced", fix)]
    if not reached.allowed:
        fix = "agents would be cut off: look at the network plugin"
        return [failure(check, "what a policy allows is closed too", fix)]
    return [ok(check, "enforced, ingress and egress")]


# --- model providers ---
@dataclass(frozen=True, order=True)
class Target:
    """A provider as agents reach it; `secret` and `key` say where the API key is, None without one.

    `pull_secrets` are what their pods get images with, `field` is what names its models.
    """

    namespace: str
    url: str
    provider: str
    secret: str | None
    key: str | None
    pull_secrets: tuple[str, ...] = ()
    field: str = "spec.model.name"

    @property
    def address_field(self) -> str:
        """What names its address."""
        return f"{self.field.rpartition('.')[0]}.baseURL"

    def __str__(self) -> str:
        return f"{self.url} for namespace {self.namespace}"


_PATHS = {"anthropic": "/v1/models", "groq": "/openai/v1/models"}
_DEFAULTS = {
    "openai": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com",
    "groq": "https://api.groq.com",
}


def targets(resources: Iterable[Object], pull_secrets: tuple[str, ...] = ()) -> dict[Target, list[str]]:
    """Provider → the models that Agents and MemoryStores want of it; `pull_secrets` are those of the operator.

    Vectors of a MemoryStore that names neither key nor address are made with the key of each agent, which is tried.
    """
    found: defaultdict[Target, set[str]] = defaultdict(set)
    listed = list(resources)
    for store in (item for item in listed if item["kind"] == "MemoryStore"):
        wanted = store["spec"].get("embedding") or {}
        ref = (wanted.get("credentials") or {}).get("secretKeyRef") or {}
        if wanted.get("provider", "wordllama") != "wordllama" and (ref or wanted.get("baseURL")):
            url = f"{(wanted.get('baseURL') or _DEFAULTS['openai']).rstrip('/')}/models"
            key = (ref.get("name"), ref.get("key"))
            place = store["metadata"]["namespace"]
            found[Target(place, url, "openai", *key, pull_secrets, "spec.embedding.model")].add(wanted["model"])
    for agent in (item for item in listed if item["kind"] == "Agent"):
        first = agent["spec"]["model"]
        own = (each["name"] for each in (agent["spec"].get("gateway") or {}).get("imagePullSecrets") or ())
        pull = tuple(dict.fromkeys((*pull_secrets, *own)))
        for model in (first, *(first.get("candidates") or ()), *(first.get("fallbacks") or ())):
            provider = model.get("provider", "openai")
            base = (model.get("baseURL") or _DEFAULTS.get(provider, "")).rstrip("/")
            if not base:
                continue
            ref = (model.get("credentials") or {}).get("secretKeyRef") or {}
            url = f"{base}{_PATHS.get(provider, '/models')}"
            target = Target(agent["metadata"]["namespace"], url, provider, ref.get("name"), ref.get("key"), pull)
            found[target].add(model["name"])
    return {target: sorted(models) for target, models in found.items()}


def provider(target: Target, answer: Mapping[str, Any]) -> Finding:
    """`answer` is that of inside.ask, or {"error": "skipped" | "pod", "detail": why} where nobody asked."""
    check = "Provider"
    status, detail = answer.get("status"), str(answer.get("detail", ""))
    secret = f"Secret {target.namespace}/{target.secret}, key {target.key}" if target.secret else "no key is set"
    if status is None:
        return _unreached(check, target, str(answer.get("error")), detail, secret)
    if status == 200:
        if missing := answer.get("missing"):
            fix = f"correct {target.field}, if the provider does not know it by that name either"
            return warning(check, f"{target} answers, but does not list {', '.join(missing)}", fix)
        return ok(check, f"{target} answers")
    if status in (401, 403):
        return failure(check, f"{target} refuses the key ({status})", f"correct it: {secret}")
    if status == 429:
        return warning(check, f"{target} answers 429", "quota or rate limit: look at the provider's console")
    if status in (404, 405):
        return warning(check, f"{target} answers {status}: it has no list of models", "no more can be told from here")
    return failure(
        check, f"{target} answers {status}", f"look at {target.address_field}, and at the provider's own state"
    )


def _unreached(check: str, target: Target, error: str, detail: str, secret: str) -> Finding:
    match error:
        case "skipped":
            return warning(check, f"{target} was not asked: {detail}", "leave --no-probe out to ask from inside")
        case "key":
            return failure(
                check, f"{target} was not asked: the key cannot be sent", f"look for a line end in it: {secret}"
            )
        case "pod":
            return failure(check, f"{target} could not be asked: {detail}", f"look at it: {secret}")
        case "name":
            return failure(
                check, f"{target}: the name is not known ({detail})", f"correct {target.address_field}, or the DNS"
            )
        case "tls":
            return failure(check, f"{target}: {detail}", "the certificate is not one that agents trust")
    fix = f"correct {target.address_field}, or let the agents' namespace reach it"
    return failure(check, f"{target} cannot be reached: {detail or error}", fix)
