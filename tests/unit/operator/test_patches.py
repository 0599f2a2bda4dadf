"""What patches make of objects, where the API server cannot be asked."""

from __future__ import annotations

import json
from typing import Any

from openclaw_operator.cli.fields import differences
from openclaw_operator.patches import applied, three_way

LIVE: dict[str, Any] = {
    "metadata": {
        "name": "x",
        "managedFields": [
            {
                "manager": "us",
                "operation": "Apply",
                "fieldsV1": {
                    "f:spec": {
                        "f:old": {},
                        "f:size": {},
                        "f:selector": {"f:app": {}},
                        "f:env": {
                            'k:{"name":"A"}': {".": {}, "f:name": {}, "f:value": {}},
                            'k:{"name":"B"}': {".": {}, "f:name": {}, "f:value": {}},
                        },
                    }
                },
            }
        ],
    },
    "spec": {
        "old": 1,
        "size": 2,
        "theirs": 3,
        "selector": {"app": "a", "mine": "yes"},
        "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}, {"name": "C", "value": "injected"}],
    },
}


def test_an_apply_takes_back_what_was_applied_and_leaves_what_others_set() -> None:
    body = {"metadata": {"name": "x"}, "spec": {"size": 5, "env": [{"name": "A", "value": "9"}]}}
    assert applied(LIVE, body, "us")["spec"] == {
        "size": 5,
        "theirs": 3,
        "selector": {"mine": "yes"},
        "env": [{"name": "A", "value": "9"}, {"name": "C", "value": "injected"}],
    }
    assert applied(LIVE, body, "others")["spec"]["old"] == 1
    assert applied(None, body, "us") == body


def test_the_patch_of_kubectl_apply_removes_only_what_it_set() -> None:
    last = {"spec": {"a": 1, "b": {"c": 1, "d": 2}, "list": [1]}}
    wanted = {"spec": {"b": {"c": 3}, "list": [1, 2]}}
    assert three_way(last, wanted) == {"spec": {"a": None, "b": {"c": 3, "d": None}, "list": [1, 2]}}


def test_differences_are_named_by_path() -> None:
    def config(soul: str) -> dict[str, Any]:
        text = json.dumps({"claw": {"soul": soul, "name": "ada"}})
        return {"metadata": {"name": "x", "annotations": {"openclaw.io/applied-hash": soul}}, "data": {"c.yaml": text}}

    assert [str(each) for each in differences("ConfigMap", config("old"), config("new"))] == [
        'data[c.yaml].claw.soul: "old" → "new"'
    ]
    assert [each.path for each in differences("Pod", LIVE, {**LIVE, "spec": {**LIVE["spec"], "env": []}})] == [
        "spec.env[A]",
        "spec.env[B]",
        "spec.env[C]",
    ]


def test_values_of_secrets_are_not_shown() -> None:
    def secret(value: str) -> dict[str, Any]:
        return {"metadata": {"name": "x"}, "data": {"token": value}}

    assert differences("Secret", secret("b25l"), secret("dHdv")) == []
