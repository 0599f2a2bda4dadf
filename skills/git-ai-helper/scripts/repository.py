"""A git repository in the workspace. Every command is an argument list; nothing passes through a shell."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

MAX_OUTPUT_BYTES = 16 * 1024 * 1024
NOT_COMMITTED = (".openclaw/",)
"""The agent's own data, which may lie in the workspace and belongs to no repository."""


class GitError(Exception):
    """A git command failed. `detail` is what it wrote, `str()` its last telling line."""

    def __init__(self, arguments: Sequence[str], code: int, detail: str) -> None:
        lines = [line.strip() for line in detail.splitlines() if line.strip() and not line.startswith("hint:")]
        telling = next((line for line in lines if line.startswith(("fatal:", "error:"))), lines[-1] if lines else "")
        super().__init__(f"git {arguments[0]}: {telling or f'exit code {code}'}")
        self.detail = detail
        self.code = code


class RepositoryError(Exception):
    """There is no repository to work on. `str()` says what to do."""


@dataclass(frozen=True)
class Change:
    """One line of `git status`: the two status letters and the path."""

    status: str
    path: str

    @property
    def unmerged(self) -> bool:
        """Whether this file has a conflict."""
        return "U" in self.status or self.status in {"AA", "DD"}


def environment(home: Path, workspace: Path, config: Mapping[str, str]) -> dict[str, str]:
    """Returns the whole environment of git: no prompts, no other machine's settings, any owner's workspace.

    The workspace usually belongs to another uid than the sandbox's; git accepts that only where it is told so outside
    of the repository, hence GIT_CONFIG_* (git-config(1), "safe.directory").
    """
    excludes = home / "excludes"
    excludes.write_text("\n".join(NOT_COMMITTED) + "\n", encoding="utf-8")
    settings = {
        "safe.directory": "*",
        "core.excludesFile": str(excludes),
        "core.quotePath": "false",
        "advice.detachedHead": "false",
        **config,
    }
    env = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(home),
        "LC_ALL": "C.UTF-8",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_EDITOR": "true",
        "GIT_PAGER": "cat",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_CEILING_DIRECTORIES": str(workspace.parent),
        "GIT_SSH_COMMAND": "ssh -oBatchMode=yes -oConnectTimeout=10",
        "GIT_CONFIG_COUNT": str(len(settings)),
    }
    for index, (key, value) in enumerate(settings.items()):
        env[f"GIT_CONFIG_KEY_{index}"] = key
        env[f"GIT_CONFIG_VALUE_{index}"] = value
    return env


class Repository:
    """Runs git in one folder."""

    def __init__(self, root: Path, env: Mapping[str, str]) -> None:
        self.root = root
        self._env = dict(env)

    async def try_git(self, *arguments: str, stdin: bytes = b"") -> tuple[int, str, str]:
        """Runs git and returns its exit code, output and errors."""
        process = await asyncio.create_subprocess_exec(
            "git",
            *arguments,
            cwd=self.root,
            env=self._env,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        stdout, stderr = await process.communicate(stdin)
        assert process.returncode is not None
        return (
            process.returncode,
            stdout[:MAX_OUTPUT_BYTES].decode(errors="replace"),
            stderr[-64_000:].decode(errors="replace"),
        )

    async def git(self, *arguments: str, stdin: bytes = b"") -> str:
        """Runs git and returns its output. Raises `GitError`."""
        code, stdout, stderr = await self.try_git(*arguments, stdin=stdin)
        if code != 0:
            raise GitError(arguments, code, stderr or stdout)
        return stdout

    async def lines(self, *arguments: str) -> list[str]:
        """Runs git and returns its output as lines."""
        return [line for line in (await self.git(*arguments)).splitlines() if line]

    async def changes(self) -> list[Change]:
        """Returns what differs from the last commit, untracked files included."""
        entries = (await self.git("status", "--porcelain=v1", "-z", "--untracked-files=all")).split("\0")
        found: list[Change] = []
        iterator = iter(entries)
        for entry in iterator:
            if len(entry) < 4:
                continue
            found.append(Change(entry[:2], entry[3:]))
            if entry[0] in "RC":  # the next entry is the old name
                next(iterator, None)
        return found

    async def branch(self) -> str:
        """Returns the current branch, or an empty string if HEAD is detached."""
        code, name, _ = await self.try_git("symbolic-ref", "--quiet", "--short", "HEAD")
        return name.strip() if code == 0 else ""

    async def has_commits(self) -> bool:
        """Returns whether HEAD points at a commit."""
        return (await self.try_git("rev-parse", "--verify", "--quiet", "HEAD^{commit}"))[0] == 0

    async def remote(self) -> str | None:
        """Returns the remote to use: origin if there is one."""
        remotes = await self.lines("remote")
        return "origin" if "origin" in remotes else next(iter(remotes), None)

    async def exists(self, reference: str) -> bool:
        """Returns whether a full reference, like refs/heads/main, exists."""
        return (await self.try_git("show-ref", "--verify", "--quiet", reference))[0] == 0

    async def default_branch(self) -> str | None:
        """Returns the branch that work is merged into: the remote's HEAD, else main or master, else the only one."""
        remote = await self.remote()
        if remote is not None:
            code, name, _ = await self.try_git("symbolic-ref", "--quiet", "--short", f"refs/remotes/{remote}/HEAD")
            if code == 0:
                return name.strip().removeprefix(f"{remote}/")
        for name in ("main", "master", "trunk"):
            if await self.exists(f"refs/heads/{name}"):
                return name
        branches = await self.lines("for-each-ref", "--format=%(refname:short)", "refs/heads")
        return branches[0] if len(branches) == 1 else None


def _is_repository(folder: Path) -> bool:
    return (folder / ".git").exists()


def locate(workspace: Path | None, path: str | None) -> Path:
    """Returns the folder of the repository. Raises `RepositoryError`."""
    if workspace is None:
        raise RepositoryError("no workspace; give the skill the permission filesystem:write")
    if path is not None:
        folder = (workspace / path).resolve()
        if not folder.is_relative_to(workspace.resolve()) or not folder.is_dir():
            raise RepositoryError(f"path: {path!r} is no folder of the workspace")
        return folder
    if _is_repository(workspace):
        return workspace
    inside = sorted(entry.name for entry in workspace.iterdir() if entry.is_dir() and _is_repository(entry))
    if len(inside) == 1:
        return workspace / inside[0]
    if not inside:
        raise RepositoryError("there is no git repository in the workspace; create or clone one first")
    raise RepositoryError(f"path: several repositories ({', '.join(inside)}); say which one")


async def open_repository(
    workspace: Path | None, path: str | None, scratch: Path, author: tuple[str, str] | None, agent: str
) -> Repository:
    """Returns the repository to work on, with an identity to commit with. Raises `RepositoryError` or `GitError`.

    The identity is `author` (name, email) if given, else the repository's own, else one made from the agent's name.
    """
    root = locate(workspace, path)
    assert workspace is not None
    plain = Repository(root, environment(scratch, workspace, {}))
    top = Path((await plain.git("rev-parse", "--show-toplevel")).strip())
    if author is None and (await plain.try_git("config", "user.email"))[0] == 0:
        return Repository(top, environment(scratch, workspace, {}))
    name, email = author or (agent, f"{agent}@agents.openclaw.io")
    return Repository(top, environment(scratch, workspace, {"user.name": name, "user.email": email}))
