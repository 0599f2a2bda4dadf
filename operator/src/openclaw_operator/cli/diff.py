"""`openclaw-operator diff -f FILE`: what applying resources would do to their children, before anything is applied."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from openclaw_operator.cli import installation
from openclaw_operator.cli.fields import differences
from openclaw_operator.cli.preview import COMPANIONS, KINDS, Preview, PreviewError, Result, preview
from openclaw_operator.cluster.connection import connect, namespace_of
from openclaw_operator.cluster.dryrun import Change, DryRunClient
from openclaw_operator.telemetry import Metrics

Object = dict[str, Any]
PODS = frozenset({"Deployment", "StatefulSet"})
ABOUT = """Shows what applying FILE would do: which child objects would be created, changed or deleted, field by
field, and whether pods would restart. Nothing is written: the API server is asked for dry runs; where you may not do
those, the changes are worked out here. Exit code as of kubectl diff: 0 nothing would
change, 1 something would, 2 error."""


def configure(parser: argparse.ArgumentParser) -> None:
    """The arguments."""
    parser.description = ABOUT
    parser.add_argument("-f", "--filename", action="append", required=True, metavar="FILE", help="YAML; - for stdin")
    parser.add_argument("-n", "--namespace", help="for resources that name none; default: that of the kubeconfig")
    parser.add_argument("--operator-namespace", help="where the operator runs, if it cannot be found")
    parser.add_argument("--output", choices=("text", "json"), default="text")


def run(options: argparse.Namespace, out: Callable[[str], object] = sys.stdout.write) -> int:
    """Exit code 0 when nothing would change, 1 when something would. Raises OperatorError."""
    result = asyncio.run(_preview(options))
    if options.output == "json":
        out(json.dumps(as_data(result), indent=2, ensure_ascii=False) + "\n")
    else:
        out(as_text(result))
    return 1 if any(each.children or each.refused for each in result.previews) else 0


async def _preview(options: argparse.Namespace) -> Result:
    documents = [item for name in options.filename for item in read(name, sys.stdin.read)]
    connection = await connect()
    namespace = options.namespace or await namespace_of()
    for item in documents:
        item["metadata"].setdefault("namespace", namespace)
    async with DryRunClient(connection, Metrics()) as client:
        found = await installation.find(client, options.operator_namespace)
        result = await preview(client, found.settings if found else installation.local_settings(), documents)
    if found is None:
        note = (
            "the operator cannot be seen, so its images are taken to be the defaults: "
            "name its namespace with --operator-namespace, or set OPENCLAW_OPERATOR_RUNTIME_IMAGE and the like"
        )
        return Result(result.previews, (note, *result.notes))
    return result


def read(name: str, stdin: Callable[[], str]) -> list[Object]:
    """The documents of a file that matter here. Raises PreviewError naming file, document and fix."""
    try:
        text = stdin() if name == "-" else Path(name).read_text(encoding="utf-8")
        parsed = list(yaml.safe_load_all(text))
    except (OSError, UnicodeDecodeError) as error:
        raise PreviewError(f"{name}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    except yaml.YAMLError as error:
        raise PreviewError(f"{name}: is not YAML: {' '.join(str(error).split())}") from None
    documents: list[Object] = []
    for number, item in enumerate(each for each in parsed if each is not None):
        listed = item.get("items") if isinstance(item, dict) and item.get("kind") == "List" else [item]
        for entry in listed or ():
            if not isinstance(entry, dict) or not isinstance(entry.get("kind"), str):
                raise PreviewError(f"{name}: document {number + 1} is no Kubernetes object: it has no kind")
            if entry["kind"] not in {*KINDS, *COMPANIONS}:
                continue
            if not isinstance(entry.get("metadata"), dict) or not entry["metadata"].get("name"):
                raise PreviewError(f"{name}: document {number + 1}: metadata.name is missing: name the {entry['kind']}")
            documents.append(entry)
    if not any(item["kind"] in KINDS for item in documents):
        raise PreviewError(f"{name}: holds no {', '.join(KINDS[:-1])} or {KINDS[-1]}")
    return documents


def restart_of(change: Change) -> str | None:
    """What a change does to running pods, None when they stay."""
    if change.kind not in PODS or change.before is None:
        return None
    old = change.before["spec"]
    pods = (change.before.get("status") or {}).get("replicas", old.get("replicas", 1))
    named = "1 pod" if pods == 1 else f"{pods} pods"
    if change.after is None:
        return f"ends {named}" if pods else None
    new = change.after["spec"]
    if not pods:
        return None
    if new.get("replicas", 1) == 0:
        return f"ends {named}"
    fields = differences(change.kind, change.before, change.after)
    if not any(field.path.startswith("spec.template.") for field in fields):
        return None
    if new.get("paused"):
        return f"restarts {named} once spec.gateway.rollout.paused is false again"
    if (new.get("strategy") or {}).get("type") == "Recreate":
        return f"restarts {named}, with nothing answering meanwhile"
    return f"restarts {named}, one after the other"


def as_data(result: Result) -> Object:
    """For programs."""
    return {
        "resources": [
            {
                "kind": each.kind,
                "namespace": each.namespace,
                "name": each.name,
                "because": each.because,
                "refused": each.refused,
                "ready": each.ready,
                "children": [_child_data(change) for change in each.children],
            }
            for each in result.previews
        ],
        "notes": list(result.notes),
    }


def _child_data(change: Change) -> Object:
    return {
        "kind": change.kind,
        "name": change.name,
        "action": _action(change),
        "restart": restart_of(change),
        "exact": change.exact,
        "fields": [
            {"path": field.path, "before": field.before, "after": field.after}
            for field in (
                differences(change.kind, change.before, change.after) if change.before and change.after else ()
            )
        ],
    }


def _action(change: Change) -> str:
    if change.before is None:
        return "create"
    return "delete" if change.after is None else "change"


def as_text(result: Result) -> str:
    """For people."""
    lines: list[str] = []
    for each in result.previews:
        lines += _resource_lines(each)
    lines += [f"note: {note}" for note in result.notes]
    return "\n".join(lines) + "\n"


def _resource_lines(each: Preview) -> list[str]:
    because = f" ({each.because})" if each.because else ""
    lines = [f"{each.kind} {each.namespace}/{each.name}{because}"]
    if each.refused:
        return [*lines, f"  would be refused: {each.refused}"]
    for change in each.children:
        restart = restart_of(change)
        lines.append(f"  {_action(change):6} {change.kind} {change.name}{f': {restart}' if restart else ''}")
        if change.before and change.after:
            lines += [f"           {field}" for field in differences(change.kind, change.before, change.after)]
    if not each.children:
        lines.append("  no child changes")
    if each.ready and each.ready["status"] != "True" and each.ready["reason"] != "Progressing":
        lines.append(f"  not ready: {each.ready['reason']}: {each.ready['message']}")
    return lines
