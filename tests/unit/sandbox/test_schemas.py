"""No schema and no input holds up the gateway, and operator and gateway refuse the same schemas."""

from typing import Any

import pytest

from openclaw_operator.resources import schemas as operator
from openclaw_runtime.skills import schemas
from openclaw_runtime.skills.errors import ManifestError
from openclaw_runtime.skills.registry import read_folder
from tests.unit.sandbox.test_skills import write_skill


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        ({"$ref": "https://example.org/s.json"}, ".$ref: 'https://example.org/s.json' is another document"),
        ({"properties": {"a": {"$ref": "other.json#/x"}}}, ".properties.a.$ref: 'other.json#/x' is another document"),
        ({"items": [{"pattern": "(?=a)b"}]}, ".items[0].pattern: '(?=a)b' is no RE2 expression"),
        ({"patternProperties": {"(": {}}}, ".pattern: '(' is no RE2 expression"),
        ({"not": {"$schema": "http://json-schema.org/draft-07/schema#"}}, ".not.$schema: only the whole schema"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"pattern": "^(a+)+$"}}}, None),
        ({"const": {"$ref": "https://example.org"}, "properties": {"$ref": {}, "pattern": {}}}, None),
    ],
)
def test_a_schema_that_cannot_be_used_is_found_before_a_call(schema: dict[str, Any], problem: str | None) -> None:
    for found in (schemas.unusable(schema), operator.unusable(schema)):
        assert found is None if problem is None else str(found).startswith(problem)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"$ref": "#"}, {}),
        ({"allOf": [{"$ref": "#"}, {"$ref": "#"}]}, {}),
        (
            {
                "$ref": "#/$defs/d0",
                "$defs": {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(40)} | {"d40": {}},
            },
            {},
        ),
    ],
    ids=["itself", "itself twice", "doubling"],
)
def test_a_schema_without_end_is_cut_off(schema: dict[str, Any], value: Any) -> None:
    with pytest.raises(schemas.InvalidSchemaError, match="steps to check input"):
        schemas.first_error(schema, value, "input")


def test_patterns_and_unique_items_take_linear_time() -> None:
    text = "a" * 100_000 + "!"
    assert "does not match" in str(schemas.first_error({"pattern": "^(a+)+$"}, text, "input"))
    many = [{"a": number} for number in range(50_000)]
    assert schemas.first_error({"uniqueItems": True}, many, "input") is None
    assert schemas.first_error({"uniqueItems": True}, [*many, {"a": 7}], "input") == "input: some items are there twice"
    assert schemas.first_error({"patternProperties": {"^x": {"type": "string"}}}, {"xa": 1}, "i") is not None


def test_code_that_is_not_python_is_found_before_a_call(tmp_path: Any) -> None:
    (write_skill(tmp_path / "demo") / "scripts/main.py").write_text("def greet(:\n")
    with pytest.raises(ManifestError, match=r"main.py: not Python: .*line 1"):
        read_folder(tmp_path / "demo", {})
    assert "scripts/main.py line 1" in str(operator.syntax_error("scripts/main.py", b"def greet(:"))
    assert operator.syntax_error("scripts/main.py", b"def greet(ctx, input): ...") is None
