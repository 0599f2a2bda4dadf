"""Time zones and times."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from openclaw_skill import SkillError


def zone_of(name: str, field: str) -> ZoneInfo:
    """Returns a zone of the IANA database. Raises SkillError."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise SkillError(f"{field}: {name!r} is no time zone; write one like Europe/Berlin or UTC") from None


def time_of(text: str, zone: ZoneInfo, field: str) -> datetime:
    """Returns a time with its zone, which is `zone` where the text has no offset. Raises SkillError."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise SkillError(f"{field}: {text!r} is no time ({error}); write 2026-03-31T14:00") from None
    return time if time.tzinfo else time.replace(tzinfo=zone)
