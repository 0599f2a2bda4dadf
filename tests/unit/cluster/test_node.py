"""The plan of a node and its supervisor."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster import addons, lifecycle, node, supervisor
from tests.cluster.paths import PACKAGE, REPOSITORY, ClusterPaths, cache_from
from tests.cluster.processes import ProcessId, poll


def spec(root: Path, **change: Any) -> node.NodeSpec:
    values: dict[str, Any] = {
        "paths": ClusterPaths(root / "demo"),
        "programs": node.Programs(Path("/bin-folder"), Path("/etcd-folder/server")),
        "snapshotter": "overlayfs",
        "cgroup_version": 1,
        "cgroup_controllers": (("memory",),),
        "listener": 5,
        "may_lower_oom_score": True,
    }
    return node.NodeSpec(**{**values, **change})


def test_configuration_files_parse(tmp_path: Path) -> None:
    files = node.config_files(spec(tmp_path))
    assert yaml.safe_load(files["kubelet.yaml"])["clusterDNS"] == ["10.96.0.10"]
    assert yaml.safe_load(files["kube-proxy.yaml"])["mode"] == "iptables"
    assert json.loads(files["cni/10-pods.conflist"])["plugins"][1]["type"] == node.CNI_POLICY_PLUGIN
    containerd = tomllib.loads(files["containerd.toml"])["plugins"]["io.containerd.grpc.v1.cri"]
    assert containerd["sandbox_image"] == node.PAUSE_IMAGE
    assert containerd["restrict_oom_score_adj"] is False


def test_without_the_capability_oom_scores_are_not_lowered(tmp_path: Path) -> None:
    files = node.config_files(spec(tmp_path, may_lower_oom_score=False, snapshotter="native"))
    containerd = tomllib.loads(files["containerd.toml"])["plugins"]["io.containerd.grpc.v1.cri"]
    assert containerd["restrict_oom_score_adj"] is True
    assert containerd["containerd"]["snapshotter"] == "native"


def test_every_component_waits_for_one_that_exists(tmp_path: Path) -> None:
    seen: set[str] = set()
    for entry in node.component_entries(spec(tmp_path)):
        assert seen.issuperset(entry["after"])
        seen.add(entry["name"])
    assert set(lifecycle.CONTROL_PLANE) <= seen


def test_only_the_forwarder_inherits_the_listener(tmp_path: Path) -> None:
    entries = node.component_entries(spec(tmp_path, listener=9))
    assert {entry["name"]: entry["inherit"] for entry in entries if entry["inherit"]} == {"forwarder": [9]}


def test_folders_with_sockets_have_short_paths(tmp_path: Path) -> None:
    plan = node.plan(spec(tmp_path))
    assert {target for _, target in plan["binds"]} == {"/run/openclaw/kubelet", "/run/openclaw/containerd"}


def test_components_inherit_no_secret_and_no_proxy() -> None:
    environment = {"PATH": "/bin", "OPENAI_API_KEY": "x", "HTTPS_PROXY": "y", "HOME": "/home"}
    inherited = lifecycle.component_environment(environment)
    assert not {"OPENAI_API_KEY", "HTTPS_PROXY"} & set(inherited)
    assert inherited["PATH"].startswith("/bin:")


def test_the_cache_folder_can_be_chosen(tmp_path: Path) -> None:
    assert cache_from({"OPENCLAW_CACHE_DIR": str(tmp_path)}).root == tmp_path
    assert cache_from({"HOME": "/home/x"}).root == Path("/home/x/.cache/openclaw-operator")


def test_manifests_are_complete(tmp_path: Path) -> None:
    text = addons.manifests(ClusterPaths(tmp_path))
    assert "@VOLUMES@" not in text
    objects = list(yaml.safe_load_all(text))
    deployments = {each["metadata"]["name"] for each in objects if each["kind"] == "Deployment"}
    assert deployments == {"coredns", "metrics-server", "local-path-provisioner"}
    (storage,) = [each for each in objects if each["kind"] == "StorageClass"]
    assert storage["volumeBindingMode"] == "WaitForFirstConsumer"
    assert storage["metadata"]["annotations"]["storageclass.kubernetes.io/is-default-class"] == "true"
    assert {path.stem for path in (PACKAGE / "manifests").glob("*.yaml")} == set(addons.MANIFESTS)


def test_a_record_survives_writing(tmp_path: Path) -> None:
    record = lifecycle.Record(ProcessId(1, 2), ProcessId(3, 4), 16443, ("/group",), sys.executable)
    record.write(tmp_path / "node.json")
    assert lifecycle.Record.read(tmp_path / "node.json") == record
    assert lifecycle.Record.read(tmp_path / "absent") is None
    (tmp_path / "node.json").write_text("{")
    assert lifecycle.Record.read(tmp_path / "node.json") is None


def test_a_node_whose_checkout_was_removed_is_of_no_use(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.touch()
    record = lifecycle.Record(ProcessId(1, 2), ProcessId(3, 4), 16443, (), str(python))
    assert record.usable
    python.unlink()
    assert not record.usable


@pytest.mark.parametrize(("starts", "seconds"), [(1, 0.0), (2, 0.25), (4, 1.0), (50, 10.0)])
def test_components_that_keep_ending_are_started_ever_later(starts: int, seconds: float) -> None:
    assert supervisor.backoff(starts) == seconds


SUPERVISE = """
import json, sys
from tests.cluster.supervisor import Supervisor
Supervisor(json.load(open(sys.argv[1]))).run()
"""
SLEEP = ["sleep", "1000"]


def plan_of(folder: Path, *components: dict[str, Any]) -> Path:
    (folder / "logs").mkdir()
    entries = [{"after": [], "ready": {}, "inherit": [], **each} for each in components]
    plan = {"logs": str(folder / "logs"), "state": str(folder / "state.json"), "components": entries}
    path = folder / "plan.json"
    path.write_text(json.dumps(plan))
    return path


def state(folder: Path) -> dict[str, dict[str, Any]]:
    file = folder / "state.json"
    content: dict[str, dict[str, Any]] = json.loads(file.read_text()) if file.exists() else {}
    return content


def all_ready(folder: Path) -> bool:
    states = state(folder)
    return bool(states) and all(each["ready"] for each in states.values())


def test_the_supervisor_starts_restarts_and_ends_components(tmp_path: Path) -> None:
    plan = plan_of(
        tmp_path, {"name": "first", "command": SLEEP}, {"name": "second", "command": SLEEP, "after": ["first"]}
    )
    process = subprocess.Popen([sys.executable, "-c", SUPERVISE, str(plan)], cwd=REPOSITORY)
    try:
        assert poll(lambda: all_ready(tmp_path), seconds=20)
        before = state(tmp_path)
        os.kill(before["first"]["pid"], signal.SIGKILL)
        assert poll(lambda: state(tmp_path)["first"]["starts"] == 2 and all_ready(tmp_path), seconds=20)
        after = state(tmp_path)
        assert after["first"]["last_exit"] == -signal.SIGKILL
        assert after["second"] == before["second"]
    finally:
        process.terminate()
        process.wait(20)
    assert not any(Path(f"/proc/{job['pid']}").exists() for job in after.values())


def test_what_others_wait_for_must_be_ready_first(tmp_path: Path) -> None:
    waiting = {"name": "first", "command": SLEEP, "ready": {"socket": str(tmp_path / "socket")}}
    plan = plan_of(tmp_path, waiting, {"name": "second", "command": SLEEP, "after": ["first"]})
    jobs = supervisor.Supervisor(json.loads(plan.read_text()))
    try:
        assert jobs.start_due()
        assert not jobs.check_ready()
        assert not jobs.start_due()
        assert [job.pid is not None for job in jobs.jobs] == [True, False]
    finally:
        jobs.stop_all()
