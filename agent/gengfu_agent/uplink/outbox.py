"""What goes up on one stream: live records first, the backlog behind them, each as far as the collector grants."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable

from gengfu_agent.clock import Clock
from gengfu_agent.spool import Spool
from gengfu_agent.spool.ranges import Range
from gengfu_agent.uplink import loader
from gengfu_agent.uplink.answered import Answered
from gengfu_agent.uplink.loader import Loaded
from gengfu_agent.uplink.present import Key, Present
from gengfu_proto import limits
from gengfu_proto.v1 import report_pb2, stream_pb2

MAX_CREDIT = 1_000_000
LOAD_AT_ONCE = 8
SHAPES_SHARE = 0.75
MESSAGE_SLACK_BYTES = 4_096

_log = logging.getLogger(__name__)

Send = Callable[[report_pb2.Report], Awaitable[None]]


class Outbox:
    """The sending side of one stream. Lives on the event loop; the spool is asked in threads.

    `sent` are the keys that this process has sent, on any stream, and that are not accounted for yet.
    """

    def __init__(self, spool: Spool, present: Present, sent: set[Key], clock: Clock, send: Send) -> None:
        self._spool = spool
        self._present = present
        self._sent = sent
        self._clock = clock
        self._send = send
        self._live_credit = 0
        self._backlog_credit = 0
        self._in_flight: set[Key] = set()
        self._answered = Answered()
        self._newest: Key = (0, 0)
        self._seen: set[bytes] = set()
        self._seen_bytes = 0
        self._cursor: Key | None = None
        self._loaded: deque[Loaded] = deque()
        self._at_end = False
        self._wake = asyncio.Event()
        self.settled = asyncio.Event()
        """Set while nothing is on its way."""
        self.settled.set()
        self.idle = asyncio.Event()
        """Set while nothing that is in the spool may be sent."""

    def grant(self, credit: stream_pb2.Credit) -> None:
        """The collector allows so many more."""
        self._live_credit = min(self._live_credit + credit.live, MAX_CREDIT)
        self._backlog_credit = min(self._backlog_credit + credit.backlog, MAX_CREDIT)
        self._rouse()

    def look_again(self, newest: Key) -> None:
        """The spool holds records up to this one. Newer ones, of which nothing was said yet, are not touched: whether
        they are live is not known."""
        self._newest = max(self._newest, newest)
        self._at_end = False
        self._rouse()

    def take_back(self, epoch: int, ranges: Iterable[Range]) -> list[int]:
        """Return the numbers within `ranges` that were on their way, ascending: they are answered.

        Numbers that were never sent are left alone, whatever the collector says of them.
        """
        wanted = list(ranges)
        keys = [key for key in self._in_flight if key[0] == epoch and _within(key[1], wanted)]
        self._in_flight.difference_update(keys)
        for key in keys:
            # It stays in the spool for a moment, on a full disk for longer; it is not to be sent again.
            self._answered.add(key)
        self._sent.difference_update(keys)
        self._present.remove(keys)
        if not self._in_flight:
            self.settled.set()
        return sorted(seq for _, seq in keys)

    async def pump(self) -> None:
        """Send what may be sent, for ever; return when this stream may bring no more shapes."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while (following := await self._next()) is not None:
                loaded, live = following
                if self._is_full(loaded):
                    return
                await self._transmit(loaded, live)
            if not self._wake.is_set():
                self.idle.set()

    def _rouse(self) -> None:
        self.idle.clear()
        self._wake.set()

    async def _next(self) -> tuple[Loaded, bool] | None:
        """The next record to send, and whether as live."""
        for key in self._present.expire(self._clock.boot_ms()):
            if key not in self._in_flight:
                self._read_again_from(key)
        if self._live_credit > 0:
            for key in self._present.live():
                if key not in self._in_flight:
                    loaded = await asyncio.to_thread(loader.load, self._spool, key, self._seen)
                    if loaded is not None:
                        return loaded, True
                    self._present.remove([key])
        if self._backlog_credit > 0:
            loaded = await self._next_of_backlog()
            if loaded is not None:
                return loaded, False
        return None

    async def _next_of_backlog(self) -> Loaded | None:
        while self._loaded or not self._at_end:
            if not self._loaded:
                await self._load()
            while self._loaded:
                loaded = self._loaded.popleft()
                if not self._skips(loaded.key):
                    return loaded
        return None

    async def _load(self) -> None:
        self._at_end = True
        loaded, after = await asyncio.to_thread(
            loader.load_after, self._spool, self._cursor, self._newest, self._skips, self._seen, LOAD_AT_ONCE
        )
        if after != self._cursor:
            self._cursor = after
            self._at_end = False
            self._loaded.extend(loaded)

    def _skips(self, key: Key) -> bool:
        return key in self._in_flight or key in self._present or key in self._answered

    def _read_again_from(self, key: Key) -> None:
        """A record that was passed over as live is backlog now."""
        if self._loaded:
            key = min(key, self._loaded[0].key)
            self._loaded.clear()
        if self._cursor is not None and key <= self._cursor:
            self._cursor = (key[0], key[1] - 1)
        self._at_end = False

    def _is_full(self, loaded: Loaded) -> bool:
        return bool(self._seen) and (
            len(self._seen) + len(loaded.shapes) > limits.MAX_STREAM_SHAPES * SHAPES_SHARE
            or self._seen_bytes + loaded.shapes_bytes > limits.MAX_STREAM_SHAPES_BYTES * SHAPES_SHARE
        )

    async def _transmit(self, loaded: Loaded, live: bool) -> None:
        self._in_flight.add(loaded.key)
        if len(loaded.entry.body) + loaded.shapes_bytes > limits.MAX_UP_BYTES - MESSAGE_SLACK_BYTES:
            _log.error("report_too_large", extra={"epoch": loaded.key[0], "seq": loaded.key[1]})
            return
        self.settled.clear()
        self._sent.add(loaded.key)
        self._live_credit -= live
        self._backlog_credit -= not live
        report = loader.report_of(loaded, live, self._seen)
        self._seen.update(loaded.shapes)
        self._seen_bytes += sum(map(len, report.shapes))
        await self._send(report)


def _within(seq: int, ranges: list[Range]) -> bool:
    return any(first <= seq <= last for first, last in ranges)
