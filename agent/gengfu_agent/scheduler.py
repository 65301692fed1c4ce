"""When each check is due. Pure: the clock's reading is passed in.

Every check has a phase of its own within its period, from a hash of the agent's id and its name: slots lie at
`(n + phase) * every_s` on a clock that nobody can set, so that checks stay spread over machines and over the period for
ever, without drift. New and changed checks come first soon after; after that only slots count. Slots that passed while
the machine slept are skipped, and what they should have told is measured anew, spread like at a start.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass

LATE_S = 5.0
"""A check that could not be started so long after its time was slept through."""

_FIRST_SPREAD_SHARE = 1 / 60  # of the period: checks of every minute come within the first second
_FIRST_SPREAD_MOST_S = 60.0


@dataclass(slots=True)
class _Turn:
    content: object
    every_s: float
    phase: float
    due_s: float


def phase_of(seed: str, name: str) -> float:
    """Return the phase of a check on one agent, from 0 up to 1."""
    digest = hashlib.sha256(f"{seed}\0{name}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def first_delay_s(every_s: float, phase: float) -> float:
    """Return how long the first run of a check waits."""
    return phase * min(every_s * _FIRST_SPREAD_SHARE, _FIRST_SPREAD_MOST_S)


def next_slot_s(now_s: float, every_s: float, phase: float) -> float:
    """Return the first slot that lies more than half a period after now."""
    number = math.floor((now_s + every_s / 2) / every_s - phase) + 1
    return (number + phase) * every_s


class Scheduler:
    """Turns of all checks of one agent; `seed` is the agent's id."""

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._turns: dict[str, _Turn] = {}

    def set_plan(self, checks: Mapping[str, tuple[float, object]], now_s: float) -> None:
        """Take the checks by name, each with its period and with everything that makes it what it is.

        Checks that are equal to before keep their turn; others come soon.
        """
        before, self._turns = self._turns, {}
        for name, (every_s, content) in checks.items():
            known = before.get(name)
            if known is not None and (known.every_s, known.content) == (every_s, content):
                self._turns[name] = known
            else:
                phase = phase_of(self._seed, name)
                self._turns[name] = _Turn(content, every_s, phase, now_s + first_delay_s(every_s, phase))

    def due(self, now_s: float) -> list[str]:
        """Return the checks to start now, longest overdue first, and move them on to their next slot."""
        names: list[tuple[float, str]] = []
        for name, turn in self._turns.items():
            late_s = now_s - turn.due_s
            if late_s > LATE_S:
                turn.due_s = now_s + first_delay_s(turn.every_s, turn.phase)
                late_s = now_s - turn.due_s
            if late_s >= 0:
                names.append((turn.due_s, name))
                turn.due_s = next_slot_s(now_s, turn.every_s, turn.phase)
        return [name for _, name in sorted(names)]

    def next_due_s(self) -> float | None:
        """Return when the next check is due, None without any."""
        return min((turn.due_s for turn in self._turns.values()), default=None)
