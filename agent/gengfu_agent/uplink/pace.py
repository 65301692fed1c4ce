"""How fast a stream of messages may be taken. Pure."""

from __future__ import annotations


class Pace:
    """At most `burst` in a second. `delay_s` is told of every message and says how long to wait before the next."""

    def __init__(self, burst: int, now_s: float) -> None:
        self._burst = burst
        self._began_s = now_s
        self._count = 0

    def delay_s(self, now_s: float) -> float:
        """Return the wait, 0 as long as the burst is not used up."""
        if now_s - self._began_s >= 1.0:
            self._began_s, self._count = now_s, 0
        self._count += 1
        return 0.0 if self._count < self._burst else max(self._began_s + 1.0 - now_s, 0.0)
