"""Judging, compared over whole histories with a slow reference that spells the rules out."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gengfu_checks.model import (
    Breach,
    Direction,
    Finding,
    ItemLimits,
    Measurement,
    Problem,
    Status,
    Threshold,
)
from gengfu_checks.threshold import judge, level_of, limits_for

ITEMS = ("", "/", "/mnt/a", "/mnt/b", "/srv/x")
# Quarters are exact in binary, so that values meet limits exactly and often.
QUARTERS = st.integers(-12, 12).map(lambda n: n / 4)


def bad_side(value: float, limit: float, direction: Direction) -> bool:
    """On the limit or beyond it."""
    return value >= limit if direction is Direction.ABOVE else value <= limit


def come_back(value: float, limit: float, threshold: Threshold) -> bool:
    """Away from the limit by the whole hysteresis, on the good side."""
    if threshold.hysteresis == 0:
        return not bad_side(value, limit, threshold.direction)
    if threshold.direction is Direction.ABOVE:
        return value <= limit - threshold.hysteresis
    return value >= limit + threshold.hysteresis


def reference_level(value: float, limits: ItemLimits, threshold: Threshold, held: Status) -> Status:
    """The worst level that is entered now, or that was held and is not left yet."""
    levels = {Status.WARNING: limits.warning, Status.CRITICAL: limits.critical}
    result = Status.OK
    for level in (Status.WARNING, Status.CRITICAL):
        limit = levels[level]
        if limit is None:
            continue
        entered = bad_side(value, limit, threshold.direction)
        held_on = held in (level, Status.CRITICAL) and not come_back(value, limit, threshold)
        if entered or held_on:
            result = level
    return result


def reference_limits(threshold: Threshold, item: str) -> ItemLimits:
    """Exact name, first glob, own limits."""
    candidates = [limits for name, limits in threshold.items.items() if name == item]
    candidates += [limits for name, limits in threshold.items.items() if fnmatchcase(item, name)]
    return [*candidates, ItemLimits(threshold.warning, threshold.critical)][0]


@st.composite
def ordered_limits(draw: st.DrawFn, direction: Direction) -> ItemLimits:
    """Warning not beyond critical; either may be off."""
    low, high = sorted((draw(QUARTERS), draw(QUARTERS)))
    warning, critical = (low, high) if direction is Direction.ABOVE else (high, low)
    return ItemLimits(
        draw(st.sampled_from((warning, None))),
        draw(st.sampled_from((critical, None))),
    )


@st.composite
def thresholds(draw: st.DrawFn, metric: str = "m") -> Threshold:
    """Any threshold that `resolve_thresholds` would let pass."""
    direction = draw(st.sampled_from(Direction))
    own = draw(ordered_limits(direction))
    names = draw(st.lists(st.sampled_from(("/", "/mnt/*", "/mnt/b", "*x", "")), unique=True, max_size=3))
    return Threshold(
        metric=metric,
        code=f"{metric}.bad",
        direction=direction,
        warning=own.warning,
        critical=own.critical,
        hysteresis=draw(st.integers(0, 6).map(lambda n: n / 4)),
        items={name: draw(ordered_limits(direction)) for name in names},
    )


@given(thresholds(), st.sampled_from(ITEMS))
def test_limits_of_an_item_follow_exact_name_then_first_glob(threshold: Threshold, item: str) -> None:
    assert limits_for(threshold, item) == reference_limits(threshold, item)


@given(thresholds(), st.sampled_from(ITEMS), st.lists(QUARTERS, min_size=1, max_size=12))
def test_a_history_is_judged_as_the_reference_does(threshold: Threshold, item: str, values: list[float]) -> None:
    limits = reference_limits(threshold, item)
    held, previous = Status.OK, None
    for at, value in enumerate(values):
        finding = judge("c", Measurement(item, {"m": value}), [threshold], previous, float(at))
        held = reference_level(value, limits, threshold, held)
        assert finding.status is held
        assert finding.code == ("ok" if held is Status.OK else "m.bad")
        limit = {Status.OK: None, Status.WARNING: limits.warning, Status.CRITICAL: limits.critical}[held]
        assert finding.breach == (None if limit is None else Breach("m", limit, threshold.direction))
        previous = finding


@given(thresholds(), st.sampled_from(ITEMS), QUARTERS, QUARTERS)
def test_worse_values_are_never_judged_better(threshold: Threshold, item: str, one: float, other: float) -> None:
    better, worse = sorted((one, other), reverse=threshold.direction is Direction.BELOW)
    assert level_of(better, threshold, item)[0].badness <= level_of(worse, threshold, item)[0].badness


def finding_of(status: Status, breach: Breach | None) -> Finding:
    """A previous finding."""
    return Finding("c", "", status, "x.y", {}, {}, 0.0, breach)


PROBLEMS = st.one_of(st.none(), st.sampled_from(Status).map(lambda s: Problem(s, "c.own", {"own": True, "f": 2})))


@given(
    PROBLEMS,
    st.lists(st.sampled_from("abc"), unique=True).flatmap(lambda ms: st.tuples(*map(thresholds, ms))),
    st.data(),
)
def test_the_worst_wins_and_the_first_of_equals(
    problem: Problem | None, several: Sequence[Threshold], data: st.DataObject
) -> None:
    values = {t.metric: data.draw(QUARTERS) for t in several if data.draw(st.booleans())}
    unjudged = frozenset(t.metric for t in several if data.draw(st.booleans()))
    measurement = Measurement("", values, {"f": 1}, problem, unjudged)
    found = judge("c", measurement, several, None, 7.0)

    verdicts = [(problem.status, problem.code)] if problem else []
    for threshold in several:
        if threshold.metric in values and threshold.metric not in unjudged:
            level, _ = level_of(values[threshold.metric], threshold, "")
            verdicts.append((level, threshold.code))
    urgency = [Status.CRITICAL, Status.WARNING, Status.UNKNOWN]
    expected = next(((s, code) for wanted in urgency for s, code in verdicts if s is wanted), None)
    if expected is not None:
        assert (found.status, found.code) == expected
    else:
        assert (found.status, found.breach) == (Status.OK, None)
    assert found.facts == ({"f": 2, "own": True} if problem else {"f": 1})
    assert (found.check, found.item, found.metrics, found.measured_at) == ("c", "", values, 7.0)


def test_hysteresis_holds_only_against_the_metric_that_set_the_level() -> None:
    threshold = Threshold("used_ratio", "disk.nearly_full", warning=0.8, hysteresis=0.1)
    measurement = Measurement("", {"used_ratio": 0.75})
    own = finding_of(Status.WARNING, Breach("used_ratio", 0.8, Direction.ABOVE))
    others = finding_of(Status.WARNING, Breach("inodes_used_ratio", 0.8, Direction.ABOVE))
    assert judge("disk", measurement, [threshold], own, 0.0).status is Status.WARNING
    assert judge("disk", measurement, [threshold], others, 0.0).status is Status.OK
    assert judge("disk", measurement, [threshold], finding_of(Status.WARNING, None), 0.0).status is Status.OK


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.79, 0.80, 0.79, 0.76, 0.75, 0.79], "ok warning warning warning ok ok"),
        ([0.95, 0.88, 0.86, 0.85, 0.79, 0.75], "critical critical critical warning warning ok"),
        ([0.85, 0.89, 0.90, 0.74], "warning warning critical ok"),
    ],
)
def test_hysteresis_by_example(values: list[float], expected: str) -> None:
    threshold = Threshold("m", "m.bad", warning=0.8, critical=0.9, hysteresis=0.05)
    previous, seen = None, []
    for value in values:
        previous = judge("c", Measurement("", {"m": value}), [threshold], previous, 0.0)
        seen.append(previous.status.word)
    assert " ".join(seen) == expected


def test_what_is_missing_is_not_judged() -> None:
    threshold = Threshold("m", "m.bad", Direction.BELOW, warning=1.0)
    assert judge("c", Measurement("", {}), [threshold], None, 0.0).status is Status.OK
