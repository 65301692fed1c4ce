"""Checks of the tests' own: honest, slow, stuck, crashing, lying ones, and a catalogue of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from gengfu_agent.plan import RunnableCheck
from gengfu_checks.errors import UnknownCheck
from gengfu_checks.model import CheckKind, Context, Measurement, Metric, MetricType, Setting, SettingType, Threshold

LEVEL = Threshold("level_ratio", "made_up.high", warning=0.8, critical=0.9, hysteresis=0.1)


def kind_of(measure: Callable[[Context], Any], name: str = "made_up", **rest: Any) -> CheckKind:
    metrics = (Metric("level_ratio", "how full"), Metric("done_total", "how often", MetricType.COUNTER))
    return CheckKind(name, measure, metrics, ("made_up.broken", "made_up.gone"), **rest)


def check_of(
    measure: Callable[[Context], Any],
    name: str = "made_up",
    every_s: float = 60.0,
    timeout_s: float = 5.0,
    thresholds: tuple[Threshold, ...] = (LEVEL,),
    settings: dict[str, Any] | None = None,
) -> RunnableCheck:
    return RunnableCheck(name, kind_of(measure), every_s, timeout_s, settings or {}, thresholds)


def returning(*measurements: Any) -> Callable[[Context], Iterable[Any]]:
    return lambda _: measurements


def level(value: float, item: str = "") -> Measurement:
    return Measurement(item, {"level_ratio": value})


class Shelf:
    """A catalogue of given kinds."""

    def __init__(self, *kinds: CheckKind) -> None:
        self.kinds = {kind.name: kind for kind in kinds}

    def load(self, name: str) -> CheckKind:
        if name not in self.kinds:
            raise UnknownCheck(f"there is no check {name!r}")
        return self.kinds[name]


WITH_SETTINGS = (
    Setting("path", SettingType.TEXT, "where", required=True),
    Setting("after", SettingType.DURATION, "when", default="90s"),
)
