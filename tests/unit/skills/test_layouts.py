"""Folders of each layout a skill may have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from openclaw_operator.api.skill import SkillSpec
from openclaw_operator.errors import SpecError
from openclaw_operator.resources import declared
from openclaw_operator.resources.package import File
from openclaw_operator.resources.pool import pool_for
from openclaw_runtime.skills.errors import ManifestError, PackageUnavailableError
from openclaw_runtime.skills.folder import SkillFolder, is_skill_folder, read_skill
from openclaw_runtime.skills.instructions import read_instructions
from openclaw_runtime.skills.package import folder_files, pack_files
from tests.unit.operator.builders import IMAGES, agent_inputs

PACKAGE: dict[str, Any] = {
    "name": "@yourname/skill-git-helper",
    "version": "1.0.0",
    "description": "Works with git.",
    "type": "module",
    "main": "./src/index.py",
    "claw": {
        "type": "action",
        "permissions": ["filesystem:read", "process:execute"],
        "triggers": [
            {"type": "command", "command": "git.*", "description": "handles git"},
            {"type": "cron", "schedule": "0 */2 * * *", "description": "commits"},
        ],
        "input_schema": {"type": "object", "properties": {"operation": {"enum": ["commit", "push"]}}},
    },
}


def write(folder: Path, files: dict[str, str]) -> Path:
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


def npm(folder: Path, config: dict[str, Any] | None = None, **changes: Any) -> Path:
    files = {
        "package.json": json.dumps(PACKAGE | changes),
        "src/index.py": "def execute(ctx, input): ...\n",
        "tests/test_index.py": "",
        "README.md": "# Git\nCommit often.\n",
    }
    return write(folder, files | ({"config/skill.yaml": yaml.safe_dump(config)} if config else {}))


def load(folder: Path) -> SkillFolder:
    assert is_skill_folder(folder)
    return read_skill(tuple(folder_files(folder)), str(folder))


def test_a_package_json_with_a_claw_block_is_a_skill(tmp_path: Path) -> None:
    skill = load(npm(tmp_path))
    assert (skill.head.name, skill.manifest.version, skill.manifest.entrypoint) == (
        "skill-git-helper",
        "1.0.0",
        "src/index.py",
    )
    (action,) = skill.manifest.actions
    assert (action.name, action.input_schema) == ("execute", PACKAGE["claw"]["input_schema"])
    assert skill.manifest.permissions == ("filesystem:read", "process:execute")
    command, cron = skill.manifest.triggers
    assert (command.pattern, command.action) == ("git.*", "execute")
    assert (cron.schedule, cron.action) == ("0 */2 * * *", "execute")
    assert skill.instructions == "# Git\nCommit often."
    # The operator takes what comes of it.
    assert SkillSpec.model_validate(skill.resource()["spec"]).actions[0].name == "execute"


def test_config_skill_yaml_says_more_and_wins(tmp_path: Path) -> None:
    config = {
        "version": "1.1.0",
        "actions": [{"name": "smartCommit"}, {"name": "push", "inputSchema": {"type": "object"}}],
        "triggers": [{"type": "cron", "schedule": "0 9 * * *", "action": "push"}],
    }
    manifest = load(npm(tmp_path, config)).manifest
    assert manifest.version == "1.1.0"
    assert [action.name for action in manifest.actions] == ["smartCommit", "push"]
    assert manifest.actions[0].input_schema == PACKAGE["claw"]["input_schema"]
    assert manifest.actions[1].input_schema == {"type": "object"}
    assert [trigger.action for trigger in manifest.triggers] == ["push"]
    assert manifest.permissions == ("filesystem:read", "process:execute")


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"claw": {"type": "theme"}}, "claw.type: 'theme' is not allowed; write action"),
        ({"main": "src/gone.py"}, "entrypoint: src/gone.py is not in the folder"),
        ({"version": "one"}, "'one' is not a semantic version"),
        ({"name": "Not A Name"}, "name: 'Not A Name' is not allowed"),
        ({"claw": {"permissions": ["root"]}}, r"permissions.0: 'root' is not allowed"),
    ],
)
def test_mistakes_in_a_package_json_are_named(tmp_path: Path, changes: dict[str, Any], line: str) -> None:
    with pytest.raises(ManifestError, match=line):
        load(npm(tmp_path, **changes))


def test_a_package_json_of_something_else_is_no_skill(tmp_path: Path) -> None:
    assert not is_skill_folder(write(tmp_path, {"package.json": '{"name": "x"}'}))


AGENT_SKILL = {
    "SKILL.md": "---\nname: pdf-forms\ndescription: Fills in forms.\nallowed-tools: Read Bash(python:*)\n"
    "metadata: {author: me, version: '2.1.0'}\n---\n# Forms\nSee references/fields.md.\n",
    "references/fields.md": "Fields have names.\n",
    "scripts/fill.py": "print()\n",
}


async def test_a_folder_of_instructions_is_a_skill(tmp_path: Path) -> None:
    folder = load(write(tmp_path, AGENT_SKILL))
    assert (folder.head.name, folder.manifest.version, folder.manifest.actions) == ("pdf-forms", "2.1.0", ())
    package = pack_files(folder.files)
    skill = folder.skill(package.digest, package.data, {}, {})
    text = await read_instructions(skill)
    assert text.startswith("# Forms\nSee references/fields.md.")
    assert "Files: SKILL.md, references/fields.md, scripts/fill.py" in text
    assert await read_instructions(skill, "references/fields.md") == "Fields have names.\n"
    with pytest.raises(PackageUnavailableError, match=r"no file '../x'; it has SKILL.md"):
        await read_instructions(skill, "../x")
    # In a cluster it is a Skill without actions, which needs no pods.
    spec = SkillSpec.model_validate(folder.resource()["spec"])
    assert spec.actions == []
    assert pool_for("ada", agent_inputs("ada", {}).spec, spec, IMAGES) is None


def test_a_version_that_is_none_is_named(tmp_path: Path) -> None:
    text = AGENT_SKILL["SKILL.md"].replace("2.1.0", "two")
    with pytest.raises(ManifestError, match=r"metadata\.version: 'two'"):
        load(write(tmp_path, AGENT_SKILL | {"SKILL.md": text}))


def test_what_a_package_json_asks_for_must_be_granted_too() -> None:
    spec = SkillSpec.model_validate(
        {"version": "1.0.0", "source": {}, "actions": [{"name": "execute", "description": "x"}]}
    )
    files = {"package.json": File("package.json", json.dumps(PACKAGE).encode())}
    with pytest.raises(SpecError, match="declares filesystem:read, process:execute"):
        declared.check(spec, files)
    granted = spec.model_copy(update={"permissions": ["filesystem:read", "process:execute"]})
    declared.check(granted, files)
    with pytest.raises(SpecError, match=r"spec\.version"):
        declared.check(granted.model_copy(update={"version": "2.0.0"}), files)
