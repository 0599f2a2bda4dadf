"""A skill that declares one permission and uses another: each time an error that says what to declare, and a record."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from openclaw_runtime.config import Skills
from openclaw_runtime.sandbox.archive import PackageFile
from openclaw_runtime.sandbox.errors import PermissionDeniedError
from openclaw_runtime.sandbox.local_executor import SubprocessExecutor
from openclaw_runtime.skills.audit import Audit, FileAudit
from openclaw_runtime.skills.package import pack_files
from openclaw_runtime.skills.registry import SkillRegistry
from openclaw_runtime.skills.service import SkillService
from tests.integration.sandbox.helpers import RecordingContext, make_skill
from tests.integration.sandbox.test_bubblewrap import walled

__all__ = ["walled"]

PYTHON = b"""
import os, socket, subprocess, urllib.request
from pathlib import Path


def write(ctx, input):
    Path("made").write_text("by the skill")


def read(ctx, input):
    return Path(input["workspace"], "given").read_text()


def fetch(ctx, input):
    return urllib.request.urlopen("http://example.invalid/").read()


def connect(ctx, input):
    socket.create_connection(("127.0.0.1", 9))


def program(ctx, input):
    try:
        subprocess.run(["true"], check=True)
    except OSError as error:
        raise RuntimeError("it does not start") from error


def fork(ctx, input):
    os.fork()


async def recall(ctx, input):
    return await ctx.memory.search("secrets")
"""
NODE = b"""
import { spawn } from "node:child_process";
import { writeFile } from "node:fs/promises";

export async function write() {
  await writeFile("made", "by the skill");
}

export async function fetchPage() {
  await fetch("http://example.invalid/");
}

export async function program() {
  await new Promise((done, failed) => spawn("true").on("error", failed).on("exit", done));
}
"""
READ, WRITE, EXECUTE, INTERNET = "filesystem:read", "filesystem:write", "process:execute", "network:external"
NETWORK, FILES = "network:external or network:internal", "filesystem:read or filesystem:write"


@pytest.fixture
async def service(walled: SubprocessExecutor, tmp_path: Path) -> AsyncIterator[SkillService]:
    registry = SkillRegistry("demo", None, {})
    made = SkillService("agent-1", registry, walled, Audit([FileAudit(tmp_path / "audit.jsonl")]))
    await made.load(Skills())
    yield made
    await made.discovery.close()


@pytest.mark.parametrize(
    ("runtime", "action", "declared", "missing"),
    [
        ("python", "write", (READ, EXECUTE, INTERNET), WRITE),
        ("python", "read", (INTERNET,), FILES),
        ("python", "fetch", (WRITE, EXECUTE), NETWORK),
        ("python", "connect", (WRITE, EXECUTE), NETWORK),
        ("python", "program", (WRITE, INTERNET), EXECUTE),
        ("python", "fork", (WRITE, INTERNET), EXECUTE),
        ("python", "recall", (INTERNET,), None),
        ("node", "write", (READ, EXECUTE, INTERNET), WRITE),
        ("node", "fetchPage", (WRITE, EXECUTE), NETWORK),
        ("node", "program", (WRITE, INTERNET), EXECUTE),
    ],
)
async def test_a_skill_that_uses_what_it_does_not_declare(
    service: SkillService, tmp_path: Path, runtime: str, action: str, declared: tuple[str, ...], missing: str | None
) -> None:
    entrypoint, code = ("scripts/main.py", PYTHON) if runtime == "python" else ("scripts/main.mjs", NODE)
    package = pack_files([PackageFile(entrypoint, code)])
    skill = make_skill(action, package, permissions=declared, runtime=runtime, entrypoint=entrypoint)
    given = {"workspace": str(tmp_path / "workspace")}
    with pytest.raises(PermissionDeniedError) as caught:
        await service.call(skill, action, given, session="s", context=RecordingContext())
    wanted = (
        f"the skill does not declare {missing}: add it to its permissions" if missing else "take the permission away"
    )
    assert wanted in str(caught.value)
    (line,) = (tmp_path / "audit.jsonl").read_text().splitlines()
    record = json.loads(line)
    assert record["outcome"] == "permission_denied"
    assert record["permissions"] == sorted(declared)
    if runtime == "python":
        assert record["reason"] == (missing or "")
