from datetime import UTC, datetime
from itertools import islice
from zoneinfo import ZoneInfo

import pytest

from openclaw_skill import SkillError

BERLIN = ZoneInfo("Europe/Berlin")
WEEK = {"from": "2026-03-02", "until": "2026-03-06", "timeZone": "Europe/Berlin", "durationMinutes": 60}


def starts(got):
    return [slot["start"] for slot in got["slots"]]


async def test_slots_are_in_everybodys_working_hours(call):
    ann = {"name": "ann", "busy": [{"start": "2026-03-02T15:00", "end": "2026-03-02T17:00"}]}
    bob = {"name": "bob", "timeZone": "America/New_York"}
    got = await call("findSlots", participants=[ann, bob], **WEEK)
    # 9:00 in New York is 15:00 in Berlin: two hours of each day are left, and Monday's are taken.
    assert starts(got)[:2] == ["2026-03-03T15:00+01:00", "2026-03-03T16:00+01:00"]
    assert len(starts(got)) == 5
    assert got["slots"][0]["local"] == {"ann": "2026-03-03T15:00+01:00", "bob": "2026-03-03T09:00-05:00"}


async def test_those_who_need_not_come_only_move_a_slot_back(call):
    busy = [{"start": "2026-03-02T08:00:00Z", "end": "2026-03-02T15:00:00Z"}]
    people = [{"name": "ann"}, {"name": "bob", "optional": True, "busy": busy}]
    got = await call("findSlots", participants=people, limit=50, **WEEK | {"until": "2026-03-02"})
    assert [(slot["start"][11:16], slot["missing"]) for slot in got["slots"]] == [
        ("16:00", []),
        *((f"{hour:02}:00", ["bob"]) for hour in range(9, 16)),
    ]


async def test_buffers_and_nobody_having_time(call):
    busy = [{"start": "2026-03-02T12:00", "end": "2026-03-02T13:00"}]
    day = WEEK | {"until": "2026-03-02", "durationMinutes": 180}
    people = [{"name": "ann", "busy": busy}, {"name": "bob", "workingHours": "09:00-12:00"}]
    assert starts(await call("findSlots", participants=people, **day)) == ["2026-03-02T09:00+01:00"]
    got = await call("findSlots", participants=people, bufferMinutes=15, **day)
    assert got["slots"] == []
    assert got["closest"]["inTheWay"] in (["ann"], ["bob"])
    weekend = WEEK | {"from": "2026-03-07", "until": "2026-03-08"}
    assert (await call("findSlots", participants=[{"name": "ann"}], **weekend))["closest"]["inTheWay"] == ["ann"]


ICS = """BEGIN:VCALENDAR
BEGIN:VTIMEZONE
TZID:Europe/Berlin
BEGIN:STANDARD
DTSTART:19701025T030000
END:STANDARD
END:VTIMEZONE
BEGIN:VEVENT
UID:1
SUMMARY:A long
  title
DTSTART;TZID=Europe/Berlin:20260302T090000
DURATION:PT3H
RRULE:FREQ=WEEKLY;BYDAY=MO,TU,WE
EXDATE;TZID=Europe/Berlin:20260303T090000
BEGIN:VALARM
DTSTART:20260306T000000Z
END:VALARM
END:VEVENT
BEGIN:VEVENT
UID:1
RECURRENCE-ID;TZID="Europe/Berlin":20260304T090000
DTSTART;TZID=Europe/Berlin:20260304T130000
DTEND;TZID=Europe/Berlin:20260304T170000
END:VEVENT
BEGIN:VEVENT
UID:2
DTSTART;VALUE=DATE:20260305
END:VEVENT
BEGIN:VEVENT
UID:3
DTSTART:20260306T080000Z
DTEND:20260306T100000Z
STATUS:CANCELLED
END:VEVENT
BEGIN:VEVENT
UID:4
DTSTART:20260306T080000
DTEND:20260306T100000
TRANSP:TRANSPARENT
END:VEVENT
END:VCALENDAR
"""


