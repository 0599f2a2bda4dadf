"""git-ai-helper's own two schedules, as on a laptop: a real repository with a real remote, and a real sandbox."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from openclaw_runtime.gateway.assembly import Gateway
from openclaw_runtime.gateway.skills import RuntimeSkills
from tests.fakes.llm.gateways import House
from tests.integration.runtime.test_process import ROOT, git


def commit(folder: Path, name: str) -> str:
    (folder / name).write_text(name)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "-m", f"feat: {name}")
    return git(folder, "rev-parse", "HEAD").strip()


async def test_pulls_twice_a_day_and_cleans_up_on_sundays(tmp_path: Path) -> None:
    workspace = tmp_path / "work"
    repository, remote = workspace / "project", workspace / "remotes/origin.git"
    repository.mkdir(parents=True)
    git(repository, "init", "--quiet")
    commit(repository, "start")
    git(tmp_path, "init", "--quiet", "--bare", str(remote))
    git(repository, "remote", "add", "origin", str(remote))
    git(repository, "push", "--quiet", "--set-upstream", "origin", "main")
    git(repository, "remote", "set-head", "origin", "main")
    git(repository, "branch", "merged")
    colleague = tmp_path / "colleague"
    git(tmp_path, "clone", "--quiet", str(remote), str(colleague))

    def head() -> str:
        return git(repository, "rev-parse", "HEAD").strip()

    def branches() -> list[str]:
        return git(repository, "branch", "--format=%(refname:short)").split()

    time = datetime.fromisoformat("2026-11-28T08:00+00:00").timestamp()
    house = House(tmp_path / "data", "http://127.0.0.1:1/v1")
    house.memory = {"type": "file"}
    house.now = lambda: time
    config = house.config("a", skills={"directories": [str(ROOT / "skills/git-ai-helper")]})
    around = house.around("a")
    environ = {"PATH": os.environ["PATH"], "GIT_CONFIG_NOSYSTEM": "1"}
    skills = RuntimeSkills(config, environ=environ, environment={}, data_dir=around.data_dir, workspace=workspace)
    gateway = Gateway(config, around, skills)

    async def at(moment: str) -> list[str | None]:
        nonlocal time
        time = datetime.fromisoformat(f"2026-11-{moment}+00:00").timestamp()
        await gateway.scheduler.tick()
        await gateway.scheduler.idle()
        return [(item["last_run"] or {}).get("outcome") for item in await gateway.scheduler.view()]

    await gateway.start()
    try:
        await gateway.opened()
        assert await at("28T08:59") == [None, None]
        newest = commit(colleague, "more")
        git(colleague, "push", "--quiet")
        assert await at("28T09:00") == ["succeeded", None]
        assert (head(), (repository / "more").read_text()) == (newest, "more")
        assert branches() == ["main", "merged"]
        newest = commit(colleague, "last")
        git(colleague, "push", "--quiet")
        assert await at("28T18:00") == ["succeeded", None]
        assert head() == newest
        assert await at("29T00:00") == ["succeeded", "succeeded"]
        assert branches() == ["main"]
        pulled, *_ = (message.content for message in (await gateway.state.memory.session(PULLS))[1:])
        assert '"newCommits": 1' in pulled
    finally:
        await gateway.close(0)


PULLS = "schedule/git-ai-helper/autoPull"
