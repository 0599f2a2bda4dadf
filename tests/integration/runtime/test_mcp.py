"""A folder with an MCP server is a skill of a gateway without Kubernetes: found, offered, called and recorded."""

import asyncio
import json
from pathlib import Path

import yaml

from openclaw_runtime.config import RuntimeConfig
from openclaw_runtime.gateway.skills import RuntimeSkills
from tests.integration.sandbox.helpers import RecordingContext

EXAMPLE = Path(__file__).parents[3] / "examples/mcp-skill.yaml"


def write_example(folder: Path) -> Path:
    """Writes the first skill of the example as a folder."""
    spec = next(yaml.safe_load_all(EXAMPLE.read_text()))["spec"]
    files = spec.pop("source")["inline"]["files"]
    for path, text in {**files, "skill.yaml": yaml.safe_dump(spec)}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


async def test_the_example_is_a_skill_of_a_gateway_on_a_laptop(tmp_path: Path) -> None:
    folder = write_example(tmp_path / "skills/unit-converter")
    config = RuntimeConfig.model_validate({"skills": {"directories": [str(folder)]}})
    skills = RuntimeSkills(config, environ={}, environment={}, data_dir=tmp_path, workspace=None)
    known = asyncio.Event()
    skills.watch(known.set)
    await skills.start()
    try:
        await skills.load(config)
        await known.wait()
        skill = skills.installed()[0]
        assert [action.name for action in skill.actions] == ["convert"]
        given = {"value": 100, "from": "C", "to": "F"}
        result = await skills.call(skill, "convert", given, session="s", context=RecordingContext())
        assert result.output == "212 F"
    finally:
        await skills.close()
    listed, called = map(json.loads, (tmp_path / "audit.jsonl").read_text().splitlines())
    assert (listed["action"], listed["outcome"], listed["digest"]) == ("tools/list", "ok", skill.digest)
    assert (called["action"], called["outcome"]) == ("convert", "ok")
