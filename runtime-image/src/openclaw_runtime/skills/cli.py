"""`openclaw skill`: make, check, test, pack, describe and run a skill on this machine."""

import asyncio
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from openclaw_runtime.sandbox.archive import ArchiveError, decompress
from openclaw_runtime.skills.errors import ManifestError, SkillsError
from openclaw_runtime.skills.folder import SkillFolder, read_skill
from openclaw_runtime.skills.package import Package, folder_files, pack_files
from openclaw_runtime.skills.scaffold import ScaffoldRuntime, new_skill
from openclaw_runtime.skills.types import ActionSpec, InstalledSkill, SkillResult

app = typer.Typer(name="skill", help="Makes, checks, packs and runs skills.", no_args_is_help=True)

Folder = Annotated[Path, typer.Argument(help="the skill's folder, with SKILL.md and skill.yaml")]


class CommandError(SkillsError):
    """A command cannot do what it was asked. `str()` is one line."""


def _read(folder: Path) -> SkillFolder:
    if not folder.is_dir():
        raise CommandError(f"{folder}: not a folder; give the folder that holds SKILL.md")
    try:
        return read_skill(tuple(folder_files(folder)), str(folder))
    except (ArchiveError, OSError) as error:
        raise ManifestError(str(folder), [str(error)]) from None


def _write(target: Path, data: bytes) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    except OSError as error:
        raise CommandError(f"{target}: cannot be written: {error.strerror}; choose another place") from None


@app.command()
def init(
    name: Annotated[str, typer.Argument(help="lower case letters, digits and -")],
    directory: Annotated[Path | None, typer.Option(help="where to make it; default ./NAME")] = None,
    runtime: Annotated[ScaffoldRuntime, typer.Option(help="the language it is written in")] = "python",
) -> None:
    """Makes the folder of a new skill that works."""
    folder = directory or Path(name)
    if folder.exists() and any(folder.iterdir()):
        raise CommandError(f"{folder}: exists and is not empty; choose another name or --directory")
    for path, text in new_skill(name, runtime).items():
        _write(folder / path, text.encode())
    _read(folder)
    typer.echo(f"made {folder}; next: openclaw skill test {folder}")


@app.command()
def validate(folder: Folder) -> None:
    """Checks a skill's files and says everything that is wrong. An MCP server is started and asked for its tools."""
    from openclaw_runtime.skills.toolchain import check_syntax

    skill = _read(folder)
    warnings = [*skill.manifest.warnings(), *filter(None, [check_syntax(skill, folder)])]
    package = pack_files(skill.files)
    actions, problems = _actions(skill, package)
    names = ", ".join(action.name for action in actions)
    typer.echo(f"{skill.head.name} {skill.manifest.version} is valid: {len(skill.files)} files, actions {names}")
    typer.echo(package.digest)
    if skill.manifest.mcp is not None:
        _show(actions)
    for warning in [*warnings, *problems]:
        typer.echo(f"warning: {warning}", err=True)


def _actions(skill: SkillFolder, package: Package) -> tuple[Sequence[ActionSpec], Sequence[str]]:
    """Returns the actions of a skill, those of an MCP server as it lists them, and what stands in their way."""
    installed = _installed(skill, package, {})
    if skill.manifest.mcp is None:
        return installed.actions, ()
    from openclaw_runtime.sandbox.errors import SandboxUnavailableError
    from openclaw_runtime.skills.console import local_skills

    async def ask() -> InstalledSkill:
        async with local_skills() as service:
            return await service.find_tools(installed)

    problems = _missing_secrets(skill)
    with _explained():
        try:
            found = asyncio.run(ask())
        except SandboxUnavailableError as error:
            # Its image or its address is out of reach from here, which says nothing of the skill.
            return (), [*problems, f"the tools are not known: {error}"]
    return found.actions, [*problems, *found.problems]


def _installed(skill: SkillFolder, package: Package, config: dict[str, Any]) -> InstalledSkill:
    return skill.skill(package.digest, package.data, dict(os.environ), config)


def _missing_secrets(skill: SkillFolder) -> list[str]:
    names = [secret.name for secret in skill.manifest.secrets if secret.name not in os.environ]
    return [f"secrets: {', '.join(names)} not in the environment"] if names else []


def _show(actions: Sequence[ActionSpec]) -> None:
    """Prints actions with the names of their input, the optional ones with a question mark."""
    for action in actions:
        required = action.input_schema.get("required") or ()
        names = [name if name in required else f"{name}?" for name in action.input_schema.get("properties") or {}]
        typer.echo(f"  {action.name}({', '.join(names)})  {action.description.partition(chr(10))[0]}".rstrip())


