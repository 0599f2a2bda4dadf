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
ELSEWHERE = {"argocd-application.yaml"}  # needs Argo CD's API
FILES = sorted(path for path in EXAMPLES.rglob("*.yaml") if path.name not in {*ELSEWHERE, "kustomization.yaml"})


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


def test_argocd_application_names_the_chart() -> None:
    application = yaml.safe_load((EXAMPLES / "argocd-application.yaml").read_text())
    assert (REPOSITORY / application["spec"]["source"]["path"] / "Chart.yaml").is_file()
    assert "ServerSideApply=true" in application["spec"]["syncPolicy"]["syncOptions"]
