"""`openclaw registry` as a user runs it: a process, a home folder, a registry that asks for a password."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from openclaw_operator.api.skill import SkillSpec
from openclaw_runtime.skills.package import pack_folder
from tests.cluster.devtools import BUILD_TIMEOUT_SECONDS
from tests.integration.registry.conftest import LOGIN

pytestmark = pytest.mark.timeout(BUILD_TIMEOUT_SECONDS)

OPENCLAW = Path(sys.executable).parent / "openclaw"
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run `openclaw registry …` in an empty home; with `token` in its environment."""

    def go(*arguments: str | Path, token: str | None = None, stdin: str = "") -> subprocess.CompletedProcess[str]:
        environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
        if token is not None:
            environment["OPENCLAW_REGISTRY_TOKEN"] = token
        command: list[str | Path] = [OPENCLAW, "registry", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, input=stdin, capture_output=True, text=True, check=False, timeout=60
        )

    return go


def packed(folder: Path, version: str = "1.2.0", description: str = "Says hello.") -> Path:
    (folder / "scripts").mkdir(parents=True)
    (folder / "SKILL.md").write_text(f"---\nname: greeter\ndescription: {description}\nlicense: MIT\n---\nGreets.\n")
    (folder / "skill.yaml").write_text(f"version: {version}\nactions: [{{name: greet, description: Greets.}}]\n")
    (folder / "scripts" / "main.py").write_text("def greet(ctx, input):\n    return 'hello'\n")
    file = folder.with_suffix(".tar.gz")
    file.write_bytes(pack_folder(folder).data)
    return file


def log_in(run: Run, host: str) -> None:
    result = run("login", f"{host}/skills", "--username", LOGIN.username or "", stdin=f"{LOGIN.secret}\n")
    assert result.returncode == 0, result.stderr


def test_login_publish_list_pull(run: Run, htpasswd_registry: str, tmp_path: Path) -> None:
    log_in(run, htpasswd_registry)
    file = packed(tmp_path / "greeter")
    published = run("publish", file, "--visibility", "public", "--category", "examples")
    assert published.returncode == 0, published.stderr
    assert f"published: {htpasswd_registry}/skills/greeter:1.2.0@sha256:" in published.stdout
    assert "unchanged: " in run("publish", file, "--visibility", "public", "--category", "examples").stdout
    (release,) = json.loads(run("list", "greeter", "--json").stdout)
    assert (release["name"], release["version"], release["category"]) == ("greeter", "1.2.0", "examples")
    pulled = run("pull", "greeter:^1", "--output", "again.tar.gz")
    assert pulled.returncode == 0, pulled.stderr
    assert (tmp_path / "again.tar.gz").read_bytes() == file.read_bytes()
    assert run("pull", release["reference"], "--unpack", "files").returncode == 0
    assert (tmp_path / "files" / "SKILL.md").read_bytes() == (tmp_path / "greeter" / "SKILL.md").read_bytes()
    assert "is there already" in run("pull", "greeter", "--unpack", "files").stderr
    assert run("pull", "greeter").returncode == 0
    assert (tmp_path / "greeter-1.2.0.tar.gz").exists()


def test_a_published_skill_becomes_a_resource(run: Run, registry: str, tmp_path: Path) -> None:
    published = run("publish", packed(tmp_path / "greeter"), "--to", f"{registry}/skills").stdout
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    command: list[str | Path] = [OPENCLAW, "skill", "manifest", f"oci://{registry}/skills/greeter:^1", "--plain-http"]
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60).stdout
    spec = yaml.safe_load(printed)["spec"]
    pinned = next(line.split()[1] for line in published.splitlines() if line.startswith("published:"))
    assert spec["source"] == {"oci": {"reference": pinned, "plainHTTP": True}}
    assert (spec["version"], spec["actions"][0]["name"]) == ("1.2.0", "greet")
    source = SkillSpec.model_validate(spec).source
    assert source is not None
    assert source.remote