async def test_a_calendar_is_read_with_its_series_and_exceptions(call, ctx):
    (ctx.workspace / "ann.ics").write_bytes(ICS.replace("\n", "\r\n").encode())
    people = [{"name": "ann", "calendar": "ann.ics"}]
    got = await call("findSlots", participants=people, limit=50, stepMinutes=60, **WEEK)
    by_day = {}
    for start in starts(got):
        by_day.setdefault(start[8:10], []).append(int(start[11:13]))
    assert by_day == {
        "02": [12, 13, 14, 15, 16],
        "03": list(range(9, 17)),
        "04": [9, 10, 11, 12],
        "06": list(range(9, 17)),
    }


@pytest.mark.parametrize(
    ("rule", "start", "days"),
    [
        ("FREQ=DAILY;INTERVAL=2;COUNT=3", "2026-03-02", ["03-02", "03-04", "03-06"]),
        ("FREQ=DAILY;BYDAY=MO,FR", "2026-03-02", ["03-02", "03-06", "03-09", "03-13", "03-16", "03-20"]),
        (
            "FREQ=WEEKLY;INTERVAL=2;BYDAY=TU,SU;WKST=SU",
            "2026-03-03",
            ["03-03", "03-15", "03-17", "03-29", "03-31", "04-12"],
        ),
        ("FREQ=WEEKLY;UNTIL=20260310", "2026-03-03", ["03-03", "03-10"]),
        ("FREQ=MONTHLY;BYDAY=-1FR", "2026-01-30", ["01-30", "02-27", "03-27", "04-24", "05-29", "06-26"]),
        ("FREQ=MONTHLY;COUNT=3", "2026-01-31", ["01-31", "03-31", "05-31"]),
        ("FREQ=MONTHLY;BYMONTHDAY=-1,1;COUNT=3", "2026-01-31", ["01-31", "02-01", "02-28"]),
        ("FREQ=YEARLY;UNTIL=20270101T000000Z", "2026-03-03", ["03-03"]),
        ("FREQ=MONTHLY;BYDAY=FR;BYMONTHDAY=13", "2026-02-13", ["02-13", "03-13", "11-13", "08-13"]),
        ("FREQ=DAILY;WKST=SU;INTERVAL=10000", "2026-03-03", ["03-03"]),
    ],
)
def test_rules(skill, rule, start, days):
    begin = datetime.fromisoformat(start).replace(hour=9, tzinfo=BERLIN)
    found = skill.recurrence.times(rule, begin, begin, datetime(2028, 1, 1, tzinfo=UTC))
    assert [f"{time:%m-%d}" for time in islice(found, 6)] == days


def test_a_series_keeps_its_hour_when_clocks_change(skill):
    begin = datetime(2026, 3, 23, 9, tzinfo=BERLIN)
    found = skill.recurrence.times("FREQ=WEEKLY", begin, begin, datetime(2026, 4, 1, tzinfo=UTC))
    assert [time.astimezone(UTC).hour for time in found] == [8, 7]


@pytest.mark.parametrize("rule", ["FREQ=DAILY", "FREQ=WEEKLY;INTERVAL=2", "FREQ=MONTHLY", "FREQ=YEARLY;INTERVAL=3"])
def test_what_was_long_ago_is_not_counted(skill, rule):
    begin, since = datetime(1990, 1, 1, 9, tzinfo=BERLIN), datetime(2026, 1, 1, tzinfo=UTC)
    until = datetime(2030, 1, 1, tzinfo=UTC)
    found = list(skill.recurrence.times(rule, begin, since, until))
    assert len(found) < 2000
    assert [time for time in found if time >= since] == [
        time for time in skill.recurrence.times(rule, begin, begin, until) if time >= since
    ]


EVENT = "BEGIN:VCALENDAR\nBEGIN:VEVENT\nSUMMARY:Sync\n{}\nEND:VEVENT\nEND:VCALENDAR\n"


