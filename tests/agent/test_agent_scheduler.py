"""When checks are due: against a reference that walks through time and keeps every slot it ever passed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gengfu_agent.scheduler import LATE_S, Scheduler, first_delay_s, next_slot_s, phase_of

SEED = "agent-1"
names = st.sampled_from([f"check{i}" for i in range(6)])
periods = st.sampled_from([1.0, 5.0, 30.0, 60.0, 300.0, 3600.0])
plans = st.dictionaries(names, st.tuples(periods, st.integers(0, 1)), max_size=6)
steps = st.lists(
    st.one_of(st.floats(0.01, 4.0), st.floats(60.0, 100_000.0), plans), min_size=1, max_size=60
)  # a short wait, a long sleep, a new plan


class SlowScheduler:
    """The rules, word by word: slots are found by walking from 0 in whole periods."""

    def __init__(self) -> None:
        self.plan: dict[str, tuple[float, object]] = {}
        self.due_s: dict[str, float] = {}

    def set_plan(self, plan: dict[str, tuple[float, object]], now_s: float) -> None:
        self.due_s = {
            name: self.due_s[name] if self.plan.get(name) == timing else now_s + self.soon_s(name, timing[0])
            for name, timing in plan.items()
        }
        self.plan = plan

    def soon_s(self, name: str, every_s: float) -> float:
        return phase_of(SEED, name) * min(every_s / 60, 60)

    def due(self, now_s: float) -> set[str]:
        found = set()
        for name, (every_s, _) in self.plan.items():
            if now_s - self.due_s[name] > LATE_S:
                self.due_s[name] = now_s + self.soon_s(name, every_s)
            if now_s >= self.due_s[name]:
                found.add(name)
                period = max(int(now_s / every_s) - 1, 0)
                while (slot_s := (period + phase_of(SEED, name)) * every_s) <= now_s + every_s / 2:
                    period += 1
                self.due_s[name] = slot_s
        return found


@given(steps)
def test_agrees_with_the_slow_reference(moves: list[float | dict[str, tuple[float, object]]]) -> None:
    scheduler, slow, now_s = Scheduler(SEED), SlowScheduler(), 1000.0
    for move in moves:
        if isinstance(move, dict):
            scheduler.set_plan(move, now_s)
            slow.set_plan(move, now_s)
        else:
            now_s += move
        assert set(scheduler.due(now_s)) == slow.due(now_s)
        assert scheduler.next_due_s() == (pytest.approx(min(slow.due_s.values())) if slow.due_s else None)


@given(st.floats(0, 1e8), periods, st.floats(0, 1, exclude_max=True))
def test_the_next_slot_is_more_than_half_and_at_most_one_and_a_half_periods_away(
    now_s: float, every_s: float, phase: float
) -> None:
    slot_s = next_slot_s(now_s, every_s, phase)
    assert now_s + every_s * 0.4999 < slot_s <= now_s + every_s * 1.5001
    assert (slot_s / every_s - phase) % 1 == pytest.approx(0, abs=1e-3) or (slot_s / every_s - phase) % 1 > 0.999


def walk(scheduler: Scheduler, from_s: float, to_s: float) -> list[tuple[float, str]]:
    """Start everything exactly when it is due."""
    runs = []
    now_s = from_s
    while now_s <= to_s:
        runs += [(now_s, name) for name in scheduler.due(now_s)]
        now_s = max(scheduler.next_due_s() or to_s + 1, now_s + 0.001)
    return runs


def test_no_drift_in_a_million_seconds() -> None:
    scheduler = Scheduler(SEED)
    scheduler.set_plan({"disk": (60.0, None)}, 500.0)
    times = [at_s for at_s, _ in walk(scheduler, 500.0, 1_000_000.0)]
    phase = phase_of(SEED, "disk")
    assert all(abs(at_s - (round(at_s / 60 - phase) + phase) * 60) < 0.002 for at_s in times[1:])
    assert len(times) == pytest.approx(999_500 / 60, abs=2)


def test_checks_are_spread_over_their_period_and_agents_over_it_too() -> None:
    for phases in (
        [phase_of("one agent", f"check {i}") for i in range(1000)],
        [phase_of(f"agent {i}", "disk") for i in range(1000)],
    ):
        tenths = [sum(int(phase * 10) == tenth for phase in phases) for tenth in range(10)]
        assert min(tenths) > 60


def test_everything_has_its_first_run_soon_and_what_runs_seldom_a_little_later() -> None:
    plan = {f"check {i}": (60.0, None) for i in range(20)} | {"inventory": (86_400.0, None)}
    scheduler = Scheduler(SEED)
    scheduler.set_plan(plan, 100.0)
    first: dict[str, float] = {}
    for at_s, name in walk(scheduler, 100.0, 200.0):
        first.setdefault(name, at_s)
    assert first.keys() == plan.keys()
    assert max(at_s for name, at_s in first.items() if name != "inventory") < 101.1
    assert first_delay_s(86_400.0, 0.999) < 60
    assert len(set(first.values())) > 15, "not all at once"


def test_a_laptop_that_slept_does_not_wake_to_a_burst() -> None:
    scheduler = Scheduler(SEED)
    plan = {f"check {i}": (60.0, None) for i in range(50)}
    scheduler.set_plan(plan, 0.0)
    walk(scheduler, 0.0, 600.0)
    woken_s = 600.0 + 8 * 3600
    assert scheduler.due(woken_s) == []
    runs = walk(scheduler, woken_s, woken_s + 1.1)
    assert sorted(name for _, name in runs) == sorted(plan), "each once, what was missed is not made up for"
    assert len({at_s for at_s, _ in runs}) > 40


def test_a_new_plan_counts_at_once_and_leaves_unchanged_checks_their_turn() -> None:
    scheduler = Scheduler(SEED)
    scheduler.set_plan({"same": (60.0, "a"), "changed": (60.0, "a"), "gone": (60.0, "a")}, 0.0)
    walk(scheduler, 0.0, 300.0)
    alone = Scheduler(SEED)
    alone.set_plan({"same": (60.0, "a")}, 0.0)
    walk(alone, 0.0, 300.0)
    scheduler.set_plan({"same": (60.0, "a"), "changed": (60.0, "b"), "new": (60.0, "a")}, 300.5)
    soon = walk(scheduler, 300.5, 301.6)
    assert {name for _, name in soon} >= {"changed", "new"}
    later = [at_s for at_s, name in soon + walk(scheduler, 301.6, 900.0) if name == "same"]
    assert later == [pytest.approx(at_s, abs=0.01) for at_s, _ in walk(alone, 300.5, 900.0)]
    assert not any(name == "gone" for _, name in walk(scheduler, 900.0, 1000.0))


def test_nothing_to_do_is_never_due() -> None:
    scheduler = Scheduler(SEED)
    assert scheduler.next_due_s() is None
    assert scheduler.due(1e9) == []
