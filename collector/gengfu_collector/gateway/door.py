"""What one agent may ask of the stream listener, however many connections it opens. Lives on the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field

from gengfu_collector.errors import Overloaded
from gengfu_collector.gateway.admission import Bucket, Rate

MAX_GREETINGS = 4
"""Streams of one agent at a time that have not come as far as Welcome."""
HELLOS = Rate(per_s=0.2, burst=60)
"""An agent with a bad network comes back every few seconds; one that has lost its mind, a thousand times a second."""
BYTES = Rate(per_s=32 * 1024, burst=512 * 1024 * 1024)
"""A full spool comes at once; what an agent could fill the collector's disk with comes slowly."""

DEAF_FOR_S = 120.0
"""Nothing is sent to an agent that took nothing lately: each message that it leaves lying is kept for it."""


@dataclass(slots=True)
class _Visitor:
    hellos: Bucket
    bytes_: Bucket
    greeting: int = 0
    refused: int = 0
    deaf_until_s: float = -math.inf
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class Door:
    """Admits streams of agents whose certificate has been looked at."""

    def __init__(self, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._monotonic_s = monotonic_s
        self._visitors: dict[str, _Visitor] = {}

    @contextlib.contextmanager
    def enter(self, uid: str) -> Iterator[None]:
        """Around the greeting of one stream; raises Overloaded."""
        now_s = self._monotonic_s()
        visitor = self._visitors.get(uid)
        if visitor is None:
            visitor = self._visitors[uid] = _Visitor(Bucket(HELLOS, now_s), Bucket(BYTES, now_s))
        if now_s < visitor.deaf_until_s:
            raise Overloaded("this agent took nothing that was sent: come back later")
        if visitor.greeting >= MAX_GREETINGS or not visitor.hellos.take(now_s):
            raise Overloaded("this agent opens streams faster than it may: come back later")
        visitor.greeting += 1
        try:
            yield
        finally:
            visitor.greeting -= 1

    @contextlib.contextmanager
    def refuse(self, uid: str) -> Iterator[bool]:
        """After `enter`, around telling why a stream is refused: whether it may be told in a message."""
        visitor = self._visitors[uid]
        may_tell = visitor.refused < MAX_GREETINGS and self._monotonic_s() >= visitor.deaf_until_s
        visitor.refused += 1
        try:
            yield may_tell
        finally:
            visitor.refused -= 1

    def note_deaf(self, uid: str) -> None:
        """After `enter`: this agent does not take what is sent."""
        self._visitors[uid].deaf_until_s = self._monotonic_s() + DEAF_FOR_S

    @contextlib.asynccontextmanager
    async def one_at_a_time(self, uid: str) -> AsyncIterator[None]:
        """Within `enter`: the part of a greeting that looks at what stands and changes it."""
        async with self._visitors[uid].turn:
            yield

    def spend(self, uid: str, count: int) -> float:
        """Count bytes that an agent has sent; return how many seconds to wait before more of its are read."""
        return self._visitors[uid].bytes_.spend(self._monotonic_s(), count)
