"""git-ai-helper with real repositories: what is committed, pushed, pulled and deleted is asked of git itself."""

import os
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from openclaw_skill import ContextError
from tests.fakes.skill_context import FakeContext

Call = Callable[..., Awaitable[dict[str, Any]]]

ENV = {
    "PATH": os.environ["PATH"],
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.org",
}


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=folder, env=ENV, check=True, capture_output=True, text=True
    ).stdout.strip()


def commit(folder: Path, name: str, text: str, message: str) -> str:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "-m", message)
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def repo(ctx: FakeContext) -> Path:
    """A repository in the workspace with one commit on main."""
    assert ctx.workspace is not None
    folder = ctx.workspace / "project"
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch=main")
    commit(folder, "README.md", "# Project\n", "docs: start")
    return folder


@pytest.fixture
def remote(repo: Path, tmp_path: Path) -> Path:
    """A bare remote named origin, with main pushed and tracked."""
    folder = tmp_path / "remote.git"
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch=main", str(folder))
    git(repo, "remote", "add", "origin", str(folder))
    git(repo, "push", "--quiet", "--set-upstream", "origin", "main")
    git(repo, "remote", "set-head", "origin", "main")
    return folder


@pytest.fixture
def colleague(remote: Path, tmp_path: Path) -> Path:
    """Somebody else's clone."""
    folder = tmp_path / "colleague"
    git(tmp_path, "clone", "--quiet", str(remote), str(folder))
    return folder


# --- smartCommit ------------------------------------------------------------------------------------------------------


async def test_changes_are_committed_with_the_models_message_and_remembered(
    repo: Path, ctx: FakeContext, call: Call
) -> None:
    (repo / "app.py").write_text("print('hello')\n")
    (repo / "README.md").write_text("# Project\n\nMore.\n")
    ctx.llm.replies = ["feat: say hello"]
    result = await call("smartCommit")
    assert result["success"] is True
    assert git(repo, "log", "-1", "--format=%s|%an") == "✨ feat: say hello|tester"
    assert git(repo, "status", "--porcelain") == ""
    assert result["commit"] == git(repo, "rev-parse", "HEAD")
    assert "diff --git a/app.py b/app.py" in ctx.llm.prompts[0]
    assert "commit message" in ctx.llm.prompts[0]
    (record,) = ctx.memory.records
    assert record["type"] == "git_commit"
    assert (record["message"], record["commit"]) == ("✨ feat: say hello", result["commit"])
    assert record["files"] == ["README.md", "app.py"]
    assert record["timestamp"].endswith("+00:00")


async def test_nothing_to_commit_is_no_success(repo: Path, ctx: FakeContext, call: Call) -> None:
    before = git(repo, "rev-parse", "HEAD")
    assert await call("smartCommit") == {"success": False, "message": "there is nothing to commit"}
    assert git(repo, "rev-parse", "HEAD") == before
    assert ctx.memory.records == []


async def test_the_first_commit_of_a_repository_works(ctx: FakeContext, call: Call) -> None:
    assert ctx.workspace is not None
    git(ctx.workspace, "init", "--quiet", "--initial-branch=main")
    (ctx.workspace / "a").write_text("1")
    ctx.llm.replies = ["chore: start"]
    result = await call("smartCommit", emoji=False)
    assert (result["success"], result["branch"]) == (True, "main")
    assert git(ctx.workspace, "log", "--format=%s") == "chore: start"


async def test_the_agents_own_data_is_never_committed(ctx: FakeContext, call: Call) -> None:
    assert ctx.workspace is not None
    git(ctx.workspace, "init", "--quiet")
    (ctx.workspace / ".openclaw").mkdir()
    (ctx.workspace / ".openclaw/memory.db").write_text("private")
    assert (await call("smartCommit"))["message"] == "there is nothing to commit"


