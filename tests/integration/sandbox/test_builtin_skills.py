"""Each built-in skill does something in a real sandbox: its imports, its permissions and its files are enough there."""

import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from openclaw_runtime.sandbox.errors import SkillFailedError
from openclaw_runtime.sandbox.local_executor import SubprocessExecutor
from openclaw_runtime.skills.audit import Audit
from openclaw_runtime.skills.registry import SkillRegistry, read_folder
from openclaw_runtime.skills.service import SkillService
from tests.fakes.http_server import HttpServer, Reply, Seen, serve
from tests.integration.sandbox.helpers import RecordingContext

SKILLS = Path(__file__).parents[3] / "skills"
ELSEWHERE = {"k8s-operator"}
"""What needs more than this: see tests/integration/operator/test_k8s_skill.py."""
PAGES = {
    "/page": "<h1>Hello</h1>",
    "/v2/team/app/tags/list": '{"name": "team/app", "tags": ["1.0.0"]}',
    "/rest/api/3/search/jql": '{"issues": [], "isLast": true}',
}


@dataclass(frozen=True)
class Case:
    """A call; SERVER in the input stands for the test's own server. `expected` is part of the output."""

    action: str
    given: dict[str, Any]
    expected: dict[str, Any]
    config: dict[str, Any] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)


MEETING = {"title": "Plan", "start": "2027-01-05T10:00", "durationMinutes": 30, "timeZone": "Europe/Berlin"}
PEOPLE = {"organizer": "ada@example.org", "attendees": ["bob@example.org"]}
JIRA = {"JIRA_URL": "http://SERVER", "JIRA_EMAIL": "ada@example.org", "JIRA_TOKEN": "token"}
TARGETS = {"targets": {"builds": {"type": "slack"}}, "rules": [{"to": ["builds"], "contains": "build"}]}
VOTES = [{"source": name, "answer": answer} for name, answer in (("a", "yes"), ("b", "yes"), ("c", "no"))]
CASES = {
    "code-reviewer": Case("reviewFiles", {"paths": ["app.py"], "useModel": False}, {"findings": []}),
    "docker-builder": Case("dockerfile", {"folder": "service"}, {}),
    "docker-manager": Case("tags", {"image": "SERVER/team/app"}, {"tags": ["1.0.0"]}),
    "file-ops": Case("read", {"path": "app.py"}, {"totalLines": 2}),
    "git-ai-helper": Case("cleanupBranches", {"dryRun": True}, {"success": True}),
    "http-fetch": Case("get", {"url": "http://SERVER/page"}, {"status": 200}),
    "jira-connector": Case("search", {"jql": "project = A"}, {"issues": []}, secrets=JIRA),
    "meeting-scheduler": Case("invite", MEETING | PEOPLE, {}),
    "message-router": Case("route", {"text": "The build broke"}, {"targets": ["builds"]}, config=TARGETS),
    "monitoring-setup": Case("alertRules", {}, {"path": "monitoring/alerts.yml"}),
    "quality-checker": Case("checkText", {"text": "Too short.", "minWords": 5}, {"passed": False}),
    "report-generator": Case("fromRecords", {"title": "Sums", "records": [{"a": 1}]}, {"records": 1}),
    "result-aggregator": Case("vote", {"answers": VOTES}, {}),
    "security-scanner": Case("scan", {"path": "app.py"}, {"findings": []}),
    "shell": Case("run", {"argv": ["cat", "app.py"]}, {"exitCode": 0}),
    "task-manager": Case("create", {"title": "Write tests"}, {}),
    "test-generator": Case("inspect", {"module": "app.py"}, {"module": "app"}),
    "web-search": Case("search", {"query": "sandboxes"}, {}),
}


def answer(seen: Seen) -> Reply:
    page = PAGES.get(seen.path)
    return Reply(200, page.encode(), {"Content-Type": "text/html"}) if page else Reply(404)


@pytest.fixture(scope="module")
def site() -> Iterator[HttpServer]:
    with serve(answer) as server:
        yield server


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A repository with a little code."""
    workspace = tmp_path / "workspace"
    (workspace / "service").mkdir(parents=True)
    (workspace / "service/requirements.txt").write_text("httpx==0.28.1\n")
    (workspace / "app.py").write_text("def add(a, b):\n    return a + b\n")
    git = ["git", "-C", str(workspace), "-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "Begin"], check=True)
    return workspace


@pytest.fixture
async def skills(workspace: Path) -> AsyncIterator[SkillService]:
    """Calls as a laptop makes them."""
    executor = SubprocessExecutor(workspace=workspace, warm=0, limit=1)
    await executor.start()
    yield SkillService("agent", SkillRegistry("demo"), executor, Audit([]))
    await executor.close()


def test_every_skill_is_called_here() -> None:
    assert {folder.parent.name for folder in SKILLS.glob("*/SKILL.md")} == CASES.keys() | ELSEWHERE


@pytest.mark.parametrize("name", list(CASES))
async def test_a_skill_works_in_a_sandbox(skills: SkillService, site: HttpServer, name: str) -> None:
    case = CASES[name]

    def here(value: Any) -> Any:
        return json.loads(json.dumps(value).replace("SERVER", f"127.0.0.1:{site.port}"))

    skill = replace(
        read_folder(SKILLS / name, {}),
        config=case.config,
        secrets=here(case.secrets),
        allowed_domains=("127.0.0.1",),
    )
    call = skills.call(skill, case.action, here(case.given), session="s", context=RecordingContext())
    if name == "web-search":
        # Its addresses are fixed: all that can be seen from here is that it gets as far as its keys.
        with pytest.raises(SkillFailedError, match="no search key is set"):
            await call
        return
    output = (await call).output
    assert {key: output[key] for key in case.expected} == case.expected
