"""The sandbox benchmark's own parts: whom a write belongs to, and which goals are judged."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from tests.bench.sandbox import __main__ as command
from tests.bench.sandbox import report, workload
from tests.bench.sandbox.report import COLD, JOB, Results
from tests.bench.sandbox.writes import writes_between

SERIAL = "isolated, python, one at a time"


def event(user: str, verb: str, at: str, namespace: str = workload.NAMESPACE, resource: str = "pods") -> str:
    reference = {"namespace": namespace, "resource": resource, "subresource": "status" if verb == "patch" else None}
    return json.dumps(
        {
            "user": {"username": user},
            "verb": verb,
            "objectRef": reference,
            "requestReceivedTimestamp": f"2026-01-01T00:00:{at}.000000Z",
        }
    )


def test_writes_are_counted_by_who_made_them(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    operator = "system:serviceaccount:openclaw-system:openclaw"
    lines = [
        event(operator, "create", "10"),
        event(operator, "create", "11"),
        event("system:node:node", "patch", "11"),
        event(f"system:serviceaccount:{workload.NAMESPACE}:bench-gateway", "get", "11"),  # no write
        event(operator, "delete", "20"),  # too late
        event(operator, "create", "11", namespace="other"),
    ]
    log.write_text("\n".join(lines) + "\n")
    started = 1767225600.0 + 10
    counted = writes_between(log, started, started + 5)
    assert counted == Counter({"operator create pods": 2, "kubelet patch pods/status": 1})


def test_goals_are_judged_by_what_the_same_run_measured() -> None:
    results = Results(
        times={SERIAL: [8.0, 9.0, 30.0], JOB: [600.0], COLD: [1500.0, 2500.0]},
        writes={SERIAL: (3, Counter({"operator create pods": 3}))},
    )
    met = {goal.text: goal.met for goal in report.goals(results, SERIAL)}
    assert list(met.values()) == [True, True, True, True, False]
    results.writes[SERIAL] = (3, Counter({"gateway patch pods": 1}))
    assert [goal.met for goal in report.goals(results, SERIAL)][3] is False
    del results.times[JOB]
    assert len(report.goals(results, SERIAL)) == 4


def test_what_cannot_be_measured_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, says in ((["--levels", "open"], "open is none of isolated"), (["--calls", "0"], "give 1 or more")):
        with pytest.raises(SystemExit):
            command.parse(arguments)
        assert says in capsys.readouterr().err