async def test_the_user_chooses_files_when_not_all_are_wanted(repo: Path, ctx: FakeContext, call: Call) -> None:
    for name in ("a.txt", "b.txt", "c d.txt"):
        (repo / name).write_text(name)
    ctx.answers, ctx.llm.replies = ["1, 3"], ["feat: add two"]
    result = await call("smartCommit", stageAll=False)
    assert "1. a.txt\n2. b.txt\n3. c d.txt" in ctx.questions[0]
    assert result["files"] == ["a.txt", "c d.txt"]
    assert git(repo, "status", "--porcelain") == "?? b.txt"


async def test_choosing_no_file_commits_nothing(repo: Path, ctx: FakeContext, call: Call) -> None:
    (repo / "a.txt").write_text("a")
    ctx.answers = ["none"]
    result = await call("smartCommit", stageAll=False)
    assert (result["success"], result["message"]) == (False, "no file was chosen, so nothing was committed")
    assert git(repo, "status", "--porcelain") == "?? a.txt"


async def test_deleted_renamed_and_odd_names_are_committed(repo: Path, ctx: FakeContext, call: Call) -> None:
    commit(repo, "old name.txt", "text\n" * 20, "feat: more")
    git(repo, "mv", "old name.txt", "neu\tä.txt")
    (repo / "README.md").unlink()
    (repo / "-rf").write_text("x")
    (repo / ":(top)x").write_text("x")
    ctx.llm.replies = ["refactor: rename"]
    result = await call("smartCommit")
    assert set(result["files"]) == {"-rf", ":(top)x", "README.md", "neu\tä.txt"}
    assert git(repo, "status", "--porcelain") == ""


async def test_a_message_is_data_and_never_a_command(repo: Path, ctx: FakeContext, call: Call) -> None:
    (repo / "a").write_text("1")
    evil = 'fix: "; touch /tmp/owned; $(touch owned) `touch owned` --amend'
    ctx.llm.replies = [evil]
    await call("smartCommit", emoji=False)
    assert git(repo, "log", "-1", "--format=%s") == evil
    assert not (repo / "owned").exists()


async def test_hooks_of_the_repository_run_and_their_refusal_is_reported(
    repo: Path, ctx: FakeContext, call: Call
) -> None:
    hook = repo / ".git/hooks/pre-commit"
    hook.write_text("#!/bin/sh\necho 'hook: no secrets please' >&2\nexit 1\n")
    hook.chmod(0o755)
    (repo / "a").write_text("1")
    ctx.llm.replies = ["feat: a"]
    result = await call("smartCommit")
    assert result["success"] is False
    assert "no secrets please" in result["error"]
    assert "hook" in result["suggestion"]
    assert ctx.memory.records == []


async def test_conflicts_are_named_and_not_committed(repo: Path, call: Call) -> None:
    git(repo, "switch", "--quiet", "--create", "other")
    commit(repo, "README.md", "theirs\n", "docs: theirs")
    git(repo, "switch", "--quiet", "main")
    commit(repo, "README.md", "ours\n", "docs: ours")
    subprocess.run(["git", "merge", "other"], cwd=repo, env=ENV, check=False, capture_output=True)  # noqa: ASYNC221
    result = await call("smartCommit")
    assert (result["success"], result["files"]) == (False, ["README.md"])


async def test_a_model_that_fails_is_a_suggestion(repo: Path, ctx: FakeContext, call: Call) -> None:
    async def broken(_prompt: str, **_options: Any) -> str:
        raise ContextError("llm.generate failed: quota")

    ctx.llm.generate = broken  # type: ignore[method-assign]
    (repo / "a").write_text("1")
    result = await call("smartCommit")
    assert (result["success"], result["error"]) == (False, "llm.generate failed: quota")
    assert git(repo, "log", "--format=%s") == "docs: start"


async def test_a_memory_that_fails_does_not_undo_the_commit(repo: Path, ctx: FakeContext, call: Call) -> None:
    async def broken(_record: dict[str, Any]) -> str:
        raise ContextError("memory.add failed")

    ctx.memory.add = broken  # type: ignore[method-assign]
    (repo / "a").write_text("1")
    ctx.llm.replies = ["feat: a"]
    result = await call("smartCommit", emoji=False)
    assert (result["success"], result["recorded"]) == (True, False)
    assert git(repo, "log", "-1", "--format=%s") == "feat: a"


