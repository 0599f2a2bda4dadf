"""meeting-scheduler: when everybody has time, and the invitation."""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime, timedelta
from typing import Any

import atomic
import invitation
import people
import search
import workspace
import zones

from openclaw_skill import SkillError

MAX_DAYS = 92
_FIRST_YEAR, _LAST_YEAR = 1970, 9000


def findSlots(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """Finds times when all participants are free."""
    zone = zones.zone_of(args["timeZone"], "timeZone")
    first, last = _day(args["from"], "from"), _day(args["until"], "until")
    if not timedelta() <= last - first <= timedelta(days=MAX_DAYS):
        raise SkillError(f"until: {last} must be from {first} (from) to {MAX_DAYS} days later")
    names = [each["name"] for each in args["participants"]]
    if len(set(names)) < len(names):
        raise SkillError("participants: a name is given twice; name each once")
    span = people.Span(first, last, zone)
    everybody = [people.participant_of(ctx, each, span) for each in args["participants"]]
    wish = search.Wish(
        timedelta(minutes=args["durationMinutes"]),
        timedelta(minutes=args.get("stepMinutes", 30)),
        timedelta(minutes=args.get("bufferMinutes", 0)),
    )
    return search.find(everybody, span, wish, args.get("limit", 5))


def invite(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """Writes an invitation as an .ics file."""
    start = zones.time_of(args["start"], zones.zone_of(args["timeZone"], "timeZone"), "start")
    identity = "\n".join((args["title"], args["organizer"], start.isoformat()))
    meeting_id = args.get("meetingId") or hashlib.sha256(identity.encode()).hexdigest()[:32]
    text = invitation.render(args, start, meeting_id, datetime.now(UTC))
    shown = None
    if "path" in args:
        place = workspace.locate(ctx, args["path"])
        if place.suffix != ".ics" or place.is_dir():
            raise SkillError(f"path: {args['path']!r} must be a file that ends in .ics")
        if place.exists() and f"UID:{meeting_id}@openclaw" not in workspace.read_text(ctx, place):
            raise SkillError(f"path: {args['path']!r} exists and is not this meeting; choose another name")
        # Line ends are CRLF (RFC 5545), and no system may change them.
        atomic.write_bytes(place, text.encode("utf-8"))
        shown = workspace.show(ctx, place)
    return {"meetingId": meeting_id, "ics": text, "path": shown}


def _day(text: str, field: str) -> date:
    try:
        day = date.fromisoformat(text)
    except ValueError as error:
        raise SkillError(f"{field}: {text!r} is no day ({error}); write 2026-03-31") from None
    if not _FIRST_YEAR <= day.year <= _LAST_YEAR:
        raise SkillError(f"{field}: {text!r} is not in the years from {_FIRST_YEAR} to {_LAST_YEAR}")
    return day
