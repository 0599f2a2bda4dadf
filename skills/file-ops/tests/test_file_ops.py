import base64
import hashlib
import subprocess

import pytest

from openclaw_skill import SkillError


@pytest.fixture
def tree(ctx):
    (ctx.workspace / "src").mkdir()
    (ctx.workspace / "src" / "app.py").write_text("import os\n\n\ndef run():\n    return os.name\n")
    (ctx.workspace / "README.md").write_text("# App\nrun it\n")
    (ctx.workspace / ".hidden").write_text("x")
    (ctx.workspace / ".openclaw").mkdir()
    (ctx.workspace / ".openclaw" / "MEMORY.md").write_text("private run")
    return ctx.workspace


async def test_list_names_entries_in_order_and_hides_what_is_private(call, tree):
    flat = await call("list")
    assert [entry["path"] for entry in flat["entries"]] == ["README.md", "src"]
    deep = await call("list", recursive=True, hidden=True, glob="*")
    assert [entry["path"] for entry in deep["entries"]] == [".hidden", "README.md", "src", "src/app.py"]
    cut = await call("list", recursive=True, limit=1)
    assert cut["truncated"]
    assert len(cut["entries"]) == 1


async def test_read_a_range_and_the_whole(call, tree):
    part = await call("read", path="src/app.py", startLine=4, endLine=9)
    assert part["content"] == "def run():\n    return os.name\n"
    assert (part["startLine"], part["endLine"], part["totalLines"], part["truncated"]) == (4, 5, 5, False)
    whole = await call("read", path=str(tree / "src/app.py"))
    assert whole["sha256"] == hashlib.sha256((tree / "src/app.py").read_bytes()).hexdigest()


async def test_read_cuts_at_a_line_end(call, tree, skill, monkeypatch):
    monkeypatch.setattr(skill.main, "MAX_READ", 15)
    cut = await call("read", path="README.md")
    assert not cut["truncated"]
    cut = await call("read", path="src/app.py")
    assert (cut["content"], cut["endLine"], cut["truncated"]) == ("import os\n\n\n", 3, True)


async def test_read_binary_needs_base64(call, ctx):
    (ctx.workspace / "blob").write_bytes(b"\xff\xfe\x00\x01\xff")
    with pytest.raises(SkillError, match="base64"):
        await call("read", path="blob")
    got = await call("read", path="blob", encoding="base64")
    assert base64.b64decode(got["content"]) == b"\xff\xfe\x00\x01\xff"


async def test_write_modes_and_hash_check(call, ctx):
    made = await call("write", path="a/b.txt", content="eins\n")
    assert made["created"]
    assert (ctx.workspace / "a/b.txt").read_text() == "eins\n"
    await call("write", path="a/b.txt", content="zwei\n", mode="append", expectedSha256=made["sha256"])
    assert (ctx.workspace / "a/b.txt").read_text() == "eins\nzwei\n"
    with pytest.raises(SkillError, match="expectedSha256"):
        await call("write", path="a/b.txt", content="x", expectedSha256=made["sha256"])
    with pytest.raises(SkillError, match="exists"):
        await call("write", path="a/b.txt", content="x", mode="create")
    assert [path.name for path in (ctx.workspace / "a").iterdir()] == ["b.txt"]


async def test_write_keeps_the_mode_of_the_file(call, ctx):
    tool = ctx.workspace / "tool.py"
    tool.write_text("x")
    tool.chmod(0o755)
    await call("write", path="tool.py", content="y")
    assert tool.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("name", ["a.exe", "a.DLL", "lib.so", "lib.so.1.2", "run.sh", "x/a.bat", "a.cmd", "a.cmd."])
@pytest.mark.parametrize("action", ["write", "patch", "move"])
async def test_programs_cannot_be_written(call, ctx, name, action):
    (ctx.workspace / "plain.txt").write_text("x\n")
    request = {
        "write": {"path": name, "content": "x"},
        "patch": {"diff": f"--- /dev/null\n+++ b/{name}\n@@ -0,0 +1 @@\n+x\n"},
        "move": {"from": "plain.txt", "to": name},
    }[action]
    with pytest.raises(SkillError, match="forbidden extension"):
        await call(action, **request)
    assert [path.name for path in ctx.workspace.iterdir()] == ["plain.txt"]


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("../outside.txt", r"'\.\.'"),
        ("a/../../outside.txt", r"'\.\.'"),
        ("/etc/passwd", "outside the workspace"),
        ("link/secret.txt", "symbolic link"),
        ("filelink", "symbolic link"),
        (".openclaw/MEMORY.md", "runtime's own data"),
        ("a\0b", "control characters"),
    ],
)
@pytest.mark.parametrize("action", ["read", "write", "patch", "search", "move", "delete", "list"])
async def test_nothing_leads_out_of_the_workspace(call, ctx, tmp_path, path, says, action):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_text("secret\n")
    (ctx.workspace / "link").symlink_to(outside)
    (ctx.workspace / "filelink").symlink_to(outside / "secret.txt")
    request = {
        "read": {"path": path},
        "list": {"path": path},
        "write": {"path": path, "content": "x"},
        "patch": {"path": path, "edits": [{"search": "secret", "replace": "x"}]},
        "search": {"path": path, "pattern": "secret"},
        "move": {"from": path, "to": "here.txt"},
        "delete": {"path": path},
    }[action]
    with pytest.raises(SkillError, match=says):
        await call(action, **request)
    assert (outside / "secret.txt").read_text() == "secret\n"


async def test_search_does_not_follow_links_or_look_at_private_data(call, tree, tmp_path):
    (tmp_path / "out.txt").write_text("run away")
    (tree / "l.txt").symlink_to(tmp_path / "out.txt")
    found = await call("search", pattern=r"\brun\b")
    assert [(hit["path"], hit["line"], hit["column"]) for hit in found["matches"]] == [
        ("README.md", 2, 1),
        ("src/app.py", 4, 5),
    ]