@pytest.mark.parametrize(
    ("config", "own", "author"),
    [
        ({"author": {"name": "Bot", "email": "bot@example.org"}}, True, "Bot <bot@example.org>"),
        ({}, True, "Repo <repo@example.org>"),
        ({}, False, "tester <tester@agents.openclaw.io>"),
    ],
)
async def test_the_identity_comes_from_config_then_repository_then_agent(
    repo: Path, ctx: FakeContext, call: Call, config: dict[str, Any], own: bool, author: str
) -> None:
    if own:
        git(repo, "config", "user.name", "Repo")
        git(repo, "config", "user.email", "repo@example.org")
    ctx.config, ctx.llm.replies = config, ["feat: a"]
    (repo / "a").write_text("1")
    await call("smartCommit")
    assert git(repo, "log", "-1", "--format=%an <%ae>") == author


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to somebody else")
async def test_a_workspace_of_another_uid_is_fine(repo: Path, ctx: FakeContext, call: Call) -> None:
    for path in (repo, *repo.rglob("*")):  # noqa: ASYNC240
        os.chown(path, 12345, 12345)
    (repo / "a").write_text("1")
    ctx.llm.replies = ["feat: a"]
    assert (await call("smartCommit"))["success"] is True


async def test_where_there_is_no_repository_it_says_so(ctx: FakeContext, call: Call) -> None:
    result = await call("smartCommit")
    assert result["success"] is False
    assert "no git repository in the workspace" in result["error"]
    ctx.workspace = None
    assert "no workspace" in (await call("smartCommit"))["error"]


async def test_several_repositories_need_a_path(repo: Path, ctx: FakeContext, call: Call) -> None:
    second = repo.parent / "second"
    second.mkdir()
    git(second, "init", "--quiet")
    assert "several repositories (project, second)" in (await call("smartCommit"))["error"]
    assert (await call("smartCommit", path="project"))["message"] == "there is nothing to commit"
    assert "no folder of the workspace" in (await call("smartCommit", path="../.."))["error"]


# --- createFeatureBranch ----------------------------------------------------------------------------------------------


async def test_a_branch_is_created_and_pushed(repo: Path, remote: Path, ctx: FakeContext, call: Call) -> None:
    ctx.llm.replies = ["feature/login-form"]
    result = await call("createFeatureBranch", description="A login form", issue="#42")
    assert (result["branch"], result["pushed"]) == ("feature/42-login-form", True)
    assert git(repo, "branch", "--show-current") == "feature/42-login-form"
    assert git(remote, "rev-parse", "feature/42-login-form") == git(repo, "rev-parse", "HEAD")
    assert git(repo, "rev-parse", "--abbrev-ref", "@{upstream}") == "origin/feature/42-login-form"


async def test_without_a_remote_nothing_is_pushed(repo: Path, ctx: FakeContext, call: Call) -> None:
    ctx.llm.replies = ["fix/crash"]
    result = await call("createFeatureBranch", description="It crashes")
    assert (result["branch"], result["pushed"]) == ("fix/crash", False)
    assert result["commands"] == ["git switch --create fix/crash"]


async def test_a_name_that_is_taken_gets_a_number(repo: Path, ctx: FakeContext, call: Call) -> None:
    ctx.llm.replies = ["fix/crash", "fix/crash"]
    await call("createFeatureBranch", description="It crashes")
    assert (await call("createFeatureBranch", description="It crashes"))["branch"] == "fix/crash-2"


