"""The share of a processor that checks may take."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gengfu_agent.budget import BURST_CPU_S, SHARE, CpuBudget


class Usage:
    def __init__(self) -> None:
        self.now_s = 1_000.0
        self.used_s = 50.0
        self.budget = CpuBudget(self.now_s, lambda: self.used_s)

    def wait_s(self) -> float:
        return self.budget.wait_s(self.now_s)


def test_a_burst_may_be_used_at_once_and_is_earned_again_slowly() -> None:
    usage = Usage()
    usage.used_s += BURST_CPU_S
    assert usage.wait_s() == 0
    usage.used_s += 1.0
    assert usage.wait_s() == 1.0 / SHARE
    usage.now_s += 1.0 / SHARE
    assert usage.wait_s() == 0
    usage.used_s += 1.0
    assert usage.wait_s() == 1.0 / SHARE


def test_what_is_not_used_does_not_add_up_for_ever() -> None:
    usage = Usage()
    usage.now_s += 1e6
    assert usage.wait_s() == 0
    usage.used_s += BURST_CPU_S + 0.5
    assert usage.wait_s() == 0.5 / SHARE


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 20)), max_size=50))
def test_whoever_waits_as_told_stays_within_the_share(steps: list[tuple[float, float]]) -> None:
    usage = Usage()
    began_s, used_s = usage.now_s, usage.used_s
    for idle_s, cost_s in steps:
        usage.now_s += idle_s
        usage.now_s += usage.wait_s()
        assert usage.wait_s() < 1e-6
        usage.used_s += cost_s
        usage.now_s += cost_s
    # One run may end beyond the budget; the next one waits.
    allowed_s = BURST_CPU_S + SHARE * (usage.now_s - began_s) + 20
    assert usage.used_s - used_s <= allowed_s + 1e-6


def test_a_clock_that_stands_still_or_goes_back_gives_nothing() -> None:
    usage = Usage()
    usage.used_s += BURST_CPU_S + 1.0
    usage.now_s -= 100.0
    assert usage.wait_s() == 1.0 / SHARE
