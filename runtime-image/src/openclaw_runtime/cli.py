"""The `openclaw` command. Heavy modules are imported by the commands that need them."""

import importlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer

from openclaw_runtime.errors import ConfigError, NoSuchBackupError, OpenClawError

DEFAULT_PORT = 7456

_GROUPS = {
    "backup": ("openclaw_runtime.backup.cli", "Makes, lists, checks and restores backups of a MemoryStore."),
    "skill": ("openclaw_runtime.skills.cli", "Makes, checks, packs and runs skills."),
    "registry": ("openclaw_runtime.skills.registry_cli", "Publishes skills to an OCI registry and pulls them."),
}

app = typer.Typer(
    name="openclaw",
    help="Runs OpenClaw agents and works with their skills.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


Config = Annotated[
    Path | None, typer.Option("--config", help="the configuration file; default ~/.openclaw/config.yaml")
]
Address = Annotated[str, typer.Option(help="where the gateway listens")]


@app.command()
def gateway(
    config: Config = None,
    dev: Annotated[bool, typer.Option("--dev", help="run on this machine: loopback, fresh token, defaults")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="reload skills when their folders change")] = False,
    install: Annotated[bool, typer.Option("--install", help="install as a service of your systemd")] = False,
    status: Annotated[bool, typer.Option("--status", help="ask the running gateway how it is")] = False,
    address: Address = f"http://127.0.0.1:{DEFAULT_PORT}",
) -> None:
    """Runs the gateway of one agent, until it is told to stop."""
    if status:
        _status(address)
    elif install:
        _install(config)
    else:
        from openclaw_runtime.gateway.launch import Launch, run

        run(Launch(config, dev=dev, watch=watch))


@app.command()
def metrics(
    address: Address = f"http://127.0.0.1:{DEFAULT_PORT}",
    output: Annotated[Literal["json", "text"], typer.Option("--format", help="json or text")] = "text",
) -> None:
    """Shows the numbers of a running gateway: uptime, skills, memory, requests."""
    from openclaw_runtime.gateway.query import fetch, summarize

    summary = summarize(fetch(address, "/metrics").text, now=time.time())
    if output == "json":
        typer.echo(json.dumps(summary))
        return
    for name, value in summary.items():
        typer.echo(f"{name:22} {value}")


k8s = typer.Typer(help="Looks at agents in a Kubernetes cluster.", no_args_is_help=True)
app.add_typer(k8s, name="k8s")
_PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


@k8s.command(context_settings=_PASSED_ON)
def diff(context: typer.Context) -> None:
    """Shows what applying a file would do to child objects and pods, before it is applied."""
    _operator("diff", context.args)


@k8s.command(context_settings=_PASSED_ON)
def doctor(context: typer.Context) -> None:
    """Looks for what agents lack in a cluster, and says what to do."""
    _operator("doctor", context.args)


def _operator(command: str, arguments: list[str]) -> NoReturn:
    """Hands over to the operator's own command: it knows what becomes of a resource, the runtime does not."""
    beside = Path(sys.executable).with_name("openclaw-operator")
    program = str(beside) if beside.is_file() else shutil.which("openclaw-operator")
    if program is None:
        raise OpenClawError(
            f"openclaw k8s {command} needs the operator's package, of the version that runs in the cluster: "
            "pip install ./operator (it brings the command openclaw-operator)"
        )
    raise SystemExit(subprocess.call([program, command, *arguments]))


@app.command()
def version() -> None:
    """Shows the version."""
    from importlib import metadata

    typer.echo(metadata.version("openclaw-runtime"))


def _status(address: str) -> None:
    from openclaw_runtime.gateway.query import status

    found = status(address)
    typer.echo(json.dumps(found, indent=2))
    if found["ready"]["status"] != "ready":
        raise typer.Exit(1)


def _install(config: Path | None) -> None:
    from openclaw_runtime.config import default_config_path, load_config
    from openclaw_runtime.gateway.systemd import UNIT, install, unit_path, unit_text

    path = (config or default_config_path()).absolute()
    load_config(path)
    executable = shutil.which("openclaw") or str(Path(sys.argv[0]).absolute())
    target = unit_path(os.environ, Path.home())
    try:
        install(target, unit_text(executable, path, path.parent / ".env"))
    except OSError as error:
        raise OpenClawError(f"{target} cannot be written: {error.strerror}") from None
    typer.echo(f"written: {target}\nstart it: systemctl --user daemon-reload && systemctl --user enable --now {UNIT}")


def _add_groups(wanted: str | None) -> None:
    """Adds the groups of commands; one that is not `wanted` is only named, because its import is slow."""
    for name, (module, about) in _GROUPS.items():
        if name == wanted:
            app.add_typer(importlib.import_module(module).app, name=name)
        else:
            app.add_typer(typer.Typer(help=about), name=name, callback=_nothing)


def _nothing() -> None:
    """Stands for a group that is not run."""


def fail(error: OpenClawError) -> NoReturn:
    """Says what is wrong, one line per problem, and ends: 2 for what another try would not change, 1 for the rest."""
    for line in str(error).splitlines():
        typer.echo(f"error: {line}", err=True)
    raise SystemExit(2 if isinstance(error, ConfigError | NoSuchBackupError) else 1)


def main() -> None:
    """The entry point."""
    _add_groups(next((word for word in sys.argv[1:] if not word.startswith("-")), None))
    try:
        app()
    except OpenClawError as error:
        fail(error)
