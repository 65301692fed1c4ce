"""Accounting of report numbers: for every agent and epoch, which were stored, rejected, or will never come. Pure.

For each (agent, epoch): stored + rejected + gaps = every number up to the high water, and each number is counted once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Ledger:
    """The account of one epoch. `ahead` are inclusive ranges known beyond `high_water`, ascending and disjoint.

    The numbers up to `unnamed` were given out before the epoch had a name.
    """

    high_water: int = 0
    ahead: Ranges = ()
    stored: int = 0
    rejected: int = 0
    gaps: int = 0
    unnamed: int = 0

    @property
    def top(self) -> int:
        """The highest number seen."""
        return self.ahead[-1][1] if self.ahead else self.high_water

    @property
    def known(self) -> Ranges:
        """Everything accounted for."""
        first: Ranges = ((1, self.high_water),) if self.high_water else ()
        return first + self.ahead

    def holds(self, seq: int) -> bool:
        """True when this number is accounted for."""
        return seq <= self.high_water or any(first <= seq <= last for first, last in self.ahead)

    def missing(self, first: int, last: int) -> Ranges:
        """Ranges within first..last that are not accounted for."""
        return _without(((first, last),), self.known)

    def with_stored(self, seq: int) -> Ledger:
        """With one more stored number, which must not be held yet."""
        if seq == self.high_water + 1 and not self.ahead:
            return Ledger(seq, (), self.stored + 1, self.rejected, self.gaps, self.unnamed)
        return replace(self._with(((seq, seq),)), stored=self.stored + 1)

    def with_rejected(self, seq: int) -> Ledger:
        """With one more rejected number, which must not be held yet."""
        return replace(self._with(((seq, seq),)), rejected=self.rejected + 1)

    def with_gaps(self, ranges: Iterable[tuple[int, int]]) -> tuple[Ledger, Ranges]:
        """With numbers that will never come; those already accounted for stay what they are. Also what was new."""
        new = _without(_joined(ranges), self.known)
        count = sum(last - first + 1 for first, last in new)
        return replace(self._with(new), gaps=self.gaps + count), new

    def _with(self, ranges: Ranges) -> Ledger:
        ahead = _joined((*self.ahead, *ranges))
        if ahead and ahead[0][0] == self.high_water + 1:
            return replace(self, high_water=ahead[0][1], ahead=ahead[1:])
        return replace(self, ahead=ahead)


def _joined(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """The same numbers in ascending ranges that do not touch."""
    joined: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], last))
        else:
            joined.append((first, last))
    return tuple(joined)


def _without(ranges: Ranges, known: Ranges) -> Ranges:
    """What of ascending ranges is not known. One pass over both: an agent chooses how many there are."""
    found: list[tuple[int, int]] = []
    at = 0
    for first, last in ranges:
        cursor = first
        while at < len(known) and known[at][0] <= last:
            begin, end = known[at]
            if begin > cursor:
                found.append((cursor, begin - 1))
            cursor = max(cursor, end + 1)
            if end > last:
                break
            at += 1
        if cursor <= last:
            found.append((cursor, last))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Greeting:
    """How a stream begins: the epoch to number under, and by epoch what will never come."""

    epoch: int
    rewound: bool
    gaps: Mapping[int, Ranges]


def greet(
    present_epoch: int,
    ledgers: Mapping[int, Ledger],
    hello_epoch: int,
    next_seq: int,
    held: Mapping[int, Ranges],
) -> Greeting:
    """Decide on an agent's Hello.

    `held` are the numbers still in the spool, by epoch; a number below its agent's next that is neither known here nor
    held there is a gap. An agent whose next number is already known here, or whose epoch is over, put
    back an old copy of its spool: it gets a new epoch. One that knows a later epoch, or numbers that we have never
    seen, was acknowledged by a database that has since been restored: it goes on as it is.
    """
    known = ledgers.get(hello_epoch, Ledger())
    goes_on = hello_epoch > present_epoch or (hello_epoch == present_epoch > 0 and next_seq > known.top)
    gaps = {}
    for epoch in {*ledgers, hello_epoch} - {0}:
        ledger = ledgers.get(epoch, Ledger())
        end = max(ledger.top, next_seq - 1) if epoch == hello_epoch else ledger.top
        missing = ledger.with_gaps(held.get(epoch, ()))[0].missing(1, end)
        if missing:
            gaps[epoch] = missing
    return Greeting(
        epoch=hello_epoch if goes_on else max(present_epoch, hello_epoch) + 1,
        rewound=not goes_on and hello_epoch > 0,
        gaps=gaps,
    )
