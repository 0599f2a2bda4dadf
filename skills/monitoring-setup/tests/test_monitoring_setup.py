import contextlib
import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from openclaw_skill import SkillError
from tests.fakes.skill_context import load_skill

minyaml = load_skill(Path(__file__).parent.parent)["minyaml"]


async def test_alert_rules_have_the_documented_numbers_and_pass_the_check(call, ctx):
    got = await call("alertRules")
    rules = yaml.safe_load((ctx.workspace / "monitoring/alerts.yml").read_text())["groups"][0]["rules"]
    assert [(rule["alert"], rule["expr"], rule["for"], rule["labels"]["severity"]) for rule in rules] == [
        ("HighErrorRate", "rate(openclaw_skill_errors_total[5m]) > 0.1", "5m", "warning"),
        ("MemoryUsageHigh", "openclaw_memory_usage_bytes / 1024 / 1024 > 1024", "2m", "critical"),
    ]
    assert await call("checkRules", path=got["path"]) == {"valid": True, "groups": 1, "rules": 2, "problems": []}
    changed = await call("alertRules", errorRate=2.5, memoryMb=2048, memoryFor="1h30m", path="a.yaml")
    assert "> 2.5" in changed["content"]
    with pytest.raises(SkillError, match=r"groups\[0\]\.rules\[0\]\.for: 'soon' is no duration"):
        await call("alertRules", errorFor="soon", path="b.yaml")


async def test_scrape_config_discovers_pods_or_takes_targets(call, ctx):
    found = yaml.safe_load((await call("scrapeConfig", namespaces=["demo"]))["content"])
    (job,) = found["scrape_configs"]
    assert job["kubernetes_sd_configs"] == [{"role": "pod", "namespaces": {"names": ["demo"]}}]
    assert job["relabel_configs"][1]["regex"] == "7456"
    assert (found["global"]["scrape_interval"], found["rule_files"]) == ("15s", ["alerts.yml"])
    fixed = yaml.safe_load((await call("scrapeConfig", targets=["agent1:7456", "[::1]:7456"], path="p.yml"))["content"])
    assert fixed["scrape_configs"][0]["static_configs"] == [{"targets": ["agent1:7456", "[::1]:7456"]}]
    with pytest.raises(SkillError, match="'agent1' is not host:port"):
        await call("scrapeConfig", targets=["agent1"], path="q.yml")


async def test_the_dashboard_covers_the_metrics(call, ctx):
    board = json.loads((await call("dashboard", title="Agents"))["content"])
    text = json.dumps(board["panels"])
    for metric in (
        "openclaw_request_duration_ms",
        "openclaw_errors_total",
        "openclaw_skill_executions_total",
        "openclaw_memory_usage_bytes",
        "openclaw_vector_search_duration_ms",
        "openclaw_vector_search_results_total",
    ):
        assert metric in text
    places = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in board["panels"]]
    assert len(set(places)) == len({p["id"] for p in board["panels"]}) == len(board["panels"])
    assert board["title"] == "Agents"


async def test_files_are_replaced_only_when_told(call, ctx):
    assert (await call("alertRules"))["changed"]
    assert not (await call("alertRules"))["changed"]
    with pytest.raises(SkillError, match="set overwrite"):
        await call("alertRules", memoryMb=1)
    assert (await call("alertRules", memoryMb=1, overwrite=True))["changed"]
    with pytest.raises(SkillError, match="must end in"):
        await call("alertRules", path="alerts.txt")


BROKEN = """
groups:
  - name: a
    interval: soon
    rules:
      - alert: One
        record: two
        expr: rate(x[5m]
        for: 5 minutes
        labels: {severity: 1, bad-name: x}
        annotations:
          summary: "{{ $value }"
      - record: not a metric
        expr: "sum(x)"
        for: 5m
      - alert: NoExpression
        labels: [severity]
      - text
  - name: a
    rules: []
    rule: 1
other: 1
"""


