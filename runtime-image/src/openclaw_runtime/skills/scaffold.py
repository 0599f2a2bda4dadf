"""The files of a new skill."""

from collections.abc import Mapping

_SKILL_MD = """---
name: {name}
description: Says hello to somebody. Replace this with what the skill does and when to use it.
license: Apache-2.0
---
# {name}

Tell the agent here how to use the skill: which action for what, and what to look out for.
"""

_SKILL_YAML = """version: 0.1.0
runtime: python
entrypoint: scripts/main.py
permissions: []
actions:
  - name: greet
    description: Greets somebody by name.
    timeoutSeconds: 30
    inputSchema:
      type: object
      additionalProperties: false
      required: [name]
      properties:
        name: {type: string, minLength: 1, maxLength: 100}
    outputSchema:
      type: object
      required: [text]
      properties:
        text: {type: string}
"""

_MAIN = '''"""What the skill does: one function for each action of skill.yaml."""

from openclaw_skill import Context, SkillError


async def greet(ctx: Context, input: dict) -> dict:
    """Greets somebody by name."""
    name = input["name"].strip()
    if not name:
        raise SkillError("name: only spaces; say whom to greet")
    ctx.logger.info("greeting %s", name)
    return {"text": f"Hello, {name}!"}
'''

_TEST = """import asyncio
import importlib.util
import logging
from pathlib import Path
from types import SimpleNamespace

import pytest

from openclaw_skill import SkillError

_spec = importlib.util.spec_from_file_location("main", Path(__file__).parent.parent / "scripts" / "main.py")
main = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(main)

CONTEXT = SimpleNamespace(logger=logging.getLogger("test"))


def test_greets_by_name():
    assert asyncio.run(main.greet(CONTEXT, {"name": "Ada"})) == {"text": "Hello, Ada!"}


def test_a_name_of_spaces_is_refused():
    with pytest.raises(SkillError, match="name"):
        asyncio.run(main.greet(CONTEXT, {"name": "  "}))
"""


def new_skill(name: str) -> Mapping[str, str]:
    """Returns the files of a new skill that passes `validate` and `test`: path to text."""
    return {
        "SKILL.md": _SKILL_MD.format(name=name),
        "skill.yaml": _SKILL_YAML,
        "scripts/main.py": _MAIN,
        "tests/test_main.py": _TEST,
    }
