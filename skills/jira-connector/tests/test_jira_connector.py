import base64
import json

import pytest

from openclaw_skill import SkillError
from tests.fakes.http_server import Reply, serve

DOC = {
    "type": "doc",
    "content": [
        {"type": "heading", "attrs": {"level": 2}, "content": [{"type": "text", "text": "Why"}]},
        {
            "type": "paragraph",
            "content": [
                {"type": "mention", "attrs": {"text": "@Kim"}},
                {"type": "text", "text": " says "},
                {"type": "text", "text": "so", "marks": [{"type": "link", "attrs": {"href": "https://a.b/"}}]},
                {"type": "hardBreak"},
                {"type": "inlineCard", "attrs": {"url": "https://c.d/"}},
            ],
        },
        {
            "type": "bulletList",
            "content": [
                {"type": "listItem", "content": [{"type": "paragraph", "content": [{"type": "text", "text": "x"}]}]}
            ],
        },
    ],
}
ISSUE = {
    "key": "OPS-1",
    "fields": {
        "summary": "Disk full",
        "status": {"name": "To Do"},
        "issuetype": {"name": "Bug"},
        "priority": None,
        "assignee": {"displayName": "Kim"},
        "labels": ["disk"],
        "updated": "2026-03-02T10:00:00.000+0100",
        "description": DOC,
    },
    "transitions": [{"name": "Start"}],
}
TRANSITIONS = [
    {"id": "11", "name": "Start", "to": {"name": "In Progress"}},
    {"id": "12", "name": "Finish", "to": {"name": "Done"}},
]


@pytest.fixture
def jira(ctx):
    replies = {
        ("GET", "/rest/api/3/issue/OPS-1"): ISSUE,
        ("GET", "/rest/api/3/issue/OPS-1/comment"): {
            "comments": [{"author": {"displayName": "Lee"}, "created": "2026", "body": DOC["content"][0]}]
        },
        ("GET", "/rest/api/3/issue/OPS-1/transitions"): {"transitions": TRANSITIONS},
        ("POST", "/rest/api/3/issue"): {"key": "OPS-2"},
        ("POST", "/rest/api/3/issue/OPS-1/comment"): {},
        ("POST", "/rest/api/3/search/jql"): {"issues": [ISSUE], "isLast": False},
        ("POST", "/rest/api/2/search"): {"issues": [ISSUE], "total": 1},
    }

    def answer(seen):
        reply = replies.get((seen.method, seen.path), b"")
        return reply if isinstance(reply, Reply) else Reply(200, reply if reply == b"" else json.dumps(reply).encode())

    with serve(answer) as server:
        server.replies = replies
        ctx.secrets = {"JIRA_URL": server.url, "JIRA_EMAIL": "kim@example.org", "JIRA_TOKEN": "t0k"}
        ctx.config = {"projects": ["OPS"], "allowWrites": True}
        yield server


def sent(server):
    return json.loads(server.seen[-1].body)


async def test_search_stays_in_the_allowed_projects(call, jira):
    got = await call("search", jql='status = "To (Do" ORDER BY updated', limit=5)
    assert sent(jira)["jql"] == 'project in (OPS) AND (status = "To (Do") ORDER BY updated'
    assert got["more"] is True
    assert got["issues"][0] == {
        "key": "OPS-1",
        "url": f"{jira.url}/browse/OPS-1",
        "summary": "Disk full",
        "status": "To Do",
        "type": "Bug",
        "priority": None,
        "assignee": "Kim",
        "labels": ["disk"],
        "updated": "2026-03-02T10:00:00.000+0100",
    }
    await call("search", jql="order by created")
    assert sent(jira)["jql"] == "project in (OPS) order by created"


@pytest.mark.parametrize("jql", ["a = 1) OR (project = HR", "a = 1 OR (b = 2", "a = 'x", 'a = "x\\" OR project = HR'])
async def test_a_query_cannot_reach_around_them(call, jira, jql):
    with pytest.raises(SkillError, match="without its other half"):
        await call("search", jql=jql)
    assert jira.seen == []


async def test_an_issue_is_read_as_text(call, jira):
    got = await call("get", key="OPS-1")
    assert got["description"] == "## Why\n\n@Kim says so (https://a.b/)\nhttps://c.d/\n\n- x"
    assert got["comments"] == [{"author": "Lee", "created": "2026", "text": "## Why"}]
    assert got["transitions"] == ["Start"]
    assert jira.seen[0].headers["authorization"] == "Basic " + base64.b64encode(b"kim@example.org:t0k").decode()
    with pytest.raises(SkillError, match=r"key: project HR is none of config.projects \(OPS\)"):
        await call("get", key="HR-1")


TEXT = "First\nline\n\n- one\n- two\n\n```\ncode - here\n```\nend"