@pytest.mark.parametrize(
    ("lines", "busy"),
    [
        ("DTSTART;TZID=America/New_York:20260303T090000\nDTEND;TZID=America/Los_Angeles:20260303T113000", (14, 5.5)),
        ("DTSTART:20260303T130000Z\nDTEND;TZID=America/New_York:20260303T100000", (13, 2)),
        ("DTSTART;TZID=Europe/Berlin:20260329T000000\nDURATION:PT4H", (23, 4)),
        ("DTSTART;TZID=Europe/Berlin:20260329T000000\nDURATION:P1D", (23, 23)),
        ("DTSTART;TZID=Europe/Berlin:20260329T000000\nDTEND;TZID=Europe/Berlin:20260329T040000", (23, 3)),
    ],
)
def test_how_long_an_event_takes(skill, lines, busy):
    span = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)
    ((start, end),) = skill.calendars.busy(EVENT.format(lines), *span, BERLIN)
    assert (start.hour, (end - start).total_seconds() / 3600) == busy


def test_free_busy_lists_are_read(skill):
    periods = "FREEBUSY;FBTYPE=BUSY:20260303T090000Z/20260303T100000Z,20260303T120000Z/PT1H\n"
    of_the_list = "DTSTART:20260301T000000Z\nDTEND:20260401T000000Z\nFREEBUSY;FBTYPE=FREE:20260304T090000Z/PT9H\n"
    text = f"BEGIN:VCALENDAR\nBEGIN:VFREEBUSY\n{of_the_list}{periods}"
    span = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)
    found = list(skill.calendars.busy(f"{text}END:VFREEBUSY\nEND:VCALENDAR", *span, BERLIN))
    assert [(start.hour, end.hour) for start, end in found] == [(9, 10), (12, 13)]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("<html>", "it is no calendar: '<HTML>'"),
        ("", "it is cut off, or empty"),
        ("BEGIN:VCALENDAR\nBEGIN:VEVENT\n", "it is cut off"),
        ("BEGIN:VCALENDAR\nEND:VEVENT\n", "END:VEVENT ends what did not begin"),
    ],
)
async def test_what_is_no_calendar_is_not_free_time(call, ctx, text, told):
    (ctx.workspace / "a.ics").write_text(text)
    with pytest.raises(SkillError, match=told):
        await call("findSlots", participants=[{"name": "ann", "calendar": "a.ics"}], **WEEK)


async def test_slots_stay_on_the_clock_when_it_changes(call):
    days = {"from": "2026-03-28", "until": "2026-03-30", "timeZone": "Europe/Berlin", "durationMinutes": 60}
    person = {"name": "ann", "workingDays": ["sun", "mon"], "workingHours": "00:00-23:00"}
    got = await call("findSlots", participants=[person], stepMinutes=120, limit=50, **days)
    hours = {int(start[11:13]) for start in starts(got)}
    assert hours == set(range(0, 23, 2))
    assert "2026-03-29T02:00" not in {start[:16] for start in starts(got)}


async def test_many_people_and_meetings_are_searched_in_time(call):
    busy = [
        {"start": f"2026-03-02T{n // 60:02}:{n % 60:02}", "end": f"2026-03-02T{n // 60:02}:{n % 60:02}:30"}
        for n in range(1440)
    ]
    people = [{"name": f"p{n}", "busy": busy} for n in range(50)]
    month = {"from": "2026-03-02", "until": "2026-05-30", "timeZone": "UTC", "durationMinutes": 60, "stepMinutes": 5}
    assert len(starts(await call("findSlots", participants=people, **month))) == 5


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("RRULE:FREQ=DAILY;INTERVAL=4000000", "INTERVAL=4000000 is no number from 1 to 10000"),
        ("DURATION:P999999999W", "it is no duration"),
        ("DTEND:20260302T080000", "it ends before it begins"),
        ("RRULE:FREQ=HOURLY", "RRULE FREQ=HOURLY: FREQ=HOURLY is none of DAILY"),
        ("RRULE:FREQ=YEARLY;BYDAY=MO", "BYDAY with FREQ=YEARLY is not understood"),
        ("RRULE:FREQ=WEEKLY;BYDAY=XX", "BYDAY=XX is no weekday"),
        ("DURATION:1h", "DURATION '1h': it is no duration"),
        ("DTEND;TZID=W. Europe Standard Time:20260302T100000", "the time zone 'W. Europe Standard Time' is not known"),
        ("DTEND:tomorrow", "DTEND 'tomorrow'"),
    ],
)
async def test_what_a_calendar_says_is_never_overlooked(call, ctx, line, told):
    text = EVENT.format(f"DTSTART:20260302T090000\n{line}")
    (ctx.workspace / "a.ics").write_text(text)
    with pytest.raises(SkillError, match=f"participants: ann: calendar 'a.ics': event 'Sync': .*{told}"):
        await call("findSlots", participants=[{"name": "ann", "calendar": "a.ics"}], **WEEK)