@app.command()
def test(folder: Folder) -> None:
    """Runs the skill's own tests: those in Python with pytest, in Node.js with node --test, in bash as programs."""
    from openclaw_runtime.skills.toolchain import run_tests

    _read(folder)
    raise typer.Exit(run_tests(folder))


@app.command()
def pack(
    folder: Folder,
    output: Annotated[
        Path | None, typer.Option(help="the archive; default NAME-VERSION.tar.gz. NAME.tar is what a signature is over")
    ] = None,
) -> None:
    """Packs a skill: the same files always give the same digest."""
    skill = _read(folder)
    package = pack_files(skill.files)
    target = output or Path(f"{skill.head.name}-{skill.manifest.version}.tar.gz")
    data = decompress(package.data) if target.suffix == ".tar" else package.data
    _write(target, data)
    typer.echo(f"{target} ({len(data)} bytes)\n{package.digest}")


class _Dumper(yaml.SafeDumper):
    """Writes longer texts as blocks, so that the files inside a resource can be read."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


@app.command()
def manifest(
    skill: Annotated[str, typer.Argument(metavar="FOLDER|oci://REFERENCE", help="a folder, or a published skill")],
    namespace: Annotated[str | None, typer.Option(help="written into the resource")] = None,
    plain_http: Annotated[bool, typer.Option("--plain-http", help="the registry speaks no TLS")] = False,
) -> None:
    """Prints the Skill resource for kubectl apply: with the files of a folder inside, or an artifact by its digest."""
    if skill.startswith("oci://"):
        from openclaw_runtime.skills.registry_cli import published

        folder, reference = published(skill, plain_http=plain_http)
        resource = folder.resource(reference, plain_http=plain_http)
    else:
        resource = _read(Path(skill)).resource()
    if namespace:
        resource["metadata"]["namespace"] = namespace
    typer.echo(yaml.dump(resource, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120), nl=False)


@app.command()
def run(
    folder: Folder,
    action: Annotated[str | None, typer.Argument(help="the action to run; without one, they are shown")] = None,
    input_: Annotated[str, typer.Option("--input", help="JSON object, or @FILE")] = "{}",
    workspace: Annotated[Path | None, typer.Option(help="the folder the skill may work in")] = None,
    answer: Annotated[list[str] | None, typer.Option(help="answer to a question of the skill; repeat")] = None,
    config: Annotated[str, typer.Option(help="the skill's configuration, a JSON object")] = "{}",
    attachments: Annotated[Path, typer.Option(help="the folder that files given with the result go to")] = Path(
        "attachments"
    ),
) -> None:
    """Runs one action in a local sandbox and prints its result as JSON."""
    from openclaw_runtime.skills.console import ConsoleContext, local_skills

    given, settings = _json_object("--input", input_), _json_object("--config", config)
    if workspace is not None and not workspace.is_dir():
        raise CommandError(f"--workspace: {workspace} is not a folder")
    read = _read(folder)
    skill = _installed(read, pack_files(read.files), settings)
    for warning in _missing_secrets(read):
        typer.echo(f"warning: {warning}", err=True)

    async def call() -> InstalledSkill | SkillResult:
        async with local_skills(workspace) as service:
            found = await service.find_tools(skill)
            if action is None:
                return found
            context = ConsoleContext(answer or [])
            return await service.call(found, action, given, session="cli", context=context)

    with _explained():
        outcome = asyncio.run(call())
    if isinstance(outcome, InstalledSkill):
        _show(outcome.actions)
        return
    typer.echo(json.dumps(outcome.output, ensure_ascii=False, indent=2))
    for attachment in outcome.attachments:
        target = attachments / attachment.name
        _write(target, attachment.data)
        typer.echo(f"attachment: {target} ({attachment.media_type}, {len(attachment.data)} bytes)", err=True)


@contextmanager
def _explained() -> Iterator[None]:
    """Says how a call in a sandbox failed."""
    from openclaw_runtime.sandbox.errors import SandboxError

    try:
        yield
    except SandboxError as error:
        detail = error.data.get("detail")
        raise CommandError(f"{error.type}: {error}" + (f"\n{detail}" if detail else "")) from None


def _json_object(option: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(Path(text[1:]).read_text(encoding="utf-8") if text.startswith("@") else text)
    except OSError as error:
        raise CommandError(f"{option}: {text[1:]} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise CommandError(f"{option}: not JSON: {error}") from None
    if not isinstance(value, dict):
        raise CommandError(f'{option}: must be a JSON object, like {{"name": "Ada"}}')
    return value
