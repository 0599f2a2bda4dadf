"""Both sides of a skill call agree: package bytes, keys, labels, ports and the environment of a sandbox pod."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from openclaw_operator.api.agent import AgentSpec
from openclaw_operator.api.skill import SkillSpec
from openclaw_operator.reconcile import signing
from openclaw_operator.resources import agent_config, egress, meta, package, sandbox, secrets
from openclaw_operator.resources.inputs import AgentInputs, ResolvedSkill
from openclaw_operator.resources.pool import pool_for
from openclaw_runtime.config import Gateway, Sandbox, load_config
from openclaw_runtime.egress import grant
from openclaw_runtime.egress.settings import read_settings as read_egress_settings
from openclaw_runtime.sandbox import archive, pool
from openclaw_runtime.sandbox.archive import PackageFile
from openclaw_runtime.sandbox.memory import memory_of_call
from openclaw_runtime.sandbox.runner.settings import read_settings
from openclaw_runtime.sandbox.signing import CLOCK_SKEW_SECONDS, Signer, Verifier
from openclaw_runtime.skills.package import pack_files

IMAGES = meta.Images("runtime", "sandbox", "sandbox-node", "qdrant", "postgresql", "redis", "backup", "Always")
FILES = [
    {"a": ""},
    {"SKILL.md": "---\nname: x\n---\n", "scripts/main.py": "def act(ctx, input):\n    return 1\n"},
    {"b/c": "1", "b-c": "2", "b": "3", "B": "4", "ä/ö": "ü"},
    {f"folder/{'n' * 60}/{number:03}.txt": str(number) * number for number in range(200)},
]


@pytest.mark.parametrize("files", FILES, ids=lambda files: f"{len(files)}-files")
def test_the_same_files_have_the_same_digest(files: dict[str, str]) -> None:
    operators = package.build(files)
    runtimes = pack_files(PackageFile(path, text.encode(), executable=False) for path, text in files.items())
    assert operators.digest == runtimes.digest


@pytest.mark.parametrize("files", FILES, ids=lambda files: f"{len(files)}-files")
def test_what_the_operator_packs_the_sandbox_accepts(files: dict[str, str]) -> None:
    packed = package.build(files)
    tar = archive.verify(packed.archive, packed.digest)
    assert {file.path: file.data.decode() for file in archive.read(tar)} == files


def test_limits_are_the_same() -> None:
    assert package.MAX_TAR_BYTES == archive.MAX_UNCOMPRESSED_BYTES
    assert package.MAX_GZIP_BYTES == archive.MAX_COMPRESSED_BYTES
    assert package.MAX_FILES == archive.MAX_FILES


def test_a_key_is_believed_for_as_long_as_a_grant_may_be_good() -> None:
    assert signing.GRANT_SECONDS >= grant.MAX_VALIDITY_SECONDS + CLOCK_SKEW_SECONDS


def test_ports_and_labels_are_the_same() -> None:
    assert Gateway().port == meta.GATEWAY_PORT
    assert Sandbox().port == meta.SANDBOX_PORT
    assert pool.POOL_LABEL == meta.POOL_LABEL


def test_the_key_pair_of_the_operator_signs_and_opens() -> None:
    seed = bytes(range(32))
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    data = secrets.signing("space", seed, public)["data"]
    signer = Signer(base64.b64decode(data[secrets.PRIVATE_KEY]))
    assert signer.public_key == base64.b64decode(data[secrets.PUBLIC_KEY])
    Verifier.from_text(data[secrets.PUBLIC_KEY])


def test_a_sandbox_pod_has_the_environment_its_runner_reads() -> None:
    spec = AgentSpec.model_validate({"model": {"provider": "local", "name": "x", "baseURL": "http://x"}})
    skill = SkillSpec.model_validate(
        {
            "version": "1.0.0",
            "source": {"inline": {"files": {"a": ""}}},
            "actions": [{"name": "a", "description": "a"}],
            "permissions": ["filesystem:read"],
        }
    )
    found = pool_for("agent", spec, skill, IMAGES)
    assert found is not None
    key = base64.b64encode(bytes(32)).decode()
    container = sandbox.pod("space", found.shape, "abcde", key, signing="00", pull_policy="Always")["spec"][
        "containers"
    ][0]
    environment = {item["name"]: item.get("value") or "from-field" for item in container["env"]}
    settings = read_settings(environment)
    assert settings.port == container["ports"][0]["containerPort"]
    assert settings.public_keys == key
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    assert mounts[str(settings.workspace)]["readOnly"] is True
    assert str(settings.scratch_root) in mounts


@pytest.mark.parametrize(
    ("limit", "mebibytes"), [("2Gi", 1984), ("512Mi", 448), ("96Mi", 48), (1 << 30, 960), (None, 512)]
)
def test_a_call_may_use_what_its_skill_says_less_what_the_runner_needs(
    limit: str | int | None, mebibytes: int, tmp_path: Path
) -> None:
    spec = AgentSpec.model_validate({"model": {"provider": "local", "name": "x", "baseURL": "http://x"}})
    skill = SkillSpec.model_validate(
        {
            "version": "1.0.0",
            "runtime": "node",
            "source": {"inline": {"files": {"scripts/main.mjs": ""}}},
            "actions": [{"name": "a", "description": "a"}],
            "resources": {"limits": {} if limit is None else {"memory": limit}},
        }
    )
    found = pool_for("agent", spec, skill, IMAGES)
    assert found is not None
    made = sandbox.pod("space", found.shape, "abcde", "key", signing="00", pull_policy="Always")["spec"]["containers"]
    environment = {item["name"]: item.get("value") or "from-field" for item in made[0]["env"]}
    assert read_settings(environment).languages.memory_bytes >> 20 == mebibytes

    resolved = ResolvedSkill("a", skill, "sha256:" + "ab" * 32, "a-package", level="isolated", config={}, pool=found)
    inputs = AgentInputs(meta.Owner("Agent", "agent", "space", "uid"), spec, "", IMAGES, None, (resolved,), ())
    path = tmp_path / "config.yaml"
    path.write_text(agent_config.config_map(inputs, agent_config.render(inputs))["data"]["config.yaml"])
    (installed,) = load_config(path).skills.installed
    assert memory_of_call(installed.memory) >> 20 == mebibytes


def test_an_egress_proxy_has_the_environment_it_reads() -> None:
    key = base64.b64encode(bytes(32)).decode()
    options = egress.EgressOptions("image", denied=("203.0.113.0/24",), allow_api_server=True)
    keys, *_, deployment = egress.build("space", key, options)
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    environment = {item["name"]: item.get("value", "192.0.2.7") for item in container["env"]}
    settings = read_egress_settings(environment)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"proxy": settings.port, "api": settings.api_port}
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert str(settings.folder) in mounts
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert volumes[mounts[str(settings.public_keys.parent)]]["configMap"]["name"] == keys["metadata"]["name"]
    assert keys["data"] == {settings.public_keys.name: key}
    Verifier.from_text(keys["data"][settings.public_keys.name])
    assert [str(network) for network in settings.rules.denied] == ["203.0.113.0/24"]
    assert settings.rules.allow_api_server is True
    assert {str(address) for address in settings.rules.api_server} == {"192.0.2.7"}
