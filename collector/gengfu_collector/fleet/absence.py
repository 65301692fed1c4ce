"""When silence of an agent is a fault. Pure; the time zone is passed in."""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

MINUTE_MS = 60_000
DAY_MS = 24 * 60 * MINUTE_MS
WEEK_MS = 7 * DAY_MS
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
FORM = 'write "always", "never" or days with hours like "mon-fri 08:30-17:30, sat 09:00-12:00"'

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_IN_WEEK_MS = 3 * DAY_MS  # the epoch was a Thursday
_DAY = "|".join(DAYS)
_PART = re.compile(rf"({_DAY})(?:-({_DAY}))? ([0-9]{{2}}):([0-9]{{2}})-([0-9]{{2}}):([0-9]{{2}})")
# Silence that no stretch of the coming weeks turns into absence (clocks went forward in the only one) is none.
_WEEKS_AHEAD = 3


@dataclass(frozen=True, slots=True)
class Hours:
    """The hours of every week in which an agent is expected, in local wall time.

    `stretches_ms` are (start, end) from Monday 00:00, ascending, apart from each other. One that goes on over the end
    of Sunday stands there in two parts.
    """

    text: str
    stretches_ms: tuple[tuple[int, int], ...]

    @property
    def is_always(self) -> bool:
        """Every minute of the week is in it."""
        return self.stretches_ms == ((0, WEEK_MS),)

    @property
    def longest_ms(self) -> int:
        """Length of the longest stretch; endless ones count as a week."""
        lengths = [end - start for start, end in self.stretches_ms]
        if len(lengths) > 1 and self.stretches_ms[0][0] == 0 and self.stretches_ms[-1][1] == WEEK_MS:
            lengths.append(lengths[0] + lengths[-1])
        return max(lengths, default=0)


def parse_hours(text: str) -> Hours:
    """Return the hours that `expected` names; raises ValueError saying what is wrong with it.

    Days may run over the end of the week (`sat-mon`), hours over midnight (`22:00-06:00` ends the next day).
    """
    if text == "always":
        return Hours(text, ((0, WEEK_MS),))
    if text == "never":
        return Hours(text, ())
    minutes: list[tuple[int, int]] = []
    for part in text.split(","):
        minutes += _stretches(" ".join(part.split()).lower())
    return Hours(text, _joined(minutes))


def _stretches(part: str) -> list[tuple[int, int]]:
    match = _PART.fullmatch(part)
    if match is None:
        raise ValueError(f'"{part}" is not days with hours: {FORM}')
    first = DAYS.index(match[1])
    last = DAYS.index(match[2]) if match[2] else first
    start, end = _minute(match[3], match[4]), _minute(match[5], match[6])
    if start == end or start == 24 * 60:
        raise ValueError(f'"{part}": the hours are empty; the whole day is 00:00-24:00')
    length = (end - start) % (24 * 60) or 24 * 60
    days = [(first + i) % 7 for i in range((last - first) % 7 + 1)]
    starts_ms = [day * DAY_MS + start * MINUTE_MS for day in days]
    return [(start_ms, start_ms + length * MINUTE_MS) for start_ms in starts_ms]


def _minute(hour: str, minute: str) -> int:
    value = int(hour) * 60 + int(minute)
    if int(minute) > 59 or value > 24 * 60:
        raise ValueError(f'"{hour}:{minute}" is not a time of day from 00:00 to 24:00')
    return value


def _joined(stretches_ms: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    inside = [(start, min(end, WEEK_MS)) for start, end in stretches_ms]
    inside += [(0, end - WEEK_MS) for _, end in stretches_ms if end > WEEK_MS]
    joined: list[tuple[int, int]] = []
    for start, end in sorted(inside):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return tuple(joined)


@dataclass(frozen=True, slots=True)
class AbsenceRule:
    """An agent is absent when it was silent for `after_s` within one stretch of expected hours.

    Silence is counted anew at the start of each stretch: a machine that was switched off in the evening has `after_s`
    from the start of the working day until it is missed.
    """

    after_s: float
    expected: Hours
    zone: tzinfo

    def expected_at(self, moment: datetime) -> bool:
        """Whether the agent has to be there. A moment without a time zone is taken as local wall time."""
        local = moment if moment.tzinfo is None else moment.astimezone(self.zone)
        since_midnight = timedelta(hours=local.hour, minutes=local.minute, seconds=local.second)
        in_week_ms = local.weekday() * DAY_MS + round(since_midnight.total_seconds() * 1000) + local.microsecond // 1000
        return self._segment(in_week_ms)[0]

    def absent_after_ms(self, last_seen_ms: int) -> int | None:
        """The moment (ms since the epoch) from which an agent last heard from at `last_seen_ms` is absent.

        None when its silence is never a fault. The answer does not depend on the present, so it can be stored.
        """
        after_ms = round(self.after_s * 1000)
        if self.expected.is_always:
            return last_seen_ms + after_ms
        if not self.expected.stretches_ms:
            return None
        at_ms, begun_ms = last_seen_ms, None
        while at_ms < last_seen_ms + after_ms + _WEEKS_AHEAD * WEEK_MS:
            is_expected, until_ms = self._segment_at(at_ms)
            if not is_expected:
                begun_ms = None
            else:
                begun_ms = at_ms if begun_ms is None else begun_ms
                if until_ms - begun_ms >= after_ms:
                    return begun_ms + after_ms
            at_ms = until_ms
        return None

    def _segment_at(self, at_ms: int) -> tuple[bool, int]:
        """Whether it is expected at a moment, and until when that is so or the clocks change."""
        offset_ms = self._offset_ms(at_ms)
        in_week_ms = (at_ms + offset_ms + _EPOCH_IN_WEEK_MS) % WEEK_MS
        is_expected, end_ms = self._segment(in_week_ms)
        until_ms = at_ms + end_ms - in_week_ms
        if self._offset_ms(until_ms) != offset_ms:
            until_ms = self._clock_change_ms(at_ms, until_ms)
        return is_expected, until_ms

    def _segment(self, in_week_ms: int) -> tuple[bool, int]:
        stretches = self.expected.stretches_ms
        number = bisect_right(stretches, (in_week_ms, WEEK_MS)) - 1
        if number >= 0 and in_week_ms < stretches[number][1]:
            return True, stretches[number][1]
        following = stretches[number + 1][0] if number + 1 < len(stretches) else WEEK_MS
        return False, following

    def _clock_change_ms(self, before_ms: int, after_ms: int) -> int:
        """The first moment between the two whose offset from UTC is not that of `before_ms`."""
        offset_ms = self._offset_ms(before_ms)
        while after_ms - before_ms > 1:
            middle_ms = (before_ms + after_ms) // 2
            if self._offset_ms(middle_ms) == offset_ms:
                before_ms = middle_ms
            else:
                after_ms = middle_ms
        return after_ms

    def _offset_ms(self, at_ms: int) -> int:
        offset = (_EPOCH + timedelta(milliseconds=at_ms)).astimezone(self.zone).utcoffset()
        return round((offset or timedelta()).total_seconds() * 1000)
