"""Fixtures for the tests of skills: `ctx`, `skill` (its modules) and `call` (an action, schemas checked)."""

import inspect
import json
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest
import yaml

from tests.fakes.skill_context import FakeContext, load_skill


@cache
def _modules(folder: Path) -> SimpleNamespace:
    return SimpleNamespace(**load_skill(folder))


@cache
def _actions(folder: Path) -> dict[str, dict[str, Any]]:
    manifest = yaml.safe_load((folder / "skill.yaml").read_text(encoding="utf-8"))
    return {action["name"]: action for action in manifest["actions"]}


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers of tests are on loopback, whatever proxy the machine has."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def folder(request: pytest.FixtureRequest) -> Path:
    """The skill the running test belongs to."""
    return request.path.parent.parent


@pytest.fixture
def skill(folder: Path) -> SimpleNamespace:
    """The modules of the skill by name, for example `skill.main`."""
    return _modules(folder)


@pytest.fixture
def ctx(tmp_path: Path) -> FakeContext:
    """A context with an empty workspace."""
    workspace, scratch = tmp_path / "workspace", tmp_path / "scratch"
    workspace.mkdir()
    scratch.mkdir()
    return FakeContext(workspace=workspace, scratch=scratch)


@pytest.fixture
def call(folder: Path, skill: SimpleNamespace, ctx: FakeContext) -> Callable[..., Awaitable[Any]]:
    """`await call("action", key=value)`: as the gateway does, input and output go through the action's schemas."""

    async def run(action: str, **given: Any) -> Any:
        spec = _actions(folder)[action]
        jsonschema.validate(given, spec["inputSchema"])
        output = getattr(skill.main, action)(ctx, given)
        if inspect.isawaitable(output):
            output = await output
        output = json.loads(json.dumps(output, allow_nan=False))
        jsonschema.validate(output, spec["outputSchema"])
        return output

    return run
