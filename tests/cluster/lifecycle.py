"""Start, stop and look at the local cluster: the host's side of it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.cluster import addons, cgroups, components, deps, gotools, node, pki, preflight
from tests.cluster.api import Api
from tests.cluster.apiserver import write_control_plane_files
from tests.cluster.errors import ClusterError, ComponentError
from tests.cluster.host import CAP_SYS_RESOURCE, has_capability
from tests.cluster.kubeconfig import write_kubeconfig
from tests.cluster.nodesetup import overlay_works
from tests.cluster.paths import REPOSITORY, Cache, ClusterPaths
from tests.cluster.processes import ProcessId, alive, end, exclusive, identify, poll, port_is_free, run
from tests.cluster.progress import Progress

DEFAULT_NAME = "default"
DEFAULT_PORT = 16443
CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
READY_SECONDS = 120.0
RECOVERY_SECONDS = 60.0
STOP_SECONDS = 15.0
RESTARTS_TOLERATED = 4
JOIN = 'while [ "$1" != -- ]; do echo 0 > "$1/cgroup.procs"; shift; done; shift; exec "$@"'
"""Shell: join each cgroup named before `--`, then become the command behind it."""


@dataclass(frozen=True)
class Record:
    """What is remembered of a started node."""

    init: ProcessId
    outer: ProcessId
    port: int
    groups: tuple[str, ...]
    """The node's cgroups. Whoever ends it may be in other groups than who started it."""
    program: str
    """The Python that runs its own parts. Without it (its checkout was removed) no pod gets a network any more."""

    @classmethod
    def read(cls, path: Path) -> Record | None:
        try:
            content = json.loads(path.read_text())
        except (FileNotFoundError, ValueError):
            return None
        return cls(
            ProcessId(**content["init"]),
            ProcessId(**content["outer"]),
            content["port"],
            tuple(content.get("groups", ())),
            content.get("program", ""),
        )

    @property
    def usable(self) -> bool:
        """Whether its own parts still can be started."""
        return Path(self.program).is_file()

    def write(self, path: Path) -> None:
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(asdict(self)))
        fresh.rename(path)


