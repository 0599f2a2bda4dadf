"""file-ops: the files of the agent's workspace."""

from __future__ import annotations

import base64
import hashlib
import shutil
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import atomic
import find
import rules
import unidiff
import workspace

from openclaw_skill import SkillError

MAX_READ = 512 * 1024
"""The most one read returns, in bytes; a call's result is at most 1 MiB of JSON."""

MAX_FILE = 32 * 1024 * 1024
"""Larger files are not read at all."""


def list(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:  # noqa: A001 (the action's name)
    """Entries of a folder, sorted by path."""
    base = workspace.locate(ctx, args.get("path", "."))
    if not base.is_dir():
        raise SkillError(f"path: {args.get('path')!r} is no folder; list the folder above it to see what is there")
    pattern, limit = args.get("glob", "*"), args.get("limit", 500)
    entries: find.Rows = []
    for place in find.entries(base, recursive=args.get("recursive", False), hidden=args.get("hidden", False)):
        if not fnmatch(place.name, pattern):
            continue
        if len(entries) == limit:
            return {"entries": entries, "truncated": True}
        entries.append(_entry(ctx, place))
    return {"entries": entries, "truncated": False}


def _entry(ctx: Any, place: Path) -> dict[str, Any]:
    status = place.lstat()
    kind = "link" if place.is_symlink() else "folder" if place.is_dir() else "file"
    modified = datetime.fromtimestamp(status.st_mtime, UTC).isoformat(timespec="seconds")
    return {"path": workspace.show(ctx, place), "type": kind, "sizeBytes": status.st_size, "modified": modified}


def read(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """A file, or the lines startLine to endLine of it (1-based, inclusive)."""
    place = workspace.locate_file(ctx, args["path"])
    encoding = args.get("encoding", "utf-8")
    size = place.stat().st_size
    if size > MAX_FILE:
        raise SkillError(f"path: {args['path']!r} has {size} bytes; files up to {MAX_FILE} can be read")
    data = workspace.read_bytes(place, MAX_FILE)
    facts = {"path": workspace.show(ctx, place), "encoding": encoding, **_facts(data)}
    if encoding == "base64":
        return {
            **facts,
            "content": base64.b64encode(data[:MAX_READ]).decode("ascii"),
            "truncated": len(data) > MAX_READ,
        }
    try:
        lines = data.decode(encoding).splitlines(keepends=True)
    except UnicodeError as error:
        raise SkillError(
            f"encoding: {args['path']!r} is not {encoding} ({error}); pass another encoding, or base64 for binary files"
        ) from None
    start = args.get("startLine", 1)
    end = min(args.get("endLine", len(lines)), len(lines))
    if start > max(len(lines), 1):
        raise SkillError(f"startLine: {start} is past the end; {args['path']!r} has {len(lines)} lines")
    text, last = find.up_to("".join, lines[start - 1 : end], MAX_READ)
    return {
        **facts,
        "content": text,
        "startLine": start,
        "endLine": start - 1 + last,
        "totalLines": len(lines),
        "truncated": start - 1 + last < end,
    }


def _facts(data: bytes) -> dict[str, Any]:
    return {"sizeBytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def write(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """Replaces, makes or extends a file in one step."""
    place = workspace.locate(ctx, args["path"])
    shown = workspace.show(ctx, place)
    rules.check_writable(shown)
    if place.exists() and not place.is_file():
        raise SkillError(f"path: {shown!r} is no regular file; choose another path")
    before = place.read_bytes() if place.exists() else None
    expected = args.get("expectedSha256")
    if expected is not None and (before is None or hashlib.sha256(before).hexdigest() != expected):
        raise SkillError(f"expectedSha256: {shown!r} is not what was read; read it again and repeat the change")
    mode = args.get("mode", "overwrite")
    if mode == "create" and before is not None:
        raise SkillError(f"path: {shown!r} exists; use mode overwrite or append, or another path")
    data = _decode(args["content"], args.get("encoding", "utf-8"))
    if mode == "append" and before is not None:
        data = before + data
    _store(place, data, shown)
    return {"path": shown, "created": before is None, **_facts(data)}


def _decode(content: str, encoding: str) -> bytes:
    try:
        return base64.b64decode(content, validate=True) if encoding == "base64" else content.encode(encoding)
    except ValueError as error:
        raise SkillError(f"content: it cannot be written as {encoding} ({error}); choose another encoding") from None


def _store(place: Path, data: bytes, shown: str) -> None:
    try:
        atomic.write_bytes(place, data)
    except (FileExistsError, NotADirectoryError):
        raise SkillError(f"path: a part of {shown!r} above the last is a file; choose another path") from None


def patch(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """Applies a unified diff (any number of files) or exact replacements (one file): all of it or nothing."""
    if ("diff" in args) == ("edits" in args):
        raise SkillError("diff: give exactly one of diff and edits")
    changes = _diff_changes(ctx, args) if "diff" in args else _edit_changes(ctx, args)
    for place, text in changes.items():
        if text is None:
            place.unlink()
        else:
            _store(place, text.encode("utf-8"), workspace.show(ctx, place))
    return {
        "files": [
            {
                "path": workspace.show(ctx, place),
                **({"deleted": True} if text is None else _facts(text.encode("utf-8"))),
            }
            for place, text in changes.items()
        ]
    }


def _diff_changes(ctx: Any, args: dict[str, Any]) -> dict[Path, str | None]:
    changes: dict[Path, str | None] = {}
    try:
        for file in unidiff.parse(args["diff"]):
            name = args.get("path") or file.new or file.old
            place = workspace.locate(ctx, name or "", "diff")
            rules.check_writable(workspace.show(ctx, place), "diff")
            if place in changes:
                raise SkillError(f"diff: {name!r} is in it twice; send one section per file")
            if file.old is None and place.exists():
                raise SkillError(f"diff: {name!r} is to be made but exists; read it and send a change instead")
            if file.old not in {None, file.new} and file.new is not None and "path" not in args:
                raise SkillError(f"diff: {file.old!r} becomes {file.new!r}; use move first, then patch")
            before = (
                "" if file.old is None else workspace.read_text(ctx, workspace.locate_file(ctx, name or "", "diff"))
            )
            after = unidiff.apply(before, file.hunks)
            if file.new is None and after:
                raise SkillError(f"diff: {name!r} is to be deleted, but lines of it are left; use delete instead")
            changes[place] = None if file.new is None else after
    except unidiff.DiffError as error:
        raise SkillError(f"diff: {error}") from None
    if "path" in args and len(changes) != 1:
        raise SkillError("path: it only goes with a diff of one file; leave it out")
    return changes


def _edit_changes(ctx: Any, args: dict[str, Any]) -> dict[Path, str | None]:
    if "path" not in args:
        raise SkillError("path: edits need the path of the file to change")
    place = workspace.locate_file(ctx, args["path"])
    rules.check_writable(workspace.show(ctx, place))
    text = workspace.read_text(ctx, place)
    for number, edit in enumerate(args["edits"]):
        count, wanted = text.count(edit["search"]), edit.get("count", 1)
        if count != wanted:
            raise SkillError(
                f"edits[{number}].search: found {count} times, expected {wanted}; copy the text exactly"
                + (", with more of its surroundings, or set count" if count else " (blanks and line ends included)")
            )
        text = text.replace(edit["search"], edit["replace"])
    return {place: text}


def search(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """Lines that match, over the text files below a folder."""
    base = workspace.locate(ctx, args.get("path", "."))
    if not base.exists():
        raise SkillError(f"path: {args['path']!r} does not exist; list the folder above it to see what is there")
    matcher = find.matcher(args["pattern"], regex=args.get("regex", True), ignore_case=args.get("ignoreCase", False))
    limit, glob, context = args.get("limit", 200), args.get("glob", "*"), args.get("context", 0)
    matches: find.Rows = []
    searched = 0
    for place in workspace.walk(base):
        shown = workspace.show(ctx, place)
        if not (fnmatch(place.name, glob) or fnmatch(shown, glob)):
            continue
        lines = find.text_lines(place)
        searched += lines is not None
        for hit in find.hits(lines or [], matcher, context):
            if len(matches) == limit:
                return {"matches": matches, "filesSearched": searched, "truncated": True}
            matches.append({"path": shown, **hit})
    return {"matches": matches, "filesSearched": searched, "truncated": False}


def move(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """Moves or renames a file or folder."""
    source = workspace.locate(ctx, args["from"], "from")
    target = workspace.locate(ctx, args["to"], "to")
    for place, name in ((source, "from"), (target, "to")):
        rules.check_writable(workspace.show(ctx, place), name)
    if not source.exists():
        raise SkillError(f"from: {args['from']!r} does not exist; list the folder to see what is there")
    if target.is_relative_to(source):
        raise SkillError(f"to: {args['to']!r} is {args['from']!r} or lies in it; choose another place")
    if target.exists() and not (args.get("overwrite", False) and target.is_file() and source.is_file()):
        raise SkillError(
            f"to: {args['to']!r} exists; choose another place, or set overwrite to replace a file by a file"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    source.replace(target)
    return {"from": workspace.show(ctx, source), "to": workspace.show(ctx, target)}


def delete(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """Deletes a file, or a folder with all in it when recursive is true."""
    place = workspace.locate(ctx, args["path"])
    shown = workspace.show(ctx, place)
    if shown == ".":
        raise SkillError("path: the workspace itself cannot be deleted; name a file or folder in it")
    if ".git" in place.relative_to(workspace.root(ctx)).parts:
        raise SkillError(f"path: {shown!r} is git's own data; use git-ai-helper to change the repository")
    if place.is_dir():
        inside = sum(1 for _ in place.rglob("*"))
        if inside and not args.get("recursive", False):
            raise SkillError(f"path: {shown!r} is a folder with {inside} entries; set recursive to delete it with them")
        shutil.rmtree(place)
        return {"path": shown, "deleted": inside + 1}
    if not place.exists():
        raise SkillError(f"path: {shown!r} does not exist; nothing was deleted")
    place.unlink()
    return {"path": shown, "deleted": 1}