async def test_search_options(call, tree):
    found = await call("search", pattern="OS.NAME", regex=False, ignoreCase=True, glob="src/*.py", context=1)
    place = {"path": "src/app.py", "line": 5, "column": 12, "text": "    return os.name"}
    assert found["matches"] == [{**place, "before": ["def run():"], "after": []}]
    assert (await call("search", pattern="r", limit=1))["truncated"]
    with pytest.raises(SkillError, match="no regular expression"):
        await call("search", pattern="(")


async def test_patch_by_diff_over_files_is_all_or_nothing(call, tree):
    good = (
        "--- a/README.md\n+++ b/README.md\n@@ -1,2 +1,2 @@\n # App\n-run it\n+start it\n"
        "--- /dev/null\n+++ b/docs/new.md\n@@ -0,0 +1,2 @@\n+one\n+two\n"
        "--- a/.hidden\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n\\ No newline at end of file\n"
    )
    done = await call("patch", diff=good)
    assert [file["path"] for file in done["files"]] == ["README.md", "docs/new.md", ".hidden"]
    assert (tree / "README.md").read_text() == "# App\nstart it\n"
    assert (tree / "docs/new.md").read_text() == "one\ntwo\n"
    assert not (tree / ".hidden").exists()
    half = (
        "--- a/README.md\n+++ b/README.md\n@@ -1 +1 @@\n-# App\n+# Tool\n"
        "--- a/src/app.py\n+++ b/src/app.py\n@@ -1 +1 @@\n-import sys\n+import re\n"
    )
    with pytest.raises(SkillError, match="hunk 1: its old lines are not in the file"):
        await call("patch", diff=half)
    assert (tree / "README.md").read_text().startswith("# App")


async def test_patch_follows_lines_that_moved_but_not_ambiguous_ones(call, ctx):
    place = ctx.workspace / "f"
    place.write_text("new\n" * 3 + "a\nb\nc\n")
    await call("patch", path="f", diff="--- a/f\n+++ b/f\n@@ -2 +2 @@\n-b\n+B\n")
    assert place.read_text() == "new\n" * 3 + "a\nB\nc\n"
    with pytest.raises(SkillError, match="stand at lines 1, 2, 3"):
        await call("patch", path="f", diff="--- a/f\n+++ b/f\n@@ -9 +9 @@\n-new\n+old\n")


async def test_a_diff_made_by_git_round_trips(call, ctx, git_diff):
    old = "".join(f"line {number}\n" for number in range(40))
    new = old.replace("line 3\n", "").replace("line 20\n", "twenty\nand more\n") + "last without end"
    (ctx.workspace / "f.txt").write_text(old)
    await call("patch", diff=git_diff(old, new))
    assert (ctx.workspace / "f.txt").read_text() == new


@pytest.fixture
def git_diff(tmp_path):
    def make(old, new):
        (tmp_path / "old").write_text(old)
        (tmp_path / "new").write_text(new)
        command = ["git", "diff", "--no-index", "--no-color", "old", "new"]
        text = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False).stdout
        return text.replace("a/old", "a/f.txt").replace("b/new", "b/f.txt")

    return make


async def test_patch_by_exact_text(call, tree):
    await call("patch", path="src/app.py", edits=[{"search": "os", "replace": "sys", "count": 2}])
    assert (tree / "src/app.py").read_text() == "import sys\n\n\ndef run():\n    return sys.name\n"
    edits = [{"search": "sys.name", "replace": "1"}, {"search": "sys.name", "replace": "2"}]
    with pytest.raises(SkillError, match=r"edits\[1\]\.search: found 0 times, expected 1"):
        await call("patch", path="src/app.py", edits=edits)
    assert "sys.name" in (tree / "src/app.py").read_text()


@pytest.mark.parametrize(
    ("diff", "says"),
    [
        ("hello", "no hunk found"),
        ("--- a/f\n+++ b/f\n@@ -1,3 +1,3 @@\n a\n", "ends early"),
        ("--- a/f\n+++ b/f\n@@ nonsense @@\n", "no hunk header"),
        ("@@ -1 +1 @@\n-a\n+b\n", "before any"),
        ("GIT binary patch\nliteral 4", "not supported"),
    ],
)
async def test_broken_diffs_say_what_is_wrong(call, diff, says):
    with pytest.raises(SkillError, match=says):
        await call("patch", diff=diff)


async def test_move_and_delete(call, tree):
    await call("move", **{"from": "src", "to": "lib/core"})
    assert (tree / "lib/core/app.py").is_file()
    with pytest.raises(SkillError, match="exists"):
        await call("move", **{"from": "README.md", "to": "lib/core/app.py"})
    with pytest.raises(SkillError, match="lies in it"):
        await call("move", **{"from": "lib", "to": "lib/core/deeper"})
    with pytest.raises(SkillError, match="2 entries"):
        await call("delete", path="lib")
    assert (await call("delete", path="lib", recursive=True))["deleted"] == 3
    with pytest.raises(SkillError, match="workspace itself"):
        await call("delete", path=".", recursive=True)


async def test_git_data_is_left_alone(call, ctx):
    (ctx.workspace / ".git").mkdir()
    for request in (("write", {"path": ".git/hooks/post-commit", "content": "x"}), ("delete", {"path": ".git"})):
        with pytest.raises(SkillError, match="git's own data"):
            await call(request[0], **request[1])


async def test_without_a_workspace(call, ctx):
    ctx.workspace = None
    with pytest.raises(SkillError, match="none is mounted"):
        await call("list")
