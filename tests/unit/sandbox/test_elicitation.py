"""Forms of MCP servers as questions."""

from typing import Any

import pytest

from openclaw_runtime.sandbox.elicitation import MAX_FIELDS, TRIES, elicit

NAME = {"type": "string", "title": "Name", "description": "of the branch"}
FORM = {
    "type": "object",
    "properties": {
        "name": NAME,
        "count": {"type": "integer"},
        "ratio": {"type": "number"},
        "push": {"type": "boolean"},
        "size": {"type": "string", "enum": ["small", "Large"]},
    },
    "required": ["name", "size"],
}


async def told(schema: Any, *answers: str, message: Any = "A branch?") -> tuple[dict[str, Any], list[str]]:
    left, questions = list(answers), list[str]()

    async def ask(question: str) -> str:
        questions.append(question)
        return left.pop(0)

    return await elicit({"message": message, "requestedSchema": schema}, ask), questions


async def test_each_field_is_a_question_and_each_answer_of_its_type() -> None:
    result, questions = await told(FORM, "main", "3", "0.5", "Yes", "large")
    content = {"name": "main", "count": 3, "ratio": 0.5, "push": True, "size": "Large"}
    assert result == {"action": "accept", "content": content}
    assert questions == [
        'A branch?\n\n(Answer "cancel" to decline.)\n\nName: of the branch',
        'count (a whole number) (answer "-" to leave it out)',
        'ratio (a number) (answer "-" to leave it out)',
        'push (yes or no) (answer "-" to leave it out)',
        "size (one of: small, Large)",
    ]


async def test_what_is_optional_may_be_left_out_and_what_does_not_fit_is_asked_again() -> None:
    result, questions = await told(FORM, "-", "three", "-", "-", "-", "huge", "small")
    assert result == {"action": "accept", "content": {"name": "-", "size": "small"}}
    assert questions[2] == "'three' is not a whole number\n\ncount (a whole number) (answer \"-\" to leave it out)"
    assert questions[-1].startswith("'huge' is none of small, Large")


async def test_a_number_may_be_of_any_size() -> None:
    form = {"properties": {"n": {"type": "integer"}}}
    assert (await told(form, "9" * 400))[0] == {"action": "accept", "content": {"n": int("9" * 400)}}


async def test_a_user_may_decline() -> None:
    assert (await told(FORM, "main", "Cancel"))[0] == {"action": "decline"}
    assert (await told(FORM, "main", *["x"] * TRIES))[0] == {"action": "decline"}
    assert (await told(FORM, "main", "3", "nan", "inf", "1e999"))[0] == {"action": "decline"}


@pytest.mark.parametrize(
    ("answer", "result"), [("yes", {"action": "accept", "content": {}}), ("no", {"action": "decline"})]
)
async def test_a_form_without_fields_asks_whether_to_go_on(answer: str, result: dict[str, Any]) -> None:
    assert (await told({"type": "object", "properties": {}}, answer))[0] == result


@pytest.mark.parametrize(
    "schema",
    [
        None,
        7,
        {"properties": 7},
        {"properties": {"a": 7}},
        {"properties": {"a": {"type": "object"}}},
        {"properties": {"a": {"type": ["string"]}}},
        {"properties": {"a": {"type": "string", "enum": [1]}}},
        {"properties": {str(number): NAME for number in range(MAX_FIELDS + 1)}},
    ],
)
async def test_what_is_no_form_is_declined(schema: Any) -> None:
    assert await told(schema) == ({"action": "decline"}, [])
    assert await told(FORM, message=7) == ({"action": "decline"}, [])


async def test_a_long_form_makes_no_long_question() -> None:
    long = {"properties": {"a": {"type": "string", "description": "x" * 100_000}}}
    _, (question,) = await told(long, "a", message="y" * 100_000)
    assert len(question) < 8_000
