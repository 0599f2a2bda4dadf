"""Looks at a cluster, one check after the other; what it means is judged elsewhere."""

from __future__ import annotations

import asyncio
import base64
import ipaddress
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from openclaw_operator.api import crds
from openclaw_operator.cli import installation
from openclaw_operator.cli.doctor import inside, judge, reachable
from openclaw_operator.cli.doctor.finding import Finding, warning
from openclaw_operator.cli.doctor.probes import ProbeError, Probes
from openclaw_operator.cli.doctor.reachable import Image, Target
from openclaw_operator.cli.installation import Installation
from openclaw_operator.cluster.inspector import Inspector, Right
from openclaw_operator.cluster.kinds import BY_NAME, PRIMARY, Kind
from openclaw_operator.errors import ApiError, ForbiddenError, NotFoundError, SettingsError
from openclaw_operator.reconcile import unfit

Object = dict[str, Any]
Check = Callable[[], Awaitable[list[Finding]]]
_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_CLASSES = Kind("StorageClass", "storage.k8s.io", "v1", "storageclasses")
_RUNTIME_CLASSES = Kind("RuntimeClass", "node.k8s.io", "v1", "runtimeclasses")
_NODES = Kind("Node", "", "v1", "nodes")
_METRICS = "/apis/metrics.k8s.io/v1beta1/nodes"
AT_ONCE = 16
PODS_AT_ONCE = 4


