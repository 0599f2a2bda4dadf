"""A stored resource that the model of this version does not take is told of by field, value and fix."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from openclaw_operator.api.agent import AgentSpec
from openclaw_operator.reconcile.unfit import message

MODEL = {"provider": "openai", "name": "m"}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, "spec.model: Field required: correct it; until then what runs is left as it is"),
        ({"model": MODEL, "role": "A B"}, 'spec.role: "A B": String should match pattern '),
        ({"model": MODEL, "skills": [{"name": "x" * 300}]}, f'spec.skills[0].name: "{"x" * 99}…: String should have'),
        ({"model": {"name": "m", "baseURL": 7}}, "spec.model.baseURL: 7: "),
    ],
)
def test_the_field_is_named(spec: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError) as caught:
        AgentSpec.model_validate(spec)
    assert message("Agent", caught.value).startswith(expected)


def test_whose_spec_it_is_when_it_is_another_s() -> None:
    with pytest.raises(ValidationError) as caught:
        AgentSpec.model_validate({})
    assert message("Skill", caught.value).startswith("Agent it uses: spec.model: ")
