import csv
import io
import json
import os
import subprocess
from html.parser import HTMLParser

import pytest

from openclaw_skill import SkillError

ROWS = [
    {"team": "b", "name": "x|y", "cost": 2.5, "meta": {"ok": True}},
    {"team": "a", "name": "<b>&*", "cost": 10, "meta": {"ok": False}},
    {"team": "a", "name": "=SUM(A1)", "cost": None},
]


async def test_markdown(call, ctx):
    got = await call(
        "fromRecords",
        title="Costs_1",
        records=ROWS,
        columns=["name", "cost", "meta.ok"],
        sortBy="cost",
        descending=True,
        aggregates=[
            {"column": "cost", "op": "sum"},
            {"column": "cost", "op": "mean"},
            {"column": "team", "op": "distinct"},
        ],
        path="out/costs.md",
    )
    assert got["content"] == (
        "# Costs\\_1\n\n3 records.\n\n## Figures\n\n| Figure | Value |\n| --- | ---: |\n"
        "| sum of cost | 12.5 |\n| mean of cost | 6.25 |\n| distinct of team | 2 |\n\n"
        "## Records\n\n| name | cost | meta.ok |\n| --- | ---: | --- |\n"
        "| \\<b\\>&\\* | 10 | no |\n| x\\|y | 2.5 | yes |\n| =SUM(A1) |  |  |\n"
    )
    assert (ctx.workspace / "out/costs.md").read_text() == got["content"]
    assert (got["path"], got["records"]) == ("out/costs.md", 3)


async def test_groups(call):
    figures = [{"column": "cost", "op": "max"}]
    got = await call(
        "fromRecords", title="T", records=ROWS, groupBy="team", columns=["team", "name"], aggregates=figures
    )
    lines = got["content"].splitlines()
    assert lines[lines.index("## Overview") + 2 :][:4] == [
        "| team | records | max of cost |",
        "| --- | ---: | ---: |",
        "| a | 2 | 10 |",
        "| b | 1 | 2.5 |",
    ]
    assert [line for line in lines if line.startswith("## team")] == ["## team: a", "## team: b"]


async def test_html_is_escaped_and_well_formed(call):
    got = await call("fromRecords", title="<script>alert(1)</script>", records=ROWS, format="html")
    open_tags, texts = [], []

    class Checker(HTMLParser):
        def handle_starttag(self, tag, _attrs):
            if tag != "meta":
                open_tags.append(tag)

        def handle_endtag(self, tag):
            assert open_tags.pop() == tag

        def handle_data(self, data):
            texts.append(data)

    Checker().feed(got["content"])
    assert open_tags == []
    assert "<b>&*" in texts
    assert "<script>" not in got["content"]


async def test_csv_reads_back_and_starts_no_formulas(call):
    got = await call(
        "fromRecords", title="T", records=[*ROWS, {"name": "-1.5"}], columns=["name", "cost"], format="csv"
    )
    rows = list(csv.reader(io.StringIO(got["content"])))
    assert rows == [["name", "cost"], ["x|y", "2.5"], ["<b>&*", "10"], ["'=SUM(A1)", ""], ["-1.5", ""]]
    assert got["content"].count("\r\n") == 5


async def test_records_from_files(call, ctx):
    (ctx.workspace / "a.json").write_text(json.dumps(ROWS))
    (ctx.workspace / "a.jsonl").write_text("\n".join(map(json.dumps, ROWS)) + "\n\n")
    (ctx.workspace / "bad.json").write_text("{}")
    (ctx.workspace / "broken.json").write_text("{")
    one = await call("fromRecords", title="T", recordsFile="a.json")
    two = await call("fromRecords", title="T", recordsFile="a.jsonl")
    assert one == two
    for name, says in {
        "bad.json": "must hold a list",
        "broken.json": "is not JSON",
        "no.json": "does not exist",
    }.items():
        with pytest.raises(SkillError, match=says):
            await call("fromRecords", title="T", recordsFile=name)
    with pytest.raises(SkillError, match="exactly one"):
        await call("fromRecords", title="T")


async def test_from_memory(call, ctx):
    await ctx.memory.add({"type": "commit", "text": "fix login"})
    await ctx.memory.add({"type": "note", "text": "lunch"})
    got = await call("fromMemory", title="Login", query="login")
    assert got["records"] == 1
    assert "1 records of the agent's memory for: login" in got["content"]
    assert "| commit | fix login |" in got["content"]


@pytest.fixture
def repository(ctx):
    def commit(author, when, subject, **files):
        for name, text in files.items():
            (ctx.workspace / name).write_text(text)
        identity = {
            "GIT_AUTHOR_DATE": when,
            "GIT_COMMITTER_DATE": when,
            "PATH": os.environ["PATH"],
            "HOME": "/nonexistent",
        }
        for command in (
            ["init", "-q", "-b", "main"],
            ["add", "."],
            ["commit", "-q", "-m", subject, f"--author={author} <a@b>"],
        ):
            base = ["git", "-c", "user.name=C", "-c", "user.email=c@d"]
            subprocess.run([*base, *command], cwd=ctx.workspace, env=identity, check=True)

    commit("Ann", "2026-01-05T10:00:00Z", "Start | here", one="a\nb\n", two="x\n")
    commit("Bob", "2026-01-06T10:00:00Z", "Change", one="a\nc\nd\n")
    commit("Ann", "2026-02-01T10:00:00Z", "Later", two="y\n")
    return ctx.workspace


async def test_git_activity(call, repository):
    got = await call("gitActivity", until="2026-01-31", path="activity.md")
    text = got["content"]
    assert "2 commits on HEAD until 2026-01-31: 5 lines added, 1 removed." in text
    assert "| Ann | 1 | 3 | 0 |\n| Bob | 1 | 2 | 1 |" in text
    assert "| 2026-01-06 | 1 |\n| 2026-01-05 | 1 |" in text
    assert "| one | 2 | 4 | 1 |\n| two | 1 | 1 | 0 |" in text
    assert "Start \\| here" in text
    again = await call("gitActivity", until="2026-01-31", path="activity.md", overwrite=True)
    assert again["content"] == text


async def test_git_activity_mistakes(call, repository, ctx):
    with pytest.raises(SkillError, match="since: '--output=x' is no date"):
        await call("gitActivity", since="--output=x")
    with pytest.raises(SkillError, match="revision: '--all' is no revision"):
        await call("gitActivity", revision="--all")
    with pytest.raises(SkillError, match="revision: git says"):
        await call("gitActivity", revision="nope")
    (ctx.workspace / "sub").mkdir()
    with pytest.raises(SkillError, match="no git repository"):
        await call("gitActivity", repository="sub")
    assert (await call("gitActivity", until="2020-01-01"))["records"] == 0


async def test_mistakes_are_named(call, ctx):
    with pytest.raises(SkillError, match=r"sum of 'name' needs numbers, found 'x\|y'"):
        await call("fromRecords", title="T", records=ROWS, aggregates=[{"column": "name", "op": "sum"}])
    with pytest.raises(SkillError, match=r"must be a file that ends in \.html"):
        await call("fromRecords", title="T", records=ROWS, format="html", path="x.md")
    await call("fromRecords", title="T", records=ROWS, path="x.md")
    with pytest.raises(SkillError, match="set overwrite"):
        await call("fromRecords", title="T", records=ROWS, path="x.md")
    assert (await call("fromRecords", title="T", records=[]))["records"] == 0
