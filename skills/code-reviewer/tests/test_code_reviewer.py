import ast
import json
import subprocess

import pytest

from openclaw_skill import ContextError, SkillError

BAD = '''"""A module."""
import os
import sys as system
from typing import Any, TYPE_CHECKING
from json import *

__all__ = ["visible"]
from shutil import copy as visible


def risky(items=[], *, table={}, fine=()):
    try:
        return eval(items[0])
    except:
        pass
    try:
        os.system("ls " + items[0])
    except Exception:
        ...
    assert (items, "never false")
    return items == None or items is "x" or open("f").read()


def typed(value: "Any") -> None:
    """Nothing."""
'''


def rules(output, severity=None):
    return [(item["line"], item["rule"]) for item in output["findings"] if severity in (None, item["severity"])]


def repository(ctx):
    def git(*arguments):
        identity = ["-c", "user.name=T", "-c", "user.email=t@example.com", "-c", "init.defaultBranch=main"]
        subprocess.run(["git", *identity, *arguments], cwd=ctx.workspace, check=True, capture_output=True)

    git("init")
    return git


async def test_static_checks_find_each_mistake_on_its_line(call, ctx):
    (ctx.workspace / "bad.py").write_text(BAD)
    got = await call("reviewFiles", paths=["bad.py"], useModel=False)
    assert rules(got) == [
        (3, "unused-import"),
        (4, "unused-import"),
        (5, "star-import"),
        (11, "mutable-default"),
        (11, "mutable-default"),
        (13, "eval-used"),
        (14, "bare-except"),
        (17, "shell-command"),
        (18, "swallowed-exception"),
        (20, "assert-tuple"),
        (21, "is-literal"),
        (21, "none-compared"),
        (21, "open-without-with"),
    ]
    assert got["modelReview"] == "skipped"
    assert got["summary"]["files"] == 1
    messages = [item["message"] for item in got["findings"] if item["rule"] == "unused-import"]
    assert messages == ["system is imported but not used", "TYPE_CHECKING is imported but not used"]


async def test_good_code_has_no_findings(call, ctx):
    (ctx.workspace / "good.py").write_text(
        "from __future__ import annotations\n\nimport os.path\nfrom a import b as b\n\n\n"
        "def f(x: int | None = None) -> bool:\n    try:\n        return os.path.exists(str(x))\n"
        "    except OSError:\n        return x is None\n"
    )
    assert (await call("reviewFiles", paths=["."], useModel=False))["findings"] == []


def test_complexity_counts_branches(skill):
    source = (
        "def f(a, b):\n    if a and b or a:\n        return [x for x in a if x if b]\n"
        "    for i in a:\n        while b:\n            pass\n    def g():\n        if a: pass\n"
        "    match a:\n        case 1: pass\n        case _: pass\n    return 1 if a else 2\n"
    )
    assert skill.pychecks.complexity(ast.parse(source).body[0]) == 1 + 1 + 2 + 1 + 2 + 1 + 1 + 2 + 1


async def test_long_and_complex_functions(call, ctx):
    body = "".join(f"    if a == {number}:\n        return {number}\n" for number in range(35))
    (ctx.workspace / "long.py").write_text(f"def f(a):\n{body}\n\ndef g(a, b, c, d, e, f, g, h):\n    return a\n")
    got = await call("reviewFiles", paths=["long.py"], useModel=False)
    assert {rule for _, rule in rules(got)} == {"complexity", "long-function", "many-arguments"}
    assert "complexity of 36 (limit 10)" in json.dumps(got)


async def test_text_checks_cover_every_language_and_mask_secrets(call, ctx):
    key = "ghp_" + "Ab1" * 12
    lines = [
        "const token = '" + key + "';",
        "// TO" + "DO: tidy up",
        "<" * 7 + " HEAD",
        "debugger;",
        "password = load()",
    ]
    (ctx.workspace / "app.js").write_text("\n".join(lines) + "\n")
    got = await call("reviewFiles", paths=["app.js"], useModel=False)
    assert rules(got) == [(1, "secret"), (2, "note-left"), (3, "merge-conflict"), (4, "debugger")]
    assert key not in json.dumps(got)
    assert "ghp_..." in got["findings"][0]["message"]


async def test_files_that_do_not_parse(call, ctx):
    (ctx.workspace / "x.py").write_text("def f(:\n")
    (ctx.workspace / "b.py").write_bytes(b"\xff\xfe")
    got = await call("reviewFiles", paths=["."], useModel=False)
    assert rules(got) == [(1, "syntax")]
    assert got["skipped"] == ["b.py: path: 'b.py' is not UTF-8 text (byte 0)"]


