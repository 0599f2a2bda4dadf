"""report-generator: reports from records, from the agent's memory, and about a git repository."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import activity
import atomic
import gitrepo
import layout
import table
import workspace

from openclaw_skill import SkillError

_SINCE = re.compile(r"^[A-Za-z0-9][A-Za-z0-9 :.+-]{0,60}$")


def fromRecords(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """A report of JSON records, given or in a file of the workspace (a list, or one object per line)."""
    if ("records" in args) == ("recordsFile" in args):
        raise SkillError("records: give exactly one of records and recordsFile")
    rows = args["records"] if "records" in args else _load(ctx, args["recordsFile"])
    return _finish(ctx, table.build(args["title"], rows, args), args, len(rows))


def _load(ctx: Any, path: str) -> list[dict[str, Any]]:
    text = workspace.read_text(ctx, workspace.locate_file(ctx, path, "recordsFile"))
    try:
        lined = path.endswith((".jsonl", ".ndjson"))
        value = [json.loads(line) for line in text.splitlines() if line.strip()] if lined else json.loads(text)
    except ValueError as error:
        raise SkillError(
            f"recordsFile: {path!r} is not JSON ({error}); name .jsonl what has one object per line"
        ) from None
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise SkillError(f"recordsFile: {path!r} must hold a list of objects")
    return value


async def fromMemory(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """A report of what the agent remembers about something."""
    found = await ctx.memory.search(args["query"], limit=args.get("limit", 20))
    rows = [dict(record) for record in found]
    report = table.build(args["title"], rows, args)
    lead = (f"{len(rows)} records of the agent's memory for: {args['query']}",)
    return await asyncio.to_thread(_finish, ctx, table.Report(report.title, lead, report.sections), args, len(rows))


def gitActivity(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """A report of a git repository's commits: authors, days, files, subjects."""
    root = workspace.locate(ctx, args.get("repository", "."), "repository")
    command = ["log", "--no-color", "--no-ext-diff", "--no-textconv", "--numstat", "--no-renames", "--no-merges"]
    command += [activity.FORMAT, f"--max-count={args.get('maxCommits', 500)}"]
    spans = []
    for field in ("since", "until"):
        if field in args:
            if not _SINCE.match(args[field]):
                raise SkillError(f"{field}: {args[field]!r} is no date; write 2026-03-31 or '2 weeks ago'")
            command.append(f"--{field}={args[field]}")
            spans.append(f"{field} {args[field]}")
    revision = gitrepo.check_revision(args.get("revision", "HEAD"), "revision")
    commits = activity.parse(gitrepo.git(root, *command, revision, "--", field="revision"))
    title = args.get("title", "Repository activity")
    return _finish(ctx, activity.report(title, commits, " ".join([f"on {revision}", *spans])), args, len(commits))


def _finish(ctx: Any, report: table.Report, args: dict[str, Any], records: int) -> dict[str, Any]:
    form = args.get("format", "markdown")
    content = layout.render(report, form)
    shown = None
    if "path" in args:
        place = workspace.locate(ctx, args["path"])
        if place.suffix != layout.FORMATS[form] or place.is_dir():
            raise SkillError(f"path: {args['path']!r} must be a file that ends in {layout.FORMATS[form]} for {form}")
        if place.exists() and not args.get("overwrite", False):
            raise SkillError(f"path: {args['path']!r} exists; set overwrite to replace it, or choose another")
        atomic.write_bytes(place, content.encode("utf-8"))
        shown = workspace.show(ctx, place)
    return {"format": form, "content": content, "path": shown, "records": records}
