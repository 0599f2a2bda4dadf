"""What the first process of a node does inside its fresh namespaces: mounts, cgroups, network."""

from __future__ import annotations

import shutil
import socket
from dataclasses import dataclass
from pathlib import Path

from tests.cluster import cgroups
from tests.cluster.errors import CommandError
from tests.cluster.processes import run

BRIDGE_NETFILTER = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
KERNEL_DEFAULTS = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)


@dataclass(frozen=True)
class NodeNetwork:
    """Addresses inside the network namespace. Nothing leads out of it."""

    address: str
    prefix: int
    gateway: str


def mount_file_systems(cgroup_version: int, controllers: list[list[str]], run_folder: Path) -> None:
    """Private copies of what a kubelet writes to. `run_folder` lies below /run, which is empty at first."""
    run(["mount", "--make-rprivate", "/"])
    run(["mount", "-t", "proc", "proc", "/proc"])
    run(["umount", "-R", "/sys"])
    run(["mount", "-t", "sysfs", "sysfs", "/sys"])
    _mount_cgroups(cgroup_version, controllers)
    for folder in ("/run", "/var/log", "/var/lib/cni"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", folder])
    run_folder.mkdir(parents=True)
    _shield_kernel_settings(run_folder / "sysctl")
    # Volumes mounted by the kubelet must show up in containers, and the other way round.
    run(["mount", "--make-rshared", "/"])


def _mount_cgroups(version: int, controllers: list[list[str]]) -> None:
    if version == 2:
        root = Path("/sys/fs/cgroup")
        run(["mount", "-t", "cgroup2", "cgroup2", root])
        # Only a group without processes of its own hands controllers to its children.
        leaf = root / "init"
        leaf.mkdir(exist_ok=True)
        for pid in (root / "cgroup.procs").read_text().split():
            (leaf / "cgroup.procs").write_text(pid)
        cgroups.enable_v2_controllers(root)
        return
    run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/sys/fs/cgroup"])
    for names in controllers:
        named = names == [cgroups.V1_NAMED]
        folder = Path("/sys/fs/cgroup") / ("systemd" if named else ",".join(names))
        folder.mkdir()
        run(["mount", "-t", "cgroup", "-o", f"none,{names[0]}" if named else ",".join(names), "cgroup", folder])


def _shield_kernel_settings(folder: Path) -> None:
    """The kubelet sets values that are the whole host's, such as panic on oops: let it write to copies."""
    folder.mkdir()
    for name in KERNEL_DEFAULTS:
        original = Path("/proc/sys") / name
        if original.exists():
            copy = folder / name.replace("/", ".")
            copy.write_text(original.read_text())
            run(["mount", "--bind", copy, original])


def set_up_network(hostname: str, network: NodeNetwork) -> None:
    """The kernel may have no dummy device, so the node's address sits on a bridge, named eth0 as programs expect."""
    socket.sethostname(hostname)
    run(["ip", "link", "set", "lo", "up"])
    run(["ip", "link", "add", "eth0", "type", "bridge"])
    run(["ip", "address", "add", f"{network.address}/{network.prefix}", "dev", "eth0"])
    run(["ip", "link", "set", "eth0", "up"])
    run(["ip", "route", "add", "default", "via", network.gateway, "dev", "eth0"])
    settings = {
        "net/ipv4/ip_forward": "1",
        "net/ipv4/conf/all/route_localnet": "1",
        "net/ipv4/conf/all/rp_filter": "0",
        "net/ipv4/conf/default/rp_filter": "0",
    }
    for name, value in settings.items():
        (Path("/proc/sys") / name).write_text(value)
    BRIDGE_NETFILTER.write_text("1")


def overlay_works(folder: Path) -> bool:
    """Whether the file system below `folder` can carry overlay mounts (it cannot when it is itself an overlay)."""
    trial = folder / ".overlay-trial"
    parts = {name: trial / name for name in ("lower", "upper", "work", "merged")}
    for part in parts.values():
        part.mkdir(parents=True, exist_ok=True)
    options = ",".join(f"{name}dir={parts[name]}" for name in ("lower", "upper", "work"))
    script = f"mount -t overlay overlay -o {options} {parts['merged']} && umount {parts['merged']}"
    try:
        run(["unshare", "--mount", "sh", "-c", script])
    except CommandError:
        return False
    finally:
        shutil.rmtree(trial, ignore_errors=True)
    return True