async def test_a_remote_that_cannot_be_reached_leaves_the_branch(repo: Path, ctx: FakeContext, call: Call) -> None:
    git(repo, "remote", "add", "origin", str(repo.parent / "nowhere"))
    ctx.llm.replies = ["fix/crash"]
    result = await call("createFeatureBranch", description="It crashes")
    assert (result["success"], result["pushed"]) == (True, False)
    assert "could not be pushed" in result["message"]
    assert git(repo, "branch", "--show-current") == "fix/crash"


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        ("feature/add-login", "feature/add-login"),
        ("```\nFix/Größe Ändern!\n```", "fix/groe-andern"),
        ("Branch name: `chore/x`", "chore/x"),
        ("--force", "feature/force"),
        ("../../etc/passwd", "feature/etc-passwd"),
        ("weird/kind/here", "feature/weird-kind-here"),
        ("", "feature/my-work"),
        ("a" * 200, "feature/" + "a" * 52),
        ("x; rm -rf /", "feature/x-rm-rf"),
    ],
)
def test_branch_names_are_always_valid(skill: SimpleNamespace, tmp_path: Path, answer: str, name: str) -> None:
    made = skill.wording.branch_name(answer, "My work", None)
    assert made == name
    git(tmp_path, "check-ref-format", "--branch", made)


# --- generatePullRequest ----------------------------------------------------------------------------------------------


async def test_a_pull_request_has_its_four_sections(repo: Path, ctx: FakeContext, call: Call) -> None:
    git(repo, "switch", "--quiet", "--create", "feature/7-search")
    commit(repo, "search.py", "x = 1\n", "feat: search, closes #7")
    commit(repo, "tests/test_search.py", "x = 1\n", "test: search")
    ctx.llm.replies = ["# PR\n## Overview\nSearch works.\n\n## 2. Changes\n- search\n"]
    result = await call("generatePullRequest")
    assert (result["base"], result["commits"], result["title"]) == ("main", 2, "7 search")
    sections = result["description"].split("## ")[1:]
    assert [text.split("\n")[0] for text in sections] == ["Overview", "Changes", "Testing", "Related issues"]
    assert "Search works." in sections[0]
    assert "tests/test_search.py" in sections[2]
    assert "#7" in sections[3]
    assert "feat: search, closes #7" in ctx.llm.prompts[0]


async def test_a_branch_without_commits_has_no_pull_request(repo: Path, call: Call) -> None:
    git(repo, "switch", "--quiet", "--create", "empty")
    assert (await call("generatePullRequest"))["message"] == "empty has no commit that main lacks"
    git(repo, "switch", "--quiet", "main")
    assert "is the base branch itself" in (await call("generatePullRequest"))["message"]
    assert (await call("generatePullRequest", base="none"))["message"] == "there is no branch none"


# --- autoPull ---------------------------------------------------------------------------------------------------------


async def test_new_commits_are_pulled_below_our_own(repo: Path, colleague: Path, call: Call) -> None:
    commit(colleague, "theirs", "1", "feat: theirs")
    git(colleague, "push", "--quiet")
    commit(repo, "ours", "1", "feat: ours")
    result = await call("autoPull")
    assert result["success"] is True
    assert git(repo, "log", "--format=%s").splitlines() == ["feat: ours", "feat: theirs", "docs: start"]
    assert (await call("autoPull"))["message"] == "main was up to date"


async def test_a_conflict_is_reported_and_undone(repo: Path, colleague: Path, call: Call) -> None:
    commit(colleague, "README.md", "theirs\n", "docs: theirs")
    git(colleague, "push", "--quiet")
    ours = commit(repo, "README.md", "ours\n", "docs: ours")
    result = await call("autoPull")
    assert (result["success"], result["conflicts"]) == (False, ["README.md"])
    assert git(repo, "rev-parse", "HEAD") == ours == result["after"]
    assert git(repo, "status", "--porcelain") == ""
    assert git(repo, "branch", "--show-current") == "main"
    assert (repo / "README.md").read_text() == "ours\n"


async def test_uncommitted_changes_and_missing_upstreams_stop_a_pull(repo: Path, colleague: Path, call: Call) -> None:
    (repo / "README.md").write_text("half done\n")
    assert (await call("autoPull"))["message"] == "there are uncommitted changes"
    assert (repo / "README.md").read_text() == "half done\n"
    git(repo, "restore", "README.md")
    git(repo, "switch", "--quiet", "--create", "lonely")
    assert (await call("autoPull"))["message"] == "the current branch has no upstream"