async def test_create_and_comment(call, jira, skill):
    given = {"project": "OPS", "type": "Task", "summary": "S", "description": TEXT, "labels": ["a"], "parent": "OPS-1"}
    dry = await call("create", dryRun=True, **given)
    assert (dry["key"], {seen.method for seen in jira.seen}) == (None, {"GET"})
    got = await call("create", **given)
    assert (got["key"], got["url"]) == ("OPS-2", f"{jira.url}/browse/OPS-2")
    fields = sent(jira)["fields"]
    assert fields == got["sent"] == dry["sent"]
    assert [block["type"] for block in fields["description"]["content"]] == [
        "paragraph",
        "bulletList",
        "codeBlock",
        "paragraph",
    ]
    assert skill.adf.to_text(fields["description"]) == "First\nline\n\n- one\n\n- two\n\ncode - here\n\nend"
    await call("comment", key="OPS-1", text="done")
    assert skill.adf.to_text(sent(jira)["body"]) == "done"


async def test_an_issue_that_was_moved_counts_where_it_is_now(call, jira):
    """Jira answers for its old key, too."""
    jira.replies["GET", "/rest/api/3/issue/OPS-1"] = {**ISSUE, "key": "HR-7"}
    for action, given in {"get": {}, "comment": {"text": "x"}, "transition": {"to": "Start"}}.items():
        with pytest.raises(SkillError, match="key: project HR is none of"):
            await call(action, key="OPS-1", **given)
    with pytest.raises(SkillError, match="parent: project HR is none of"):
        await call("create", project="OPS", type="Bug", summary="S", parent="OPS-1")
    assert {seen.path for seen in jira.seen} == {"/rest/api/3/issue/OPS-1"}


async def test_transitions_by_name_or_state(call, jira):
    assert (await call("transition", key="OPS-1", to="in progress"))["status"] == "In Progress"
    assert sent(jira) == {"transition": {"id": "11"}}
    assert (await call("transition", key="OPS-1", to="Finish"))["status"] == "Done"
    with pytest.raises(SkillError, match=r"possible: Start \(to In Progress\), Finish \(to Done\)"):
        await call("transition", key="OPS-1", to="Closed")


async def test_server_and_data_center(call, ctx, jira):
    ctx.config = {"deployment": "server", "allowWrites": True}
    assert (await call("search", jql="x"))["more"] is False
    assert jira.seen[-1].headers["authorization"] == "Bearer t0k"
    got = await call("create", project="ANY", type="Bug", summary="S", description="plain", dryRun=True)
    assert got["sent"]["description"] == "plain"


async def test_nothing_is_changed_unless_allowed(call, ctx, jira):
    ctx.config = {}
    for action, given in {
        "create": {"project": "OPS", "type": "Bug", "summary": "S"},
        "comment": {"key": "OPS-1", "text": "x"},
        "transition": {"key": "OPS-1", "to": "Start"},
    }.items():
        with pytest.raises(SkillError, match=r"config\.allowWrites"):
            await call(action, **given)
    assert all(seen.method == "GET" for seen in jira.seen)


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (Reply(400, b'{"errors": {"priority": "is required"}}'), "HTTP 400: priority: is required"),
        (Reply(404, b"<html>"), "may not see it"),
        (Reply(401), "check secrets.JIRA_EMAIL"),
        (Reply(429, headers={"Retry-After": "9"}), "try again in 9 s"),
        (Reply(302, headers={"Location": "https://elsewhere.example/"}), "HTTP 302"),
        (Reply(200, b"<html>"), "is not JSON"),
        (Reply(200, b"[]"), "not a JSON object"),
    ],
)
async def test_what_jira_refuses_is_told_without_the_token(call, jira, reply, told):
    jira.replies["GET", "/rest/api/3/issue/OPS-1"] = reply
    with pytest.raises(SkillError, match=told) as caught:
        await call("get", key="OPS-1")
    assert "t0k" not in str(caught.value)


@pytest.mark.parametrize(
    ("secrets", "config", "told"),
    [
        ({"JIRA_URL": "http://jira.example.org"}, {}, "secrets.JIRA_URL"),
        ({"JIRA_TOKEN": ""}, {}, "secrets.JIRA_TOKEN: it is missing"),
        ({"JIRA_EMAIL": ""}, {}, "secrets.JIRA_EMAIL: it is missing"),
        ({}, {"deployment": "moon"}, "config.deployment: 'moon'"),
        ({}, {"projects": ["A) OR (B"]}, "config.projects"),
        ({"JIRA_URL": "http://127.0.0.1:1"}, {}, "not reachable"),
    ],
)
async def test_a_wrong_set_up_is_named(call, ctx, jira, secrets, config, told):
    ctx.secrets |= secrets
    ctx.config = config
    with pytest.raises(SkillError, match=told):
        await call("get", key="OPS-1")