@dataclass
class Examination:
    """`namespace` None: all of them. `probes` None: nothing is made. `version` is that of this command."""

    client: Inspector
    namespace: str | None
    operator_namespace: str | None
    version: str
    now: datetime
    make_probes: Callable[[Installation | None], Probes] | None
    note: Callable[[Finding], object]
    operators: list[Installation] = field(default_factory=list)
    # Those that this version takes, and how many there are with the others.
    resources: list[Object] = field(default_factory=list)
    total: int = 0

    async def run(self) -> None:
        """Note one finding after the other, as they are known. Raises ApiError when the API server is not there."""
        checks: list[tuple[str, Check]] = [
            ("Kubernetes", self._kubernetes),
            ("CRDs", self._custom_resources),
            ("Operator", self._find_operators),
            ("Resources", self._find_resources),
            ("Shares", self._shares),
            ("Rights", self._rights),
            ("Storage", self._storage),
            ("Metrics", self._metrics),
            ("RuntimeClass", self._runtime_classes),
        ]
        if self.make_probes is None:
            checks += [("Images", self._images_on_nodes), ("Provider", self._providers_from_here)]
        for name, check in checks:
            self._note_all(await _allowed(name, check))
        if self.make_probes is None:
            self._note_all(reachable.network_policies(None, "--no-probe was given"))
            return
        probes = self.make_probes(self.operators[0] if self.operators else None)
        try:
            async with probes.namespace(self.now) as namespace:
                await self._probe_cluster(probes, namespace)
        except ForbiddenError as error:
            fix = "run it as somebody who may create namespaces and pods, or with --no-probe"
            self.note(warning("Probes", f"not made: {error.message}", fix))
        await self._probe_providers(probes)

    def _note_all(self, findings: Iterable[Finding]) -> None:
        for finding in findings:
            self.note(finding)

    # --- what is there ---
    async def _kubernetes(self) -> list[Finding]:
        return judge.kubernetes(await self.client.read("/version"))

    async def _custom_resources(self) -> list[Finding]:
        names = [crds.crd(kind)["metadata"]["name"] for kind in crds.KINDS]
        return judge.custom_resources({name: await self.client.find(f"{_CRDS}/{name}") for name in names})

    async def _find_operators(self) -> list[Finding]:
        problems = []
        for item in await installation.deployments(self.client, self.operator_namespace):
            try:
                self.operators.append(installation.read(item))
            except SettingsError as error:
                problems.append(str(error))
        return judge.operators(self.operators, problems, self.version)

    async def _find_resources(self) -> list[Finding]:
        findings: list[Finding] = []
        for kind in PRIMARY:
            try:
                items = await self._items(kind, self.namespace)
            except NotFoundError:
                continue
            self.total += len(items)
            for item in ({**item, "kind": kind.name} for item in items):
                if fault := unfit.fault_of(kind.name, item.get("spec")):
                    findings.append(judge.unfit(item, fault))
                else:
                    self.resources.append(item)
        return findings

    async def _items(self, kind: Kind, namespace: str | None = None, selector: str | None = None) -> list[Object]:
        return [
            item
            async for page in self.client.pages(kind, namespace, selector=selector or None)
            for item in page["items"]
        ]

    async def _shares(self) -> list[Finding]:
        held: dict[str, dict[str, int]] = {}
        served: set[str] = set()
        for each in self.operators:
            watched = each.settings.watch_namespaces
            for kind in PRIMARY if self.total else ():
                for item in await self._items(kind, self.namespace, each.settings.agent_selector):
                    meta = item["metadata"]
                    if watched and meta["namespace"] not in watched:
                        continue
                    counts = held.setdefault(meta["namespace"], {})
                    name = f"{each.namespace}/{each.name}"
                    counts[name] = counts.get(name, 0) + 1
                    served.add(meta["uid"])
        missed = self.total - len(served) if self.operators else 0
        return [*judge.shares(self.operators, held), *judge.unserved(missed, self.total)]

    async def _rights(self) -> list[Finding]:
        findings: list[Finding] = []
        for each in self.operators:
            watched = each.settings.watch_namespaces
            needed = judge.needed_rights(watched)
            group = "system:serviceaccounts"
            groups = [group, f"{group}:{each.namespace}", "system:authenticated"]
            subject: Mapping[str, object] | None = {"user": each.user, "groups": groups}
            if await self.client.user() == each.user:
                subject = None
            allowed = await self._reviews({*needed, *judge.unwanted_rights(watched)}, subject)
            findings += judge.rights(each.user.removeprefix("system:"), allowed, set(needed))
        return findings

    async def _reviews(self, rights: set[Right], subject: Mapping[str, object] | None) -> dict[Right, bool]:
        limit = asyncio.Semaphore(AT_ONCE)

        async def review(right: Right) -> tuple[Right, bool]:
            async with limit:
                return right, await self.client.may(right, subject)

        return dict(await asyncio.gather(*map(review, sorted(rights, key=str))))

    async def _storage(self) -> list[Finding]:
        stateful = [item for item in self.resources if item["kind"] in ("Agent", "MemoryStore")]
        return judge.storage(await self._items(_CLASSES), stateful)

    async def _metrics(self) -> list[Finding]:
        problem = None
        try:
            await self.client.read(_METRICS, limit="1")
        except NotFoundError:
            problem = "the metrics API is not installed"
        except ForbiddenError:
            raise
        except ApiError as error:
            problem = f"the metrics API does not answer ({error.message.strip() or error.status})"
        return judge.metrics_api(problem, self._of("Agent"))

    async def _runtime_classes(self) -> list[Finding]:
        names = {item["metadata"]["name"] for item in await self._items(_RUNTIME_CLASSES)}
        return judge.runtime_classes(names, [*self._of("Agent"), *self._of("Skill")])

    def _of(self, kind: str) -> list[Object]:
        return [item for item in self.resources if item["kind"] == kind]

    # --- without probes ---
    async def _images_on_nodes(self) -> list[Finding]:
        present = {
            name
            for node in await self._items(_NODES)
            for image in (node.get("status") or {}).get("images") or ()
            for name in image.get("names") or ()
        }
        wanted = self._needed_images()
        return reachable.images([Image(name, known=bool(_spellings(name) & present)) for name in wanted], False)

    def _needed_images(self) -> list[str]:
        settings = self.operators[0].settings if self.operators else installation.local_settings()
        return reachable.needed_images(settings, self.resources)

    async def _providers_from_here(self) -> list[Finding]:
        return [
            reachable.provider(target, await self._ask_from_here(target, models))
            for target, models in sorted(reachable.targets(self.resources).items(), key=lambda each: str(each[0]))
        ]

    async def _ask_from_here(self, target: Target, models: list[str]) -> Object:
        if not _is_public(target.url):
            return {"error": "skipped", "detail": "its address is one inside of the cluster"}
        key: str | None = None
        if target.secret and target.key:
            try:
                data = (await self.client.get(BY_NAME["Secret"], target.namespace, target.secret)).get("data") or {}
                key = _decoded(data.get(target.key))
            except NotFoundError:
                return {"error": "pod", "detail": "the Secret does not exist"}
            except ForbiddenError:
                return {"error": "skipped", "detail": f"you may not read Secret {target.namespace}/{target.secret}"}
            if key is None:
                return {"error": "pod", "detail": "the Secret has no such key, or no text under it"}
        return await asyncio.to_thread(inside.ask, target.url, target.provider, key, models)

    # --- with probes ---
    @property
    def _pull_secrets(self) -> tuple[str, ...]:
        return self.operators[0].settings.image_pull_secrets if self.operators else ()

    async def _probe_cluster(self, probes: Probes, namespace: str) -> None:
        own = any((item["spec"].get("gateway") or {}).get("imagePullSecrets") for item in self._of("Agent"))
        found = await probes.images(namespace, self._needed_images())
        self._note_all(reachable.images(found, own or bool(self._pull_secrets)))
        if any(image.problem for image in found if image.name == probes.image):
            self._note_all(reachable.network_policies(None, f"no pod can have {probes.image}"))
            return
        try:
            self._note_all(reachable.network_policies(await probes.network(namespace)))
        except ProbeError as error:
            self._note_all(reachable.network_policies(None, str(error)))

    async def _probe_providers(self, probes: Probes) -> None:
        limit = asyncio.Semaphore(PODS_AT_ONCE)

        async def ask(target: Target, models: list[str]) -> Finding:
            async with limit:
                try:
                    answer = await probes.ask(target, models)
                except ForbiddenError:
                    answer = await self._ask_from_here(target, models)
            return reachable.provider(target, answer)

        targets = reachable.targets(self.resources, self._pull_secrets)
        self._note_all(await asyncio.gather(*(ask(target, targets[target]) for target in sorted(targets, key=str))))


async def _allowed(name: str, check: Check) -> list[Finding]:
    """What a check found, or that you may not look."""
    try:
        return await check()
    except ForbiddenError as error:
        return [warning(name, f"not looked at: {error.message}", "run it as somebody who may")]


def _spellings(image: str) -> set[str]:
    """How a node may list an image: https://github.com/distribution/reference."""
    first, slash, _ = image.partition("/")
    if not slash:
        return {image, f"docker.io/library/{image}"}
    return {image} if {".", ":"} & set(first) or first == "localhost" else {image, f"docker.io/{image}"}


def _is_public(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return "." in host and not host.endswith((".svc", ".local", ".internal", ".invalid", ".localhost"))


def _decoded(value: str | None) -> str | None:
    try:
        return base64.b64decode(value).decode() if value else None
    except ValueError:
        return None