async def test_each_structural_mistake_is_found_at_its_place(call, ctx):
    got = await call("checkRules", content=BROKEN)
    assert not got["valid"]
    assert (got["groups"], got["rules"]) == (2, 4)
    assert {problem["where"] for problem in got["problems"] if problem["level"] == "error"} == {
        "other",
        "groups[0].interval",
        "groups[0].rules[0]",
        "groups[0].rules[0].for",
        "groups[0].rules[0].annotations",
        "groups[0].rules[0].expr",
        "groups[0].rules[0].labels.severity",
        "groups[0].rules[0].labels.bad-name",
        "groups[0].rules[0].annotations.summary",
        "groups[0].rules[1].record",
        "groups[0].rules[1].for",
        "groups[0].rules[2].expr",
        "groups[0].rules[2].labels",
        "groups[0].rules[3]",
        "groups[1].name",
        "groups[1].rules",
        "groups[1].rule",
    }


@pytest.mark.parametrize(
    ("content", "where"),
    [("groups:\n\t- name: x\n", "line 2"), ("groups: [\n", "line 1"), ("", "groups"), ("- a\n", "groups")],
)
async def test_files_that_are_no_rules_at_all(call, content, where):
    got = await call("checkRules", content=content)
    assert (got["valid"], got["problems"][0]["where"]) == (False, where)


async def test_one_source_is_needed(call):
    with pytest.raises(SkillError, match="exactly one"):
        await call("checkRules")


TEXTS = """
plain: some words # a comment
url: http://host:80/a#b
quoted: "a: b # c\\n\\u00fc"
single: 'it''s'
empty:
numbers: [1, -2.5, 1e3, 0x1F, 007, 1_0]
words: [true, False, null, ~, yes, .5]
inline: {a: 1, b: [x, {c: d}], "e f": 'g'}
over: [1,
  2,
  3]
list:
- a
-   b: 1
    c: 2
- - x
  - y
-
  z: 1
literal: |
  two
   lines

  end

kept: |+
  x

folded: >-
  a
  b

  c
    d
  e
more words: goes
  on here

"""


def test_the_yaml_reader_reads_what_pyyaml_reads():
    text = TEXTS.rsplit("? ", 1)[0]
    want = yaml.safe_load(text)
    # PyYAML reads YAML 1.1: no number like 1e3, digits with _, yes; this reader keeps to YAML 1.2.
    want["numbers"][2] = 1000.0
    want["numbers"][5] = "1_0"
    want["words"][4] = "yes"
    assert minyaml.load(text) == want


@pytest.mark.parametrize("name", ["alerts.yaml", "rules.yaml"])
def test_it_reads_the_projects_own_files(name):
    path = Path(__file__).parents[3] / "charts/openclaw-operator/files" / name
    text = path.read_text(encoding="utf-8")
    assert minyaml.load(text) == yaml.safe_load(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: 1\na: 2\n", "line 2: the key 'a' is there twice"),
        ("a: &x 1\n", "line 1: '&x': anchors"),
        ("a: *x\n", "anchors, aliases and tags"),
        ("a: 1\n  b: 2\n", "line 2: 'b: 2' does not fit"),
        ("a: 'x\n", "a quote is not closed"),
        ("a: [1\n", "a bracket is not closed"),
        ("a: [1] 2\n", "follows a bracket"),
        ("a: [1 b: 2]\n", "a comma or ]"),
        ("a: @x\n", "cannot begin with '@'"),
        ("a:\n  - 1\n  b: 2\n", "line 3"),
        ("text\na: 1\n", "line"),
        ("[" * 2000, "a bracket is not closed|deeper"),
    ],
)
def test_the_yaml_reader_names_line_and_reason(text, says):
    with pytest.raises(minyaml.YamlError, match=says):
        minyaml.load(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8", exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_what_is_written_reads_back_the_same_here_and_in_pyyaml(value):
    text = minyaml.dump(value)
    assert minyaml.load(text) == value
    if all(ord(char) >= 32 and not 0x7F <= ord(char) < 0xA0 for char in text.replace("\n", "")):
        assert yaml.safe_load(text) == value


@given(st.text(alphabet="ab:-#'\"[]{},&*!|> \n\t?%@0.", max_size=60))
def test_any_text_is_read_or_refused_by_name(text):
    with contextlib.suppress(minyaml.YamlError):
        minyaml.load_all(text)
