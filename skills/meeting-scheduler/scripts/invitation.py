"""An invitation as iCalendar (RFC 5545 and 5546)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

_WIDTH = 73
"""Octets of a line before it has to go on in the next one, which begins with a space."""


def render(meeting: dict[str, Any], start: datetime, meeting_id: str, now: datetime) -> str:
    """Returns the file. Times are in UTC, so no time zone has to be explained to who reads it."""
    end = start + timedelta(minutes=meeting["durationMinutes"])
    cancel = meeting.get("cancel", False)
    lines = [
        "BEGIN:VCALENDAR",
        "VERSION:2.0",
        "PRODID:-//OpenClaw//meeting-scheduler//EN",
        f"METHOD:{'CANCEL' if cancel else 'REQUEST'}",
        "BEGIN:VEVENT",
        f"UID:{meeting_id}@openclaw",
        f"DTSTAMP:{_utc(now)}",
        f"DTSTART:{_utc(start)}",
        f"DTEND:{_utc(end)}",
        f"SEQUENCE:{meeting.get('sequence', 0)}",
        f"STATUS:{'CANCELLED' if cancel else 'CONFIRMED'}",
        f"SUMMARY:{_text(meeting['title'])}",
        f"ORGANIZER:mailto:{meeting['organizer']}",
        *(f"ATTENDEE;RSVP=TRUE;PARTSTAT=NEEDS-ACTION:mailto:{mail}" for mail in dict.fromkeys(meeting["attendees"])),
        *(f"{name.upper()}:{_text(meeting[name])}" for name in ("description", "location") if meeting.get(name)),
        "END:VEVENT",
        "END:VCALENDAR",
    ]
    return "".join(f"{_folded(line)}\r\n" for line in lines)


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")


def _text(value: str) -> str:
    for plain, escaped in (("\\", "\\\\"), (";", "\\;"), (",", "\\,"), ("\r\n", "\\n"), ("\n", "\\n"), ("\r", "\\n")):
        value = value.replace(plain, escaped)
    return value


def _folded(line: str) -> str:
    """A character of several octets is never cut."""
    parts, part = [], b""
    for character in line:
        octets = character.encode("utf-8")
        if len(part) + len(octets) > _WIDTH:
            parts.append(part)
            part = b""
        part += octets
    return "\r\n ".join(each.decode("utf-8") for each in [*parts, part])
