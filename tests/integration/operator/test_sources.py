"""Skills from a real registry and from a web server: fetched once, and each failure names its cause and the fix."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import tarfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
import yaml

from openclaw_runtime.sandbox.archive import PackageFile
from openclaw_runtime.skills import oci
from openclaw_runtime.skills.distribution import RegistryClient
from openclaw_runtime.skills.package import pack_files
from openclaw_runtime.skills.references import Reference, Repository
from tests.cluster.devtools import BUILD_TIMEOUT_SECONDS
from tests.fakes.http_server import HttpServer, Reply, Seen, serve
from tests.integration.operator.conftest import Audit, Cluster, condition, exists
from tests.integration.operator.manifests import FULL_AGENT, SKILL, STORE
from tests.integration.operator.process import OperatorProcess
from tests.integration.operator.test_bad_input import changed, quiet
from tests.integration.registry.conftest import (
    LOGIN,
    htpasswd_registry,
    http,
    registry,
    registry_program,
    start_registry,
)

__all__ = ["htpasswd_registry", "http", "registry", "registry_program", "start_registry"]

pytestmark = pytest.mark.timeout(BUILD_TIMEOUT_SECONDS)

PATH = "skills/echo"
MAIN = "def say(ctx, input): return input\n"
StartOperator = Callable[..., OperatorProcess]


def files(version: str = "1.2.0", **manifest: Any) -> list[PackageFile]:
    declared = {"version": version, "actions": [{"name": "say"}], **manifest}
    return [
        PackageFile("SKILL.md", b"---\nname: echo\ndescription: says it\n---\n"),
        PackageFile("scripts/main.py", MAIN.encode()),
        PackageFile("skill.yaml", yaml.safe_dump(declared).encode()),
    ]


async def publish(http: httpx.AsyncClient, host: str, version: str = "1.2.0", **manifest: Any) -> str:
    """Publish a version as `openclaw registry publish` does; returns the digest of the artifact."""
    client = RegistryClient(http, host, LOGIN)
    package = pack_files(files(version, **manifest))
    description = {"name": "echo", "version": version}
    published = await oci.publish(
        client, Repository(host, PATH), package.data, description, visibility="private", category=""
    )
    assert published.reference.digest
    return published.reference.digest


def from_registry(server: HttpServer | str, digest: str, **more: Any) -> str:
    host = server if isinstance(server, str) else f"127.0.0.1:{server.port}"
    return changed(SKILL, "spec.source", {"oci": {"reference": f"{host}/{PATH}@{digest}", "plainHTTP": True, **more}})


class Front:
    """What stands before the registry: it counts, and answers itself where a test wants that."""

    def __init__(self) -> None:
        self.instead: Callable[[Seen], Reply | None] = lambda _: None
        self.target = ""

    def __call__(self, seen: Seen) -> Reply:
        own = self.instead(seen)
        if own:
            return own
        request = urllib.request.Request(f"http://{self.target}{seen.target}")
        for name in ("accept", "authorization"):
            if name in seen.headers:
                request.add_header(name, seen.headers[name])
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return Reply(answer.status, answer.read(), {"Content-Type": answer.headers["Content-Type"]})
        except urllib.error.HTTPError as error:
            kept = (
                {"WWW-Authenticate": error.headers["WWW-Authenticate"]} if "WWW-Authenticate" in error.headers else {}
            )
            return Reply(error.code, error.read(), kept)


@pytest.fixture
def front() -> Front:
    return Front()


@pytest.fixture
def server(front: Front) -> Iterator[HttpServer]:
    with serve(front) as running:
        yield running


@pytest.fixture
def fetching(start_operator: StartOperator) -> StartOperator:
    """Starts operators that may fetch from this machine."""
    return lambda: start_operator(source_private_hosts="127.0.0.1")


async def refused(cluster: Cluster, manifest: str, reason: str) -> str:
    await cluster.apply(manifest)
    message = await cluster.wait_condition("Skill", "echo", "Ready", "False", reason)
    skill = await cluster.get("Skill", "echo")
    assert "digest" not in skill["status"]
    assert not await cluster.all_of("ConfigMap", "app.kubernetes.io/name=skill-package")
    return message


async def test_a_skill_from_a_registry_is_fetched_once(
    full_cluster: Cluster,
    full_audit: Audit,
    fetching: StartOperator,
    http: httpx.AsyncClient,
    registry: str,
    front: Front,
    server: HttpServer,
) -> None:
    cluster, front.target = full_cluster, registry
    operator = fetching()
    digest = await publish(http, registry)
    # An autoscaler looks for the first time after 15 s: its change would come at any moment of what follows.
    await cluster.apply(STORE, from_registry(server, digest), changed(FULL_AGENT, "spec.gateway", {"replicas": 2}))
    await cluster.wait_condition("Skill", "echo", "Ready", "True", "Ready")
    skill = await cluster.get("Skill", "echo")
    packed = pack_files(files())
    # The digest is the published one, whatever the operator did with the bytes.
    assert skill["status"]["digest"] == packed.digest
    stored = await cluster.get("ConfigMap", skill["status"]["packageConfigMap"])
    assert base64.b64decode(stored["binaryData"]["package.tar.gz"]) == packed.data
    await cluster.wait("Agent", "ada", lambda item: bool(item.get("status", {}).get("skills")))
    seen = len(server.seen)
    assert seen
    # A restart, and an edit that leaves the source as it is, ask the registry for nothing.
    operator.stop()
    fetching()
    await cluster.apply(changed(from_registry(server, digest), "spec.description", "says it again"))
    await cluster.wait("Skill", "echo", lambda item: item["status"]["observedGeneration"] == 2)
    await cluster.wait_condition("Skill", "echo", "Ready", "True", "Ready")
    assert len(server.seen) == seen
    # The package is lost: only then it is fetched again. A look at the Skill that is under way would put back what it
    # has just read.
    await quiet(full_audit)
    await cluster.delete("ConfigMap", stored["metadata"]["name"])
    await cluster.wait("ConfigMap", stored["metadata"]["name"], exists)
    assert len(server.seen) > seen


async def test_agents_keep_a_version_until_the_next_is_there(
    full_cluster: Cluster,
    fetching: StartOperator,
    http: httpx.AsyncClient,
    registry: str,
    front: Front,
    server: HttpServer,
) -> None:
    cluster, front.target = full_cluster, registry
    fetching()
    first, second = await publish(http, registry), await publish(http, registry, "1.3.0", description="newer")
    await cluster.apply(STORE, from_registry(server, first), FULL_AGENT)
    await cluster.wait("Agent", "ada", lambda item: bool(item.get("status", {}).get("skills")))
    before = (await cluster.get("Skill", "echo"))["status"]
    held: list[Object] = []

    def slow(seen: Seen) -> Reply | None:
        # While the registry is asked, the agent has what it had.
        if second in seen.target and not held:
            held.append(seen)
        return None

    front.instead = slow
    await cluster.apply(changed(from_registry(server, second), "spec.version", "1.3.0"))
    agent = await cluster.wait(
        "Agent", "ada", lambda item: [each["version"] for each in item["status"]["skills"]] != ["1.2.0"]
    )
    # It never was without the skill.
    assert [each["version"] for each in agent["status"]["skills"]] == ["1.3.0"]
    assert held
    assert (await cluster.get("Skill", "echo"))["status"]["digest"] != before["digest"]
    # A yank later on changes nothing for what is there; a version that is out of the agent's range is not taken.
    third = await publish(http, registry, "2.0.0", description="other")
    await cluster.apply(changed(from_registry(server, third), "spec.version", "2.0.0"))
    message = await cluster.wait_condition("Agent", "ada", "Ready", "False", "SkillVersionMismatch")
    assert "widen the range" in message


Object = Any


async def test_a_yanked_version_works_and_says_so(
    full_cluster: Cluster, fetching: StartOperator, http: httpx.AsyncClient, registry: str
) -> None:
    fetching()
    digest = await publish(http, registry)
    reference = Reference(Repository(registry, PATH), "1.2.0")
    await oci.yank(RegistryClient(http, registry), reference, "loses the index", now=datetime(2026, 1, 1, tzinfo=UTC))
    await full_cluster.apply(from_registry(registry, digest))
    await full_cluster.wait_condition("Skill", "echo", "Ready", "True", "Ready")
    message = await full_cluster.wait_condition("Skill", "echo", "Yanked", "True", "Yanked")
    assert "loses the index" in message


async def test_credentials_come_from_a_pull_secret(
    full_cluster: Cluster, fetching: StartOperator, http: httpx.AsyncClient, htpasswd_registry: str
) -> None:
    fetching()
    digest = await publish(http, htpasswd_registry)
    await refused(full_cluster, from_registry(htpasswd_registry, digest), "SourceUnauthorized")
    auth = base64.b64encode(f"{LOGIN.username}:{LOGIN.secret}".encode()).decode()
    config = {"auths": {f"http://{htpasswd_registry}": {"auth": auth}}}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/dockerconfigjson",
        "metadata": {"name": "pull"},
        "stringData": {".dockerconfigjson": json.dumps(config)},
    }
    await full_cluster.apply(
        yaml.safe_dump(secret), from_registry(htpasswd_registry, digest, pullSecretRef={"name": "pull"})
    )
    await full_cluster.wait_condition("Skill", "echo", "Ready", "True", "Ready")


async def test_what_is_wrong_with_a_registry_is_named(
    full_cluster: Cluster,
    fetching: StartOperator,
    http: httpx.AsyncClient,
    registry: str,
    front: Front,
    server: HttpServer,
) -> None:
    cluster, front.target = full_cluster, registry
    fetching()
    digest = await publish(http, registry)
    nothing = "sha256:" + "0" * 64
    assert "publish it there" in await refused(cluster, from_registry(server, nothing), "SourceNotFound")
    # Looked at again now and then, not all the time.
    asked = len(server.seen)
    # The registry sends something else under a digest.
    front.instead = lambda seen: Reply(200, b"{}") if digest in seen.target else None
    message = await refused(cluster, from_registry(server, digest), "DigestMismatch")
    assert "changed under its digest" in message
    assert len(server.seen) == asked + 1
    front.instead = lambda _: Reply(200, b"x" * 2_000_000)
    message = await refused(cluster, from_registry(server, "sha256:" + "1" * 64), "InvalidSource")
    assert "more than 1048576 bytes" in message
    front.instead = lambda _: Reply(302, b"", {"Location": "http://169.254.169.254/latest/meta-data"})
    message = await refused(cluster, from_registry(server, "sha256:" + "2" * 64), "SourceRefused")
    assert "169.254.169.254" in message
    # A fault that passes is tried again by itself.
    down = [True]
    front.instead = lambda _: Reply(503) if down else None
    await refused(cluster, from_registry(server, digest), "SourceUnavailable")
    down.clear()
    await cluster.wait_condition("Skill", "echo", "Ready", "True", "Ready")


@pytest.mark.parametrize(
    ("declared", "changes", "reason", "hints"),
    [
        ({"version": "1.9.0"}, {}, "PackageMismatch", ["spec.version: '1.2.0'", "'1.9.0'"]),
        (
            {"permissions": ["filesystem:read", "network:external"]},
            {"permissions": ["filesystem:read"]},
            "PermissionsNotGranted",
            ["declares network:external", "add it to spec.permissions"],
        ),
        ({"actions": [{"name": "other"}]}, {}, "PackageMismatch", ["has no say"]),
    ],
    ids=["version", "permission", "action"],
)
async def test_a_package_that_says_something_else(
    full_cluster: Cluster,
    fetching: StartOperator,
    http: httpx.AsyncClient,
    registry: str,
    declared: dict[str, Any],
    changes: dict[str, Any],
    reason: str,
    hints: list[str],
) -> None:
    fetching()
    client, package = RegistryClient(http, registry), pack_files(files(**declared))
    published = await oci.publish(
        client,
        Repository(registry, PATH),
        package.data,
        {"name": "echo", "version": declared.get("version", "1.2.0")},
        visibility="private",
        category="",
    )
    manifest = from_registry(registry, str(published.reference.digest))
    for field, value in changes.items():
        manifest = changed(manifest, f"spec.{field}", value)
    message = await refused(full_cluster, manifest, reason)
    assert not [hint for hint in hints if hint not in message], message


def tarball(content: list[PackageFile], top: str = "") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for file in content:
            entry = tarfile.TarInfo(top + file.path)
            entry.size, entry.mtime = len(file.data), 1_700_000_000
            archive.addfile(entry, io.BytesIO(file.data))
    return buffer.getvalue()


async def test_a_skill_from_an_archive(
    full_cluster: Cluster, fetching: StartOperator, front: Front, server: HttpServer
) -> None:
    fetching()
    # A release of a code host: a folder around everything, the skill is one of several, and it has tests.
    content = tarball([*files(), PackageFile("tests/test_x.py", b"")], "repo-1.0/skills/echo/")
    asked: list[str | None] = []

    def answer(seen: Seen) -> Reply:
        asked.append(seen.headers.get("authorization"))
        return Reply(200, content) if seen.path == "/real" else Reply(302, b"", {"Location": "/real"})

    front.instead = answer
    archive = {"url": f"{server.url}/echo.tar.gz", "plainHTTP": True, "path": "skills/echo"}
    pinned = changed(SKILL, "spec.source", {"archive": {**archive, "sha256": hashlib.sha256(content).hexdigest()}})
    await full_cluster.apply(pinned)
    await full_cluster.wait_condition("Skill", "echo", "Ready", "True", "Ready")
    # It is the package that `openclaw skill pack` makes of the folder.
    assert (await full_cluster.get("Skill", "echo"))["status"]["digest"] == pack_files(files()).digest
    content = gzip.compress(gzip.decompress(content) + b"\0")
    changed_file = changed(pinned, "spec.source.archive.path", "skills")
    await full_cluster.apply(changed_file)
    message = await full_cluster.wait_condition("Skill", "echo", "Ready", "False", "DigestMismatch")
    assert "it changed since it was pinned" in message


async def test_private_addresses_are_not_fetched_from(
    full_cluster: Cluster, start_operator: StartOperator, server: HttpServer
) -> None:
    start_operator()
    message = await refused(full_cluster, from_registry(server, "sha256:" + "0" * 64), "SourceRefused")
    assert "sources.privateHosts" in message
    await full_cluster.apply(from_registry(f"localhost:{server.port}", "sha256:" + "0" * 64))
    await full_cluster.wait("Skill", "echo", lambda item: "'localhost'" in condition(item, "Ready")["message"])
    assert not server.seen