@pytest.mark.parametrize(
    ("person", "changes", "told"),
    [
        ({}, {"timeZone": "Mars/Base"}, "timeZone: 'Mars/Base' is no time zone"),
        ({}, {"until": "2026-03-01"}, "until: 2026-03-01 must be from 2026-03-02"),
        ({}, {"from": "2026-02-30"}, "from: '2026-02-30' is no day"),
        ({}, {"from": "9999-12-31"}, "from: '9999-12-31' is not in the years"),
        ({"workingHours": "17:00-09:00"}, {}, "ann: workingHours: '17:00-09:00' ends before it begins"),
        ({"workingHours": "25:00-26:00"}, {}, "ann: workingHours: '25:00-26:00'"),
        ({"busy": [{"start": "2026-03-02T10:00", "end": "2026-03-02T10:00"}]}, {}, "ann: busy.end"),
        ({"busy": [{"start": "noon", "end": "2026-03-02T10:00"}]}, {}, "ann: busy.start: 'noon' is no time"),
    ],
)
async def test_wrong_input_is_named(call, person, changes, told):
    with pytest.raises(SkillError, match=told):
        await call("findSlots", participants=[{"name": "ann", **person}], **WEEK | changes)


MEETING = {
    "title": "Plan; budget, ünïcode " + "x" * 80,
    "start": "2026-03-31T14:00",
    "durationMinutes": 45,
    "timeZone": "Europe/Berlin",
    "organizer": "ann@example.org",
    "attendees": ["bob@example.org", "bob@example.org"],
}


async def test_an_invitation(call, ctx):
    got = await call("invite", path="out/plan.ics", description="a\nb", **MEETING)
    text = (ctx.workspace / got["path"]).read_bytes().decode()
    assert text == got["ics"]
    lines = text.split("\r\n")
    assert all(len(line.encode()) <= 75 for line in lines)
    whole = text.replace("\r\n ", "").split("\r\n")
    assert {"METHOD:REQUEST", "DTSTART:20260331T120000Z", "DTEND:20260331T124500Z", "DESCRIPTION:a\\nb"} <= set(whole)
    assert f"SUMMARY:Plan\\; budget\\, ünïcode {'x' * 80}" in whole
    assert sum(line.startswith("ATTENDEE") for line in whole) == 1
    again = await call("invite", **MEETING)
    assert (again["meetingId"], again["path"]) == (got["meetingId"], None)
    cancelled = await call("invite", cancel=True, sequence=1, meetingId=got["meetingId"], **MEETING)
    assert {"METHOD:CANCEL", "STATUS:CANCELLED", "SEQUENCE:1"} <= set(cancelled["ics"].split("\r\n"))
    await call("invite", path="out/plan.ics", cancel=True, **MEETING)
    (ctx.workspace / "ann.ics").write_text(ICS)
    with pytest.raises(SkillError, match="exists and is not this meeting"):
        await call("invite", path="ann.ics", **MEETING)
    with pytest.raises(SkillError, match=r"must be a file that ends in .ics"):
        await call("invite", path="plan.txt", **MEETING)
