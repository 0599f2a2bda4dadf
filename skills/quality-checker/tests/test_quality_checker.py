import json

import pytest

from openclaw_skill import SkillError

TEXT = """# Report

Costs fell by 4 %. TODO: say why.

### Details
See [the table]() and cats.

```
TODO in code is fine
```
"""


def lines(got, rule):
    return [each["line"] for each in got["findings"] if each["rule"] == rule]


async def test_a_text_is_checked_line_by_line(call):
    got = await call(
        "checkText", text=TEXT, headings=["summary", "Report"], mustNotContain=["cat", "costs"], minWords=99
    )
    assert got["passed"] is False
    assert (lines(got, "undone"), lines(got, "link"), lines(got, "banned")) == ([3], [6], [3])
    assert lines(got, "heading") == [None, 5]
    assert got["counts"]["length"] == 1
    good = await call(
        "checkText", text="# Report\n\nCosts fell.", headings=["report"], mustContain=["FELL"], maxWords=9
    )
    assert good == {"passed": True, "findings": [], "counts": {}}


async def test_long_sentences_are_found_over_lines_and_do_not_fail(call):
    text = "One. " + "word\n" * 8 + "end. Short.\n\n- " + "item " * 4
    got = await call("checkText", text=text, maxSentenceWords=5)
    assert (lines(got, "sentence"), got["passed"]) == ([1], True)


async def test_a_file_of_the_workspace(call, ctx):
    (ctx.workspace / "report.md").write_text(TEXT)
    assert lines(await call("checkText", path="report.md"), "undone") == [3]
    for args in ({}, {"text": "x", "path": "report.md"}):
        with pytest.raises(SkillError, match="exactly one of text and path"):
            await call("checkText", **args)
    with pytest.raises(SkillError, match="minWords: 9 is more than maxWords, 3"):
        await call("checkText", text="x", minWords=9, maxWords=3)


COLUMNS = [
    {"name": "id", "type": "integer", "unique": True, "minimum": 1},
    {"name": "day", "type": "date"},
    {"name": "state", "values": ["open", "done"]},
    {"name": "mail", "required": False, "pattern": r"[^@\s]+@[^@\s]+"},
    {"name": "share", "type": "number", "required": False, "maximum": 1},
]


async def test_records_of_every_format(call, ctx):
    rows = [
        {"id": 1, "day": "2026-01-31", "state": "open", "mail": "a@b.c", "share": 0.5},
        {"id": 1, "day": "2026-02-30", "state": "shut", "mail": "nobody", "share": 2},
        {"id": 0, "day": "2026-01-31T10:00:00", "state": "done"},
        {"id": "x", "state": "", "more": 1},
    ]
    found = {"unique": 1, "type": 2, "values": 1, "pattern": 1, "range": 2, "required": 2, "column": 1}
    (ctx.workspace / "a.json").write_text(json.dumps(rows))
    (ctx.workspace / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    text = "id,day,state,mail,share,more\n"
    text += "".join(",".join(str(row.get(name, "")) for name in text.strip().split(",")) + "\n" for row in rows)
    (ctx.workspace / "a.csv").write_text(text)
    for path in ("a.json", "a.jsonl"):
        got = await call("checkRecords", path=path, columns=COLUMNS, allowOthers=False)
        assert (got["passed"], got["counts"]) == (False, found)
    # Every row of a CSV file has every column.
    got = await call("checkRecords", path="a.csv", columns=COLUMNS, allowOthers=False)
    assert got["counts"] == {**found, "column": 4}
    messages = [each["message"] for each in got["findings"] if each["line"] == 2 and each["rule"] != "column"]
    assert "state: 'shut' is none of open, done" in messages
    assert "id: '1' is in record 1, too" in messages


@pytest.mark.parametrize(
    ("file", "text", "column", "told"),
    [
        ("a.txt", "[]", {}, "must end in .json, .jsonl or .csv"),
        ("a.json", "{}", {}, "a list of objects"),
        ("a.json", "[", {}, "cannot be read as .json"),
        ("a.csv", 'id\n"x', {}, "cannot be read as .csv"),
        ("a.json", "[]", {"pattern": "("}, r"pattern of id, '\(', does not compile"),
        ("a.json", "[]", {"minimum": 2, "maximum": 1}, "minimum of id, 2, is more than its maximum, 1"),
    ],
)
async def test_wrong_input_is_named(call, ctx, file, text, column, told):
    (ctx.workspace / file).write_text(text)
    with pytest.raises(SkillError, match=told):
        await call("checkRecords", path=file, columns=[{"name": "id", **column}])


async def test_what_looks_like_a_number_and_is_none(call, ctx):
    rows = "\ufeffn\n" + "\n".join(("nan", "inf", "1_0", "1e999", "-1.5e2", "7", "7,8")) + "\n"
    (ctx.workspace / "a.csv").write_text(rows)
    got = await call("checkRecords", path="a.csv", columns=[{"name": "n", "type": "number", "minimum": -200}])
    assert (lines(got, "type"), lines(got, "column")) == ([1, 2, 3, 4], [7])
    (ctx.workspace / "a.json").write_text(json.dumps([{"n": [0] * 9999}]))
    got = await call("checkRecords", path="a.json", columns=[{"name": "n", "type": "integer"}])
    assert len(got["findings"][0]["message"]) < 200


async def test_long_lines_take_no_long_time(call):
    for text in ("# a" + " " * 399_000 + "b", "[" * 399_000, "{" * 399_000, "<your " * 60_000, "# " * 190_000):
        assert isinstance((await call("checkText", text=text))["passed"], bool)


async def test_too_few_records(call, ctx):
    (ctx.workspace / "a.json").write_text("[]")
    got = await call("checkRecords", path="a.json", columns=[{"name": "id"}])
    assert got["findings"][0]["message"] == "0 records, at least 1 are wanted"


async def test_scores_need_a_quote_that_is_in_the_text(call, ctx):
    def answer(score, quote):
        return json.dumps({"scores": [{"name": "clear", "score": score, "reason": "r", "quote": quote}]})

    criteria = [{"name": "clear", "question": "Is it clear?"}]
    text = "It\u2019s a \u201cplain\u201d\ntext."
    ctx.llm.replies = [answer(5, "a fancy text"), answer(4, 'It\'s a "plain" text')]
    got = await call("judge", text=text, criteria=criteria)
    assert (got["passed"], got["scores"][0]["score"]) == (True, 4)
    assert "the quote of clear is not in the text: 'a fancy text'" in ctx.llm.prompts[1]
    ctx.llm.replies = [answer(3, "plain")]
    assert (await call("judge", text=text, criteria=criteria))["passed"] is False
    ctx.llm.replies = [answer(6, "plain"), '{"scores": []}']
    with pytest.raises(SkillError, match="clear has no score"):
        await call("judge", text=text, criteria=criteria)
    with pytest.raises(SkillError, match="given twice"):
        await call("judge", text=text, criteria=[*criteria, *criteria])
