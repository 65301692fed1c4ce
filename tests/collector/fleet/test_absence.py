"""When silence is a fault, against a minute-by-minute walk through real time zones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gengfu_collector.fleet.absence import DAYS, MINUTE_MS, WEEK_MS, AbsenceRule, Hours, parse_hours

SHANGHAI = ZoneInfo("Asia/Shanghai")
BERLIN = ZoneInfo("Europe/Berlin")  # the clocks change on Sundays at night
# Half an hour of summer time, and a zone that left out a whole day.
ZONES = st.sampled_from([SHANGHAI, BERLIN, UTC, ZoneInfo("Australia/Lord_Howe"), ZoneInfo("Asia/Kathmandu")])
OFFICE = "mon-fri 08:30-17:30, sat 09:00-12:00"

Part = tuple[int, int, int, int]  # first and last day, start and end minute

HOURS = st.tuples(st.integers(0, 24 * 60 - 1), st.integers(0, 24 * 60)).filter(lambda hours: hours[0] != hours[1])


@st.composite
def parts(draw: st.DrawFn) -> list[Part]:
    found = []
    for _ in range(draw(st.integers(1, 3))):
        start, end = draw(HOURS)
        found.append((draw(st.integers(0, 6)), draw(st.integers(0, 6)), start, end))
    return found


def written(found: list[Part]) -> str:
    return ", ".join(
        f"{DAYS[first]}{'' if first == last else '-' + DAYS[last]} "
        f"{start // 60:02}:{start % 60:02}-{end // 60:02}:{end % 60:02}"
        for first, last, start, end in found
    )


def expected_by_hand(found: list[Part], local: datetime) -> bool:
    """Look at each part anew, at today's hours and at those that yesterday's part runs into."""
    minute = local.hour * 60 + local.minute
    for first, last, start, end in found:
        days = {(first + i) % 7 for i in range(7) if (first + i) % 7 == last or i < (last - first) % 7}
        today, yesterday = local.weekday() in days, (local.weekday() - 1) % 7 in days
        if start < end:
            if today and start <= minute < end:
                return True
        elif (today and minute >= start) or (yesterday and minute < end):
            return True
    return False


def absent_by_hand(found: list[Part], zone: tzinfo, last_seen: datetime, after_minutes: int) -> datetime | None:
    """Walk minute by minute, counting silent minutes within a stretch."""
    at, silent = last_seen, 0
    for _ in range(3 * WEEK_MS // MINUTE_MS):
        silent = silent + 1 if expected_by_hand(found, at.astimezone(zone)) else 0
        at += timedelta(minutes=1)
        if silent == after_minutes:
            return at
    return None


MINUTES = st.integers(0, 2 * 366 * 24 * 60 - 1).map(lambda n: datetime(2024, 1, 1, tzinfo=UTC) + timedelta(minutes=n))


@given(parts(), MINUTES, ZONES)
def test_expected_at_agrees_with_the_words(found: list[Part], moment: datetime, zone: tzinfo) -> None:
    rule = AbsenceRule(60, parse_hours(written(found)), zone)
    wanted = expected_by_hand(found, moment.astimezone(zone))
    assert rule.expected_at(moment) is wanted
    assert rule.expected_at(moment.astimezone(zone).replace(tzinfo=None)) is wanted


@given(parts(), MINUTES, ZONES, st.integers(1, 300))
@example([(6, 6, 60, 210)], datetime(2024, 10, 27, 0, 30, tzinfo=UTC), BERLIN, 45)
@example([(6, 6, 60, 150)], datetime(2024, 3, 30, 23, 0, tzinfo=UTC), BERLIN, 85)
@example([(0, 6, 0, 24 * 60 - 1)], datetime(2024, 10, 26, tzinfo=UTC), BERLIN, 24 * 60)
@example([(5, 1, 22 * 60, 6 * 60)], datetime(2024, 3, 30, 20, 0, tzinfo=UTC), BERLIN, 300)
def test_absence_agrees_with_a_walk_minute_by_minute(
    found: list[Part], last_seen: datetime, zone: tzinfo, after_minutes: int
) -> None:
    rule = AbsenceRule(after_minutes * 60, parse_hours(written(found)), zone)
    absent_ms = rule.absent_after_ms(round(last_seen.timestamp() * 1000))
    wanted = absent_by_hand(found, zone, last_seen, after_minutes)
    assert absent_ms == (None if wanted is None else round(wanted.timestamp() * 1000))


@given(parts(), MINUTES, st.integers(0, 59_999), st.integers(30_000, 3_600_000), ZONES)
def test_milliseconds_are_kept(found: list[Part], minute: datetime, more_ms: int, after_ms: int, zone: tzinfo) -> None:
    rule = AbsenceRule(after_ms / 1000, parse_hours(written(found)), zone)
    last_seen_ms = round(minute.timestamp() * 1000) + more_ms
    absent_ms = rule.absent_after_ms(last_seen_ms)
    if absent_ms is not None:
        assert absent_ms >= last_seen_ms + after_ms
        begun = datetime.fromtimestamp((absent_ms - after_ms) / 1000, UTC)
        assert rule.expected_at(begun)
        assert rule.expected_at(datetime.fromtimestamp((absent_ms - 1) / 1000, UTC))


def shanghai_ms(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=SHANGHAI).timestamp() * 1000)


@pytest.mark.parametrize(
    ("hours", "last_seen", "absent"),
    [
        ("always", "2026-03-06 23:00:00", "2026-03-06 23:03:00"),
        (OFFICE, "2026-03-06 10:00:07", "2026-03-06 10:03:07"),
        # Switched off two minutes before the end on Saturday: missed on Monday, three minutes after the start.
        (OFFICE, "2026-03-07 11:58:00", "2026-03-09 08:33:00"),
        (OFFICE, "2026-03-08 03:00:00", "2026-03-09 08:33:00"),
        (OFFICE, "2026-03-06 17:27:00", "2026-03-06 17:30:00"),
        ("fri 22:00-06:00", "2026-03-07 05:59:00", "2026-03-13 22:03:00"),
        ("sun-mon 00:00-24:00", "2026-03-08 23:59:00", "2026-03-09 00:02:00"),
    ],
)
def test_what_people_mean(hours: str, last_seen: str, absent: str) -> None:
    rule = AbsenceRule(180, parse_hours(hours), SHANGHAI)
    assert rule.absent_after_ms(shanghai_ms(last_seen)) == shanghai_ms(absent)


def test_never_is_never() -> None:
    rule = AbsenceRule(60, parse_hours("never"), UTC)
    assert rule.absent_after_ms(0) is None
    assert not rule.expected_at(datetime(2026, 3, 6, 12, tzinfo=UTC))


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "days with hours"),
        ("sometimes", "days with hours"),
        ("mon-fri", "days with hours"),
        ("08:00-17:00", "days with hours"),
        ("mon-fri 8:30-17:30", "days with hours"),
        ("mon-fry 08:30-17:30", "days with hours"),
        ("mon 08:30-17:30,", "days with hours"),
        ("mon 08:30-25:00", "not a time of day"),
        ("mon 08:60-17:00", "not a time of day"),
        ("mon 08:30-24:01", "not a time of day"),
        ("mon 08:30-08:30", "empty"),
        ("mon 24:00-08:00", "empty"),
        ("mon ٠٨:30-17:30", "days with hours"),
    ],
)
def test_what_is_not_hours_is_refused(text: str, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        parse_hours(text)


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("always", 168),
        ("never", 0),
        (OFFICE, 9),
        ("sun 20:00-24:00, mon 00:00-03:00", 7),
        ("mon-sun 00:00-24:00", 168),
        ("Mon-Tue 08:00-10:00 ,  wed 00:00-01:00", 2),
        ("mon 20:00-24:00, tue 00:00-02:00", 6),
    ],
)
def test_the_longest_stretch(text: str, hours: int) -> None:
    assert parse_hours(text).longest_ms == hours * 60 * MINUTE_MS


def test_every_hour_of_the_week_is_always() -> None:
    assert parse_hours("mon-fri 00:00-24:00, sat-sun 00:00-24:00").is_always
    assert parse_hours("always").stretches_ms == Hours("", ((0, WEEK_MS),)).stretches_ms
