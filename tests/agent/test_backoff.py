"""Waits between attempts: spread over the whole span, never a busy loop, the collector's wish first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gengfu_agent.backoff import CONNECTING, MAX_HINT_S, REFUSED, Backoff

failures = st.integers(min_value=0, max_value=10_000)
randoms = st.floats(min_value=0, max_value=1)


def reference_ceiling_s(count: int, base_s: float, cap_s: float) -> float:
    """Doubling by hand, one failure after the other."""
    ceiling_s = base_s
    for _ in range(1, count):
        ceiling_s = min(ceiling_s * 2, cap_s)
    return ceiling_s


@given(failures, randoms)
def test_full_jitter_over_the_doubling_span(count: int, random: float) -> None:
    expected = random * reference_ceiling_s(count, 1.0, 60.0)
    assert CONNECTING.delay_s(count, random) == max(expected, CONNECTING.floor_s)


@given(failures)
def test_the_cap_is_jittered_too(count: int) -> None:
    waits = {CONNECTING.delay_s(max(count, 10), random) for random in (0.0, 0.25, 0.5, 1.0)}
    assert waits == {CONNECTING.floor_s, 15.0, 30.0, 60.0}


@given(failures, randoms, st.floats(min_value=0, max_value=1e9))
def test_a_crowd_comes_back_over_the_span_that_it_was_told(count: int, random: float, crowd_s: float) -> None:
    ceiling_s = max(reference_ceiling_s(count, 1.0, 60.0), min(crowd_s, 60.0))
    assert CONNECTING.delay_s(count, random, crowd_s=crowd_s) == max(random * ceiling_s, CONNECTING.floor_s)


@given(failures, randoms, st.floats(min_value=0.2, max_value=1e9))
def test_a_hint_wins_and_has_jitter_of_its_own_size_on_top(count: int, random: float, hint_s: float) -> None:
    wait_s = CONNECTING.delay_s(count, random, hint_s)
    bounded_s = min(hint_s, MAX_HINT_S)
    assert bounded_s <= wait_s <= 2 * bounded_s
    assert wait_s == bounded_s + random * bounded_s


@given(failures, randoms, st.floats(min_value=-1e9, max_value=1e9))
def test_no_input_makes_a_busy_loop(count: int, random: float, hint_s: float) -> None:
    for waits in (CONNECTING, REFUSED):
        assert waits.delay_s(count, random, hint_s) >= waits.floor_s > 0


@given(failures, st.floats(min_value=0, max_value=1e6))
def test_only_a_stream_that_lasted_clears_the_record(count: int, lasted_s: float) -> None:
    after = Backoff(healthy_after_s=30.0).failures_after(count, lasted_s)
    assert after == (0 if lasted_s >= 30.0 else count + 1)


def test_an_agent_that_is_kept_out_asks_seldom() -> None:
    assert REFUSED.delay_s(1, 1.0) >= 60.0
    assert REFUSED.delay_s(100, 1.0) == 900.0
