"""The real process: `openclaw gateway --dev` with a real skill in a subprocess sandbox, signals, its configuration."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from openai import AsyncOpenAI

from tests.fakes.llm.gateways import Model
from tests.fakes.llm.serve import serving

ROOT = Path(__file__).resolve().parents[3]
OPENCLAW = [sys.executable, "-c", "from openclaw_runtime.cli import main; main()"]
TOKEN = "a-token-in-a-file"


@dataclass
class Started:
    """A running gateway process."""

    process: asyncio.subprocess.Process
    client: AsyncOpenAI
    output: str

    async def ready(self) -> dict[str, Any]:
        """Waits until it is ready and returns the details."""
        while True:
            answer = await self.client._client.get(str(self.client.base_url).replace("/v1/", "/ready"))
            if answer.status_code == 200:
                details: dict[str, Any] = answer.json()["details"]
                return details
            await asyncio.sleep(0.05)


@asynccontextmanager
async def started(folder: Path, config: dict[str, Any]) -> AsyncIterator[Started]:
    """Starts a gateway in `folder` on a free port; its address is read from what it prints."""
    write_config(folder, config)
    (folder / "token").write_text(TOKEN)
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "OPENCLAW_DATA_DIR": str(folder / "data")}
    environ |= {"PYTHONPATH": str(ROOT), "GIT_CONFIG_NOSYSTEM": "1"}
    process = await asyncio.create_subprocess_exec(
        *OPENCLAW,
        "gateway",
        "--dev",
        "--config",
        str(folder / "config.yaml"),
        cwd=folder / "work",
        env=environ,
        stdout=subprocess.PIPE,
        stderr=(folder / "log").open("wb"),
    )
    assert process.stdout is not None
    output = ""
    while "address" not in output:
        line = await process.stdout.readline()
        assert line, (folder / "log").read_text()
        output += line.decode()
    address = output.rpartition("address")[2].strip()
    try:
        async with AsyncOpenAI(api_key=TOKEN, base_url=address, max_retries=0) as client:
            yield Started(process, client, output)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """Writes the file the way Kubernetes does: a link is swapped, the file is never half written."""
    text = folder / f"config-{len(list(folder.glob('config-*')))}"
    text.write_text(yaml.safe_dump(config))
    link = folder / "..data"
    link.symlink_to(text.name)
    link.rename(folder / "config.yaml")


@pytest.fixture
async def model() -> AsyncIterator[tuple[Model, str]]:
    made = Model()
    async with serving(made) as address:
        yield made, f"{address}/v1"


def config(folder: Path, model_url: str, **sections: Any) -> dict[str, Any]:
    claw = {"name": "dev", "model_provider": "local", "model": "stand-in", "base_url": model_url}
    gateway = {"port": 0, "token_file": str(folder / "token"), "drain_seconds": 20}
    return {"version": "2026.1", "claw": claw, "gateway": gateway} | sections


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=T", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout


async def ask(client: AsyncOpenAI, text: str, session: str = "s1") -> str:
    stream = await client.chat.completions.create(
        model="dev", messages=[{"role": "user", "content": text}], stream=True, user=session
    )
    return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])


async def test_dev_mode_commits_for_real_and_remembers(tmp_path: Path, model: tuple[Model, str]) -> None:
    work = tmp_path / "work"
    work.mkdir()
    git(work, "init", "-q")
    git(work, "config", "user.name", "T")
    git(work, "config", "user.email", "t@example.org")
    (work / "pay.py").write_text("x = 1\n")
    skills = {"directories": [str(ROOT / "skills/git-ai-helper")]}
    async with started(tmp_path, config(tmp_path, model[1], skills=skills)) as gateway:
        await gateway.ready()
        answer = await ask(gateway.client, "Please commit my work")
        subject = git(work, "log", "--format=%s").strip()
        assert "pay.py" in subject
        assert subject in answer
        assert git(work, "status", "--short") == ""
        assert subject in await ask(gateway.client, "What did you commit last?", session="s2")
        gateway.process.send_signal(signal.SIGTERM)
        assert await gateway.process.wait() == 0
    assert TOKEN not in (tmp_path / "log").read_text() + gateway.output


async def test_the_files_of_a_commit_are_chosen_by_the_user_and_sigterm_ends_a_question(
    tmp_path: Path, model: tuple[Model, str]
) -> None:
    """The built-in skill asks through a real sandbox; a process that is to end does not wait for its users."""
    work = tmp_path / "work"
    work.mkdir()
    git(work, "init", "-q")
    git(work, "config", "user.name", "T")
    git(work, "config", "user.email", "t@example.org")
    for name in ("a.py", "b.py"):
        (work / name).write_text("x = 1\n")
    skills = {"directories": [str(ROOT / "skills/git-ai-helper")]}
    async with asyncio.timeout(120), started(tmp_path, config(tmp_path, model[1], skills=skills)) as gateway:
        await gateway.ready()
        question = await ask(gateway.client, "Commit, but let me choose the files")
        assert question.startswith("Which of these files shall be committed?")
        assert "2. b.py" in question
        assert "1 file changed" not in question
        assert git(work, "status", "--short").splitlines() == ["?? a.py", "?? b.py"]
        assert "b.py" in await ask(gateway.client, "2")
        assert git(work, "status", "--short").splitlines() == ["?? a.py"]
        again = await ask(gateway.client, "Commit, but let me choose the files", session="s2")
        assert "1. a.py" in again
        gateway.process.send_signal(signal.SIGTERM)
        assert await gateway.process.wait() == 0
    assert "nobody follows failed" not in (tmp_path / "log").read_text()
    assert git(work, "status", "--short").splitlines() == ["?? a.py"]


async def test_a_swapped_configuration_is_used_and_a_broken_one_reported(
    tmp_path: Path, model: tuple[Model, str]
) -> None:
    (tmp_path / "work").mkdir()
    first = config(tmp_path, model[1])
    async with started(tmp_path, first) as gateway:
        await gateway.ready()
        write_config(tmp_path, first | {"claw": first["claw"] | {"soul": "You speak like a pirate."}})
        while True:
            await ask(gateway.client, "hello")
            if "pirate" in model[0].system():
                break
        write_config(tmp_path, first | {"claw": {"nam": "x"}})
        while (details := await gateway.ready())["config"] == "ok":
            pass
        assert "claw.nam: unknown key; did you mean name?" in details["config"]
        await ask(gateway.client, "still there?")
        assert "pirate" in model[0].system()


async def test_a_turn_in_flight_outlives_sigterm(tmp_path: Path, model: tuple[Model, str]) -> None:
    (tmp_path / "work").mkdir()
    gate, asked = asyncio.Event(), asyncio.Event()

    class Slow(Model):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                asked.set()
                await gate.wait()
            await super().__call__(scope, receive, send)

    async with serving(Slow()) as address, started(tmp_path, config(tmp_path, f"{address}/v1")) as gateway:
        await gateway.ready()
        turn = asyncio.create_task(ask(gateway.client, "hello"))
        await asked.wait()
        gateway.process.send_signal(signal.SIGTERM)
        while True:
            answer = await gateway.client._client.get(str(gateway.client.base_url).replace("/v1/", "/ready"))
            if answer.status_code == 503:
                break
        assert answer.json()["details"]["gateway"] == "shutting down"
        gate.set()
        assert (await turn).endswith("You said: hello")
        assert await gateway.process.wait() == 0


def run(*arguments: str, home: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*OPENCLAW, *arguments],
        env={"PATH": os.environ["PATH"], "HOME": str(home), **environ},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        ("memory: {type: foo}", ["--dev"], "memory.type: 'foo' is not allowed; allowed: 'hybrid', 'vector', 'file'"),
        ("claw: {model_provider: local, base_url: 'http://127.0.0.1:1'}", [], "gateway.token_file: is missing"),
        ("claw: {}", ["--dev"], "claw.model_provider: openai needs api_key_file, or OPENAI_API_KEY"),
        ("gateway: {token_file: /nowhere/token}", [], "gateway.token_file: /nowhere/token cannot be read"),
        ("gateway: {token_file: /dev/null}", [], "gateway.token_file: /dev/null is empty"),
    ],
)
def test_a_gateway_that_cannot_be_trusted_does_not_start(
    tmp_path: Path, text: str, arguments: list[str], message: str
) -> None:
    (tmp_path / "config.yaml").write_text(text)
    done = run("gateway", *arguments, "--config", str(tmp_path / "config.yaml"), home=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_without_a_configuration_only_dev_starts(tmp_path: Path) -> None:
    done = run("gateway", home=tmp_path)
    assert (done.returncode, "config.yaml: does not exist" in done.stderr) == (2, True)


def test_asking_where_nothing_runs_says_so(tmp_path: Path) -> None:
    for arguments in (["metrics", "--format=json"], ["gateway", "--status"]):
        done = run(*arguments, "--address", "http://127.0.0.1:1", home=tmp_path)
        assert done.returncode == 1
        assert "no gateway answers at http://127.0.0.1:1" in done.stderr


async def test_asking_something_else_says_so(tmp_path: Path, model: tuple[Model, str]) -> None:
    for arguments in (["metrics"], ["gateway", "--status"]):
        address = model[1].removesuffix("/v1")
        done = await asyncio.to_thread(run, *arguments, "--address", address, home=tmp_path)
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
        assert "is no gateway" in done.stderr


def test_install_writes_a_unit_for_a_valid_configuration(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("claw: {name: home}")
    done = run("gateway", "--install", "--config", str(tmp_path / "config.yaml"), home=tmp_path)
    assert done.returncode == 0, done.stderr
    unit = (tmp_path / ".config/systemd/user/openclaw-gateway.service").read_text()
    assert f"gateway --config {tmp_path}/config.yaml" in unit
    assert f"EnvironmentFile=-{tmp_path}/.env" in unit


def test_the_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['openclaw', '--help']\n"
        "from openclaw_runtime.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'pydantic', 'pydantic_ai', 'fastapi', 'starlette', 'sqlalchemy', 'yaml', 'numpy', 'httpx'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "gateway" in done.stdout
    assert done.stderr.strip() == "[]"
