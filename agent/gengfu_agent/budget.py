"""How much of the machine checks may take, whatever a plan asks for."""

from __future__ import annotations

import os
from collections.abc import Callable

SHARE = 0.25
"""Of one processor, in the long run. The default plans take a hundredth of it."""
BURST_CPU_S = 30.0
"""What a start, an inventory and a few costly checks may take at once."""


def used_cpu_s() -> float:
    """CPU time of this process and of the programs that it has run."""
    return sum(os.times()[:4])


class CpuBudget:
    """Says when the next run may start. `used_s` counts up: CPU time of everything that checks may cause."""

    def __init__(self, now_s: float, used_s: Callable[[], float] = used_cpu_s) -> None:
        self._read_used_s = used_s
        self._looked_at_s = now_s
        self._used_s = used_s()
        self._left_s = BURST_CPU_S

    def wait_s(self, now_s: float) -> float:
        """0 while something is left, else for how long nothing may start."""
        used_s = self._read_used_s()
        earned_s = max(now_s - self._looked_at_s, 0.0) * SHARE
        self._left_s = min(self._left_s + earned_s - (used_s - self._used_s), BURST_CPU_S)
        self._looked_at_s, self._used_s = now_s, used_s
        return max(-self._left_s / SHARE, 0.0)
