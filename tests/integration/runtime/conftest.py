"""Real servers for the runtime's tests: Redis and PostgreSQL, each on a free loopback port with a temporary folder."""

import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cluster.fixtures import run_folder
from tests.cluster.processes import free_ports
from tests.cluster.shared import shared

__all__ = ["run_folder"]

_POSTGRES = Path("/usr/lib/postgresql/15/bin")


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    """The URL of a real redis-server."""
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory() as folder:
        command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--save", ""]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            for line in server.stdout:
                if "Ready to accept connections" in line:
                    break
            yield f"redis://127.0.0.1:{port}/0"
            server.terminate()
            server.stdout.read()


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """The URL of an emptied Redis."""
    port = redis_server.removesuffix("/0").rpartition(":")[2]
    subprocess.run(["redis-cli", "-p", port, "flushall"], check=True, capture_output=True)
    return redis_server


@pytest.fixture(scope="session")
def postgres_server(run_folder: Path) -> Iterator[int]:
    """The port of a real PostgreSQL cluster, one for all workers: each test has a database of its own."""
    with shared(run_folder, "postgresql", _postgres) as port:
        yield int(port)


@contextmanager
def _postgres() -> Iterator[str]:
    """Run by the user postgres when the tests run as root."""
    user = pwd.getpwnam("postgres") if os.getuid() == 0 else None
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o700)
    if user:
        os.chown(folder, user.pw_uid, user.pw_gid)
    data, (port,) = folder / "data", free_ports(1)
    options = f"-c listen_addresses=127.0.0.1 -p {port} -k {folder} -c fsync=off -c full_page_writes=off"
    # Not in /dev/shm: a runner that believes itself alone in a pod clears that between two calls.
    options += " -c max_connections=300 -c autovacuum=off -c dynamic_shared_memory_type=mmap"

    def run(program: str, *arguments: str) -> None:
        subprocess.run(
            [str(_POSTGRES / program), *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd="/",
            user=user.pw_uid if user else None,
            group=user.pw_gid if user else None,
        )

    run("initdb", "-D", str(data), "-U", "openclaw", "-A", "trust", "--no-sync")
    run("pg_ctl", "-D", str(data), "-w", "-l", str(folder / "log"), "-o", options, "start")
    try:
        yield str(port)
    finally:
        run("pg_ctl", "-D", str(data), "-m", "immediate", "stop")
        shutil.rmtree(folder)


@pytest.fixture
def postgres_url(postgres_server: int) -> str:
    """The URL of an empty database."""
    name = f"t{uuid.uuid4().hex[:12]}"
    where = ["-h", "127.0.0.1", "-p", str(postgres_server), "-U", "openclaw"]
    subprocess.run([_POSTGRES / "createdb", *where, name], check=True)
    return f"postgresql+asyncpg://openclaw@127.0.0.1:{postgres_server}/{name}"
