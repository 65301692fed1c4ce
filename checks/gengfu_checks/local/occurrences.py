"""Things that happen: how often, to what, and whether that is still worth telling. Pure; made to be kept as JSON.

A tally is bad from when something has happened `limit` times to one subject within `within_s`, until nothing of the
kind has been seen for `quiet_after_s`. Times of events are the events' own; quiet counts from when they were read, so
that what happened while the agent was down is told as well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MAX_LIMIT = 20
MAX_SUBJECTS = 8
"""Subjects watched for one tally; the one quiet for longest makes room."""
MAX_NAMED = 5
MAX_NAME_CHARS = 64


@dataclass(frozen=True, slots=True)
class Limits:
    """How many times (1 to MAX_LIMIT) within which time make a tally bad, and after what quiet it is well again."""

    limit: int
    within_s: float
    quiet_after_s: float


@dataclass(slots=True)
class Tally:
    """What is known of one kind of event.

    `total` counts all there ever were, `recent` those since it was last quiet. `told` names the subjects that reached
    the limit since then, `unnamed` counts those beyond MAX_NAMED. `sample` is a line of the first that did. `seen_s` is
    when the limit was last reached, None when it is not bad.
    """

    total: int = 0
    recent: int = 0
    seen_s: float | None = None
    told: list[str] = field(default_factory=list)
    unnamed: int = 0
    sample: str = ""
    times: dict[str, list[float]] = field(default_factory=dict)

    def settle(self, now_s: float, limits: Limits) -> None:
        """Let time pass: after enough quiet it is well, and counts anew."""
        if self.seen_s is not None:
            self.seen_s = min(self.seen_s, now_s)  # a clock that was set back
        last_s = max((times[-1] for times in self.times.values()), default=-math.inf)
        is_quiet = self.seen_s is None and now_s - last_s >= max(limits.within_s, limits.quiet_after_s)
        if is_quiet or (self.seen_s is not None and now_s - self.seen_s >= limits.quiet_after_s):
            self.recent, self.seen_s, self.told, self.unnamed, self.sample = 0, None, [], 0, ""
            self.times = {name: times for name, times in self.times.items() if now_s - times[-1] < limits.within_s}

    def add(self, subject: str, at_s: float, now_s: float, limits: Limits, sample: str = "") -> None:
        """Count an event that happened at `at_s` and is read at `now_s`."""
        self.total += 1
        self.recent += 1
        times = self.times.pop(subject, [])
        self.times[subject] = times = [*times, float(round(min(at_s, now_s)))][-limits.limit :]
        if len(self.times) > MAX_SUBJECTS:
            del self.times[next(iter(self.times))]
        if len(times) < limits.limit or times[-1] - times[0] > limits.within_s:
            return
        self.sample = self.sample or sample
        self.seen_s = now_s
        if subject and subject not in self.told:
            self._name(subject)

    def names(self) -> str:
        """The subjects for people: "sda, sdb (+2)"."""
        shown = ", ".join(sorted(self.told))
        return f"{shown} (+{self.unnamed})" if self.unnamed else shown

    def _name(self, subject: str) -> None:
        if len(self.told) < MAX_NAMED:
            self.told.append(subject)
        else:
            self.unnamed += 1

    def as_json(self) -> dict[str, Any]:
        """What `tally_of` makes it from again."""
        return {
            "total": self.total,
            "recent": self.recent,
            "seen_s": self.seen_s,
            "told": self.told,
            "unnamed": self.unnamed,
            "sample": self.sample,
            "times": self.times,
        }


def tally_of(kept: object) -> Tally:
    """The tally that was kept; an empty one for what is none."""
    if not isinstance(kept, Mapping):
        return Tally()
    times = kept.get("times")
    seen_s = kept.get("seen_s")
    return Tally(
        total=_count(kept.get("total")),
        recent=_count(kept.get("recent")),
        seen_s=float(seen_s) if isinstance(seen_s, (int, float)) else None,
        told=[name for name in _list(kept.get("told")) if isinstance(name, str)],
        unnamed=_count(kept.get("unnamed")),
        sample=str(kept.get("sample", "")),
        times={
            str(name): numbers
            for name, listed in (times.items() if isinstance(times, Mapping) else ())
            if (numbers := [float(at_s) for at_s in _list(listed) if _is_number(at_s)])
        },
    )


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
