"""Whatever a check returns or raises, the findings are ones that every collector takes."""

from __future__ import annotations

import math
from typing import Any

import pytest
from checkkinds import check_of, level, returning
from hypothesis import given
from hypothesis import strategies as st

from gengfu_agent.plan import RunnableCheck
from gengfu_agent.verdict import Unknown, findings_of_run, unknown_of
from gengfu_checks.errors import CannotMeasure, CheckError, ExtraMissing, SettingError
from gengfu_checks.model import CheckKind, Finding, Measurement, Metric, Problem, Status
from gengfu_proto.convert.report import (
    MAX_BODY_BYTES,
    MAX_SHAPE_BYTES,
    decode_body,
    decode_shape,
    encode_findings_body,
    encode_run,
    findings_of,
)

CHECK = check_of(returning())
AT = 1_790_000_000.25


def judged(*returned: Any, previous: dict[str, Finding] | None = None) -> dict[str, Finding]:
    findings = findings_of_run(CHECK, returned, previous or {}, AT)
    by_item = {finding.item: finding for finding in findings}
    assert len(by_item) == len(findings)
    return by_item


def over_the_wire(check: RunnableCheck, findings: tuple[Finding, ...]) -> list[Finding]:
    """The findings as a collector gets them; raises if it would refuse them."""
    types = {metric.name: metric.type for metric in check.kind.metrics}
    run = encode_run(check.name, check.kind.name, check.every_s, findings, types, 0.5, check.target)
    body = encode_findings_body([run])
    assert len(run.shape) <= MAX_SHAPE_BYTES
    assert len(body) <= MAX_BODY_BYTES
    return findings_of(decode_shape(run.shape), decode_body(body).runs[0])


def test_thresholds_judge_and_hysteresis_looks_back() -> None:
    first = judged(level(0.95, "a"), level(0.85, "b"), level(0.1, "c"))
    assert [(f.status, f.code) for f in first.values()] == [
        (Status.CRITICAL, "made_up.high"),
        (Status.WARNING, "made_up.high"),
        (Status.OK, "ok"),
    ]
    assert first["a"].breach is not None
    second = judged(level(0.85, "a"), level(0.75, "b"), level(0.75, "c"), previous=first)
    assert [f.status for f in second.values()] == [Status.CRITICAL, Status.WARNING, Status.OK]


def test_what_no_threshold_may_judge_is_not_judged() -> None:
    found = judged(Measurement("a", {"level_ratio": 0.95}, unjudged=frozenset({"level_ratio"})))
    assert (found["a"].status, found["a"].metrics) == (Status.OK, {"level_ratio": 0.95})


@pytest.mark.parametrize(
    ("error", "code", "facts"),
    [
        (CannotMeasure("made_up.gone", {"where": "x"}, item="a"), "made_up.gone", {"where": "x"}),
        (ExtraMissing("pip install it"), "check.not_usable", {"reason": "pip install it"}),
        (SettingError("wrong"), "check.refused", {"reason": "wrong"}),
        (CheckError("on purpose"), "check.crashed", {"error": "on purpose"}),
        (PermissionError(13, "denied", "/proc/1/io"), "check.needs_rights", {"target": "/proc/1/io"}),
        (FileNotFoundError(2, "gone", "/proc/stat"), "check.not_usable", {"reason": "/proc/stat is missing"}),
        (FileNotFoundError(2, "gone", "/etc/x"), "check.crashed", {}),
        (SystemExit(3), "check.crashed", {"error": "SystemExit: 3"}),
        (MemoryError(), "check.crashed", {"error": "MemoryError"}),
    ],
)
def test_every_escape_becomes_unknown_with_its_reason(error: BaseException, code: str, facts: dict[str, str]) -> None:
    (finding,) = findings_of_run(CHECK, unknown_of(error), {}, AT)
    assert (finding.status, finding.code) == (Status.UNKNOWN, code)
    assert facts.items() <= dict(finding.facts).items()
    assert finding.item == getattr(error, "item", "")


def test_a_crash_says_where() -> None:
    try:
        math.sqrt(-1)
    except ValueError as error:
        facts = unknown_of(error).facts
    assert str(facts["where"]).startswith("test_agent_verdict.py:")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**400, "0.5", None, [1]])
def test_a_number_that_is_none_is_dropped_and_named(value: Any) -> None:
    found = judged(Measurement("a", {"level_ratio": value, "done_total": 1.0}), level(0.1, "b"))
    assert (found["a"].status, found["a"].code) == (Status.UNKNOWN, "check.bad_value")
    assert found["a"].facts == {"metric": "level_ratio"}
    assert found["a"].metrics == {"done_total": 1.0}
    assert found["b"].status is Status.OK


