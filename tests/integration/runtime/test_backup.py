"""`openclaw backup` with what it really talks to: PostgreSQL and its tools, an S3 server, Qdrant's API."""

import asyncio
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from qdrant_client import AsyncQdrantClient
from qdrant_client.models import Distance, PointStruct, VectorParams

from openclaw_operator.resources import backup as jobs
from openclaw_operator.resources import drill
from openclaw_operator.resources.restore import NO_SUCH_BACKUP, RESTORE_SCRIPT
from openclaw_runtime.backup.config import Destination as DestinationConfig
from openclaw_runtime.backup.destination import Destination, open_destination
from openclaw_runtime.backup.manifest import ABANDONED, MANIFEST, TAKEN, Manifest, name_of
from openclaw_runtime.errors import BackupError
from tests.cluster import devtools
from tests.cluster.processes import Component, free_ports
from tests.cluster.qdrant_front.app import create_app as create_front
from tests.fakes.llm.serve import serving

# Whichever comes first builds the S3 server.
pytestmark = pytest.mark.timeout(devtools.BUILD_TIMEOUT_SECONDS)
BIN = Path("/usr/lib/postgresql/15/bin")
KEY, SECRET = "backup-user", "a-secret-that-is-never-logged"
API_KEY = "the-qdrant-key"
FOLDER = "agents/memory"


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real S3 server with one bucket, `backups`."""
    program = devtools.build("versitygw")
    folder = tmp_path_factory.mktemp("s3")
    for name in ("root", "sidecar"):
        (folder / name).mkdir()
    (port,) = free_ports(1)
    command: list[str | Path] = [program, "--access", KEY, "--secret", SECRET, "--port", f"127.0.0.1:{port}"]
    command += ["posix", "--sidecar", folder / "sidecar", folder / "root"]
    component = Component.start("versitygw", command, folder / "log", {**os.environ})
    try:
        component.wait_until(lambda: _listens(f"http://127.0.0.1:{port}"), seconds=60)
        (folder / "root" / "backups").mkdir()
        yield f"http://127.0.0.1:{port}"
    finally:
        component.stop()


def _listens(address: str) -> bool:
    try:
        httpx.get(address, timeout=5)
    except httpx.HTTPError:
        return False
    return True


@dataclass
class World:
    """A database with one table, a Qdrant of two nodes with a collection on each, and a place for backups."""

    url: str
    nodes: list[str]
    folder: Path
    destination: dict[str, Any]

    @property
    def config(self) -> Path:
        return self.folder / "backup.json"

    def write_config(self, **changes: Any) -> None:
        (self.folder / "key").write_text(API_KEY)
        (self.folder / "resources.json").write_text('{"kind": "List"}')
        config = {
            "store": "memory",
            "namespace": "agents",
            "destination": self.destination,
            "qdrant": {"nodes": self.nodes, "api_key_file": str(self.folder / "key")},
            "records": str(self.folder / "postgresql.dump"),
            "rows": str(self.folder / "postgresql.rows"),
            "resources": str(self.folder / "resources.json"),
        }
        self.config.write_text(json.dumps(config | changes))

    def dump(self) -> None:
        self.script(jobs.dump_script(), self.url)

    def script(self, script: str, url: str) -> None:
        """Runs what a step of a job with PostgreSQL's tools runs, in this folder."""
        environ = {"PATH": f"{BIN}:/usr/bin:/bin", "URL": url}
        script = script.replace(f"{jobs.WORK_DIR}/", f"{self.folder}/")
        subprocess.run(["sh", "-ec", script], env=environ, check=True)

    async def openclaw(self, *arguments: str, code: int = 0) -> str:
        """Runs `openclaw backup`; returns all it said."""
        environ = {**os.environ, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
        command = [str(Path(sys.executable).with_name("openclaw")), "backup", *arguments, "--config", str(self.config)]
        process = await asyncio.create_subprocess_exec(
            *command, env=environ, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        output = (await process.communicate())[0].decode()
        assert process.returncode == code, output
        assert SECRET not in output
        assert API_KEY not in output
        return output

    async def backup(self) -> None:
        self.dump()
        await self.openclaw("run")

    async def notes(self) -> list[str]:
        connection = await asyncpg.connect(self.url)
        try:
            return [row["text"] for row in await connection.fetch("SELECT text FROM notes ORDER BY id")]
        finally:
            await connection.close()

    async def sql(self, text: str) -> None:
        connection = await asyncpg.connect(self.url)
        try:
            await connection.execute(text)
        finally:
            await connection.close()

    def qdrant(self, node: int) -> AsyncQdrantClient:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            return AsyncQdrantClient(url=self.nodes[node], api_key=API_KEY, check_compatibility=False)

    async def point(self, node: int) -> str | None:
        found = await self.qdrant(node).retrieve("openclaw", [1])
        return found[0].payload["text"] if found and found[0].payload else None

    async def set_point(self, node: int, text: str) -> None:
        await self.qdrant(node).upsert("openclaw", [PointStruct(id=1, vector=[1.0, 0.0], payload={"text": text})])

    def open(self) -> Destination:
        return open_destination(DestinationConfig.model_validate(self.destination))


@pytest.fixture
async def folder_world(tmp_path: Path, postgres_url: str) -> World:
    """Backups of records go to a folder."""
    return await _world(tmp_path, postgres_url, {"directory": str(tmp_path / "backups")})


@pytest.fixture
async def s3_world(tmp_path: Path, postgres_url: str, s3_server: str, monkeypatch: pytest.MonkeyPatch) -> World:
    """Backups of records go to a bucket."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    where = {"bucket": "backups", "prefix": f"daily/{tmp_path.name}", "endpoint": s3_server}
    return await _world(tmp_path, postgres_url, {"s3": where})


async def _world(folder: Path, postgres_url: str, destination: dict[str, Any]) -> World:
    made = World(postgres_url.replace("+asyncpg", ""), [], folder, destination)
    made.write_config(qdrant=None)
    await made.sql("DROP TABLE IF EXISTS notes; CREATE TABLE notes (id serial PRIMARY KEY, text text)")
    await made.sql("INSERT INTO notes (text) VALUES ('first'), ('second')")
    return made


async def _add_nodes(world: World, stack: AsyncExitStack) -> None:
    """A Qdrant of two nodes, each with its part of a collection."""
    for node in range(2):
        front = create_front(world.folder / f"storage-{node}", world.folder / f"snapshots-{node}", API_KEY)
        world.nodes.append(await stack.enter_async_context(serving(front)))
        config = VectorParams(size=2, distance=Distance.COSINE)
        await world.qdrant(node).create_collection("openclaw", vectors_config=config)
        await world.set_point(node, f"of node {node}")
    world.write_config()


async def test_what_was_backed_up_comes_back_and_what_came_later_is_gone(s3_world: World, tmp_path: Path) -> None:
    world = s3_world
    async with AsyncExitStack() as stack:
        await _add_nodes(world, stack)
        await world.backup()
        await world.sql("DELETE FROM notes; INSERT INTO notes (text) VALUES ('wrong')")
        for node in range(2):
            await world.set_point(node, "wrong")
        (manifest,) = (json.loads(line) for line in (await world.openclaw("list", "--json")).splitlines())
        assert [part["path"] for part in manifest["parts"]] == [
            "postgresql.dump",
            "qdrant/openclaw/0.snapshot",
            "qdrant/openclaw/1.snapshot",
            "resources.json",
        ]
        assert manifest["points"] == {"openclaw": {"before": 1, "after": 1}}
        assert manifest["rows"] == {"public.notes": 2}

        folder = tmp_path / "restore"
        folder.mkdir()
        await world.openclaw("fetch", "--folder", str(folder))
        restore = [str(BIN / "pg_restore"), "--clean", "--if-exists", "--no-owner", "--no-privileges"]
        restore += ["--single-transaction", "--exit-on-error", f"--dbname={world.url}"]
        await asyncio.to_thread(subprocess.check_call, [*restore, str(folder / "postgresql.dump")])
        said = await world.openclaw("restore-vectors", "--folder", str(folder), "--check")
        assert await world.notes() == ["first", "second"]
        assert [await world.point(node) for node in range(2)] == ["of node 0", "of node 1"]
        assert json.loads(said.splitlines()[-1])["points"] == {"openclaw": 1}
        # Nothing is left on the servers.
        for node in range(2):
            assert await world.qdrant(node).list_snapshots("openclaw") == []


async def test_a_drill_restores_into_scratch_servers_and_tells_what_is_missing(
    folder_world: World, tmp_path: Path
) -> None:
    world = folder_world
    url = f"{world.url}_scratch"
    await world.sql(f"DROP DATABASE IF EXISTS {url.rpartition('/')[2]}")
    await world.sql(f"CREATE DATABASE {url.rpartition('/')[2]}")
    async with AsyncExitStack() as stack:
        await _add_nodes(world, stack)
        await world.backup()
        scratch = create_front(world.folder / "scratch", world.folder / "scratch-snapshots", API_KEY)
        nodes = [await stack.enter_async_context(serving(scratch))]
        world.write_config(qdrant={"nodes": nodes, "api_key_file": str(world.folder / "key")})
        parts = [f"--part={part}" for part in ("records", "resources", "vectors")]
        await world.openclaw("fetch", "--folder", str(tmp_path), *parts)
        world.script(RESTORE_SCRIPT + drill.count_script(), url)
        said = await world.openclaw("drill", "--folder", str(tmp_path), "--summary", str(tmp_path / "said"))
        told = json.loads((tmp_path / "said").read_text())
        assert json.loads(said.splitlines()[-1]) == told
        assert (told["rows"], told["points"]) == (2, 1)

        # A row too few, and a table that is not there at all.
        connection = await asyncpg.connect(url)
        for change, what in (
            ("DELETE FROM notes WHERE text = 'first'", "table public.notes: 1 rows after the restore; backup"),
            ("DROP TABLE notes", "table public.notes: is missing after the restore"),
        ):
            await connection.execute(change)
            world.script(drill.count_script(), url)
            assert what in await world.openclaw("drill", "--folder", str(tmp_path), code=1)
        await connection.close()


async def test_a_dump_that_fails_is_no_dump(folder_world: World, tmp_path: Path) -> None:
    (tmp_path / "postgresql.dump").mkdir()
    with pytest.raises(subprocess.CalledProcessError):
        folder_world.dump()


async def test_a_backup_that_does_not_exist_is_not_looked_for_again(folder_world: World, tmp_path: Path) -> None:
    world = folder_world
    await world.backup()
    (there,) = [json.loads(line)["name"] for line in (await world.openclaw("list", "--json")).splitlines()]
    said = await world.openclaw("fetch", "--folder", str(tmp_path), "--backup", "gone", code=NO_SUCH_BACKUP)
    place = f"{FOLDER} of {world.destination['directory']}"
    assert f"there is no complete backup 'gone' in {place}; there are 1, the newest of them {there}\n" in said


async def test_damage_is_found_before_anything_is_restored(folder_world: World, tmp_path: Path) -> None:
    world = folder_world
    await world.backup()
    assert "is whole" in await world.openclaw("verify")
    (file,) = (tmp_path / "backups").glob("*/*/*/postgresql.dump")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert "postgresql.dump has another checksum" in await world.openclaw("verify", code=1)
    fetch = ("fetch", "--folder", str(tmp_path / "backups"), "--part", "records")
    assert "postgresql.dump has another checksum" in await world.openclaw(*fetch, code=1)
    file.write_bytes(content[:-1])
    assert "its manifest says" in await world.openclaw("verify", code=1)


async def test_old_backups_go_but_never_the_last_good_one_and_half_a_backup_is_none(s3_world: World) -> None:
    world, destination = s3_world, s3_world.open()

    def made(name: str, *files: str) -> None:
        for file in files:
            destination.write(f"{FOLDER}/{name}/{file}", iter([b"x"]))

    made("2026-01-01T02-00-00Z", "postgresql.dump", MANIFEST)
    made("2026-01-02T02-00-00Z", "postgresql.dump")
    running = name_of(datetime.now(UTC) + timedelta(hours=1))
    made(running, "postgresql.dump")
    # They fail: whatever is there stays.
    assert "postgresql.dump cannot be read" in await world.openclaw("run", code=1)
    world.write_config(qdrant={"nodes": ["http://127.0.0.1:1"]})
    assert "Qdrant at http://127.0.0.1:1 did not answer" in await world.openclaw("run", code=1)
    assert destination.names(FOLDER)[0] == ["2026-01-01T02-00-00Z"]
    world.write_config(qdrant=None)
    await world.backup()
    complete, partial = destination.names(FOLDER)
    assert len(complete) == 1
    assert complete[0] > "2026-11"
    assert partial == [running]


KILLED = """
import os, sys
from openclaw_runtime import cli
from openclaw_runtime.backup.vectors import VectorServer
VectorServer.download = lambda *_: os._exit(137)
cli.main()
"""


async def test_what_a_killed_backup_left_on_a_node_goes_and_nobody_elses_snapshot(folder_world: World) -> None:
    world = folder_world
    async with AsyncExitStack() as stack:
        await _add_nodes(world, stack)
        made = await world.qdrant(0).create_snapshot("openclaw")
        assert made
        theirs = made.name
        world.dump()
        command = [sys.executable, "-c", KILLED, "backup", "run", "--config", str(world.config)]
        process = await asyncio.create_subprocess_exec(*command)
        assert await process.wait() == 137

        async def there() -> list[str]:
            return [each.name for node in range(2) for each in await world.qdrant(node).list_snapshots("openclaw")]

        (left,) = set(await there()) - {theirs}
        (unfinished,) = world.open().names(FOLDER)[1]
        backups = Path(world.destination["directory"]) / FOLDER
        # One that may run still, and one that cannot.
        for age, remain in (timedelta(hours=1), {left, theirs}), (ABANDONED, {theirs}):
            started = name_of(datetime.now(UTC) - age)
            (backups / unfinished).rename(backups / started)
            unfinished = started
            await world.backup()
            assert set(await there()) == remain
        assert world.open().names(FOLDER)[1] == []
        assert not list(backups.rglob(TAKEN))


async def test_a_wrong_file_names_the_field_and_ends_with_2(folder_world: World) -> None:
    folder_world.write_config(destination={"s3": {"bucket": "backups"}, "directory": "/x"}, qdrant=None, keep=3)
    output = await folder_world.openclaw("run", code=2)
    assert "destination: set exactly one of s3 and directory" in output
    assert "keep: unknown key" in output


def test_a_folder_with_the_manifest_of_another_backup_is_refused(tmp_path: Path) -> None:
    """The files of that other one would be checked and restored instead."""
    destination = open_destination(DestinationConfig(directory=tmp_path))
    started = datetime(2026, 11, 27, 2, tzinfo=UTC)
    manifest = Manifest(
        name=name_of(started), store="memory", namespace="agents", started=started, completed=started, verified=True,
        parts=[],
    )  # fmt: skip
    destination.finish(FOLDER, manifest)
    assert destination.manifest(FOLDER, manifest.name) == manifest
    other = "2026-11-28T02-00-00Z"
    (tmp_path / FOLDER / manifest.name).rename(tmp_path / FOLDER / other)
    with pytest.raises(BackupError, match=rf"{other}/{MANIFEST} is the manifest of {manifest.name}"):
        destination.manifest(FOLDER, other)