def test_only_trusted_registries_are_pulled_from(run: Run, registry: str, tmp_path: Path) -> None:
    run("publish", packed(tmp_path / "greeter"), "--to", f"{registry}/skills")
    config = tmp_path / ".openclaw" / "config.yaml"
    config.parent.mkdir()

    def trust(*registries: str) -> None:
        skills = {"trusted_registries": list(registries)}
        claw = {"name": "ada", "model_provider": "local", "model": "m"}
        config.write_text(yaml.safe_dump({"version": "2026.1", "claw": claw, "skills": skills}))

    trust("registry.example.com", f"{registry}/skill")
    refused = run("pull", f"{registry}/skills/greeter")
    assert refused.returncode != 0
    assert "not among skills.trusted_registries" in refused.stderr
    for entry in (registry, f"{registry}/skills/"):
        trust(entry)
        assert run("pull", f"{registry}/skills/greeter").returncode == 0


def test_the_password_is_kept_for_its_owner_and_shown_to_nobody(
    run: Run, htpasswd_registry: str, tmp_path: Path
) -> None:
    result = run("login", htpasswd_registry, "--username", LOGIN.username or "", token=LOGIN.secret)
    file = tmp_path / ".config" / "openclaw" / "registry.json"
    assert LOGIN.secret in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert LOGIN.secret not in result.stdout + result.stderr
    assert run("logout", htpasswd_registry).returncode == 0
    assert LOGIN.secret not in file.read_text()
    refused = run("list", f"{htpasswd_registry}/skills/greeter")
    assert refused.stderr.startswith(f"error: {htpasswd_registry}: asks for credentials")
    assert refused.returncode == 1


def test_a_wrong_password_is_not_kept(run: Run, htpasswd_registry: str, tmp_path: Path) -> None:
    result = run("login", htpasswd_registry, "--username", LOGIN.username or "", "--token", "wrong")
    assert result.returncode == 1
    assert "refused these credentials" in result.stderr
    assert "wrong" not in result.stderr
    assert not (tmp_path / ".config").exists()
    assert "is empty" in run("login", htpasswd_registry, stdin="\n").stderr


def test_another_package_under_the_same_version_is_refused(run: Run, registry: str, tmp_path: Path) -> None:
    assert run("publish", packed(tmp_path / "one"), "--to", f"{registry}/skills").returncode == 0
    changed = run("publish", packed(tmp_path / "two", description="Says goodbye."), "--to", f"{registry}/skills")
    assert changed.returncode == 1
    assert "published versions never change: raise the version" in changed.stderr


def test_a_yank_is_seen_by_those_who_pull(run: Run, registry: str, tmp_path: Path) -> None:
    for version in ("1.2.0", "1.3.0"):
        run("publish", packed(tmp_path / version.replace(".", "-"), version), "--to", f"{registry}/skills")
    name = f"{registry}/skills/greeter"
    assert "yanked: " in run("yank", f"{name}:1.3.0", "--reason", "greets the wrong one").stdout
    assert f"{name}:1.2.0@" in run("pull", f"{name}:^1").stdout
    assert "warning: this version is yanked: greets the wrong one" in run("pull", f"{name}:1.3.0").stderr
    assert "yanked: greets the wrong one" in run("list", name).stdout
    assert "good again: " in run("yank", f"{name}:1.3.0", "--reason", "was right", "--undo").stdout
    assert f"{name}:1.3.0@" in run("pull", f"{name}:^1").stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("publish", "missing.tar.gz", "--to", "127.0.0.1:1/skills"), "missing.tar.gz: cannot be read"),
        (("pull", "greeter"), "names no registry"),
        (("pull", "127.0.0.1:1/Upper"), "is not a repository path"),
        (("pull", "127.0.0.1:1/greeter:one"), "is neither a version nor a range"),
        (("pull", "127.0.0.1:1/greeter@sha256:12"), "is not a digest"),
        (("list", "127.0.0.1:1/greeter"), "127.0.0.1:1: cannot be reached"),
        (("login", "nohost", "--token", "x"), "is not a registry"),
        (("logout", "127.0.0.1:1"), "not logged in"),
    ],
)
def test_mistakes_get_one_clear_line(run: Run, arguments: tuple[str, ...], says: str) -> None:
    result = run(*arguments)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert says in line
