"""`openclaw registry`: log in to an OCI registry, publish skills to it and pull them from it."""

import asyncio
import dataclasses
import json
import os
import re
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from openclaw_runtime.config import default_config_path, load_config
from openclaw_runtime.sandbox.archive import ArchiveError, decompress, read, unpack
from openclaw_runtime.skills import credentials, oci
from openclaw_runtime.skills.distribution import RegistryClient, open_http
from openclaw_runtime.skills.folder import SkillFolder, read_skill
from openclaw_runtime.skills.oci_errors import CredentialError, RegistryContentError, RegistryError
from openclaw_runtime.skills.references import (
    Reference,
    complete,
    parse_reference,
    parse_repository,
    parse_version,
    split_prefix,
    tag_of,
)

TOKEN_VARIABLE = "OPENCLAW_REGISTRY_TOKEN"  # noqa: S105  (the name of a variable)
_CATEGORY = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_MAX_SECRET = 64 * 1024
T = TypeVar("T")

app = typer.Typer(name="registry", help="Publishes skills to an OCI registry and pulls them.", no_args_is_help=True)

Skill = Annotated[
    str, typer.Argument(help="HOST/PATH[:VERSION or RANGE][@DIGEST]; without HOST it is below the default")
]
PlainHttp = Annotated[bool, typer.Option("--plain-http", help="the registry speaks no TLS (loopback never needs it)")]


@app.command()
def login(
    registry: Annotated[str, typer.Argument(help="HOST, or HOST/PATH to make it the default")],
    username: Annotated[str | None, typer.Option(help="needed where the token is a password")] = None,
    token: Annotated[
        str | None,
        typer.Option(help=f"token or password; safer: leave it out, it is read from {TOKEN_VARIABLE} or asked for"),
    ] = None,
    plain_http: PlainHttp = False,
) -> None:
    """Checks a token (or a user name and password) with the registry and keeps it, readable by you alone."""
    host, path = split_prefix(registry)
    entry = credentials.Credential(_secret(token), username)
    file = credentials.default_path(os.environ)
    known = credentials.load(file)
    _with_client(host, entry, RegistryClient.check, plain_http=plain_http)
    credentials.save(file, known.with_login(host, entry, f"{host}/{path}" if path else None))
    typer.echo(f"logged in to {host}; kept in {file}")


@app.command()
def logout(registry: Annotated[str, typer.Argument(help="HOST")]) -> None:
    """Forgets the credentials of a registry."""
    host, _ = split_prefix(registry)
    file = credentials.default_path(os.environ)
    known = credentials.load(file)
    if host not in known.registries:
        raise CredentialError(f"{host}: not logged in")
    credentials.save(file, known.without(host))
    typer.echo(f"logged out of {host}")


@app.command()
def publish(
    file: Annotated[Path, typer.Argument(help="what `openclaw skill pack` wrote")],
    to: Annotated[str | None, typer.Option(help="HOST/PATH to publish below; default: that of the last login")] = None,
    visibility: Annotated[
        oci.Visibility, typer.Option(help="a note for readers: the registry's own rules decide who may read")
    ] = "private",
    category: Annotated[str, typer.Option(help="for example development; lower case letters, digits and -")] = "",
    plain_http: PlainHttp = False,
) -> None:
    """Publishes a packed skill under its name and version. A published version never changes."""
    if category and not _CATEGORY.fullmatch(category):
        raise RegistryError(f"--category: {category!r} is not allowed; write lower case letters, digits and -")
    package = _read(file)
    skill = _inspect(package, str(file))
    known = credentials.load(credentials.default_path(os.environ))
    repository = parse_repository(complete(skill.head.name, to or known.default))

    async def work(client: RegistryClient) -> oci.Publication:
        return await oci.publish(
            client, repository, package, _manifest(skill), visibility=visibility, category=category
        )

    published = _with_client(repository.host, known.registries.get(repository.host), work, plain_http=plain_http)
    typer.echo(f"{'published' if published.created else 'unchanged'}: {published.reference}")
    typer.echo(f"package:   {published.digest}")


@app.command()
def pull(
    skill: Skill,
    output: Annotated[Path | None, typer.Option(help="file to write; default NAME-VERSION.tar.gz")] = None,
    unpack_to: Annotated[Path | None, typer.Option("--unpack", help="unpack into this new folder instead")] = None,
    plain_http: PlainHttp = False,
) -> None:
    """Downloads a skill, checks every digest, and writes the package or its files."""
    pulled, folder = _pulled(skill, plain_http=plain_http)
    release = pulled.release
    if unpack_to is not None:
        target = unpack_to
        _unpack(pulled.package, target)
    else:
        # The name comes out of the checked package: what an annotation says might be a path.
        target = output or Path(f"{folder.head.name}-{folder.manifest.version}.tar.gz")
        _write(target, pulled.package)
    typer.echo(f"pulled:    {release.reference}")
    typer.echo(f"package:   {release.digest}")
    typer.echo(f"written:   {target}")


