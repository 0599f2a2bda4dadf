"""The skills docker-builder and docker-manager with the real registry."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from openclaw_skill import SkillError
from tests.fakes.skill_context import FakeContext, load_skill
from tests.integration.registry.conftest import LOGIN

USER, PASSWORD = LOGIN.username or "", LOGIN.secret
SKILLS = Path(__file__).parents[3] / "skills"
INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@pytest.fixture
def builder() -> SimpleNamespace:
    return SimpleNamespace(**load_skill(SKILLS / "docker-builder"))


@pytest.fixture
def manager() -> SimpleNamespace:
    return SimpleNamespace(**load_skill(SKILLS / "docker-manager"))


@pytest.fixture
def ctx(tmp_path: Path) -> FakeContext:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("<p>hello")
    (tmp_path / "site" / ".env").write_text("TOKEN=1")
    login = {"REGISTRY_USERNAME": USER, "REGISTRY_PASSWORD": PASSWORD}
    return FakeContext(tmp_path, tmp_path, config={"allowPush": True, "allowWrites": True}, secrets=login)


def push_base(skill: SimpleNamespace, host: str, login: tuple[str, str]) -> Any:
    """An image of two platforms, each of one layer."""
    oci = skill.ociregistry
    registry = oci.Registry(oci.parse(f"{host}/base/os:1", "base"), *login)
    entries = []
    for architecture in ("amd64", "arm64"):
        layer = registry.put_blob(architecture.encode())
        config = {
            "os": "linux",
            "architecture": architecture,
            "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": [layer]},
        }
        data = json.dumps(config).encode()
        value = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": "x", "digest": registry.put_blob(data), "size": len(data)},
            "layers": [
                {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer, "size": len(architecture)}
            ],
        }
        text = json.dumps(value).encode()
        document = oci.Document(oci.digest_of(text), MANIFEST, text)
        registry.put_manifest(document.digest, document)
        platform = {"os": "linux", "architecture": architecture}
        entries.append({"mediaType": MANIFEST, "digest": document.digest, "size": len(text), "platform": platform})
    text = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).encode()
    registry.put_manifest("1", oci.Document(oci.digest_of(text), INDEX, text))
    return oci.digest_of(text)


def test_files_are_put_on_a_base_and_the_result_is_looked_at_copied_and_deleted(
    builder: SimpleNamespace, manager: SimpleNamespace, ctx: FakeContext, htpasswd_registry: str
) -> None:
    host = htpasswd_registry
    ctx.config["registry"] = host
    base = push_base(builder, host, (USER, PASSWORD))
    wish: dict[str, Any] = {
        "base": f"{host}/base/os:1",
        "image": f"{host}/team/site:1.0.0",
        "folder": "site",
        "target": "/srv",
    }
    wish |= {"entrypoint": ["/bin/serve"], "labels": {"team": "web"}}
    dry = builder.main.build(ctx, {**wish, "dryRun": True})
    with pytest.raises(SkillError, match="HTTP 404"):
        manager.main.inspect(ctx, {"image": wish["image"]})
    made = builder.main.build(ctx, wish)
    assert (made["digest"], made["files"], made["pushed"]) == (dry["digest"], 1, True)
    assert made["leftOut"] == [{"path": ".env", "why": "secret"}]
    assert builder.main.build(ctx, wish)["digest"] == made["digest"]
    assert manager.main.tags(ctx, {"image": wish["image"]})["tags"] == ["1.0.0"]
    seen = manager.main.inspect(ctx, {"image": wish["image"]})
    assert (seen["digest"], seen["platform"], len(seen["layers"])) == (made["digest"], "linux/amd64", 2)
    assert (seen["config"]["entrypoint"], seen["config"]["user"]) == (["/bin/serve"], "10001:10001")

    told = manager.main.compare(ctx, {"before": wish["base"], "after": wish["image"]})
    assert (told["same"], told["sharedLayers"], told["addedBytes"]) == (False, 1, made["layerBytes"])
    assert {each["setting"] for each in told["changes"]} == {"entrypoint", "command", "user", "labels"}

    copied = manager.main.copy(ctx, {"from": f"{host}/base/os:1", "to": f"{host}/prod/os:stable"})
    assert copied["digest"] == base
    arm = manager.main.inspect(ctx, {"image": copied["reference"], "platform": "linux/arm64"})
    assert (arm["platforms"], arm["platform"]) == (["linux/amd64", "linux/arm64"], "linux/arm64")
    with pytest.raises(SkillError, match="linux/s390x is none of the image's"):
        manager.main.inspect(ctx, {"image": copied["reference"], "platform": "linux/s390x"})

    with pytest.raises(SkillError, match=r"linux/arm64 is none of the base's \(linux/amd64\)"):
        builder.main.build(ctx, {**wish, "base": wish["image"], "platform": "linux/arm64"})

    manager.main.delete(ctx, {"image": f"{host}/prod/os@{base}"})
    with pytest.raises(SkillError, match="HTTP 404"):
        manager.main.inspect(ctx, {"image": copied["reference"]})
    assert manager.main.inspect(ctx, {"image": f"{host}/base/os:1"})["digest"] == base


def test_a_base_of_another_registry_is_copied(
    builder: SimpleNamespace, ctx: FakeContext, registry: str, htpasswd_registry: str
) -> None:
    ctx.config["registry"] = htpasswd_registry
    push_base(builder, registry, ("", ""))
    wish: dict[str, Any] = {
        "base": f"{registry}/base/os:1",
        "image": f"{htpasswd_registry}/team/site:1",
        "folder": "site",
    }
    made = builder.main.build(ctx, {**wish, "platform": "linux/arm64"})
    assert made["pushed"]
    ctx.config["registry"] = "elsewhere.example"
    with pytest.raises(SkillError, match="wants a login"):
        builder.main.build(ctx, wish)
