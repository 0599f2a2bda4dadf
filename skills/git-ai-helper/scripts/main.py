"""git-ai-helper: commits, branches, pull request texts, pulls and clean-up, run with the real git."""

from __future__ import annotations

import fnmatch
import functools
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import wording
from repository import GitError, Repository, RepositoryError, open_repository

from openclaw_skill import Context, ContextError

Result = dict[str, Any]
Action = Callable[[Context, dict[str, Any]], Awaitable[Result]]


class _Stop(Exception):  # noqa: N818 - not an error: the action ends early with an answer
    def __init__(self, message: str, suggestion: str = "", **facts: Any) -> None:
        super().__init__(message)
        self.answer: Result = {"success": False, "message": message, **facts}
        if suggestion:
            self.answer["suggestion"] = suggestion


def _action(run: Callable[[Context, Repository, dict[str, Any]], Awaitable[Result]]) -> Action:
    """Opens the repository and turns every expected failure into an answer with `success: false`."""

    @functools.wraps(run)
    async def wrapped(ctx: Context, given: dict[str, Any]) -> Result:
        try:
            author = ctx.config.get("author")
            identity = (str(author["name"]), str(author["email"])) if author else None
            repository = await open_repository(ctx.workspace, given.get("path"), ctx.scratch, identity, ctx.call.agent)
            return await run(ctx, repository, given)
        except _Stop as stop:
            ctx.logger.info("%s: %s", run.__name__, stop)
            return stop.answer
        except RepositoryError as error:
            return {"success": False, "error": str(error), "suggestion": wording.suggestion("not a git repository")}
        except GitError as error:
            ctx.logger.error("%s: %s", run.__name__, error)  # noqa: TRY400 - git's own words are what helps
            return {"success": False, "error": str(error), "suggestion": wording.suggestion(error.detail)}
        except ContextError as error:
            ctx.logger.error("%s: %s", run.__name__, error)  # noqa: TRY400
            return {
                "success": False,
                "error": str(error),
                "suggestion": "the agent's model, its memory or you did not answer; try again",
            }
        except KeyError as error:
            return {
                "success": False,
                "error": f"config.author: {error} is missing",
                "suggestion": "give name and email",
            }

    return wrapped


@_action
async def smartCommit(ctx: Context, repository: Repository, given: dict[str, Any]) -> Result:
    """Stages, asks the model for a message, commits, and remembers the commit."""
    changes = await repository.changes()
    if not changes:
        raise _Stop("there is nothing to commit")
    conflicts = [change.path for change in changes if change.unmerged]
    if conflicts:
        raise _Stop(f"{len(conflicts)} files have conflicts", "solve the conflicts first", files=conflicts)
    await _stage(ctx, repository, [change.path for change in changes], given.get("stageAll", True))
    diff = await repository.git("diff", "--cached", "--no-color", "--no-ext-diff", "--no-textconv")
    stat = await repository.git("diff", "--cached", "--stat=100", "--no-color")
    files = _paths(await repository.git("diff", "--cached", "--name-only", "-z"))
    if not files:
        raise _Stop("nothing was staged, so nothing was committed")
    await ctx.progress(0.4, "writing the message")
    answer = await ctx.llm.generate(wording.commit_prompt(stat, diff, given.get("hint", "")), temperature=0.2)
    message = wording.commit_message(answer, files, given.get("emoji", True))
    await repository.git("commit", "--quiet", "--cleanup=whitespace", "--file=-", stdin=message.encode())
    commit = (await repository.git("rev-parse", "HEAD")).strip()
    branch = await repository.branch()
    subject = message.splitlines()[0]
    ctx.logger.info("committed %s: %s", commit[:10], subject)
    recorded = await _remember(ctx, repository, message, files, commit, branch)
    return {
        "success": True,
        "message": f"committed {commit[:10]} on {branch or 'a detached HEAD'}: {subject}",
        "commit": commit,
        "commitMessage": message,
        "branch": branch,
        "files": files,
        "recorded": recorded,
    }


