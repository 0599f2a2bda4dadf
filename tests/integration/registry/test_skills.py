"""Publish, resolve, pull and yank against the real registry."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from openclaw_runtime.skills import oci
from openclaw_runtime.skills.credentials import Credential
from openclaw_runtime.skills.distribution import MANIFEST, RegistryClient, canonical, descriptor, sha256
from openclaw_runtime.skills.oci_errors import (
    RegistryAuthError,
    RegistryContentError,
    RegistryError,
    RegistryNotFoundError,
    VersionConflictError,
)
from openclaw_runtime.skills.references import Reference, Repository, parse_reference
from tests.cluster.devtools import BUILD_TIMEOUT_SECONDS
from tests.integration.registry.conftest import LOGIN, TokenServer

pytestmark = pytest.mark.timeout(BUILD_TIMEOUT_SECONDS)

PATH = "skills/git-ai-helper"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def package(text: str = "async def smartCommit(ctx, input): ...\n") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        entry = tarfile.TarInfo("scripts/main.py")
        entry.size = len(text)
        archive.addfile(entry, io.BytesIO(text.encode()))
    return gzip.compress(buffer.getvalue(), mtime=0)


def manifest(version: str = "1.2.0", **extra: Any) -> dict[str, Any]:
    return {"name": "git-ai-helper", "version": version, "description": "Commits with a good message.", **extra}


async def publish(client: RegistryClient, version: str, text: str | None = None, **options: Any) -> oci.Publication:
    content = package() if text is None else package(text)
    options = {"visibility": "public", "category": "development", **options}
    return await oci.publish(client, Repository(client.host, PATH), content, manifest(version), **options)


def ref(client: RegistryClient, version: str | None = None, digest: str | None = None) -> Reference:
    return Reference(Repository(client.host, PATH), version, digest)


@pytest.fixture
def client(http: httpx.AsyncClient, registry: str) -> RegistryClient:
    return RegistryClient(http, registry)


async def test_what_is_published_is_pulled(client: RegistryClient) -> None:
    published = await publish(client, "1.2.0")
    pulled = await oci.pull(client, parse_reference(f"{client.host}/{PATH}:1.2.0"))
    assert published.created
    assert pulled.package == package()
    assert pulled.manifest == manifest()
    assert pulled.release.reference == published.reference
    assert pulled.release.digest == published.digest == sha256(gzip.decompress(package()))
    assert (pulled.release.visibility, pulled.release.category) == ("public", "development")
    assert pulled.release.yanked is None


async def test_the_artifact_is_what_other_oras_clients_expect(client: RegistryClient, http: httpx.AsyncClient) -> None:
    await publish(client, "1.2.0")
    url = f"http://{client.host}/v2/{PATH}/manifests/1.2.0"
    stored = (await http.get(url, headers={"Accept": MANIFEST})).json()
    assert stored["artifactType"] == "application/vnd.openclaw.skill.v1"
    assert stored["config"]["mediaType"] == "application/vnd.openclaw.skill.config.v1+json"
    (layer,) = stored["layers"]
    assert layer["mediaType"] == "application/vnd.openclaw.skill.package.v1.tar+gzip"
    assert layer["annotations"] == {"org.opencontainers.image.title": "git-ai-helper-1.2.0.tar.gz"}
    assert stored["annotations"] == {
        "org.opencontainers.image.title": "git-ai-helper",
        "org.opencontainers.image.version": "1.2.0",
        "org.opencontainers.image.description": "Commits with a good message.",
        "io.openclaw.skill.digest": sha256(gzip.decompress(package())),
        "io.openclaw.skill.visibility": "public",
        "io.openclaw.skill.category": "development",
    }


async def test_the_same_package_again_changes_nothing(client: RegistryClient) -> None:
    first = await publish(client, "1.2.0")
    again = await publish(client, "1.2.0")
    assert not again.created
    assert again.reference == first.reference


async def test_the_same_tar_compressed_otherwise_is_the_same_version(client: RegistryClient) -> None:
    first = await publish(client, "1.2.0")
    repacked = gzip.compress(gzip.decompress(package()), compresslevel=1, mtime=1)
    again = await oci.publish(
        client, Repository(client.host, PATH), repacked, manifest(), visibility="public", category="development"
    )
    assert not again.created
    assert again.reference.digest == first.reference.digest


@pytest.mark.parametrize(
    ("change", "named"),
    [({"text": "other"}, "package"), ({"visibility": "private"}, "visibility"), ({"category": "other"}, "category")],
)
async def test_a_published_version_never_changes(client: RegistryClient, change: dict[str, str], named: str) -> None:
    await publish(client, "1.2.0")
    with pytest.raises(VersionConflictError, match=f"with {named} .* raise the version"):
        await publish(client, "1.2.0", **change)
    assert (await oci.pull(client, ref(client, "1.2.0"))).package == package()


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (None, "2.0.0"),
        ("^1.0.0", "1.10.0"),
        ("~1.2", "1.2.0"),
        ("1.x", "1.10.0"),
        (">=1.2 <1.10", "1.9.1"),
        ("1.2.0", "1.2.0"),
        ("^3.0.0-rc.1", "3.0.0-rc.2+build.7"),
        ("3.0.0-rc.2+build.7", "3.0.0-rc.2+build.7"),
    ],
)
async def test_ranges_choose_the_newest(client: RegistryClient, wanted: str | None, found: str) -> None:
    for version in ("1.2.0", "1.10.0", "1.9.1", "2.0.0", "3.0.0-rc.1", "3.0.0-rc.2+build.7"):
        await publish(client, version)
    assert (await oci.resolve(client, ref(client, wanted))).version == found


async def test_nothing_in_the_range_names_what_there_is(client: RegistryClient) -> None:
    await publish(client, "1.2.0")
    with pytest.raises(RegistryNotFoundError, match=r"no version in that range; published: 1\.2\.0"):
        await oci.resolve(client, ref(client, "^2"))
    with pytest.raises(RegistryNotFoundError, match="not found"):
        await oci.resolve(client, ref(client, "9.9.9"))
    with pytest.raises(RegistryNotFoundError, match="no such repository"):
        await oci.resolve(client, Reference(Repository(client.host, "nobody/nothing")))


async def test_a_digest_pins_the_bytes(client: RegistryClient) -> None:
    digest = (await publish(client, "1.2.0")).reference.digest
    other = (await publish(client, "1.3.0", "other")).reference.digest
    assert (await oci.pull(client, ref(client, None, digest))).release.version == "1.2.0"
    assert (await oci.pull(client, ref(client, "^1", digest))).release.version == "1.2.0"
    with pytest.raises(RegistryContentError, match=r"is that of version 1\.3\.0"):
        await oci.pull(client, ref(client, "1.2.0", other))


async def test_a_yanked_version_is_not_chosen_but_still_there(client: RegistryClient) -> None:
    before = await publish(client, "1.2.0")
    await publish(client, "1.3.0")
    release = await oci.yank(client, ref(client, "1.3.0"), "loses the index", now=NOON)
    assert release.yanked == "loses the index"
    assert (await oci.resolve(client, ref(client, "^1"))).reference == before.reference
    exact = await oci.pull(client, ref(client, "1.3.0"))
    assert exact.release.yanked == "loses the index"
    assert [(each.version, each.yanked) for each in await oci.releases(client, Repository(client.host, PATH))] == [
        ("1.3.0", "loses the index"),
        ("1.2.0", None),
    ]


async def test_a_yank_can_be_taken_back_and_the_newest_word_counts(client: RegistryClient) -> None:
    await publish(client, "1.2.0")
    await oci.yank(client, ref(client, "1.2.0"), "broken", now=NOON)
    with pytest.raises(RegistryNotFoundError, match=r"is yanked: 1\.2\.0 \(broken\)"):
        await oci.resolve(client, ref(client))
    await oci.yank(client, ref(client, "1.2.0"), "was fine", now=NOON + timedelta(seconds=1), undo=True)
    assert (await oci.resolve(client, ref(client))).yanked is None


async def test_a_yank_is_an_ordinary_referrer(client: RegistryClient, http: httpx.AsyncClient) -> None:
    published = await publish(client, "1.2.0")
    await oci.yank(client, ref(client, "1.2.0"), "broken", now=NOON)
    await oci.yank(client, ref(client, "1.2.0"), "broken", now=NOON)
    digest = published.reference.digest
    assert digest is not None
    (entry,) = await client.referrers(PATH, digest, oci.YANK_TYPE)
    stored = (await client.manifest(PATH, entry["digest"])).data
    assert stored["subject"]["digest"] == digest
    assert (await client.tags(PATH)).count(digest.replace(":", "-")) == 1


async def test_only_one_version_can_be_yanked_at_a_time(client: RegistryClient) -> None:
    await publish(client, "1.2.0")
    with pytest.raises(RegistryError, match="names no single version"):
        await oci.yank(client, ref(client, "^1"), "broken", now=NOON)


async def test_a_moved_tag_is_noticed(client: RegistryClient, http: httpx.AsyncClient) -> None:
    await publish(client, "1.2.0")
    await publish(client, "1.3.0")
    stored = await client.manifest(PATH, "1.3.0")
    await client.put_manifest(PATH, "1.2.0", MANIFEST, canonical(stored.data))
    with pytest.raises(RegistryContentError, match=r"holds version 1\.3\.0; its publisher moved the tag"):
        await oci.pull(client, ref(client, "1.2.0"))


async def store(client: RegistryClient, content: dict[str, Any], *blobs: bytes) -> None:
    for blob in blobs:
        await client.put_blob(PATH, blob)
    await client.put_manifest(PATH, "1.2.0", MANIFEST, canonical(content))


def artifact(config: bytes, layer: bytes, digest: str) -> dict[str, Any]:
    return {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": oci.ARTIFACT_TYPE,
        "config": descriptor(oci.CONFIG_TYPE, config),
        "layers": [descriptor(oci.PACKAGE_TYPE, layer)],
        "annotations": {"org.opencontainers.image.version": "1.2.0", "io.openclaw.skill.digest": digest},
    }


async def test_a_package_with_another_digest_is_refused(client: RegistryClient) -> None:
    config = canonical(manifest())
    await store(client, artifact(config, package(), "sha256:" + "0" * 64), config, package())
    with pytest.raises(RegistryContentError, match="its digest is sha256:"):
        await oci.pull(client, ref(client, "1.2.0"))


@pytest.mark.parametrize("config", [b"[]", b"not json", b'{"version":"9.9.9"}'])
async def test_a_config_that_is_not_the_skills_is_refused(client: RegistryClient, config: bytes) -> None:
    digest = sha256(gzip.decompress(package()))
    await store(client, artifact(config, package(), digest), config, package())
    with pytest.raises(RegistryContentError, match=r"its manifest is not that of version 1\.2\.0"):
        await oci.pull(client, ref(client, "1.2.0"))


async def test_a_package_that_is_too_large_is_not_downloaded(client: RegistryClient) -> None:
    config, huge = canonical(manifest()), b"x" * (1024 * 1024)
    await store(client, artifact(config, huge, sha256(huge)), config, huge)
    with pytest.raises(RegistryContentError, match=r"1048576 bytes of .* at most 921600 are allowed"):
        await oci.pull(client, ref(client, "1.2.0"))


async def test_an_image_is_no_skill(client: RegistryClient) -> None:
    config = json.dumps({"architecture": "amd64", "os": "linux"}).encode()
    image_config = descriptor("application/vnd.oci.image.config.v1+json", config)
    content = {"schemaVersion": 2, "mediaType": MANIFEST, "config": image_config, "layers": []}
    await store(client, content, config)
    with pytest.raises(RegistryContentError, match="is no skill"):
        await oci.pull(client, ref(client, "1.2.0"))


async def test_garbage_is_not_published(client: RegistryClient) -> None:
    with pytest.raises(RegistryContentError, match="not gzip"):
        await oci.publish(
            client, Repository(client.host, PATH), b"garbage", manifest(), visibility="public", category=""
        )


async def test_a_password_opens_a_closed_registry(http: httpx.AsyncClient, htpasswd_registry: str) -> None:
    closed = RegistryClient(http, htpasswd_registry)
    with pytest.raises(RegistryAuthError, match=f"fix: openclaw registry login {htpasswd_registry}"):
        await closed.check()
    wrong = RegistryClient(http, htpasswd_registry, Credential("wrong", "publisher"))
    with pytest.raises(RegistryAuthError, match="refused these credentials"):
        await wrong.check()
    client = RegistryClient(http, htpasswd_registry, LOGIN)
    await client.check()
    await publish(client, "1.2.0")
    assert (await oci.pull(client, ref(client, "^1"))).package == package()


async def test_tokens_are_fetched_for_what_is_done(
    http: httpx.AsyncClient, token_registry: str, token_server: TokenServer
) -> None:
    client = RegistryClient(http, token_registry, LOGIN)
    await client.check()
    await publish(client, "1.2.0")
    assert (await oci.pull(client, ref(client, "^1"))).package == package()
    # One token for reading and one for writing serve all requests.
    assert token_server.scopes == [f"repository:{PATH}:pull", f"repository:{PATH}:pull,push"]


async def test_the_token_server_refuses_a_wrong_password(
    http: httpx.AsyncClient, token_registry: str, token_server: TokenServer
) -> None:
    with pytest.raises(RegistryAuthError, match="token server refused these credentials"):
        await RegistryClient(http, token_registry, Credential("wrong", "publisher")).check()
    with pytest.raises(RegistryAuthError, match="token server asks for credentials"):
        await RegistryClient(http, token_registry).check()


async def test_an_expired_token_is_replaced(
    http: httpx.AsyncClient, token_registry: str, token_server: TokenServer
) -> None:
    client = RegistryClient(http, token_registry, LOGIN)
    # The registry allows a minute of clock skew.
    token_server.lifetime_seconds = -120
    with pytest.raises(RegistryAuthError, match="refused these credentials"):
        await publish(client, "1.2.0")
    token_server.lifetime_seconds = 300
    assert (await publish(client, "1.2.0")).created