def test_a_metric_never_declared_is_dropped_and_named() -> None:
    found = judged(Measurement("a", {"secret_total": 1.0}))
    assert (found["a"].code, found["a"].facts, found["a"].metrics) == (
        "check.bad_value",
        {"metric": "secret_total"},
        {},
    )


def test_an_item_named_twice_counts_once_and_is_named() -> None:
    found = judged(level(0.1, "a"), level(0.2, "a"))
    assert (found["a"].code, found["a"].metrics) == ("check.bad_value", {"level_ratio": 0.1})


def test_a_lie_does_not_hide_what_is_worse() -> None:
    bad = Problem(Status.CRITICAL, "made_up.broken", {"part": "fan"})
    found = judged(Measurement("a", {"level_ratio": math.nan}, problem=bad))
    assert (found["a"].status, found["a"].code) == (Status.CRITICAL, "made_up.broken")


def test_nothing_to_look_at_is_ok() -> None:
    assert judged()[""].status is Status.OK


def test_something_else_than_measurements_is_named() -> None:
    assert judged(level(0.1), 42)[""].facts == {"metric": "int instead of a measurement"}


def test_too_many_items_are_cut_and_it_is_said() -> None:
    findings = findings_of_run(CHECK, tuple(level(0.1, str(i)) for i in range(2_001)), {}, AT)
    assert len(over_the_wire(CHECK, findings[:2_000])) == 2_000
    assert {f.item: f for f in findings}[""].code == "check.bad_value"


@pytest.mark.parametrize("count", [2, 3, 100, 1_500])
def test_what_is_too_large_for_a_message_is_cut_to_the_worst(count: int) -> None:
    facts = {f"fact{i}": "😀" * 1_024 for i in range(32)}
    worst = Problem(Status.CRITICAL, "made_up.broken")
    measurements = [Measurement(str(i), {}, facts) for i in range(count)]
    measurements.append(Measurement("the worst", {}, facts, worst))
    findings = findings_of_run(CHECK, tuple(measurements), {}, AT)
    wired = {finding.item: finding for finding in over_the_wire(CHECK, findings)}
    assert wired["the worst"].code == "made_up.broken"
    assert wired[""].code == "check.bad_value"
    assert 1 < len(wired) < len(measurements)


def test_too_many_values_are_cut_as_well() -> None:
    many = tuple(Metric(f"m{i}", "x") for i in range(250))
    check = RunnableCheck("x", CheckKind("x", returning(), many, ()), 60.0, 5.0)
    full = {metric.name: 1.0 for metric in many}
    findings = findings_of_run(check, tuple(Measurement(str(i), full) for i in range(2_000)), {}, AT)
    assert 200 < len(over_the_wire(check, findings)) < 300


texts = st.text(st.characters(), max_size=40) | st.just("é\ud800" * 3_000)
numbers = st.floats() | st.integers() | st.booleans() | st.just(10**400)
problems = st.builds(Problem, st.sampled_from(Status), texts | st.just("made_up.gone"), st.dictionaries(texts, numbers))
measurements = st.builds(
    Measurement,
    item=texts,
    metrics=st.dictionaries(texts | st.sampled_from(["level_ratio", "done_total"]), numbers, max_size=4),
    facts=st.dictionaries(texts | st.from_regex(r"[a-z]{1,140}", fullmatch=True), numbers | texts, max_size=40),
    problem=st.none() | problems,
)


@given(st.lists(measurements, max_size=6), st.none() | st.builds(Unknown, texts, st.dictionaries(texts, texts), texts))
def test_a_lying_check_cannot_make_a_report_that_is_refused(
    returned: list[Measurement], unknown: Unknown | None
) -> None:
    findings = findings_of_run(CHECK, unknown or tuple(returned), {}, AT)
    assert findings
    wired = over_the_wire(CHECK, findings)
    assert [(f.status, f.code) for f in wired] == [(f.status, f.code) for f in findings]
    assert [f.metrics for f in wired] == [f.metrics for f in findings]


def test_a_check_with_more_metrics_than_a_message_holds_is_cut() -> None:
    many = tuple(Metric(f"m{i}", "x") for i in range(300))
    check = RunnableCheck("x", CheckKind("x", returning(), many, ()), 60.0, 5.0)
    halves = [Measurement(str(n), {m.name: 1.0 for m in many[n * 150 :][:150]}) for n in range(2)]
    wired = over_the_wire(check, findings_of_run(check, tuple(halves), {}, AT))
    assert [f.code for f in wired] == ["ok", "check.bad_value"]