async def _stage(ctx: Context, repository: Repository, paths: list[str], everything: bool) -> None:
    if everything:
        await repository.git("add", "--all")
        return
    shown = "\n".join(f"{number}. {path}" for number, path in enumerate(paths, start=1))
    answer = await ctx.ask(
        f"Which of these files shall be committed? Answer with numbers, paths, all or none.\n{shown}"
    )
    chosen = wording.chosen_files(answer, paths)
    if not chosen:
        raise _Stop("no file was chosen, so nothing was committed")
    await repository.git("add", "--all", "--", *chosen)


def _paths(output: str) -> list[str]:
    return [path for path in output.split("\0") if path]


async def _remember(
    ctx: Context, repository: Repository, message: str, files: list[str], commit: str, branch: str
) -> bool:
    """Records the commit. It is made by now, so a memory that fails does not make the action fail."""
    record = {
        "type": "git_commit",
        "message": message,
        "files": files,
        "commit": commit,
        "branch": branch,
        "repository": repository.root.name,
        "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    try:
        await ctx.memory.add(record)
    except ContextError as error:
        ctx.logger.warning("the commit is not in memory: %s", error)
        return False
    return True


@_action
async def createFeatureBranch(ctx: Context, repository: Repository, given: dict[str, Any]) -> Result:
    """Creates a branch with a name from the model, switches to it and pushes it if there is a remote."""
    description, issue = given["description"], given.get("issue")
    answer = await ctx.llm.generate(wording.branch_prompt(description, issue), temperature=0.2)
    wanted = wording.branch_name(answer, description, issue)
    name, number = wanted, 2
    while await repository.exists(f"refs/heads/{name}"):
        name, number = f"{wanted}-{number}", number + 1
    await repository.git("switch", "--quiet", "--create", name)
    commands = [f"git switch --create {name}"]
    result: Result = {"success": True, "message": f"created {name}", "branch": name, "pushed": False}
    remote = await repository.remote() if given.get("push", True) and await repository.has_commits() else None
    if remote is not None:
        code, _, detail = await repository.try_git("push", "--quiet", "--set-upstream", remote, name)
        commands.append(f"git push --set-upstream {remote} {name}")
        result["pushed"] = code == 0
        if code != 0:
            result["message"] += f", but it could not be pushed: {GitError(['push'], code, detail)}"
            result["suggestion"] = wording.suggestion(detail)
    ctx.logger.info("%s", result["message"])
    return {**result, "commands": commands}


@_action
async def generatePullRequest(ctx: Context, repository: Repository, given: dict[str, Any]) -> Result:
    """Writes title and description from the commits that the base branch does not have."""
    branch = await repository.branch()
    if not branch:
        raise _Stop("HEAD is detached", "switch to the branch that the pull request is for")
    base, reference = await _base(repository, given.get("base"))
    if base == branch:
        raise _Stop(f"{branch} is the base branch itself", "switch to a feature branch or give another base")
    if (await repository.try_git("merge-base", reference, "HEAD"))[0] != 0:
        raise _Stop(f"{branch} and {base} have no commit in common", "give the base that the branch was made from")
    subjects = await repository.lines("log", "--reverse", "--format=%s", f"{reference}..HEAD", "--")
    if not subjects:
        raise _Stop(f"{branch} has no commit that {base} lacks", "commit something first")
    span = f"{reference}...HEAD"
    stat = await repository.git("diff", "--no-color", "--stat=100", span, "--")
    diff = await repository.git("diff", "--no-color", "--no-ext-diff", "--no-textconv", span, "--")
    files = _paths(await repository.git("diff", "--name-only", "-z", span, "--"))
    log = "\n".join(f"- {subject}" for subject in subjects[:200])
    prompt = wording.pull_request_prompt(branch, base, log, stat, diff, given.get("template", ""))
    answer = await ctx.llm.generate(prompt, temperature=0.2)
    description = wording.pull_request(answer, subjects=subjects, files=files, branch=branch)
    return {
        "success": True,
        "title": given.get("title") or (subjects[0] if len(subjects) == 1 else _title(branch)),
        "description": description,
        "branch": branch,
        "base": base,
        "commits": len(subjects),
        "files": files,
    }


def _title(branch: str) -> str:
    words = branch.rpartition("/")[2].replace("-", " ").replace("_", " ").strip()
    return words[:1].upper() + words[1:]


async def _base(repository: Repository, wanted: str | None) -> tuple[str, str]:
    """Returns the base branch and the reference to compare with: the remote's copy, which is newer, if there is one."""
    base = wanted or await repository.default_branch()
    if base is None:
        raise _Stop("the base branch is not clear", "give base")
    remote = await repository.remote()
    for reference in ([f"refs/remotes/{remote}/{base}"] if remote else []) + [f"refs/heads/{base}"]:
        if await repository.exists(reference):
            return base, reference
    raise _Stop(f"there is no branch {base}", "give a base that exists")


@_action
async def autoPull(ctx: Context, repository: Repository, _given: dict[str, Any]) -> Result:
    """Pulls with rebase. Whatever goes wrong, the branch is left as it was."""
    branch = await repository.branch()
    code, upstream, _ = await repository.try_git("rev-parse", "--abbrev-ref", "--symbolic-full-name", "@{upstream}")
    if not branch or code != 0:
        raise _Stop("the current branch has no upstream", "set one with git branch --set-upstream-to")
    if any(change.status != "??" for change in await repository.changes()):
        raise _Stop("there are uncommitted changes", "commit them first, for example with smartCommit")
    before = (await repository.git("rev-parse", "HEAD")).strip()
    code, output, detail = await repository.try_git("pull", "--rebase", "--quiet", "--no-autostash")
    if code != 0:
        conflicts = _paths(await repository.git("diff", "--name-only", "--diff-filter=U", "-z"))
        await repository.try_git("rebase", "--abort")
        if not conflicts:
            raise GitError(["pull"], code, detail or output)
        ctx.logger.warning("pulling %s met conflicts in %s", branch, ", ".join(conflicts))
        raise _Stop(
            f"{len(conflicts)} files conflict with {upstream.strip()}; the branch is as it was",
            "rebase by hand and solve the conflicts",
            conflicts=conflicts,
            branch=branch,
            before=before,
            after=(await repository.git("rev-parse", "HEAD")).strip(),
        )
    after = (await repository.git("rev-parse", "HEAD")).strip()
    new = int((await repository.git("rev-list", "--count", f"{before}..{after}")).strip())
    message = f"{branch} has {new} new commits" if new else f"{branch} was up to date"
    ctx.logger.info("%s", message)
    return {
        "success": True,
        "message": message,
        "branch": branch,
        "before": before,
        "after": after,
        "newCommits": new,
        "conflicts": [],
    }


@_action
async def cleanupBranches(ctx: Context, repository: Repository, given: dict[str, Any]) -> Result:
    """Deletes local branches whose every commit is in the default branch."""
    default = await repository.default_branch()
    if default is None or not await repository.exists(f"refs/heads/{default}"):
        raise _Stop("the default branch is not clear", "name it main, or set the remote's HEAD")
    branches = await repository.lines("for-each-ref", "--format=%(refname:short)", "refs/heads")
    merged = await repository.lines(
        "for-each-ref", f"--merged=refs/heads/{default}", "--format=%(refname:short)", "refs/heads"
    )
    # worktreepath is set for a branch that is checked out anywhere, the current one included.
    in_use = await repository.lines(
        "for-each-ref", "--format=%(if)%(worktreepath)%(then)%(refname:short)%(end)", "refs/heads"
    )
    protected = [str(pattern) for pattern in ctx.config.get("protectedBranches", ())]
    deleted = [
        name
        for name in merged
        if name not in {default, *in_use} and not any(fnmatch.fnmatchcase(name, pattern) for pattern in protected)
    ]
    if deleted and not given.get("dryRun", False):
        await repository.git("branch", "--quiet", "--delete", "--force", "--", *deleted)
        ctx.logger.info("deleted %s", ", ".join(deleted))
    verb = "would be deleted" if given.get("dryRun", False) else "deleted"
    kept = [name for name in branches if name not in deleted and name != default]
    return {"success": True, "message": f"{len(deleted)} branches {verb}", "deleted": deleted, "kept": kept}
