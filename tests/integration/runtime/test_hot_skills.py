"""Skills come, change and go under a running gateway; a call in flight keeps what it began with."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from tests.bench.waiting import eventually
from tests.fakes.llm.gateways import Model
from tests.integration.runtime.test_process import Started, ask, config, model, started, write_config

__all__ = ["model"]

MAIN = """
import asyncio
from pathlib import Path

async def smartCommit(ctx, input):
    here = Path({work!r})
    (here / "began-{version}").touch()
    while {waits} and not (here / "go").exists():
        await asyncio.sleep(0.02)
    return "version {version} did it"
"""


def skill(folder: Path, work: Path, version: str, *, waits: bool) -> Path:
    """A skill that says its version; one that `waits` does so only once somebody made the file `go`."""
    target = folder / f"skill-{version}"
    (target / "scripts").mkdir(parents=True)
    (target / "SKILL.md").write_text("---\nname: git-ai-helper\ndescription: commits\n---\n")
    permissions = "[filesystem:read, filesystem:write]"
    (target / "skill.yaml").write_text(
        f"version: {version}\npermissions: {permissions}\nactions: [{{name: smartCommit, description: commits}}]\n"
    )
    (target / "scripts" / "main.py").write_text(MAIN.format(work=str(work), version=version, waits=waits))
    return target


async def versions(gateway: Started) -> list[str]:
    address = str(gateway.client.base_url).replace("/v1/", "/api/v1/skills")
    answer = await gateway.client._client.get(address, headers={"Authorization": f"Bearer {gateway.client.api_key}"})
    assert answer.status_code == 200, answer.text
    return [each["version"] for each in answer.json()]


async def until(gateway: Started, expected: list[str]) -> None:
    async def reached() -> bool:
        return await versions(gateway) == expected

    # With pauses: the gateway needs the processor for what is waited for.
    await eventually(reached, f"the skills are of {expected}", seconds=60)


async def test_skills_come_change_and_go_without_a_restart(tmp_path: Path, model: tuple[Model, str]) -> None:
    work = tmp_path / "work"
    work.mkdir()
    first, second = skill(tmp_path, work, "1.0.0", waits=True), skill(tmp_path, work, "2.0.0", waits=False)

    def skills(*folders: Path) -> dict[str, Any]:
        return config(tmp_path, model[1], skills={"directories": [str(folder) for folder in folders]})

    async with asyncio.timeout(120), started(tmp_path, skills()) as gateway:
        await gateway.ready()
        assert await versions(gateway) == []
        write_config(tmp_path, skills(first))
        await until(gateway, ["1.0.0"])
        under_way = asyncio.create_task(ask(gateway.client, "Please commit my work", session="old"))

        async def began() -> bool:
            # It goes on answering meanwhile.
            return bool(await versions(gateway)) and (work / "began-1.0.0").exists()

        await eventually(began, "the first call has begun", seconds=60)
        write_config(tmp_path, skills(second))
        await until(gateway, ["2.0.0"])
        # The next call is of the new version, while the old one still runs.
        assert "version 2.0.0 did it" in await ask(gateway.client, "Please commit my work", session="new")
        assert not under_way.done()
        (work / "go").touch()
        assert "version 1.0.0 did it" in await under_way
        write_config(tmp_path, skills())
        await until(gateway, [])
        assert gateway.process.returncode is None
