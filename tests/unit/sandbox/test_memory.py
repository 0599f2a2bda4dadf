"""What a call may use of the memory its sandbox has."""

import pytest
from pydantic import ValidationError

from openclaw_runtime.config import InstalledSkillConfig
from openclaw_runtime.sandbox.memory import memory_of_call, parse_quantity
from openclaw_runtime.skills.manifest import SkillManifest

ACTION = {"name": "act", "description": "acts"}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2Gi", 2 << 30),
        ("512Mi", 512 << 20),
        ("1.5Gi", 3 << 29),
        (".5Gi", 1 << 29),
        ("1G", 10**9),
        ("100k", 10**5),
        ("1e9", 10**9),
        ("+64000000", 64_000_000),
        ("128974848000m", 128_974_848),
    ],
)
def test_quantities_are_those_of_kubernetes(text: str, found: int) -> None:
    assert parse_quantity(text) == found


@pytest.mark.parametrize("text", ["", "2 Gi", "2GB", "lots", "-1Gi", "1e999"])
def test_what_is_no_quantity_is_told_so(text: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity; write it like 512Mi or 2Gi"):
        parse_quantity(text)
    manifest = {"version": "1.0.0", "actions": [ACTION], "resources": {"limits": {"memory": text}}}
    with pytest.raises(ValidationError, match=r"resources\.limits\.memory: "):
        SkillManifest.model_validate(manifest)
    with pytest.raises(ValidationError, match="memory"):
        InstalledSkillConfig(name="a", version="1", digest="sha256:" + "ab" * 32, memory=text)


@pytest.mark.parametrize(("limit", "least"), [("1Ki", 16 << 20), ("1Ei", 1 << 46)])
def test_no_call_asks_for_what_a_sandbox_refuses(limit: str, least: int) -> None:
    assert memory_of_call(limit) == least
