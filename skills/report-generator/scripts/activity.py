"""What happened in a git repository: read from `git log --numstat`, and told as a report."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from table import Report, Section

from openclaw_skill import SkillError

MARK = "\x1e"
FORMAT = f"--format={MARK}%H%x1f%an%x1f%aI%x1f%s"
_FIELDS = 4
_TOP = 15


@dataclass(frozen=True)
class Commit:
    """One commit: `when` is an ISO date-time, `files` are (path, lines added, lines removed)."""

    sha: str
    author: str
    when: str
    subject: str
    files: tuple[tuple[str, int, int], ...]

    @property
    def added(self) -> int:
        """Lines added."""
        return sum(file[1] for file in self.files)

    @property
    def removed(self) -> int:
        """Lines removed."""
        return sum(file[2] for file in self.files)


def parse(log: str) -> list[Commit]:
    """Returns the commits of a log, in its order. Binary files count no lines."""
    commits = []
    for block in log.split(MARK)[1:]:
        head, _, rest = block.partition("\n")
        fields = head.split("\x1f")
        if len(fields) < _FIELDS:
            raise SkillError("git: its log has another form than expected; use the standard sandbox image")
        files = []
        for line in rest.splitlines():
            added, _, remainder = line.partition("\t")
            removed, _, path = remainder.partition("\t")
            if path:
                files.append((path, int(added) if added.isdigit() else 0, int(removed) if removed.isdigit() else 0))
        commits.append(Commit(fields[0], fields[1], fields[2], fields[3], tuple(files)))
    return commits


def report(title: str, commits: Sequence[Commit], span: str) -> Report:
    """Returns the report of a list of commits, the newest first."""
    added, removed = sum(c.added for c in commits), sum(c.removed for c in commits)
    lead = f"{len(commits)} commits {span}: {added} lines added, {removed} removed."
    sections = (
        Section("Authors", ("Author", "Commits", "Added", "Removed"), _authors(commits)),
        Section("Days", ("Day", "Commits"), _days(commits)),
        Section("Files changed most", ("File", "Commits", "Added", "Removed"), _files(commits)),
        Section(
            "Commits",
            ("Commit", "When", "Author", "Subject", "Added", "Removed"),
            tuple((c.sha[:10], c.when, c.author, c.subject, str(c.added), str(c.removed)) for c in commits),
        ),
    )
    return Report(title, (lead,), sections if commits else ())


def _authors(commits: Sequence[Commit]) -> tuple[tuple[str, ...], ...]:
    by_author: dict[str, list[Commit]] = defaultdict(list)
    for commit in commits:
        by_author[commit.author].append(commit)
    rows = [(name, len(own), sum(c.added for c in own), sum(c.removed for c in own)) for name, own in by_author.items()]
    return tuple((row[0], *map(str, row[1:])) for row in sorted(rows, key=lambda row: (-row[1], row[0])))


def _days(commits: Sequence[Commit]) -> tuple[tuple[str, ...], ...]:
    counts = Counter(commit.when[:10] for commit in commits)
    return tuple((day, str(count)) for day, count in sorted(counts.items(), reverse=True))


def _files(commits: Sequence[Commit]) -> tuple[tuple[str, ...], ...]:
    totals: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for commit in commits:
        for path, added, removed in commit.files:
            entry = totals[path]
            entry[0] += 1
            entry[1] += added
            entry[2] += removed
    rows = sorted(totals.items(), key=lambda item: (-item[1][0], -(item[1][1] + item[1][2]), item[0]))
    return tuple((path, *map(str, figures)) for path, figures in rows[:_TOP])
