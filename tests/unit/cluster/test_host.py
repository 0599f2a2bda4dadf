"""What is found out about a host: cgroups, capabilities, what is missing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.cluster import preflight
from tests.cluster.cgroups import CgroupHost, Hierarchy, create, detect, members, remove
from tests.cluster.host import CAP_SYS_RESOURCE, has_capability
from tests.cluster.processes import ProcessId, free_ports, identify, is_zombie, parse_start_time, port_is_free

V1_MOUNTS = """\
25 24 0:22 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
26 25 0:23 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
27 25 0:24 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
28 25 0:25 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
29 25 0:26 / /sys/fs/cgroup/net_cls rw - cgroup cgroup rw,net_cls
30 25 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
"""
V1_OWN = "4:memory:/job/7\n3:cpu,cpuacct:/job/7\n2:name=systemd:/\n0::/\n"
V2_MOUNTS = "26 25 0:23 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n"


def test_cgroup_v1_keeps_the_node_below_its_caller() -> None:
    host = detect(V1_MOUNTS, V1_OWN)
    assert host.version == 1
    assert [str(group) for group in host.groups("node")] == [
        "/sys/fs/cgroup/cpu,cpuacct/job/7/node",
        "/sys/fs/cgroup/memory/job/7/node",
        "/sys/fs/cgroup/systemd/node",
    ]
    assert host.hierarchies[0].controllers == ("cpu", "cpuacct")


def test_cgroup_v1_in_a_container_is_seen_from_its_own_root() -> None:
    mounts = "27 25 0:24 /docker/1 /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    host = detect(mounts, "4:memory:/docker/1/sub\n")
    assert [str(group) for group in host.groups("node")] == ["/sys/fs/cgroup/memory/sub/node"]


def test_cgroup_v2_alone_puts_the_node_at_the_root_of_the_tree() -> None:
    host = detect(V2_MOUNTS, "0::/user.slice/session-1.scope\n")
    assert host.version == 2
    assert [str(group) for group in host.groups("node")] == ["/sys/fs/cgroup/node"]


def test_a_group_is_weighed_listed_and_removed(tmp_path: Path) -> None:
    (tmp_path / "cpuset.cpus").write_text("0-1")
    (tmp_path / "cpuset.mems").write_text("0")
    group = tmp_path / "node"
    group.mkdir()
    (group / "cpu.shares").write_text("1024")
    host = CgroupHost(1, (Hierarchy(("cpu", "cpuset"), tmp_path, tmp_path),))
    create(host, "node")
    assert (group / "cpuset.cpus").read_text() == "0-1"
    assert int((group / "cpu.shares").read_text()) > 1024
    (group / "kubepods" / "pod").mkdir(parents=True)
    (group / "cgroup.procs").write_text("4000001\n")
    (group / "kubepods" / "pod" / "cgroup.procs").write_text("4000002\n0\n")
    assert members(host.groups("node")) == {4000001, 4000002}
    for file in [path for path in group.rglob("*") if path.is_file()]:
        file.unlink()  # in the kernel's tree they vanish with their folder
    remove(host.groups("node"), seconds=1)
    assert not group.exists()


def test_capabilities_are_bits() -> None:
    assert has_capability("CapEff:\t000001ffffffffff\n", CAP_SYS_RESOURCE)
    assert not has_capability("CapInh:\t0\nCapEff:\t000001fffeffffff\n", CAP_SYS_RESOURCE)


def test_start_time_is_read_past_odd_names() -> None:
    fields = " ".join(str(number) for number in range(4, 30))
    assert parse_start_time(f"7 (a ) b) S {fields}") == 22
    assert is_zombie("7 (x) Z 1")
    assert not is_zombie("7 (Z) S 1")


def test_a_process_is_known_again_by_pid_and_start_time() -> None:
    own = identify(1)
    assert own is not None
    assert own == identify(1)
    assert own != ProcessId(1, own.start_time + 1)
    assert identify(2**22 + 1) is None


def test_free_ports_are_free_and_different() -> None:
    ports = free_ports(4)
    assert len(set(ports)) == 4
    assert all(port_is_free(port) for port in ports)


GOOD = preflight.Facts(
    root=True,
    machine="x86_64",
    debian=True,
    go=True,
    programs_built=False,
    missing_packages=("runc",),
    free_disk=50.0,
    cache=Path("/cache"),
    available_memory=8.0,
    port=16443,
    port_free=True,
    bridge_netfilter=True,
)


def test_a_good_host_has_no_problem() -> None:
    assert preflight.problems(GOOD) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"root": False}, "sudo"),
        ({"machine": "riscv64"}, "riscv64"),
        ({"debian": False}, "no apt: runc"),
        ({"go": False}, "no Go toolchain"),
        ({"free_disk": 3.0}, "3.0 GiB are free below /cache"),
        ({"available_memory": 1.0}, "1.0 GiB of memory"),
        ({"port_free": False}, "port 16443 on 127.0.0.1 is taken"),
        ({"bridge_netfilter": False}, "modprobe br_netfilter"),
    ],
)
def test_each_problem_is_one_line_with_its_fix(change: dict[str, object], words: str) -> None:
    problems = preflight.problems(replace(GOOD, **change))  # type: ignore[arg-type]
    assert len(problems) == 1
    assert words in str(problems[0])
    assert "; fix: " in str(problems[0])
    assert "\n" not in str(problems[0])


def test_all_problems_are_told_at_once() -> None:
    assert len(preflight.problems(replace(GOOD, root=False, go=False, port_free=False))) == 3


def test_built_programs_need_no_go_and_less_disk() -> None:
    assert preflight.problems(replace(GOOD, programs_built=True, go=False, free_disk=5.0)) == []


def test_packages_are_named_once() -> None:
    assert preflight.missing_packages(lambda program: program not in {"containerd", "ctr"}) == ("containerd",)


def test_available_memory() -> None:
    assert preflight.meminfo_available_gib("MemTotal: 99 kB\nMemAvailable:    2097152 kB\n") == 2.0
