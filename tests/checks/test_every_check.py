"""What holds for every built-in check: its declaration, and what it measures on this very machine."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from typing import Any

import pytest

from gengfu_checks import guide, registry
from gengfu_checks.model import CODE_PATTERN, METRIC_PATTERN, CheckKind, Measurement, MetricType, Status
from gengfu_checks.settings import resolve_settings, resolve_thresholds
from gengfu_checks.threshold import judge

# For settings without a default: something that this machine has.
REQUIRED = {"process": {"pattern": "python"}, "file_age": {"path": __file__}}
# Settings that make a run short and change nothing of what it returns.
QUICK = {"gateway_latency": {"packets": 2}}

# What every machine has. Other checks may find nothing to look at (no printer, no share) and then say nothing.
ALWAYS_THERE = {"clock", "cpu", "disk", "file_age", "memory", "network", "os_service", "process", "uptime"}

RUNS = 3
# What is worth telling of a finding that is ok.
OK_WITH_A_CODE = {"baseline.deviation", "baseline.excepted", "baseline.not_applicable"}
RATIO_OF_MORE_THAN_ONE = {"load5_per_cpu_ratio"}


@pytest.fixture(params=sorted(registry.BUILT_IN))
def kind(request: pytest.FixtureRequest) -> CheckKind:
    """Every built-in check in turn."""
    return registry.load(request.param)


@pytest.fixture(params=[name for name in sorted(registry.BUILT_IN) if registry.load(name).usable() is None])
def usable(request: pytest.FixtureRequest) -> CheckKind:
    """Every built-in check that can run here, in turn."""
    return registry.load(request.param)


_measured: dict[str, list[list[Measurement]]] = {}


@pytest.fixture
def runs(usable: CheckKind, bench: Callable[..., Any]) -> list[list[Measurement]]:
    """What some runs of one instance on this machine returned; measured once for all tests that look at it."""
    kind = usable
    if kind.name not in _measured:
        instance = bench(kind, **REQUIRED.get(kind.name, {}), **QUICK.get(kind.name, {}))
        measured = []
        for _ in range(RUNS):
            instance.now_s = time.time()
            measured.append(list(kind.measure(instance.context())))
            instance.later(60)
        _measured[kind.name] = measured
    return _measured[kind.name]


def test_a_declaration_is_sound(kind: CheckKind) -> None:
    names = [metric.name for metric in kind.metrics]
    assert len(set(names)) == len(names)
    assert all(METRIC_PATTERN.fullmatch(name) for name in names)
    assert all(CODE_PATTERN.fullmatch(code) for code in kind.all_codes)
    assert len(set(kind.codes)) == len(kind.codes)
    assert {threshold.metric for threshold in kind.thresholds} <= set(names)
    assert all(re.match(rf"({kind.name}|check)\.", code) for code in kind.all_codes)
    assert 0 < kind.timeout_s <= kind.every_s
    assert resolve_thresholds(kind, {}) == kind.thresholds


def test_metrics_are_named_as_prometheus_wants(kind: CheckKind) -> None:
    for metric in kind.metrics:
        assert metric.name.endswith("_total") == (metric.type is MetricType.COUNTER), metric.name
        assert not re.search(r"(percent|_ms|_kb|_mb|_gb|minutes|hours)(_|$)", metric.name), metric.name
        assert metric.help
        assert metric.help[0].isupper() or metric.help[0].isdigit()
        assert not metric.help.endswith("."), metric.help


def test_why_a_check_cannot_run_here_is_one_line(kind: CheckKind) -> None:
    reason = kind.usable()
    assert reason is None or (reason.strip() == reason != "" and reason.isprintable())


def test_defaults_are_valid_settings(kind: CheckKind) -> None:
    given = REQUIRED.get(kind.name, {})
    assert {setting.name for setting in kind.settings if setting.required} == set(given)
    defaults = {s.name: s.default for s in kind.settings if s.default is not None}
    assert resolve_settings(kind, {**defaults, **given}) == resolve_settings(kind, given)
    assert all(setting.help and not setting.help.endswith(".") for setting in kind.settings)


def test_only_declared_finite_metrics_of_unique_items(usable: CheckKind, runs: list[list[Measurement]]) -> None:
    declared = {metric.name for metric in usable.metrics}
    for measurements in runs:
        assert measurements or usable.name not in ALWAYS_THERE
        items = [measurement.item for measurement in measurements]
        assert len(set(items)) == len(items)
        for measurement in measurements:
            assert set(measurement.metrics) <= declared
            for name, value in measurement.metrics.items():
                assert type(value) in (int, float), name
                assert math.isfinite(value), name
                if name.endswith("_ratio") and name not in RATIO_OF_MORE_THAN_ONE:
                    assert 0.0 <= value <= 1.0, name


def test_counters_do_not_go_back(usable: CheckKind, runs: list[list[Measurement]]) -> None:
    counters = {metric.name for metric in usable.metrics if metric.type is MetricType.COUNTER}
    last: dict[tuple[str, str], float] = {}
    for measurement in (measurement for measurements in runs for measurement in measurements):
        for name in counters & set(measurement.metrics):
            key = (measurement.item, name)
            assert measurement.metrics[name] >= last.get(key, 0.0), key
            last[key] = measurement.metrics[name]


def test_facts_stay_put(runs: list[list[Measurement]]) -> None:
    told = [{m.item: (m.facts, m.problem) for m in measurements} for measurements in runs[1:]]
    steady = set(told[0]).intersection(*told)
    assert steady or not told[0]
    for item in steady:
        assert all(run[item] == told[0][item] for run in told), item


def test_every_problem_has_its_code_declared_and_its_text(usable: CheckKind, runs: list[list[Measurement]]) -> None:
    for measurement in (measurement for measurements in runs for measurement in measurements):
        finding = judge(usable.name, measurement, usable.thresholds, None, 0.0)
        assert finding.code in {"ok", *usable.all_codes}
        assert (finding.status is Status.OK) == (finding.code == "ok") or finding.code in OK_WITH_A_CODE
        missing = set(guide.article(finding.code).facts) - set(finding.facts)
        for language in guide.LANGUAGES:
            limit = finding.breach.limit if finding.breach else None
            line = guide.summary(finding.code, language, finding.item, finding.facts, finding.metrics, limit)
            assert line
            assert "?" not in line or missing
