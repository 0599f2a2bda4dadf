"""shell: programs and lines of shell in the agent's workspace."""

from __future__ import annotations

import os
from typing import Any

import danger
import process
import workspace

from openclaw_skill import SkillError

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_REFUSED_ENV = ("LD_", "DYLD_", "BASH_ENV", "BASH_FUNC_", "ENV", "PYTHONSTARTUP", "GIT_SSH", "IFS", "SHELLOPTS")


def run(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """Runs a program with its arguments; no shell is involved."""
    argv = args["argv"]
    if any("\0" in argument for argument in argv) or not argv[0]:
        raise SkillError("argv: it holds an empty program name or a NUL character; remove it")
    danger.check_arguments(argv, ctx.config.get("denyPatterns", ()))
    return _run(ctx, argv, args)


def bash(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """Runs a line (or several) of bash; it stops at the first command that fails, also inside a pipe."""
    danger.check_line(args["command"], ctx.config.get("denyPatterns", ()))
    return _run(ctx, ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", args["command"]], args)


def _run(ctx: Any, argv: list[str], args: dict[str, Any]) -> dict[str, Any]:
    cwd = workspace.locate(ctx, args.get("cwd", "."), "cwd")
    if not cwd.is_dir():
        raise SkillError(f"cwd: {args.get('cwd')!r} is no folder of the workspace; make it first or leave cwd out")
    outcome = process.run(
        argv,
        cwd=cwd,
        env=_environment(ctx, args.get("env", {})),
        stdin=args.get("stdin", "").encode("utf-8"),
        timeout=args.get("timeoutSeconds", 60),
        max_output=args.get("maxOutputBytes", 65536),
    )
    shown = danger.quoted(argv) if args.get("command") is None else args["command"]
    ctx.logger.info("%s ended with %s after %.2f s", shown[:200], outcome.exit_code, outcome.seconds)
    return {
        "exitCode": outcome.exit_code,
        "timedOut": outcome.exit_code is None,
        "stdout": outcome.stdout.text(),
        "stderr": outcome.stderr.text(),
        "stdoutBytes": outcome.stdout.total,
        "stderrBytes": outcome.stderr.total,
        "durationMs": round(outcome.seconds * 1000),
    }


def _environment(ctx: Any, given: dict[str, str]) -> dict[str, str]:
    """The program's whole environment: nothing of the runner's, and nothing that makes other code run."""
    for name in given:
        if name.startswith(_REFUSED_ENV) or name in {"PATH", "HOME"}:
            raise SkillError(f"env: {name!r} cannot be set; it changes which code runs")
    home = str(ctx.scratch)
    proxies = {name: os.environ[name] for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY") if name in os.environ}
    proxies |= {name.lower(): value for name, value in proxies.items()}
    base = {"PATH": ctx.config.get("path", PATH), "HOME": home, "TMPDIR": home, "LANG": "C.UTF-8", "TERM": "dumb"}
    return {**base, **proxies, **given}
