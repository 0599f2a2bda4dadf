import json

import pytest

from openclaw_skill import SkillError

SCAN = [{"file": "a.py", "line": 3, "severity": "high"}, {"file": "b.py", "line": 1, "severity": "low", "by": "scan"}]
REVIEW = [{"file": "a.py", "line": 3, "severity": "low", "note": "n"}]


async def test_records_are_joined_and_disagreements_are_shown(call):
    sources = [{"name": "scan", "items": SCAN}, {"name": "review", "items": REVIEW}]
    got = await call("merge", sources=sources, key=["file", "line"])
    assert got["items"] == [
        {"record": {"file": "a.py", "line": 3, "severity": "high", "note": "n"}, "sources": ["scan", "review"]},
        {"record": SCAN[1], "sources": ["scan"]},
    ]
    values = {"scan": "high", "review": "low"}
    assert got["conflicts"] == [{"key": ["a.py", 3], "field": "severity", "values": values, "taken": "scan"}]
    assert (got["counts"], got["leftOut"]) == ({"scan": 2, "review": 1}, 0)
    got = await call("merge", sources=sources, key=["file", "line"], prefer=["review"], minSources=2)
    assert [item["record"]["severity"] for item in got["items"]] == ["low"]
    assert got["leftOut"] == 1


async def test_true_and_one_and_a_repeated_record_are_told_apart(call):
    sources = [{"name": "a", "items": [{"k": {"id": 1}, "v": 1}, {"k": {"id": 1}, "v": 2}]}]
    sources.append({"name": "b", "items": [{"k": {"id": True}, "v": 1}]})
    got = await call("merge", sources=sources, key=["k.id"])
    assert [item["record"]["v"] for item in got["items"]] == [1, 1]
    assert got["conflicts"] == []


async def test_records_of_files(call, ctx):
    (ctx.workspace / "scan.jsonl").write_text("\n".join(map(json.dumps, SCAN)) + "\n")
    (ctx.workspace / "odd.json").write_text("[1]")
    (ctx.workspace / "bad.json").write_text("{")
    got = await call("merge", sources=[{"name": "scan", "file": "scan.jsonl"}], key=["file"])
    assert len(got["items"]) == 2
    for file, told in {"odd.json": "a list of objects", "bad.json": "not JSON", "../x": "holds '..'"}.items():
        with pytest.raises(SkillError, match=told):
            await call("merge", sources=[{"name": "x", "file": file}], key=["file"])


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ({"sources": [{"name": "a"}]}, "a needs exactly one of items and file"),
        ({"sources": [{"name": "a", "items": []}, {"name": "a", "items": []}]}, "a is given twice"),
        ({"sources": [{"name": "a", "items": [{"x": 1}]}]}, r"key: 'id' is missing in a\[0\]"),
        ({"sources": [{"name": "a", "items": []}], "prefer": ["b"]}, r"prefer: 'b' is none of the sources \(a\)"),
    ],
)
async def test_wrong_input_is_named(call, args, told):
    with pytest.raises(SkillError, match=told):
        await call("merge", key=["id"], **args)


async def test_votes(call):
    answers = [("a", "Yes."), ("b", " yes"), ("c", "No"), ("d", True)]
    got = await call("vote", answers=[{"source": source, "answer": answer} for source, answer in answers])
    assert (got["winner"], got["tie"], got["share"]) == ("Yes.", False, 0.5)
    assert [vote["sources"] for vote in got["votes"]] == [["a", "b"], ["c"], ["d"]]
    again = [{"source": "a", "answer": 1}, {"source": "b", "answer": 2.0, "weight": 2}, {"source": "a", "answer": 2}]
    assert (await call("vote", answers=again))["share"] == 1
    tie = [{"source": "a", "answer": "x"}, {"source": "b", "answer": "y"}]
    assert (await call("vote", answers=tie))["winner"] is None
    weights = [("a", "x", 0.1), ("b", "x", 0.2), ("c", "y", 0.3)]
    tie = [{"source": source, "answer": answer, "weight": weight} for source, answer, weight in weights]
    assert (await call("vote", answers=tie))["tie"] is True
    large = [{"source": "a", "answer": 2**53}, {"source": "b", "answer": 2**53 + 1}]
    assert len((await call("vote", answers=large))["votes"]) == 2


async def test_texts_are_combined_and_invented_sources_are_refused(call, ctx):
    good = {
        "answer": " Both. ",
        "claims": [{"text": "It is fast", "sources": ["a", "b", "a"]}],
        "contradictions": [{"about": "price", "positions": [{"source": "a", "says": "low"}]}],
    }
    texts = [{"source": "a", "text": "fast, cheap"}, {"source": "b", "text": "fast, dear"}]
    bad = {"answer": "x", "claims": [{"text": "y", "sources": ["c"]}]}
    ctx.llm.replies = [json.dumps(bad), f"```json\n{json.dumps(good)}\n```"]
    got = await call("combine", question="How is it?", texts=texts)
    assert got["answer"] == "Both."
    assert got["claims"] == [{"text": "It is fast", "sources": ["a", "b"]}]
    assert "'c' is none of the sources a, b" in ctx.llm.prompts[1]
    odd = {"answer": "x", "claims": [{"text": "y", "sources": [["a"]]}]}
    ctx.llm.replies = [json.dumps(odd), json.dumps({"answer": "x", "claims": [{"text": "y"}]})]
    with pytest.raises(SkillError, match="names no source"):
        await call("combine", question="How is it?", texts=texts)
    with pytest.raises(SkillError, match="given twice"):
        await call("combine", question="?", texts=[texts[0], texts[0]])
