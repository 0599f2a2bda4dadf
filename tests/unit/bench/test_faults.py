"""The parts of the fault tests that decide: which fault, which difference, which value."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from tests.faults import world
from tests.faults.fuzz.cases import cases, spec_schemas
from tests.faults.fuzz.schema import mutations, values
from tests.faults.injection import Answer, Call, Pass, no_faults, share_of_calls

SCHEMAS = spec_schemas()


def calls(count: int, method: str = "PATCH") -> list[Call]:
    return [Call(number, method, "/api", is_watch=False) for number in range(1, count + 1)]


def test_the_same_seed_gives_the_same_faults() -> None:
    first, second, other = (list(map(share_of_calls(seed, 0.1), calls(500))) for seed in (1, 1, 2))
    assert first == second != other


def test_the_share_of_faults_is_what_was_asked_for() -> None:
    faults = [fault for fault in map(share_of_calls(3, 0.1), calls(5000)) if fault != Pass()]
    assert 400 < len(faults) < 600
    assert all(fault == Pass() for fault in map(no_faults, calls(10)))


def test_reads_meet_no_conflict() -> None:
    assert Answer(409) not in set(map(share_of_calls(3, 1.0), calls(500, "GET")))


def test_a_difference_names_the_field() -> None:
    expected = {"Service/a": {"spec": {"ports": [{"port": 1}]}}, "Secret/b": {}}
    found = {"Service/a": {"spec": {"ports": [{"port": 2}]}}, "Role/c": {}}
    assert world.difference(expected, found) == [
        "missing: Secret/b",
        "too much: Role/c",
        "Service/a.spec.ports[0].port: expected 1, found 2",
    ]
    assert world.difference(expected, expected) == []


def test_what_the_server_assigns_is_left_out() -> None:
    live = {
        "metadata": {"name": "a", "uid": "1", "resourceVersion": "2", "ownerReferences": [{"name": "o", "uid": "3"}]},
        "spec": {"clusterIP": "10.0.0.1", "type": "ClusterIP"},
        "status": {"observedGeneration": 3, "conditions": [{"type": "Ready", "lastTransitionTime": "now"}]},
    }
    assert world.normalised("Service", live) == {
        "metadata": {"name": "a", "ownerReferences": [{"name": "o"}]},
        "spec": {"type": "ClusterIP"},
        "status": {"conditions": [{"type": "Ready"}]},
    }


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.data())
def test_generated_specs_fit_the_schema(data: st.DataObject) -> None:
    for schema in SCHEMAS.values():
        Draft202012Validator(_checkable(schema)).validate(data.draw(values(schema, ["memory"])))


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.data())
def test_mutated_specs_fit_the_schema(data: st.DataObject) -> None:
    item = data.draw(st.sampled_from(world.resources()))
    schema = SCHEMAS[item["kind"]]
    mutated = data.draw(mutations(schema, item["spec"], ["memory"]))
    Draft202012Validator({**_checkable(schema), "required": []}).validate(mutated)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(cases(world.resources(), world.user_objects(), SCHEMAS))
def test_a_case_names_an_object_that_exists(case: Any) -> None:
    known = {(item["kind"], item["metadata"]["name"]) for item in [*world.resources(), *world.user_objects()]}
    assert (case.kind, case.name) in known
    assert str(case).startswith(case.how)


def _checkable(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema without list types and length bounds that a removed item may undercut."""
    dropped = {"minItems", "minProperties", "format", "default"}
    result: dict[str, Any] = {}
    for key, value in schema.items():
        if key in dropped or key.startswith("x-kubernetes-") or isinstance(value, bool):
            continue
        if key == "properties":
            result[key] = {name: _checkable(child) for name, child in value.items()}
        else:
            result[key] = _checkable(value) if isinstance(value, dict) else value
    return result
