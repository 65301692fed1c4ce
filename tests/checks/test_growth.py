"""Growth within a window, against a slow and obvious reference."""

from __future__ import annotations

import json
from itertools import accumulate
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gengfu_checks.local.growth import MAX_SAMPLES, forget_others, grown

STEPS = st.lists(st.tuples(st.integers(1, 50), st.integers(0, 3)), min_size=1, max_size=MAX_SAMPLES - 1)


@given(STEPS, st.integers(1, 300))
def test_growth_is_the_value_now_less_the_value_a_window_ago(steps: list[tuple[int, int]], window_s: int) -> None:
    times = list(accumulate(step[0] for step in steps))
    values = list(accumulate(step[1] for step in steps))
    keep: dict[str, Any] = {}
    for index, (time, value) in enumerate(zip(times, values, strict=True)):
        growth = grown(keep, "x", float(value), float(time), float(window_s))
        seen = [v for t, v in zip(times[:index], values, strict=False) if t <= time - window_s]
        assert growth == (None if index == 0 else value - (seen[-1] if seen else values[0]))


def test_a_counter_that_begins_anew_has_grown_by_what_it_shows() -> None:
    keep: dict[str, Any] = {}
    assert [grown(keep, "x", value, now, 100.0) for now, value in ((0, 50.0), (1, 51.0), (2, 3.0), (3, 4.0))] == [
        None, 1.0, 3.0, 4.0,
    ]  # fmt: skip


def test_a_clock_that_goes_back_loses_nothing() -> None:
    keep: dict[str, Any] = {}
    grown(keep, "x", 1.0, 1_000_000.0, 100.0)
    assert grown(keep, "x", 2.0, 500.0, 100.0) == 1.0
    assert grown(keep, "x", 2.0, 601.0, 100.0) == 0.0


def test_what_is_kept_stays_small_and_survives_a_restart() -> None:
    keep: dict[str, Any] = {}
    for value in range(1000):
        keep = json.loads(json.dumps(keep))
        growth = grown(keep, "x", float(value), float(value), 1e9)
    assert growth == 999
    assert len(keep["growth"]["x"]) <= MAX_SAMPLES
    forget_others(keep, {"y"})
    assert keep == {"growth": {}}