@app.command("list")
def list_versions(
    skill: Skill,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON array")] = False,
    plain_http: PlainHttp = False,
) -> None:
    """Lists the published versions of a skill, newest first."""
    reference, entry = _find(skill)

    async def work(client: RegistryClient) -> list[oci.Release]:
        return await oci.releases(client, reference.repository)

    releases = _with_client(reference.repository.host, entry, work, plain_http=plain_http)
    if as_json:
        typer.echo(json.dumps([_described(release) for release in releases], indent=2))
        return
    for release in releases:
        note = f"yanked: {release.yanked}" if release.yanked is not None else release.description
        typer.echo(f"{release.version:20} {release.visibility:9} {release.category or '-':16} {note}")


@app.command()
def yank(
    skill: Skill,
    reason: Annotated[str, typer.Option(help="what is wrong with it, for those who use it")],
    undo: Annotated[bool, typer.Option("--undo", help="take the yank back")] = False,
    plain_http: PlainHttp = False,
) -> None:
    """Keeps ranges from choosing a version. Who names it exactly, or its digest, still gets it, with a warning."""
    reference, entry = _find(skill)

    async def work(client: RegistryClient) -> oci.Release:
        return await oci.yank(client, reference, reason, now=datetime.now(UTC), undo=undo)

    release = _with_client(reference.repository.host, entry, work, plain_http=plain_http)
    typer.echo(f"{'yanked' if release.yanked is not None else 'good again'}: {release.reference}")


def published(skill: str, *, plain_http: bool) -> tuple[SkillFolder, str]:
    """Returns a published skill and the reference that pins it, as a Skill resource takes it. Raises `SkillsError`."""
    pulled, folder = _pulled(skill, plain_http=plain_http)
    reference = pulled.release.reference
    return folder, f"{reference.repository}:{tag_of(parse_version(pulled.release.version))}@{reference.digest}"


def _pulled(skill: str, *, plain_http: bool) -> tuple[oci.PulledSkill, SkillFolder]:
    reference, entry = _find(skill)
    _require_trusted(str(reference.repository))

    async def work(client: RegistryClient) -> oci.PulledSkill:
        return await oci.pull(client, reference)

    pulled = _with_client(reference.repository.host, entry, work, plain_http=plain_http)
    release = pulled.release
    folder = _inspect(pulled.package, str(release.reference))
    if folder.manifest.version != release.version:
        raise RegistryContentError(
            f"{release.reference}: its skill.yaml says version {folder.manifest.version}; do not use it"
        )
    if release.yanked is not None:
        typer.echo(f"warning: this version is yanked: {release.yanked}", err=True)
    return pulled, folder


def _require_trusted(repository: str) -> None:
    """Raises `RegistryError` where the configuration lists registries, and this is none of them or below one."""
    path = default_config_path()
    trusted = load_config(path).skills.trusted_registries if path.exists() else []
    if trusted and not any(f"{repository}/".startswith(f"{entry.rstrip('/')}/") for entry in trusted):
        raise RegistryError(
            f"{repository}: not among skills.trusted_registries of {path} ({', '.join(trusted)}); add it there if you "
            "trust who publishes to it"
        )


def _find(text: str) -> tuple[Reference, credentials.Credential | None]:
    known = credentials.load(credentials.default_path(os.environ))
    reference = parse_reference(complete(text, known.default))
    return reference, known.registries.get(reference.repository.host)


def _with_client(
    host: str,
    credential: credentials.Credential | None,
    work: Callable[[RegistryClient], Awaitable[T]],
    *,
    plain_http: bool,
) -> T:
    async def run() -> T:
        async with open_http() as http:
            return await work(RegistryClient(http, host, credential, plain_http=plain_http))

    return asyncio.run(run())


def _secret(option: str | None) -> str:
    """The token: option, environment, standard input or a hidden prompt."""
    secret = option or os.environ.get(TOKEN_VARIABLE)
    if secret is None:
        secret = typer.prompt("Token", hide_input=True) if sys.stdin.isatty() else sys.stdin.read(_MAX_SECRET)
    secret = secret.strip()
    if not secret or not secret.isprintable():
        raise CredentialError(f"--token: is empty or no plain text; give it, set {TOKEN_VARIABLE}, or pipe it in")
    return secret


def _inspect(package: bytes, source: str) -> SkillFolder:
    try:
        return read_skill(tuple(read(decompress(package))), source)
    except ArchiveError as error:
        raise RegistryContentError(f"{source}: {error}") from None


def _manifest(skill: SkillFolder) -> dict[str, Any]:
    """What a reader of the registry learns without the package: skill.yaml, and the head of SKILL.md."""
    fields = skill.manifest.model_dump(by_alias=True, exclude_unset=True, mode="json")
    head = {"name": skill.head.name, "description": skill.description}
    return fields | head | ({"license": skill.head.license} if skill.head.license else {})


def _described(release: oci.Release) -> dict[str, Any]:
    return dataclasses.asdict(release) | {"reference": str(release.reference)}


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise RegistryError(f"{file}: cannot be read: {error.strerror}") from None


def _write(file: Path, content: bytes) -> None:
    try:
        file.write_bytes(content)
    except OSError as error:
        raise RegistryError(f"{file}: cannot be written: {error.strerror}") from None


def _unpack(package: bytes, target: Path) -> None:
    try:
        target.mkdir(parents=True)
        unpack(decompress(package), target)
    except FileExistsError:
        raise RegistryError(f"--unpack: {target} is there already; name a new folder") from None
    except (OSError, ArchiveError) as error:
        raise RegistryError(f"--unpack: {target}: {error}") from None
