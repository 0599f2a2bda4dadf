"""What is said of a child that the API server refuses."""

from __future__ import annotations

import json

import pytest

from openclaw_operator.cluster.client import error_of
from openclaw_operator.errors import ApiError, RejectedError, SpecError
from openclaw_operator.reconcile.children import Children, rejection
from tests.unit.operator.builders import owner
from tests.unit.operator.fake_api import Bench

DIFF = """PersistentVolumeClaim "w" is invalid: spec: Forbidden: spec is immutable after creation
  core.PersistentVolumeClaimSpec{
-   StorageClassName: &"fast",
+   StorageClassName: &"slow",
  }"""


def test_the_first_line_and_the_fix_are_said() -> None:
    problem = rejection("PersistentVolumeClaim", "w", RejectedError(422, "Invalid", DIFF))
    assert problem.message == (
        'PersistentVolumeClaim w was refused: PersistentVolumeClaim "w" is invalid: spec: Forbidden: '
        "spec is immutable after creation: correct what spec says about that field"
    )


def test_what_is_too_long_says_what_it_is_made_of() -> None:
    said = 'ConfigMap "ada-gateway" is invalid: []: Too long: may not be more than 1048576 bytes'
    problem = rejection("ConfigMap", "ada-gateway", RejectedError(422, "Invalid", said))
    assert problem.message.endswith("(for an Agent soul, schedules and skills[].config), so shorten those")
    # Nor is a request that is too large for the server tried for ever.
    assert type(error_of(413, b"", {})) is RejectedError


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("failed to create typed patch object (demo/a; apps/v1): .spec.x: field not declared in schema", RejectedError),
        ("etcdserver: request timed out", ApiError),
    ],
)
def test_a_malformed_object_is_no_fault_of_the_server(message: str, expected: type[ApiError]) -> None:
    answer = json.dumps({"reason": "InternalError", "message": message}).encode()
    assert type(error_of(500, answer, {})) is expected


async def test_a_malformed_object_is_not_sent_as_a_merge_patch() -> None:
    """A merge patch with it would be answered 500, and be tried for ever."""
    bench = Bench()
    children = Children(bench.context.client, bench.context.children, owner("Agent", "ada"))
    labels = {"app.kubernetes.io/managed-by": "openclaw-operator", "openclaw.io/agent": "ada"}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "demo", "labels": labels}}
    await children.ensure(service)

    def malformed(verb: str, _kind: str, _name: str) -> None:
        assert verb == "apply"
        raise RejectedError(500, "InternalError", "failed to create typed patch object: .spec: expected map, got x")

    bench.api.fault = malformed
    with pytest.raises(SpecError, match=r"Service s was refused: .* expected map, got x: correct"):
        await children.ensure({**service, "spec": "x"})
