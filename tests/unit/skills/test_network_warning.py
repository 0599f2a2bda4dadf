"""A gateway without a cluster says that nothing keeps skills to their hosts."""

import logging
from pathlib import Path

import pytest

from openclaw_runtime.config import RuntimeConfig
from openclaw_runtime.gateway.skills import RuntimeSkills
from openclaw_runtime.skills.scaffold import new_skill


async def test_it_is_said_once_and_only_for_skills_that_use_the_network(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for path, text in new_skill("weather").items():
        (tmp_path / "weather" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "weather" / path).write_text(text)
    config = RuntimeConfig.model_validate({"skills": {"directories": [str(tmp_path / "weather")]}})
    skills = RuntimeSkills(config, environ={}, environment={}, data_dir=tmp_path, workspace=None)

    async def said() -> list[str]:
        await skills.load(config)
        return [record.getMessage() for record in caplog.records]

    with caplog.at_level(logging.WARNING):
        assert await said() == []
        manifest = tmp_path / "weather/skill.yaml"
        manifest.write_text(manifest.read_text().replace("permissions: []", "permissions: [network:external]"))
        line = "allowedDomains is enforced in a cluster only: here weather may reach any host"
        assert await said() == [line]
        assert await said() == [line]
    await skills.close()
