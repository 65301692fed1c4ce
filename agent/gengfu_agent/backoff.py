"""How long to wait before the next attempt to connect. Pure: randomness is passed in as a number from 0 to 1."""

from __future__ import annotations

from dataclasses import dataclass

MAX_HINT_S = 3600.0


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential with full jitter: waits are spread over the whole span, at the cap too, so that a crowd thins out.

    `floor_s` keeps bad luck from becoming a busy loop. A stream that lasted `healthy_after_s` clears the record; a
    shorter one counts as one more failure, so that a collector which accepts and drops is not hammered.
    """

    base_s: float = 1.0
    cap_s: float = 60.0
    floor_s: float = 0.1
    healthy_after_s: float = 30.0

    def delay_s(self, failures: int, random: float, hint_s: float = 0.0, crowd_s: float = 0.0) -> float:
        """Return the wait after `failures` failures in a row.

        A hint from the collector (above 0, at most an hour counts) wins: that time, and up to as much again on top.
        `crowd_s` is the span over which all its agents come back after a crash, who begin at the same moment; it
        counts up to the cap.
        """
        if hint_s > 0:
            hint_s = min(hint_s, MAX_HINT_S)
            return max(self.floor_s, hint_s + random * hint_s)
        grown_s = self.cap_s if failures > 30 else self.base_s * 2.0 ** max(failures - 1, 0)
        ceiling_s = min(self.cap_s, max(grown_s, crowd_s))
        return max(self.floor_s, random * ceiling_s)

    def failures_after(self, failures: int, lasted_s: float) -> int:
        """Return how many failures in a row there are after a stream that lasted so long (0 when it never began)."""
        return 0 if lasted_s >= self.healthy_after_s else failures + 1


CONNECTING = Backoff()
REFUSED = Backoff(base_s=60.0, cap_s=900.0, floor_s=10.0)
"""For an agent that was told to stay out: it asks again now and then, so that lifting the block needs no hand."""
