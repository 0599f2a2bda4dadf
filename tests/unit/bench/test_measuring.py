"""What the benchmark reads and computes, on known input."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from openclaw_operator.api.agent import AgentSpec
from tests.bench import audit, procfs, report, stats, workload
from tests.bench.operator import parse


def event(
    user: str = "bench-operator", verb: str = "patch", code: int = 200, stage: str = "", uri: str = "", **reference: str
) -> str:
    return json.dumps(
        {
            "verb": verb,
            "stage": stage or ("ResponseStarted" if verb == "watch" else "ResponseComplete"),
            "requestURI": uri,
            "auditID": "1",
            "user": {"username": user},
            "objectRef": {"resource": "configmaps", "name": "a", **reference},
            "responseStatus": {"code": code},
            "requestReceivedTimestamp": "2026-01-01T00:00:00.000000Z",
            "stageTimestamp": "2026-01-01T00:00:00.250000Z",
        }
    )


def of_operator(lines: list[str]) -> list[audit.Request]:
    return audit.requests_of(audit.events_of(lines, "bench-operator"))


def test_requests_of_others_do_not_count() -> None:
    requests = of_operator([event(), event(user="someone"), event(verb="get"), ""])
    assert [request.verb for request in requests] == ["patch", "get"]
    assert len(audit.writes(requests)) == 1
    assert requests[0].finished - requests[0].received == pytest.approx(0.25)


def test_a_subresource_and_a_refusal_are_told_apart() -> None:
    lines = [event(resource="agents", subresource="status"), event(code=409), event(code=409)]
    counts = audit.by_verb_and_resource(of_operator(lines))
    assert counts == {"patch configmaps (409)": 2, "patch agents/status": 1}


def test_a_list_that_is_streamed_is_a_watch_and_a_list() -> None:
    watches = [event(verb="watch", stage=stage) for stage in ("ResponseStarted", "ResponseComplete")]
    streams = [
        event(verb="watch", stage=stage, uri="/api/v1/configmaps?watch=true&sendInitialEvents=true")
        for stage in ("ResponseStarted", "ResponseComplete")
    ]
    counts = audit.by_verb_and_resource(of_operator([*watches, *streams]))
    assert counts == {"watch configmaps": 2, "list configmaps": 1}


def test_a_list_is_under_way_while_it_is_streamed(tmp_path: Path) -> None:
    log, uri = tmp_path / "audit.log", "/api/v1/configmaps?watch=true&sendInitialEvents=true"
    log.write_text(event(verb="watch", uri=uri) + "\n" + event(verb="watch") + "\n")
    tail = audit.AuditTail(log, "bench-operator")
    assert tail.poll() == 0
    assert tail.streams == {"1"}
    with log.open("a") as file:
        file.write(event(verb="watch", stage="ResponseComplete", uri=uri) + "\n")
    assert tail.poll() == 1
    assert tail.streams == set()


def test_a_list_whose_stream_is_refused_counts_once() -> None:
    refused = [
        event(verb="watch", code=404, stage=stage, uri="?sendInitialEvents=true")
        for stage in ("ResponseStarted", "ResponseComplete")
    ]
    counts = audit.by_verb_and_resource(of_operator(refused))
    assert counts == {"watch configmaps (404)": 1}


def test_a_tail_never_reads_half_a_line(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    whole = event() + "\n"
    log.write_text(whole + whole[:20])
    tail = audit.AuditTail(log, "bench-operator")
    assert tail.poll() == 1
    log.write_text(whole + whole + event(verb="watch") + "\n")
    assert tail.poll() == 2
    assert len(tail.take()) == 3
    assert tail.take() == []


def test_looks_at_pods_that_never_start_do_not_count_as_work(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    log.write_text(event(verb="list", resource="pods") + "\n" + event(verb="list") + "\n")
    assert audit.AuditTail(log, "bench-operator").poll() == 1


def test_cpu_time_is_user_plus_system_whatever_the_name() -> None:
    stat = "7 (a ) b) S 1 1 1 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 1 0 100 1 1"
    assert procfs.parse_cpu_seconds(stat, 100) == 3.0


def test_memory_is_in_bytes() -> None:
    assert procfs.parse_memory("Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n") == (1024 * 1024, 2048 * 1024)


@pytest.mark.parametrize(("share", "value"), [(0.0, 1), (0.5, 2), (0.51, 3), (0.99, 4), (1.0, 4)])
def test_percentiles_are_values_that_were_measured(share: float, value: float) -> None:
    assert stats.percentile([4, 2, 1, 3], share) == value


def test_medians_ignore_runs_without_the_number() -> None:
    assert stats.medians([{"a": 1}, {"a": 5, "b": 2}, {"a": 2}]) == {"a": 2, "b": 2}
    assert math.isnan(stats.percentile([], 0.5))


def test_what_an_agent_costs_is_compared_across_sizes() -> None:
    cpu, memory = "cpu per agent ms", "peak memory MiB"
    by_size = {
        1: {cpu: 90.0, memory: 90.0},
        100: {cpu: 20.0, memory: 95.0},
        1000: {cpu: 23.0, memory: 100.0},
        5000: {cpu: 25.0, memory: 300.0},
    }
    judged = report.across_sizes(by_size)
    assert [(each.metric, each.met) for each in judged] == [
        ("cpu per agent ms, 1000 agents", True),
        ("cpu per agent ms, 5000 agents", False),
        ("KB for each further agent, 5000 agents", False),
    ]
    assert judged[-1].value == pytest.approx(51.2)
    assert report.across_sizes({100: by_size[100]}) == []


@pytest.mark.parametrize(("p99", "met"), [(1.05, True), (1.2, False)])
def test_a_poisoned_agent_may_hold_up_others_by_a_tenth(p99: float, met: bool) -> None:
    results = {"operator": {"children p99 s": 1.0}, "operator, poisoned": {"children p99 s": p99}}
    assert [each.met for each in report.poison_verdict(results)] == [met]
    assert report.poison_verdict({"operator": {}}) == []


def test_goals_are_judged_against_the_peers() -> None:
    results = {
        "limit": {"all children exist s": 10.0},
        "twin": {"all children exist s": 11.0, "cpu s": 2.0},
        "operator": {"all children exist s": 11.5, "cpu s": 3.0, "writes per agent": 12.02, "idle writes": 1.0},
    }
    met = {(each.metric, each.text): each.met for each in report.verdicts(results, children=10, size=100)}
    assert met == {
        ("all children exist s", "≤ 1.2 x limit"): True,
        ("all children exist s", "≤ twin"): False,
        ("cpu s", "≤ 1.5 x twin"): True,
        ("writes per agent", "≤ 10 children + 2"): True,
        ("idle writes", "0"): False,
    }


def test_the_poisoned_agent_is_one_that_the_api_server_takes() -> None:
    AgentSpec.model_validate(workload.poisoned("p", "ns")["spec"])


def test_each_child_carries_every_placeholder_it_needs() -> None:
    templates = workload.build_templates()
    assert len(templates.keys) == len(set(templates.keys))
    for child in templates.children:
        assert child["metadata"]["namespace"] == templates.namespace
        assert child["metadata"]["name"].startswith(templates.name)
    assert workload.Templates.from_json(templates.to_json()) == templates


@pytest.mark.parametrize("argument", ["--sizes=1,x", "--sizes=0", "--sizes=999999", "--subjects=operator,other"])
def test_wrong_arguments_are_refused(argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse([argument])
    assert argument.split("=")[0] in capsys.readouterr().err
