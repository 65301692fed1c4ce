"""What became of reports: the collector's answers carried into the spool, in the order in which they came."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from gengfu_agent.clock import Clock
from gengfu_agent.errors import SpoolFull
from gengfu_agent.spool import Entry, Spool
from gengfu_agent.spool.ranges import Range, ranges_of
from gengfu_agent.uplink.loader import key_of
from gengfu_agent.uplink.outbox import Outbox
from gengfu_agent.uplink.present import Key, Present
from gengfu_proto.v1 import stream_pb2

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Counters:
    """What the uplink has done since this process started. Times are milliseconds of the wall clock, for people."""

    streams_total: int = 0
    reports_sent_total: int = 0
    acknowledged_total: int = 0
    rejected_total: int = 0
    renumbered_total: int = 0
    last_acknowledged_ms: int = 0
    clock_ahead_ms: int | None = None
    """How far this machine's clock is ahead of the collector's; None before the first Welcome."""


@dataclass(frozen=True, slots=True)
class _Answer:
    epoch: int
    settled: list[int]
    renumber: list[int]
    past: frozenset[int]
    """Of those to renumber: what tells no present state. Under a number of now it would come after what does."""


class Accounts:
    """Lives on the event loop; the spool is changed in threads. Answers that come while it works are taken together."""

    def __init__(self, spool: Spool, clock: Clock, present: Present, outbox: Outbox, counters: Counters) -> None:
        self._spool = spool
        self._clock = clock
        self._present = present
        self._outbox = outbox
        self._counters = counters
        self._answers: deque[_Answer] = deque()
        self._wake = asyncio.Event()
        self._closed = False

    def take(self, message: stream_pb2.Acknowledgement) -> None:
        """Note an acknowledgement, and give its credit."""
        epoch = message.epoch
        latest = {seq for seq in message.renumber if self._present.is_latest((epoch, seq))}
        accepted = self._outbox.take_back(epoch, [(part.first, part.last) for part in message.accepted])
        rejected = self._outbox.take_back(epoch, [(part.seq, part.seq) for part in message.rejected])
        renumber = self._outbox.take_back(epoch, [(seq, seq) for seq in message.renumber])
        self._counters.acknowledged_total += len(accepted)
        self._counters.rejected_total += len(rejected)
        self._counters.renumbered_total += len(renumber)
        if accepted:
            self._counters.last_acknowledged_ms = self._clock.wall_ms()
        if rejected:
            reasons = sorted({stream_pb2.RejectionReason.Name(part.reason) for part in message.rejected})
            _log.warning("reports_rejected", extra={"epoch": epoch, "seqs": rejected[:20], "reasons": reasons})
        if accepted or rejected or renumber:
            past = frozenset(renumber) - latest
            self._answers.append(_Answer(epoch, sorted([*accepted, *rejected]), renumber, past))
            self._wake.set()
        self._outbox.grant(message.credit)

    async def run(self) -> None:
        """Carry answers into the spool until `close`."""
        while not self._closed:
            await self._wake.wait()
            self._wake.clear()
            await self._carry()

    def close(self) -> None:
        """Let `run` return after what has come so far."""
        self._closed = True
        self._wake.set()

    async def _carry(self) -> None:
        while self._answers:
            answers, self._answers = list(self._answers), deque()
            settled: dict[int, list[int]] = {}
            for answer in answers:
                settled.setdefault(answer.epoch, []).extend(answer.settled)
            for epoch, seqs in settled.items():
                await asyncio.to_thread(self._spool.acknowledge, epoch, ranges_of(sorted(seqs)))
            for answer in answers:
                if answer.renumber:
                    self._take_in(await asyncio.to_thread(self._renumber, answer))

    def _renumber(self, answer: _Answer) -> list[tuple[Entry, int]]:
        """Give records new numbers; return what the spool holds from the first of these on, with its age."""
        before = self._spool.position()
        try:
            count = self._spool.renumber(answer.epoch, answer.renumber, answer.past)
        except SpoolFull as error:
            # They keep their numbers, are sent again on the next stream, and asked for again.
            _log.warning("not_renumbered", extra={"reason": str(error)})
            return []
        found = self._spool.read((before.epoch, before.next_seq - 1), count)
        return [(entry, self._spool.age_ms(entry)) for entry in found]

    def _take_in(self, entries: list[tuple[Entry, int]]) -> None:
        now_ms = self._clock.boot_ms()
        for entry, age_ms in entries:
            if not self._present.is_superseded(entry.checks, entry.age_base_ms):
                self._present.add(key_of(entry), entry.checks, now_ms - age_ms, entry.age_base_ms)
            self._outbox.look_again(key_of(entry))


def forget_stored(spool: Spool, sent: set[Key], present: Present, epoch: int, stored: Iterable[Range]) -> None:
    """Let go of what a Welcome says is stored, as far as this process has sent it. Waits for the disk.

    Of other numbers it is not known that the collector has the same records under them: this may be an old copy of the
    spool. They are sent, and the collector tells equal ones from others.
    """
    ranges = list(stored)
    keys = {key for key in sent if key[0] == epoch and any(first <= key[1] <= last for first, last in ranges)}
    spool.acknowledge(epoch, ranges_of(sorted(seq for _, seq in keys)))
    sent.difference_update(keys)
    present.remove(keys)