async def test_a_diff_is_judged_by_its_added_lines(call, ctx):
    git = repository(ctx)
    (ctx.workspace / "a.py").write_text("def old(x=[]):\n    return x\n\n\n" + "# pad\n" * 20)
    (ctx.workspace / "gone.py").write_text("eval('1')\n")
    git("add", ".")
    git("commit", "-m", "one")
    with (ctx.workspace / "a.py").open("a") as file:
        file.write("def new(y={}):\n    return y\n")
    (ctx.workspace / "gone.py").unlink()
    got = await call("reviewDiff", useModel=False)
    assert rules(got) == [(25, "mutable-default")]
    assert (await call("reviewDiff", staged=True, useModel=False))["findings"] == []
    git("checkout", "-b", "feature")
    git("commit", "-am", "two")
    assert (await call("reviewDiff", useModel=False))["summary"]["files"] == 0
    branch = await call("reviewDiff", base="main", head="feature", useModel=False, paths=["a.py"])
    assert rules(branch) == [(25, "mutable-default")]


async def test_git_settings_of_the_repository_start_nothing(call, ctx):
    git = repository(ctx)
    (ctx.workspace / ".gitattributes").write_text("*.py diff=evil\n")
    (ctx.workspace / "a.py").write_text("a = 1\n")
    git("add", ".")
    git("commit", "-m", "one")
    ran = ctx.scratch / "ran"
    for setting in ("diff.external", "diff.evil.command", "diff.evil.textconv", "core.fsmonitor", "core.pager"):
        git("config", setting, f"touch {ran}; true")
    (ctx.workspace / "a.py").write_text("a = 2\n")
    await call("reviewDiff", useModel=False)
    assert not ran.exists()


async def test_the_model_adds_findings_and_made_up_ones_are_dropped(call, ctx):
    (ctx.workspace / "a.py").write_text("def f(x=[]):\n    return x[1]\n")
    remark = {
        "file": "a.py",
        "line": 2,
        "severity": "error",
        "message": "IndexError for short lists",
        "suggestion": "Check.",
    }
    invented = [{**remark, "line": 99}, {**remark, "file": "/etc/passwd"}, {**remark, "message": ""}, "text"]
    odd = {**remark, "line": 1, "severity": "fatal", "suggestion": None}
    ctx.llm.replies = ["Here you are:\n```json\n" + json.dumps({"findings": [remark, odd, *invented]}) + "\n```\n"]
    got = await call("reviewFiles", paths=["a.py"])
    assert [(f["line"], f["severity"], f["source"]) for f in got["findings"]] == [
        (1, "error", "static"),
        (1, "warning", "model"),
        (2, "error", "model"),
    ]
    assert got["modelReview"] == "used; 4 findings dropped"
    (prompt,) = ctx.llm.prompts
    assert "2:     return x[1]" in prompt
    assert '"rule": "mutable-default"' in prompt


@pytest.mark.parametrize("reply", ["I like it.", '{"remarks": []}', "[1, 2", '{"findings": "none"}'])
async def test_an_unusable_answer_does_not_lose_the_static_findings(call, ctx, reply):
    (ctx.workspace / "a.py").write_text("def f(x=[]):\n    return x\n")
    ctx.llm.replies = [reply]
    got = await call("reviewFiles", paths=["a.py"])
    assert rules(got) == [(1, "mutable-default")]
    assert got["modelReview"].startswith("unusable: ")


async def test_a_model_that_is_refused_does_not_lose_them_either(call, ctx):
    class Refusing:
        async def generate(self, _prompt):
            raise ContextError("the budget is spent")

    (ctx.workspace / "a.py").write_text("def f(x=[]):\n    return x\n")
    ctx.llm = Refusing()
    assert (await call("reviewFiles", paths=["a.py"]))["modelReview"] == "unusable: the budget is spent"


async def test_mistakes_are_named(call, ctx):
    with pytest.raises(SkillError, match="paths: 'nope' does not exist"):
        await call("reviewFiles", paths=["nope"])
    with pytest.raises(SkillError, match="it is no git repository"):
        await call("reviewDiff")
    repository(ctx)("commit", "--allow-empty", "-m", "x")
    for base in ("--output=/tmp/x", "no-such-branch"):
        with pytest.raises(SkillError, match="base: "):
            await call("reviewDiff", base=base)


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("key = 'AKIA" + "IOSFODNN7ABCDEFG'", "aws-access-key"),
        ("-----BEGIN RSA " + "PRIVATE KEY-----", "private-key"),
        ("db = 'postgres://app:" + "s3cr3tpw@db/x'", "url-password"),
        ("OPENAI=" + "sk-proj-" + "a1B2" * 10, "openai-key"),
        ('password: "' + 'kT9#vLq2Zx"', "named-secret"),
        ("API_KEY=" + "9f8e7d6c5b4a39281706", "named-secret"),
        ("password = 'changeme'", None),
        ("password = 'your password here'", None),
        ("token = os.environ['GITHUB_TOKEN']", None),
        ("api_key = settings.api_key_for_tests", None),
        ("url = 'https://user:{password}@host/'", None),
        ("secret_name = 'web-search'", None),
        ("tokens = tokenizer.encode(text2)", None),
    ],
)
def test_credentials(skill, line, rule):
    assert [leak.rule for leak in skill.leaks.find(line)] == ([rule] if rule else [])
