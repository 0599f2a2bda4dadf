"""The command line of the test cluster."""

from __future__ import annotations

import argparse
import os
import subprocess
from collections.abc import Sequence

from rich.console import Console

from tests.cluster import deps, images, kind, preflight
from tests.cluster.builder import Builder, all_names
from tests.cluster.errors import ClusterError, PreflightError
from tests.cluster.lifecycle import DEFAULT_NAME, LocalCluster
from tests.cluster.paths import REPOSITORY, cache_from
from tests.cluster.progress import Progress

DESCRIPTION = """A one-node Kubernetes for tests and demo. CLUSTER=local makes it on the bare host (Debian 12, root),
CLUSTER=kind uses kind; the default, auto, is kind where docker or podman answers."""


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(prog="python -m tests.cluster", description=DESCRIPTION)
    root.add_argument("--name", default=DEFAULT_NAME, help="which cluster (default: %(default)s)")
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, summary: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=summary, description=summary)

    command("preflight", "check the host, change nothing")
    needed = command("deps", "install Debian packages and build the programs, once")
    needed.add_argument("--tests", action="store_true", help="also the servers that integration tests start")
    up = command("up", "start the cluster; nothing to do when it is healthy")
    up.add_argument("--port", type=int, help="loopback port of the API (default: 16443, or a free one)")
    command("down", "end the cluster and remove its state")
    restart = command("restart", "restart the node, keeping its state")
    restart.add_argument("--control-plane", action="store_true", help="only etcd, API server, controllers, scheduler")
    build = command("build", "build images whose content changed")
    build.add_argument("images", nargs="+", metavar="IMAGE", help=f"all, or of {', '.join(images.IMAGES)}")
    load = command("load", "build images whose content changed and bring them into the cluster")
    load.add_argument("images", nargs="*", metavar="IMAGE", help="default: all")
    command("status", "what runs")
    command("kubeconfig", "print the path of the kubeconfig")
    kubectl = command("kubectl", "run kubectl against the cluster")
    kubectl.add_argument("arguments", nargs=argparse.REMAINDER)
    inside = command("exec-net", "run a command in the node's network: Services and pod addresses can be reached")
    inside.add_argument("arguments", nargs=argparse.REMAINDER)
    forward = command("forward", "forward a loopback port to a Service: NAMESPACE/SERVICE LOCAL:REMOTE")
    forward.add_argument("service")
    forward.add_argument("ports")
    return root


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    console = Console(stderr=True, highlight=False)
    progress = Progress(console)
    try:
        cache = cache_from(os.environ)
        local = LocalCluster(cache, options.name, progress)
        wanted = os.environ.get("CLUSTER", "auto")
        # A running local cluster is the one that is meant, whatever could be started beside it.
        automatic = wanted in {"", "auto"}
        engine = None if automatic and local.running() else kind.choose(wanted, kind.engine_answers)
        if engine is not None:
            return change_kind(options, kind.KindCluster(cache, options.name, progress, engine))
        return change_local(options, local, progress)
    except PreflightError as error:
        for problem in error.problems:
            console.print(f"[red]error:[/] {problem}", soft_wrap=True)
        return error.exit_code
    except ClusterError as error:
        console.print("[red]error:[/] ", end="")
        console.print(str(error), markup=False, soft_wrap=True)
        return error.exit_code
    except KeyboardInterrupt:
        return 130


def image_names(given: list[str]) -> list[str]:
    """`all` or nothing means every image whose Dockerfile is there. Raises ClusterError for an unknown one."""
    unknown = sorted(set(given) - set(images.IMAGES) - {"all"})
    if unknown:
        raise ClusterError(f"no image is named {', '.join(unknown)}; fix: all, or of {', '.join(images.IMAGES)}")
    return given if given and "all" not in given else all_names(lambda file: (REPOSITORY / file).exists())


def change_local(options: argparse.Namespace, cluster: LocalCluster, progress: Progress) -> int:
    cache = cluster.cache
    match options.command:
        case "preflight":
            preflight.check(cache.root, port=None, programs_built=deps.programs_built(cache))
        case "deps":
            preflight.check(cache.root, port=None, programs_built=deps.programs_built(cache))
            more = preflight.TEST_PACKAGES if options.tests else {}
            deps.ensure(cache, progress, {**preflight.PACKAGES, **more})
        case "up":
            cluster.up(options.port)
            print(cluster.kubeconfig)
        case "down":
            cluster.down()
        case "restart":
            cluster.restart(control_plane_only=options.control_plane)
        case "build":
            Builder(cache, progress).build(image_names(options.images))
        case "load":
            cluster.require_running()
            cluster.load(Builder(cache, progress).build(image_names(options.images)))
        case "status":
            return status(cluster)
        case _:
            cluster.require_running()
            return use(options, cluster)
    return 0


def change_kind(options: argparse.Namespace, cluster: kind.KindCluster) -> int:
    match options.command:
        case "preflight":
            cluster.preflight()
        case "deps":
            cluster.preflight()
            cluster.deps()
        case "up":
            cluster.up(options.port)
            print(cluster.kubeconfig)
        case "down":
            cluster.down()
        case "restart":
            cluster.restart(control_plane_only=options.control_plane)
        case "build":
            cluster.build(image_names(options.images))
        case "load":
            cluster.load(cluster.build(image_names(options.images)))
        case "status":
            return subprocess.call([*cluster.kubectl_command(), "get", "nodes,pods", "--all-namespaces"])
        case _:
            return use(options, cluster)
    return 0


def use(options: argparse.Namespace, cluster: LocalCluster | kind.KindCluster) -> int:
    """The commands that look into a running cluster."""
    match options.command:
        case "kubectl":
            return subprocess.call([*cluster.kubectl_command(), *strip_dashes(options.arguments)])
        case "exec-net":
            return subprocess.call([*cluster.exec_net_command(), *strip_dashes(options.arguments)])
        case "forward":
            namespace, _, service = options.service.rpartition("/")
            target = ["--namespace", namespace or "default", "port-forward", f"service/{service}", options.ports]
            return subprocess.call([*cluster.kubectl_command(), *target])
        case _:
            print(cluster.kubeconfig)
            return 0


def strip_dashes(arguments: list[str]) -> list[str]:
    return arguments[1:] if arguments[:1] == ["--"] else arguments


def status(cluster: LocalCluster) -> int:
    """One line per component; 0 when all is well, 1 when not."""
    console = Console(highlight=False)
    record = cluster.running()
    if record is None:
        console.print(f"cluster {cluster.paths.name}: down")
        return 1
    healthy = cluster.healthy()
    console.print(f"cluster {cluster.paths.name}: {'healthy' if healthy else 'not healthy'}, pid {record.init.pid}")
    console.print(f"API     https://127.0.0.1:{record.port}   kubeconfig {cluster.kubeconfig}", soft_wrap=True)
    for name, state in cluster.components().items():
        mark = "[green]●[/]" if state["ready"] else "[red]●[/]"
        restarts = f", {state['starts'] - 1} restarts" if state["starts"] > 1 else ""
        console.print(f"{mark} {name}{restarts}")
    return 0 if healthy else 1