async def test_a_remote_that_is_gone_is_an_error(repo: Path, remote: Path, call: Call) -> None:
    remote.rename(remote.with_name("moved"))  # noqa: ASYNC240
    result = await call("autoPull")
    assert result["success"] is False
    assert result["error"].startswith("git pull: fatal:")


# --- cleanupBranches --------------------------------------------------------------------------------------------------


async def test_only_merged_branches_are_deleted(repo: Path, ctx: FakeContext, call: Call) -> None:
    for name in ("merged", "release/1.0", "current"):
        git(repo, "branch", name)
    git(repo, "switch", "--quiet", "--create", "open")
    commit(repo, "open", "1", "feat: open")
    git(repo, "switch", "--quiet", "current")
    ctx.config = {"protectedBranches": ["release/*"]}
    preview = await call("cleanupBranches", dryRun=True)
    assert preview["deleted"] == ["merged"]
    assert "merged" in git(repo, "branch", "--format=%(refname:short)")
    result = await call("cleanupBranches")
    assert (result["deleted"], result["kept"]) == (["merged"], ["current", "open", "release/1.0"])
    assert git(repo, "branch", "--format=%(refname:short)").splitlines() == ["current", "main", "open", "release/1.0"]


async def test_a_branch_checked_out_elsewhere_is_kept(repo: Path, tmp_path: Path, call: Call) -> None:
    git(repo, "worktree", "add", "--quiet", "-b", "elsewhere", str(tmp_path / "tree"))
    assert (await call("cleanupBranches"))["deleted"] == []


# --- texts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("feat: a", "✨ feat: a"),
        ("```\nfix(core): b\n\nWhy it broke.\n```", "🐛 fix(core): b\n\nWhy it broke."),
        ("Commit message: docs: c", "📝 docs: c"),
        ('"feat!: d"', "✨ feat!: d"),
        ("no type here", "no type here"),
        ("", "🔧 chore: update x"),
        ("feat: a\x00\x1b[31mb", "✨ feat: a[31mb"),
    ],
)
def test_messages_are_cleaned(skill: SimpleNamespace, answer: str, message: str) -> None:
    assert skill.wording.commit_message(answer, ["x"], True) == message


def test_a_long_subject_goes_on_in_the_body(skill: SimpleNamespace) -> None:
    made = skill.wording.commit_message("feat: " + "word " * 30, ["x"], False)
    subject, _, body = made.partition("\n\n")
    assert len(subject) <= skill.wording.MAX_SUBJECT + 2
    assert body.startswith("… word")


def test_a_long_diff_still_shows_every_file(skill: SimpleNamespace) -> None:
    diff = "".join(f"diff --git a/f{n} b/f{n}\n" + "+line\n" * (5000 if n == 0 else 3) for n in range(30))
    short = skill.wording.shorten_diff(diff)
    assert len(short) < skill.wording.MAX_DIFF + 200
    assert all(f"diff --git a/f{n} " in short for n in range(30))
    assert "more characters" in short


def test_a_diff_of_very_many_files_says_how_many_are_left_out(skill: SimpleNamespace) -> None:
    diff = "".join(f"diff --git a/f{n} b/f{n}\n" + "+line\n" * 50 for n in range(500))
    short = skill.wording.shorten_diff(diff)
    assert len(short) < 2 * skill.wording.MAX_DIFF
    assert "and 440 more files" in short


@pytest.mark.parametrize(
    ("answer", "chosen"),
    [("all", ["a", "b", "c d"]), ("2-3", ["b", "c d"]), ("c d", ["c d"]), ("a,b", ["a", "b"]), ("0 9 x", []), ("", [])],
)
def test_answers_about_files(skill: SimpleNamespace, answer: str, chosen: list[str]) -> None:
    assert skill.wording.chosen_files(answer, ["a", "b", "c d"]) == chosen
