"""Every example is one the API server takes, and the quickstart is what its sources say."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.apiserver import ApiServer
from tests.cluster.paths import REPOSITORY
from tests.contract.helm import documents, ok, program, run

EXAMPLES = REPOSITORY / "examples"
ARGOCD = EXAMPLES / "argocd"  # needs Argo CD's API
NOT_RESOURCES = {"kustomization.yaml", "skill.yaml"}  # the second is a file of a skill's folder
FILES = sorted(path for path in EXAMPLES.rglob("*.yaml") if path.parent != ARGOCD and path.name not in NOT_RESOURCES)


@pytest.fixture(scope="session")
def kubectl(api_server: ApiServer) -> list[str]:
    command = [program("kubectl"), "--kubeconfig", str(api_server.kubeconfig)]
    ok(*command, "apply", "--server-side", "-f", str(REPOSITORY / "crds"))
    ok(*command, "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
    return command


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(EXAMPLES)))
def test_api_server_takes_it(kubectl: list[str], path: Path) -> None:
    apply = [*kubectl, "apply", "--server-side", "--dry-run=server", "--validate=strict", "-n", "default", "-f", "-"]
    result = run(*apply, stdin=path.read_text())
    assert result.returncode == 0, result.stderr
    assert "Warning" not in result.stderr


def test_quickstart_has_no_namespace_and_lists_every_file(kubectl: list[str]) -> None:
    objects = documents(ok(*kubectl, "kustomize", str(EXAMPLES / "quickstart")))
    written = [
        item
        for path in (EXAMPLES / "quickstart").glob("*.yaml")
        if path.name != "kustomization.yaml"
        for item in documents(path.read_text())
    ]

    def key(item: dict[str, Any]) -> tuple[str, str]:
        return item["kind"], item["metadata"]["name"]

    assert sorted(map(key, objects)) == sorted(map(key, written))
    assert not [item for item in objects if "namespace" in item["metadata"]]


def test_quickstart_requests_fit_two_cores_with_the_rest_of_a_cluster(kubectl: list[str]) -> None:
    def millicores(node: Any) -> int:
        if isinstance(node, list):
            return sum(map(millicores, node))
        if not isinstance(node, dict):
            return 0
        own = node.get("requests", {}).get("cpu", 0) if isinstance(node.get("requests"), dict) else 0
        text = str(own)
        here = int(text[:-1]) if text.endswith("m") else int(float(text) * 1000)
        return here + sum(millicores(child) for child in node.values())

    assert millicores(documents(ok(*kubectl, "kustomize", str(EXAMPLES / "quickstart")))) <= 600


def test_skill_manifest_is_generated_from_the_skill_folder() -> None:
    openclaw = shutil.which("openclaw", path=str(Path(sys.executable).parent))
    assert openclaw, "fix: make install"
    command = [openclaw, "skill", "manifest", str(REPOSITORY / "skills" / "git-ai-helper")]
    generated = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert (EXAMPLES / "quickstart" / "skill-git-ai-helper.yaml").read_text() == generated, "fix: make examples"


def test_argocd_applications_name_what_there_is() -> None:
    for file, content in (("operator.yaml", "Chart.yaml"), ("application.yaml", "kustomization.yaml")):
        application = yaml.safe_load((ARGOCD / file).read_text())
        assert (REPOSITORY / application["spec"]["source"]["path"] / content).is_file()
        assert "ServerSideApply=true" in application["spec"]["syncPolicy"]["syncOptions"]


def test_argocd_puts_every_object_of_the_quickstart_into_a_wave(kubectl: list[str], tmp_path: Path) -> None:
    application = yaml.safe_load((ARGOCD / "application.yaml").read_text())
    shutil.copytree(EXAMPLES / "quickstart", tmp_path, dirs_exist_ok=True)
    kustomization = yaml.safe_load((tmp_path / "kustomization.yaml").read_text())
    kustomization["patches"] = application["spec"]["source"]["kustomize"]["patches"]
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    waves: dict[str, set[str]] = {}
    for item in documents(ok(*kubectl, "kustomize", str(tmp_path))):
        waves.setdefault(item["kind"], set()).add(item["metadata"]["annotations"]["argocd.argoproj.io/sync-wave"])
    assert waves == {"MemoryStore": {"0"}, "Skill": {"1"}, "Agent": {"2"}}
