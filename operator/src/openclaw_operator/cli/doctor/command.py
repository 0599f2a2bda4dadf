"""`openclaw-operator doctor`: its arguments and its output."""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import signal
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from importlib import metadata

from openclaw_operator.cli import installation
from openclaw_operator.cli.doctor.examine import Examination
from openclaw_operator.cli.doctor.finding import SIGNS, Finding, failure
from openclaw_operator.cli.doctor.probes import Probes
from openclaw_operator.cli.installation import Installation
from openclaw_operator.cluster.connection import connect
from openclaw_operator.cluster.inspector import Inspector
from openclaw_operator.errors import ApiError
from openclaw_operator.telemetry import Metrics

ABOUT = """Looks for what agents lack in this cluster, and says what to do: CRDs, rights, storage, metrics,
RuntimeClasses, images, NetworkPolicies, model providers and their keys. A namespace and a few pods are made for a
minute and removed; --no-probe only reads. Exit code 1 when something fails, else 0."""
Write = Callable[[str], object]


def configure(parser: argparse.ArgumentParser) -> None:
    """The arguments."""
    parser.description = ABOUT
    parser.add_argument("-n", "--namespace", help="look only at agents of this namespace; default: all")
    parser.add_argument("--operator-namespace", help="where the operator runs, if it cannot be found")
    parser.add_argument("--no-probe", action="store_true", help="make nothing in the cluster")
    parser.add_argument("--timeout", type=float, default=120, metavar="SECONDS", help="for each probe (default: 120)")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")


def run(options: argparse.Namespace, out: Write | None = None) -> int:
    """Exit code 0 when nothing fails, else 1. Raises OperatorError without a usable kubeconfig."""
    write = out or _write
    text = options.output == "text"
    try:
        found = asyncio.run(_examine(options, lambda finding: write(as_text(finding)) if text else None))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 1
    if not text:
        write(as_json(found))
    return exit_code(found)


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


async def _examine(options: argparse.Namespace, show: Callable[[Finding], object]) -> list[Finding]:
    # Probes are cleared away when the command is ended, too.
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    found: list[Finding] = []

    def note(finding: Finding) -> None:
        found.append(finding)
        show(finding)

    async with Inspector(await connect(), Metrics()) as client:

        def probes(operator: Installation | None) -> Probes:
            settings = operator.settings if operator else installation.local_settings()
            return Probes(client, settings.runtime_image, settings.image_pull_policy, options.timeout, _random_name)

        examination = Examination(
            client=client,
            namespace=options.namespace,
            operator_namespace=options.operator_namespace,
            version=metadata.version("openclaw-operator"),
            now=datetime.now(UTC),
            make_probes=None if options.no_probe else probes,
            note=note,
        )
        try:
            await examination.run()
        except ApiError as error:
            note(failure("API server", str(error), "see that kubectl get namespaces works with this kubeconfig"))
    return found


def _random_name(prefix: str) -> str:
    return f"{prefix}-{secrets.token_hex(4)}"


def exit_code(found: Iterable[Finding]) -> int:
    """1 when something fails."""
    return 1 if any(finding.level == "failure" for finding in found) else 0


def as_text(finding: Finding) -> str:
    """For people: a line, and one more with what to do."""
    line = f"{SIGNS[finding.level]} {finding.check:13} {' '.join(finding.message.split())}\n"
    return f"{line}  {'':13} → {finding.fix}\n" if finding.fix else line


def as_json(found: Iterable[Finding]) -> str:
    """For programs."""
    checks = [
        {"check": each.check, "level": each.level, "message": each.message, "fix": each.fix or None} for each in found
    ]
    healthy = not any(each["level"] == "failure" for each in checks)
    return json.dumps({"healthy": healthy, "checks": checks}, indent=2, ensure_ascii=False) + "\n"
