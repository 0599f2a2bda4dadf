"""The files of a new skill, in each language that a skill can be started in."""

from collections.abc import Mapping
from typing import Final, Literal

ScaffoldRuntime = Literal["python", "node", "bash"]

_SKILL_MD = """---
name: {name}
description: Says hello to somebody. Replace this with what the skill does and when to use it.
license: Apache-2.0
---
# {name}

Tell the agent here how to use the skill: which action for what, and what to look out for.
"""

_SKILL_YAML = """version: 0.1.0
runtime: {runtime}
entrypoint: {entrypoint}
permissions: [{permissions}]
actions:
  - name: greet
    description: Greets somebody by name.
    timeoutSeconds: 30
    inputSchema:
      type: object
      additionalProperties: false
      required: [name]
      properties:
        name: {{type: string, minLength: 1, maxLength: 100}}
    outputSchema:
      type: object
      required: [text]
      properties:
        text: {{type: string}}
"""

_PYTHON = '''"""What the skill does: one function for each action of skill.yaml."""

from openclaw_skill import Context, SkillError


async def greet(ctx: Context, input: dict) -> dict:
    """Greets somebody by name."""
    name = input["name"].strip()
    if not name:
        raise SkillError("name: only spaces; say whom to greet")
    ctx.logger.info("greeting %s", name)
    return {"text": f"Hello, {name}!"}
'''

_PYTHON_TEST = """import asyncio
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

_NODE = """// What the skill does: one exported function for each action of skill.yaml.
import { SkillError } from "openclaw-skill";

/** Greets somebody by name. */
export async function greet(ctx, input) {
  const name = input.name.trim();
  if (!name) {
    throw new SkillError("name: only spaces; say whom to greet");
  }
  ctx.logger.info(`greeting ${name}`);
  return { text: `Hello, ${name}!` };
}
"""

_NODE_TEST = """import assert from "node:assert/strict";
import { test } from "node:test";

import { greet } from "../scripts/main.mjs";

const context = { logger: { info() {} } };

test("greets by name", async () => {
  assert.deepEqual(await greet(context, { name: "Ada" }), { text: "Hello, Ada!" });
});

test("a name of spaces is refused", async () => {
  await assert.rejects(greet(context, { name: "  " }), { name: "SkillError", message: /name/ });
});
"""

_BASH = """#!/usr/bin/env bash
# What the skill does: one function for each action of skill.yaml, whose name is the first argument.
set -euo pipefail

greet() {
  local name
  name=$(openclaw-ctx input name)
  if [[ -z "${name//[[:space:]]/}" ]]; then
    openclaw-ctx fail "name: only spaces; say whom to greet"
  fi
  openclaw-ctx log "greeting $name"
  openclaw-ctx json text="Hello, $name!"
}

"$1"
"""

_BASH_TEST = """#!/usr/bin/env bash
# Run by `openclaw skill test`. Each call is one in a real sandbox on this machine.
set -uo pipefail
skill=$(cd "$(dirname "$0")/.." && pwd)
failed=0

# check WHAT EXPECTED GOT: EXPECTED has to be part of GOT.
check() {
  if [[ "$3" == *"$2"* ]]; then
    echo "ok - $1"
  else
    echo "not ok - $1: expected $2, got $3"
    failed=1
  fi
}

check "greets by name" '"text": "Hello, Ada!"' "$(openclaw skill run "$skill" greet --input '{"name": "Ada"}' 2>&1)"
check "refuses a name of spaces" "name: only spaces" "$(openclaw skill run "$skill" greet --input '{"name": " "}' 2>&1)"
exit "$failed"
"""

_CODE: Final[Mapping[ScaffoldRuntime, Mapping[str, str]]] = {
    "python": {"scripts/main.py": _PYTHON, "tests/test_main.py": _PYTHON_TEST},
    "node": {"scripts/main.mjs": _NODE, "tests/main.test.mjs": _NODE_TEST},
    "bash": {"scripts/main.sh": _BASH, "tests/test_main.sh": _BASH_TEST},
}
_PERMISSIONS: Final[Mapping[ScaffoldRuntime, str]] = {"python": "", "node": "", "bash": "process:execute"}


def new_skill(name: str, runtime: ScaffoldRuntime = "python") -> Mapping[str, str]:
    """Returns the files of a new skill that passes `validate` and `test`: path to text. The code comes first."""
    code = _CODE[runtime]
    manifest = _SKILL_YAML.format(runtime=runtime, entrypoint=next(iter(code)), permissions=_PERMISSIONS[runtime])
    return {"SKILL.md": _SKILL_MD.format(name=name), "skill.yaml": manifest, **code}
