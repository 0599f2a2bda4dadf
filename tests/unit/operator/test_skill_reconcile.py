"""A Skill from its spec to what it reports."""

from __future__ import annotations

from typing import Any

import pytest

from openclaw_operator.errors import SpecError
from openclaw_operator.reconcile.skill import check_actions
from tests.unit.operator.builders import skill_spec


@pytest.mark.parametrize("field", ["inputSchema", "outputSchema"])
def test_a_schema_that_is_nested_too_deeply_is_refused_by_its_field(field: str) -> None:
    """It is a mistake of the user: as a bug it would be tried again for ever, and freeze the agents that use it."""
    schema: dict[str, Any] = {"type": "object"}
    for _ in range(200):
        schema = {"type": "object", "properties": {"x": schema}}
    with pytest.raises(SpecError, match=rf"^spec\.actions\[0\]\.{field}: nested too deeply: .* flatten it$") as refusal:
        check_actions(skill_spec(actions=[{"name": "say", "description": "says", field: schema}]))
    assert refusal.value.reason == "InvalidSchema"
