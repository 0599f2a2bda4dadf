"""A Skill from its spec to what it reports."""

from __future__ import annotations

import asyncio
import json
from typing import Any, NoReturn

import pytest

from openclaw_operator.errors import FetchError, SpecError
from openclaw_operator.fetch.guard import Guard
from openclaw_operator.reconcile import source
from openclaw_operator.reconcile.downloads import FIRST_RETRY_SECONDS
from openclaw_operator.reconcile.skill import SkillReconciler, check_actions
from openclaw_operator.reconcile.status import ready_condition
from openclaw_operator.resources import package
from openclaw_operator.resources.meta import Owner
from tests.unit.operator.builders import DIGEST, skill_spec
from tests.unit.operator.fake_api import Bench

FETCHED: dict[str, Any] = {
    "version": "1.1.0",
    "source": {"oci": {"reference": f"registry.example/echo:1.1.0@sha256:{'cd' * 32}"}},
    "actions": [{"name": "say", "description": "says"}],
}


@pytest.mark.parametrize("field", ["inputSchema", "outputSchema"])
def test_a_schema_that_is_nested_too_deeply_is_refused_by_its_field(field: str) -> None:
    """It is a mistake of the user: as a bug it would be tried again for ever, and freeze the agents that use it."""
    schema: dict[str, Any] = {"type": "object"}
    for _ in range(200):
        schema = {"type": "object", "properties": {"x": schema}}
    with pytest.raises(SpecError, match=rf"^spec\.actions\[0\]\.{field}: nested too deeply: .* flatten it$") as refusal:
        check_actions(skill_spec(actions=[{"name": "say", "description": "says", field: schema}]))
    assert refusal.value.reason == "InvalidSchema"


@pytest.mark.parametrize(("passing", "digest", "observed"), [(True, DIGEST, 1), (False, None, 2)])
async def test_agents_keep_the_version_they_have_while_a_registry_fails(
    monkeypatch: pytest.MonkeyPatch, passing: bool, digest: str | None, observed: int
) -> None:
    """What may pass takes nothing away; what somebody has to put right is told as the state of the new spec."""
    bench, tried = Bench(), asyncio.Event()

    async def fetch(*_: Any) -> NoReturn:
        raise FetchError("SourceUnavailable", "503", passing=passing)

    monkeypatch.setattr(source, "_fetch", fetch)
    monkeypatch.setattr(bench.queue, "add", lambda _: tried.set())
    had = {"digest": DIGEST, "packageConfigMap": "echo-package-abab", "observedGeneration": 1}
    skill = bench.primary("Skill", "echo", FETCHED, status=had, metadata={"generation": 2})
    skills = SkillReconciler(bench.context, Guard(), lambda: 0.5)
    assert await skills.reconcile(skill) is None
    await tried.wait()
    known = bench.context.primaries.get(skill.key)
    assert known
    pause = await skills.reconcile(known)
    status = bench.api.items["Skill", "echo"]["status"]
    assert (status.get("digest"), status["observedGeneration"]) == (digest, observed)
    assert status.get("packageConfigMap") == (had["packageConfigMap"] if passing else None)
    ready = ready_condition(status)
    assert ready
    assert (ready["status"], ready["reason"], ready["message"]) == ("False", "SourceUnavailable", "503")
    assert pause
    assert (pause == FIRST_RETRY_SECONDS) == passing


async def test_a_registry_is_asked_now_and_then_whether_a_version_in_use_was_yanked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench, woken, asked = Bench(), asyncio.Event(), list[float]()
    answers: list[str | FetchError | None] = [None, "loses the index", FetchError("SourceUnavailable", "503"), None]

    async def ask(*_: Any) -> Any:
        answer = answers[len(asked)]
        asked.append(bench.time)
        if isinstance(answer, FetchError):
            raise answer
        return source._Word(answer)

    monkeypatch.setattr(source, "_ask", ask)
    monkeypatch.setattr(bench.queue, "add", lambda _: woken.set())
    packed = package.build({"scripts/main.py": "def say(ctx, input): return input\n"})
    fetched = {"source": f"oci:sha256:{'cd' * 32}", "digest": packed.digest}
    had = {"digest": packed.digest, "fetched": fetched, "observedGeneration": 1}
    skill = bench.primary("Skill", "echo", FETCHED, status=had)
    stored = package.config_map(Owner("Skill", "echo", "demo", skill.uid), packed)
    bench.child("ConfigMap", stored["metadata"]["name"], **stored)
    skills = SkillReconciler(bench.context, Guard(), lambda: 0.5)

    async def look() -> tuple[str | None, int]:
        """What the status says after a look, and after the registry answered; and how often it was asked by then."""
        for _ in range(2):
            known = bench.context.primaries.get(skill.key)
            assert known
            before = len(asked)
            woken.clear()
            await skills.reconcile(known)
            await asyncio.sleep(0)
            if len(asked) > before:
                await woken.wait()
        status = bench.api.items["Skill", "echo"]["status"]
        reasons = [each["message"] for each in status["conditions"] if each["type"] == "Yanked"]
        assert bool(reasons) == ("yanked" in status["fetched"])
        return status["fetched"].get("yanked"), len(asked)

    assert await look() == (None, 0)
    # What agents keep while the registry fails for the next version.
    kept = json.loads(bench.api.items["Skill", "echo"]["status"]["fetched"]["spec"])
    assert kept == {name: value for name, value in FETCHED.items() if name != "source"}
    bench.time = source.FIRST_WORD_SECONDS
    assert await look() == (None, 1)
    writes = len(bench.api.log)
    bench.time += source.WORD_SECONDS - 1
    assert await look() == (None, 1)
    assert len(bench.api.log) == writes
    bench.time += 1
    assert await look() == ("loses the index", 2)
    writes = len(bench.api.log)
    # A registry that does not answer changes nothing, and is not asked again before the next time.
    bench.time += source.WORD_SECONDS
    assert await look() == ("loses the index", 3)
    assert await look() == ("loses the index", 3)
    assert len(bench.api.log) == writes
    bench.time += source.WORD_SECONDS
    assert await look() == (None, 4)