class LocalCluster:
    """One cluster by name. Public methods raise ClusterError."""

    def __init__(self, cache: Cache, name: str, progress: Progress) -> None:
        self.cache = cache
        self.paths: ClusterPaths = cache.cluster(name)
        self.progress = progress
        self.images = addons.ImageStore(self.paths, self.enter)

    # --- looking ------------------------------------------------------------------------------------------------------
    @property
    def record_file(self) -> Path:
        return self.paths.root / "node.json"

    def record(self) -> Record | None:
        return Record.read(self.record_file)

    def running(self) -> Record | None:
        """The record of a node whose first process lives."""
        record = self.record()
        return record if record is not None and alive(record.init) else None

    def require_running(self) -> Record:
        record = self.running()
        if record is None:
            raise ClusterError(f"cluster {self.paths.name} is not running; fix: python -m tests.cluster up")
        return record

    def api(self, record: Record) -> Api:
        return Api(f"https://127.0.0.1:{record.port}", self.paths.pki)

    def components(self) -> dict[str, dict[str, Any]]:
        """As the supervisor last published them: pid (inside the node), ready, starts, last_exit."""
        try:
            content: dict[str, dict[str, Any]] = json.loads(self.paths.state.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return content

    def healthy(self) -> bool:
        record = self.running()
        if record is None or not record.usable:
            return False
        states = self.components()
        return bool(states) and all(state["ready"] for state in states.values()) and self.api(record).node_ready()

    def enter(self, *namespaces: str) -> list[str]:
        """The beginning of a command that runs inside the node, for example enter("net")."""
        record = self.require_running()
        return ["nsenter", "--target", str(record.init.pid), *(f"--{each}" for each in namespaces), "--"]

    # --- starting -----------------------------------------------------------------------------------------------------
    def up(self, port: int | None = None) -> None:
        """Start it, or do nothing when it runs and is healthy. One that stays unhealthy is started anew."""
        if self.healthy() or self._recovers():
            self.progress.note(f"cluster {self.paths.name} is up")
            return
        own = self.running()
        port_to_check = None if own is not None and own.port == port else port
        preflight.check(self.cache.root, port=port_to_check, programs_built=deps.programs_built(self.cache))
        with self._lock():
            if self.healthy():
                return
            self._stop(grace_seconds=0)
            deps.ensure(self.cache, self.progress)
            started = time.monotonic()
            self._start(port)
            self.progress.note(f"cluster {self.paths.name} is ready after {time.monotonic() - started:.1f} s")

    def _recovers(self) -> bool:
        """A busy host makes a good cluster slow to answer: it gets time before it is replaced under its pods."""
        record = self.running()
        if record is None or not record.usable:
            return False
        with self.progress.step("the cluster runs but is not ready: wait for it"):
            poll(lambda: self.running() is None or self.healthy(), seconds=RECOVERY_SECONDS, interval=0.5)
        return self.healthy()

    def _start(self, port: int | None) -> None:
        with ExitStack() as stack:
            with self.progress.step("node: namespaces, certificates, configuration"):
                listener = stack.enter_context(self._listen(port))
                plan = self._write_files(listener)
                record = self._launch(plan, listener)
            images = stack.enter_context(self.images.importing(addons.system_images(self.cache), self._containerd_up))
            api = self.api(record)
            with self.progress.step("etcd, kube-apiserver"):
                self._wait(api.ready, "the API server")
            with self.progress.step("system services: rules, DNS, storage, metrics"):
                addons.apply(self.kubectl_program, self.paths)
            with self.progress.step("images of the system services"):
                images.result()
            with self.progress.step("node Ready"):
                self._wait(api.node_ready, "the node")
            with self.progress.step("DNS and storage available"):
                self._wait_for_services(api)

    def _listen(self, port: int | None) -> socket.socket:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        before = self.record()
        # The port a kubeconfig already names is worth keeping.
        wanted = port or (before.port if before else DEFAULT_PORT)
        listener.bind(("127.0.0.1", wanted if port or port_is_free(wanted) else 0))
        listener.listen(256)
        return listener

    def _write_files(self, listener: socket.socket) -> Path:
        paths = self.paths
        host = cgroups.host()
        for folder in (paths.logs, paths.config, paths.data / "kubelet", paths.data / "containerd", self.volumes):
            folder.mkdir(parents=True, exist_ok=True)
        self.paths.root.chmod(0o700)
        spec = node.NodeSpec(
            paths=paths,
            programs=node.Programs(
                gotools.module("kubernetes").output(self.cache), gotools.tool(self.cache, *components.ETCD)
            ),
            snapshotter="overlayfs" if overlay_works(paths.data) else "native",
            cgroup_version=host.version,
            cgroup_controllers=tuple(each.controllers for each in host.hierarchies),
            listener=listener.fileno(),
            may_lower_oom_score=has_capability(Path("/proc/self/status").read_text(), CAP_SYS_RESOURCE),
        )
        if not (paths.pki / "ca.crt").exists():
            pki.write_cluster_pki(
                paths.pki,
                now=datetime.now(UTC),
                server_names=node.server_names(),
                node=spec.hostname,
                node_ip=node.NODE_IP,
            )
        write_control_plane_files(spec.plane)
        for identity in ("kubelet", "kube-proxy", "network-policy"):
            write_kubeconfig(paths.config / f"{identity}.kubeconfig", spec.plane.server, paths.pki, identity)
        write_kubeconfig(paths.kubeconfig, f"https://127.0.0.1:{listener.getsockname()[1]}", paths.pki, pki.ADMIN)
        for name, content in node.config_files(spec).items():
            file = paths.config / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
        plugins = paths.config / "cni-bin"
        (plugins / node.CNI_POLICY_PLUGIN).chmod(0o755)
        for plugin in node.CNI_PLUGINS.iterdir():
            with suppress(FileExistsError):
                (plugins / plugin.name).symlink_to(plugin)
        plan = paths.config / "plan.json"
        plan.write_text(json.dumps(node.plan(spec), indent=1))
        paths.state.unlink(missing_ok=True)
        return plan

    @property
    def volumes(self) -> Path:
        return self.paths.data / "volumes"

    @property
    def cgroup(self) -> str:
        """Two caches may each have a cluster of the same name."""
        place = hashlib.sha256(str(self.paths.root).encode()).hexdigest()[:8]
        return f"openclaw-{self.paths.name}-{place}"

    def groups(self) -> set[Path]:
        """The cgroups of this cluster: those it was started in, and those it would be started in now."""
        record = self.record()
        return {Path(group) for group in (record.groups if record else ())} | set(cgroups.host().groups(self.cgroup))

    def _launch(self, plan: Path, listener: socket.socket) -> Record:
        host = cgroups.host()
        cgroups.create(host, self.cgroup)
        groups = [str(group) for group in host.groups(self.cgroup)]
        flags = ("mount", "net", "cgroup", "pid", "uts", "ipc", "fork")
        unshare = ["unshare", *(f"--{flag}" for flag in flags), "--kill-child=KILL"]
        first = [sys.executable, "-m", "tests.cluster.supervisor", str(plan)]
        log = self.paths.logs / "supervisor.log"
        with log.open("ab") as output:
            outer = subprocess.Popen(
                ["sh", "-c", JOIN, "sh", *groups, "--", *unshare, *first],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=REPOSITORY,
                env=component_environment(os.environ),
                pass_fds=[listener.fileno()],
                start_new_session=True,
            )
        children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
        if not poll(lambda: outer.poll() is not None or self.paths.state.exists(), seconds=20, interval=0.02):
            raise ComponentError("supervisor", "did not start", log)
        if outer.poll() is not None:
            raise ComponentError("supervisor", f"ended with {outer.returncode}", log)
        init, outside = identify(int(children.read_text().split()[0])), identify(outer.pid)
        if init is None or outside is None:
            raise ComponentError("supervisor", "ended", log)
        record = Record(init, outside, listener.getsockname()[1], tuple(groups), sys.executable)
        record.write(self.record_file)
        outer.returncode = 0  # it outlives this program
        return record

    def _containerd_up(self) -> bool:
        return bool(self.components().get("containerd", {}).get("ready"))

    def _wait_for_services(self, api: Api) -> None:
        """Raises ClusterError with the state and the last words of the service that does not come up."""

        def missing() -> set[str]:
            try:
                return set(api.unavailable_deployments("kube-system")) & set(addons.ESSENTIAL)
            except OSError:
                return set(addons.ESSENTIAL)

        if not poll(lambda: not missing(), seconds=READY_SECONDS, interval=0.1) and (late := missing()):
            name = min(late)
            system = [*self.kubectl_command(), "--namespace=kube-system"]
            pods = run([*system, "get", "pods"])
            # Without a started container there is no log, and kubectl says why.
            words = subprocess.run(
                [*system, "logs", f"deployment/{name}", "--tail=10"], capture_output=True, text=True, check=False
            )
            raise ClusterError(f"{name} does not become available:\n{pods}\n{words.stdout}{words.stderr}".rstrip())

    def _wait(self, ready: Callable[[], bool], what: str) -> None:
        """Until it is ready; as soon as a component keeps ending, its log is the error."""

        def done() -> bool:
            for name, state in self.components().items():
                if state["starts"] > RESTARTS_TOLERATED:
                    raise ComponentError(name, f"keeps ending ({state['last_exit']})", self.paths.logs / f"{name}.log")
            if self.running() is None:
                raise ComponentError("supervisor", "ended", self.paths.logs / "supervisor.log")
            return ready()

        if not poll(done, seconds=READY_SECONDS, interval=0.1):
            late = [name for name, state in self.components().items() if not state["ready"]] or ["kubelet"]
            raise ComponentError(late[0], f"keeps {what} from being ready", self.paths.logs / f"{late[0]}.log")

    # --- stopping -----------------------------------------------------------------------------------------------------
    def down(self) -> None:
        """End every process and remove every trace, state included."""
        with self._lock(), self.progress.step(f"remove cluster {self.paths.name}"):
            self._stop(grace_seconds=0)
            if str(self.paths.root) + "/" in Path("/proc/self/mountinfo").read_text():
                raise ClusterError(f"something is mounted below {self.paths.root}; fix: umount it")
            shutil.rmtree(self.paths.root, ignore_errors=True)
            # /var/lib/cni stays: removing a folder takes away what another cluster's namespace has mounted on it.

    def _stop(self, *, grace_seconds: float) -> None:
        """End the node and what a killed run may have left: the kernel ends a pid namespace with its first process."""
        record = self.record()
        if record is not None:
            end(record.init, grace_seconds=grace_seconds)
            end(record.outer, grace_seconds=0)
        groups = self.groups()
        for pid in cgroups.members(groups):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        cgroups.remove(groups)

    def restart(self, *, control_plane_only: bool) -> None:
        """Like a reboot of the node, or a crash of its control plane: state is kept."""
        record = self.require_running()
        if control_plane_only:
            with self.progress.step("end the control plane; it is started again"):
                before = {name: self.components()[name]["starts"] for name in CONTROL_PLANE}
                for name in reversed(CONTROL_PLANE):
                    os.kill(self.host_pid(record, self.components()[name]["pid"]), signal.SIGKILL)

                def back() -> bool:
                    states = self.components()
                    restarted = all(states[name]["starts"] > before[name] for name in CONTROL_PLANE)
                    return restarted and self.healthy()

                self._wait(back, "the control plane")
            return
        with self._lock():
            with self.progress.step("stop the node"):
                self._stop(grace_seconds=STOP_SECONDS)
            self._start(None)

    def host_pid(self, record: Record, inner: int) -> int:
        """A pid inside the node → the same process as the host sees it (NSpid, proc_pid_status(5))."""
        namespace = Path(f"/proc/{record.init.pid}/ns/pid").readlink()
        for status in Path("/proc").glob("[0-9]*/status"):
            with suppress(OSError):
                pids = next(line for line in status.read_text().splitlines() if line.startswith("NSpid:")).split()[1:]
                if int(pids[-1]) == inner and (status.parent / "ns" / "pid").readlink() == namespace:
                    return int(pids[0])
        raise ClusterError(f"process {inner} of cluster {self.paths.name} has ended")

    # --- using --------------------------------------------------------------------------------------------------------
    @property
    def kubeconfig(self) -> Path:
        return self.paths.kubeconfig

    def kubectl_command(self) -> list[str]:
        return [str(self.kubectl_program), f"--kubeconfig={self.kubeconfig}"]

    def exec_net_command(self) -> list[str]:
        return self.enter("net")

    @property
    def kubectl_program(self) -> Path:
        return gotools.tool(self.cache, "kubernetes", "kubectl")

    def load(self, archives: list[addons.Archive]) -> None:
        """Bring images into the node; those it has already are passed over."""
        with self._lock():
            for archive in archives:
                if self.images.imported().get(archive.name) != archive.digest:
                    with self.progress.step(f"load {archive.name}"):
                        self.images.load([archive])

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """One change at a time: a second `up` waits for the first and then finds it done."""
        with exclusive(self.paths.root.parent / f".{self.paths.name}.lock"):
            yield


def component_environment(environment: os._Environ[str] | dict[str, str]) -> dict[str, str]:
    """What components inherit: no proxy, no credential, nothing but where programs are."""
    path = environment.get("PATH", "")
    return {
        "PATH": f"{path}:/usr/sbin:/sbin:/usr/bin:/bin",
        "HOME": environment.get("HOME", "/root"),
        "PYTHONPATH": str(REPOSITORY),
        "PYTHONDONTWRITEBYTECODE": "1",
        "LANG": "C.UTF-8",
    }
