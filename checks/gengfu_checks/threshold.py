"""Judging measurements by thresholds. Pure: the same arguments give the same finding."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from gengfu_checks.model import (
    OK_CODE,
    Breach,
    Direction,
    Finding,
    ItemLimits,
    Measurement,
    Status,
    Threshold,
)


def judge(
    check: str,
    measurement: Measurement,
    thresholds: Sequence[Threshold],
    previous: Finding | None,
    measured_at: float,
) -> Finding:
    """Return the finding of one measurement: its own problem or the worst breached threshold, whichever is worse.

    `previous` is the last finding of the same check and item; hysteresis holds a level only against the metric that
    set it. Equally bad problems keep the order: the check's own first, then thresholds as listed.
    """
    status, code, breach = Status.OK, OK_CODE, None
    facts = dict(measurement.facts)
    if measurement.problem is not None:
        status, code = measurement.problem.status, measurement.problem.code
        facts.update(measurement.problem.facts)
    for threshold in thresholds:
        value = measurement.metrics.get(threshold.metric)
        if value is None or threshold.metric in measurement.unjudged:
            continue
        level, limit = level_of(value, threshold, measurement.item, _held_level(threshold, previous))
        if limit is not None and level.badness > status.badness:
            status, code = level, threshold.code
            breach = Breach(threshold.metric, limit, threshold.direction)
    return Finding(check, measurement.item, status, code, facts, dict(measurement.metrics), measured_at, breach)


def level_of(value: float, threshold: Threshold, item: str, held: Status = Status.OK) -> tuple[Status, float | None]:
    """Return the level of a value and the limit it broke (None when ok).

    `held` is the level that this threshold gave last time: it is kept until the value has come back by `hysteresis`.
    """
    limits = limits_for(threshold, item)
    for level, limit in ((Status.CRITICAL, limits.critical), (Status.WARNING, limits.warning)):
        if limit is None:
            continue
        slack = threshold.hysteresis if held.badness >= level.badness else 0.0
        if _breaks(value, limit, threshold.direction, slack):
            return level, limit
    return Status.OK, None


def limits_for(threshold: Threshold, item: str) -> ItemLimits:
    """Limits that hold for an item: its exact override, else the first glob that fits, else the threshold's own."""
    exact = threshold.items.get(item)
    if exact is not None:
        return exact
    for pattern, limits in threshold.items.items():
        if fnmatchcase(item, pattern):
            return limits
    return ItemLimits(threshold.warning, threshold.critical)


def _held_level(threshold: Threshold, previous: Finding | None) -> Status:
    if previous is None or previous.breach is None or previous.breach.metric != threshold.metric:
        return Status.OK
    return previous.status


def _breaks(value: float, limit: float, direction: Direction, slack: float) -> bool:
    if direction is Direction.ABOVE:
        return value >= limit if slack == 0.0 else value > limit - slack
    return value <= limit if slack == 0.0 else value < limit + slack
