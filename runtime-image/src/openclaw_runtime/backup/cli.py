"""`openclaw backup`: what the jobs of a MemoryStore run. Exit codes: 0 done, 1 failed, 2 a wrong configuration,
or no such backup."""

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import httpx
import typer

from openclaw_runtime.backup import restore as restores
from openclaw_runtime.backup import run as runs
from openclaw_runtime.backup.config import BackupConfig, load
from openclaw_runtime.backup.destination import open_destination
from openclaw_runtime.backup.manifest import LATEST, pick, read_rows
from openclaw_runtime.backup.vectors import TIMEOUT, VectorServer
from openclaw_runtime.errors import BackupError
from openclaw_runtime.secrets import read_secret

LOG = logging.getLogger(__name__)
_KINDS = ("records", "vectors")
# What is in a backup for people is only checked.
_CHECKED = (*_KINDS, "resources")

app = typer.Typer(name="backup", help="Makes, lists, checks and restores backups.", no_args_is_help=True)
Config = Annotated[Path, typer.Option("--config", help="the file the operator renders")]
Name = Annotated[str, typer.Option("--backup", help="name of a backup, or latest")]
Summary = Annotated[Path | None, typer.Option("--summary", help="write what was done to this file")]
Folder = Annotated[Path, typer.Option("--folder", help="folder that the steps of a restore share")]


@app.callback()
def _prepare() -> None:
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)


@app.command()
def run(config: Config, summary: Summary = None) -> None:
    """Makes a backup, checks it, and deletes the ones that are too old."""
    settings = load(config)

    with _vectors(settings) as vectors:
        made = runs.run(settings, open_destination(settings.destination), vectors, lambda: datetime.now(UTC))
    if summary:
        summary.write_text(json.dumps({"backup": made.name}), encoding="utf-8")


@app.command("list")
def list_(
    config: Config, as_json: Annotated[bool, typer.Option("--json", help="the manifests, one a line")] = False
) -> None:
    """Lists the complete backups, oldest first."""
    settings = load(config)
    destination = open_destination(settings.destination)

    complete, partial = destination.names(settings.folder)
    for name in partial:
        LOG.warning("%s is not complete", name)
    for name in complete:
        manifest = destination.manifest(settings.folder, name)
        if as_json:
            typer.echo(manifest.model_dump_json())
        else:
            typer.echo(f"{manifest.name}  {manifest.size:>14,} bytes  {len(manifest.parts):>3} files")


@app.command()
def verify(config: Config, backup: Name = LATEST) -> None:
    """Reads a backup back and compares every size and checksum with its manifest."""
    settings = load(config)
    destination = open_destination(settings.destination)

    complete, _ = destination.names(settings.folder)
    name = pick(backup, complete, f"{settings.folder} of {destination.where}")
    runs.verify(destination, settings.folder, destination.manifest(settings.folder, name))
    typer.echo(f"{name} is whole")


@app.command()
def fetch(
    config: Config,
    folder: Folder,
    backup: Name = LATEST,
    parts: Annotated[
        list[str] | None, typer.Option("--part", help="records, vectors, resources; default the first two")
    ] = None,
) -> None:
    """First step of a restore: chooses a backup, checks it, and puts the dump of PostgreSQL into a folder."""
    settings = load(config)
    wanted = frozenset(parts or _KINDS)
    if not wanted <= set(_CHECKED):
        raise BackupError(f"--part: {', '.join(sorted(wanted - set(_CHECKED)))} is none of {', '.join(_CHECKED)}")
    destination = open_destination(settings.destination)
    restores.fetch(destination, settings.folder, backup, folder, wanted)


@app.command("restore-vectors")
def restore_vectors(
    config: Config,
    folder: Folder,
    check: Annotated[bool, typer.Option("--check", help="fail where points are missing")] = False,
    summary: Summary = None,
) -> None:
    """Last step of a restore: puts the snapshots of the fetched backup back into Qdrant, and says what was done."""
    settings = load(config)
    manifest = restores.chosen(folder)
    destination = open_destination(settings.destination)

    with _vectors(settings) as vectors:
        points = restores.restore_vectors(destination, settings.folder, manifest, vectors, folder) if vectors else {}
    if check:
        restores.check_points(manifest, points)
    said = json.dumps({"backup": manifest.name, "completed": manifest.completed.isoformat(), "points": points})
    typer.echo(said)
    if summary:
        summary.write_text(said, encoding="utf-8")


@app.command()
def drill(config: Config, folder: Folder, summary: Summary = None) -> None:
    """Last step of a drill: restores vectors into a scratch Qdrant, and compares every count with the manifest's."""
    settings = load(config)
    manifest = restores.chosen(folder)
    destination = open_destination(settings.destination)

    rows = read_rows(folder / restores.ROWS)
    restores.check_rows(manifest, rows)
    with _vectors(settings) as vectors:
        points = restores.restore_vectors(destination, settings.folder, manifest, vectors, folder) if vectors else {}
    restores.check_points(manifest, points)
    said = {"backup": manifest.name, "rows": sum(rows.values()), "points": sum(points.values())}
    typer.echo(json.dumps(said))
    if summary:
        summary.write_text(json.dumps(said), encoding="utf-8")


@contextmanager
def _vectors(settings: BackupConfig) -> Iterator[VectorServer | None]:
    if settings.qdrant is None:
        yield None
        return
    key = read_secret(settings.qdrant.api_key_file, "qdrant.api_key_file") if settings.qdrant.api_key_file else None
    headers = {"api-key": key.get_secret_value()} if key else {}
    with httpx.Client(headers=headers, timeout=TIMEOUT) as client:
        yield VectorServer(client, settings.qdrant.nodes)
