import json

import pytest

from openclaw_skill import SkillError
from tests.fakes.http_server import Reply, serve

TARGETS = {
    "ops": {"type": "slack", "description": "outages"},
    "sales": {"type": "teams"},
    "fun": {"type": "discord"},
    "log": {},
}
RULES = [
    {"name": "boss", "to": "ops", "from": ["ceo@example.org"], "stop": True},
    {"name": "money", "to": ["sales", "log"], "contains": ["pay", "invoice"]},
    {"name": "alarm", "to": "ops", "matches": r"(?i)\bdown\b", "tags": ["prod"]},
]


@pytest.fixture(autouse=True)
def config(ctx):
    ctx.config = {"targets": TARGETS, "rules": RULES, "default": "log"}


@pytest.fixture
def hooks(ctx):
    replies = {}
    with serve(lambda seen: replies.get(seen.path, Reply(200, b"ok"))) as server:
        server.replies = replies
        ctx.secrets = {"WEBHOOKS": json.dumps({name: f"{server.url}/{name}" for name in TARGETS})}
        yield server


@pytest.mark.parametrize(
    ("message", "targets", "rules"),
    [
        ({"text": "the invoice is due"}, ["sales", "log"], ["money"]),
        ({"text": "please repay"}, ["log"], []),
        ({"text": "api is DOWN, pay attention", "tags": ["prod"]}, ["sales", "log", "ops"], ["money", "alarm"]),
        ({"text": "api is down"}, ["log"], []),
        ({"text": "invoice", "from": "ceo@example.org"}, ["ops"], ["boss"]),
    ],
)
async def test_rules_decide(call, message, targets, rules):
    got = await call("route", **message)
    assert (got["targets"], got["rules"], got["by"]) == (targets, rules, "rules" if rules else "default")


async def test_the_model_chooses_only_among_targets(call, ctx):
    ctx.llm.replies = ['{"target": "nobody"}', '{"target": "ops"}']
    got = await call("route", text="help", classify=True)
    assert (got["targets"], got["by"]) == (["ops"], "model")
    assert "- ops: outages" in ctx.llm.prompts[0]
    assert "'nobody' is none of the targets" in ctx.llm.prompts[1]
    ctx.llm.replies = ["?", "?"]
    with pytest.raises(SkillError, match="add a rule"):
        await call("route", text="help", classify=True)


async def test_each_service_gets_its_form(call, hooks):
    for name in TARGETS:
        assert (await call("send", to=name, text="häy @everyone", title="T"))["to"] == name
    bodies = [json.loads(seen.body) for seen in hooks.seen]
    assert bodies[0] == {"text": "*T*\nhäy @everyone"}
    card = bodies[1]["attachments"][0]["content"]
    assert [block["text"] for block in card["body"]] == ["T", "häy @everyone"]
    assert bodies[2] == {"content": "**T**\nhäy @everyone", "allowed_mentions": {"parse": []}}
    assert bodies[3] == {"title": "T", "text": "häy @everyone"}
    await call("send", to="ops", text="<!channel> <https://evil.example|https://bank.example> & co")
    assert json.loads(hooks.seen[-1].body)["text"].startswith("&lt;!channel&gt; &lt;https://evil")


async def test_forward_says_for_each_target_what_became_of_it(call, hooks):
    hooks.replies["/sales"] = Reply(429, b"slow down", {"Retry-After": "7"})
    got = await call("forward", text="invoice", **{"from": "kim"})
    assert got["deliveries"] == [
        {"to": "sales", "ok": False, "error": "to: sales answered HTTP 429; try again in 7 s: slow down"},
        {"to": "log", "ok": True, "error": None},
    ]
    assert json.loads(hooks.seen[-1].body) == {"title": "From kim", "text": "invoice"}


async def test_a_redirect_is_not_followed_and_no_address_is_told(call, hooks):
    hooks.replies["/log"] = Reply(307, headers={"Location": "/ops"})
    with pytest.raises(SkillError, match="HTTP 307") as caught:
        await call("send", to="log", text="x")
    assert hooks.url not in str(caught.value)
    hooks.replies["/log"] = Reply(404, b"Cannot POST /log")
    with pytest.raises(SkillError, match="HTTP 404: Cannot POST /…"):
        await call("send", to="log", text="x")
    assert {seen.path for seen in hooks.seen} == {"/log"}


async def test_what_cannot_be_sent_is_named(call, ctx, hooks):
    with pytest.raises(SkillError, match="discord takes at most 2000"):
        await call("send", to="fun", text="x" * 1990, title="y" * 10)
    with pytest.raises(SkillError, match=r"'x' is none of config.targets \(ops, sales, fun, log\)"):
        await call("send", to="x", text="x")
    for secret, told in {
        "": "no address for log",
        "[": "not a JSON object",
        '{"log": "http://example.org/"}': "does not begin with https",
        '{"log": "http://127.0.0.1:1/"}': "not reachable",
    }.items():
        ctx.secrets = {"WEBHOOKS": secret}
        with pytest.raises(SkillError, match=told):
            await call("send", to="log", text="x")
    ctx.config = {"targets": TARGETS}
    with pytest.raises(SkillError, match=r"config\.default names no target"):
        await call("forward", text="x")
    assert hooks.seen == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"targets": {}}, "config.targets: it is empty"),
        ({"targets": {"a": {"type": "fax"}}, "rules": []}, "config.targets.a.type: 'fax' is none of slack"),
        ({"rules": [{"to": "nobody"}]}, r"config.rules\[0\].to: 'nobody' is none of config.targets"),
        ({"rules": [{"to": "ops", "matches": "("}]}, r"config.rules\[0\].matches: '\(' does not compile"),
        ({"rules": [{"to": "ops", "word": "x"}]}, r"config.rules\[0\]: 'word' is none of"),
        ({"rules": [{}]}, r"config.rules\[0\].to: it is empty"),
        ({"rules": [{"to": "ops", "tags": [1]}]}, r"config.rules\[0\].tags: \[1\] must be a text or a list of texts"),
        ({"default": "x"}, "config.default: 'x' is none"),
    ],
)
async def test_a_wrong_configuration_is_named(call, ctx, changes, told):
    ctx.config |= changes
    with pytest.raises(SkillError, match=told):
        await call("route", text="x")
