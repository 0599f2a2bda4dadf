"""python -m tests.demo up|down|status: `make demo` and `make demo-down`."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from tests.cluster.errors import ClusterError, PreflightError
from tests.cluster.paths import Cache, cache_from
from tests.cluster.progress import Progress
from tests.demo import clusters, steps, workspace
from tests.demo.clusters import Cluster
from tests.demo.errors import DemoError, SetUpError
from tests.demo.report import Report


def log_to(folder: Path) -> Path:
    """Everything that is said and run goes to a file; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"demo-{datetime.now(UTC):%Y%m%d-%H%M%S}.log"
    logging.basicConfig(filename=path, level=logging.DEBUG, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    for noisy in ("httpcore", "httpx", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    return path


def up(cluster: Cluster, cache: Cache, report: Report) -> None:
    """The demo, from whatever is there already."""
    began = time.monotonic()
    model = steps.model_from(os.environ)
    report.console.print(f"[bold]OpenClaw Operator[/] on a {cluster.title}")
    report.note(f"language model: {model.title}")

    report.phase("1 · Cluster")
    with report.step("look at the host", remember="look at the host"):
        cluster.check()
    with report.step("programs and packages"):
        cluster.install_tools()
    with report.step("cluster"):
        cluster.up()
    if not model.stand_in:
        with report.step("way to the model"):
            model = replace(model, base_url=cluster.way_out(model.base_url))
    with report.step("images built"):
        cluster.build_images()
    with report.step("images loaded"):
        changed = cluster.load_images()

    report.phase("2 · Operator")
    tools = steps.Tools.of(cache, cluster)
    with report.step("helm upgrade --install"):
        steps.install_chart(tools, cluster)

    report.phase("3 · Agents")
    kube = tools.kube(steps.NAMESPACE)
    with report.step(f"namespace {steps.NAMESPACE} (PodSecurity restricted), key of the model"):
        steps.make_namespace(kube)
        if changed:
            steps.replace_pods(kube)
        steps.provide_model(kube, model)
    with report.step("kubectl apply -k examples/quickstart"):
        steps.apply_quickstart(kube, model)
    with report.step("all Ready", remember="from kubectl apply to Ready"):
        steps.await_quickstart(kube, report)
    with report.step("uncommitted work in the git repository of code-expert"):
        changes = steps.seed(kube)
    report.block("git status in the workspace of code-expert", changes)

    report.phase("4 · Work")
    before = workspace.commits(kube)
    said = steps.talk(kube, report, f"demo-{datetime.now(UTC):%H%M%S}")

    report.phase("5 · What happened")
    steps.show_what_happened(kube, report, said, before)
    workspace.close_shell(kube)
    log = f"export KUBECONFIG={tools.kubeconfig}"
    report.summary(
        [
            ("elapsed", f"{time.monotonic() - began:.1f} s"),
            ("look around", f"{log}; {tools.kubectl} -n {steps.NAMESPACE} get openclaw,pods"),
            ("remove", "make demo-down"),
        ]
    )


def status(cluster: Cluster, cache: Cache, console: Console) -> int:
    """What runs; 0 when all of it is Ready."""
    if not cluster.running():
        console.print(f"{cluster.title}: down")
        return 1
    kube = steps.Tools.of(cache, cluster).kube(steps.NAMESPACE)
    shown = kube.try_run("get", "openclaw,pods")
    console.print(shown.stdout or shown.stderr, markup=False, end="")
    return 0 if all(kube.try_run("wait", "--for=condition=Ready", "--timeout=1s", each).returncode == 0
                    for each in steps.QUICKSTART_OBJECTS) else 1  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.demo", description=__doc__)
    parser.add_argument("command", choices=["up", "down", "status"])
    options = parser.parse_args(arguments)
    cache = cache_from(os.environ)
    console = Console(highlight=False)
    log = log_to(cache.root / "logs")
    try:
        cluster = clusters.choose(os.environ.get("CLUSTER", "auto"), cache, Progress(console))
        match options.command:
            case "up":
                up(cluster, cache, Report(console))
            case "down":
                cluster.down()
            case "status":
                return status(cluster, cache, console)
    except PreflightError as error:
        for problem in error.problems:
            console.print(f"[red]error:[/] {problem}", soft_wrap=True)
        return error.exit_code
    except (DemoError, ClusterError) as error:
        detail = getattr(error, "detail", "")
        logging.getLogger("demo").exception("%s", detail)
        console.print("[red]error:[/] ", end="")
        console.print(str(error), markup=False, soft_wrap=True)
        if not isinstance(error, SetUpError):
            console.print(f"[dim]everything that was done is in {log}[/]", soft_wrap=True)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
