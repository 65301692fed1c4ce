"""From what a check returned to findings that every collector takes. Pure.

Checks are not trusted to keep their word: numbers that are none, metrics never declared, items named twice, endless
texts. What cannot be used is dropped, and its finding becomes `unknown` with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice

from gengfu_agent.plan import RunnableCheck
from gengfu_checks.codes import CHECK_BAD_VALUE, CHECK_CRASHED, CHECK_NEEDS_RIGHTS, CHECK_NOT_USABLE, CHECK_REFUSED
from gengfu_checks.errors import CannotMeasure, CheckError, ExtraMissing, SettingError
from gengfu_checks.model import CODE_PATTERN, METRIC_PATTERN, Fact, Finding, Measurement, Problem, Status
from gengfu_checks.threshold import judge
from gengfu_proto.convert.facts import MAX_FACT_CHARACTERS, MAX_ITEM_CHARACTERS, MAX_NAME_CHARACTERS
from gengfu_proto.convert.report import MAX_FACTS, MAX_FINDINGS, MAX_METRICS, MAX_SHAPE_BYTES
from gengfu_proto.text import shorten

MAX_ERROR_CHARS = 300

_LARGEST_INTEGER = 2**63
_SHAPE_BYTES = 4 * (MAX_ITEM_CHARACTERS + 2 * MAX_NAME_CHARACTERS)  # of check, kind, target and numbers
_FINDING_BYTES = 48
_OF_THE_KERNEL = ("/proc/", "/sys/")
"""A container or unit may hide parts of these; that is no defect of a check."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """A run without a result: why, for which item."""

    code: str
    facts: Mapping[str, Fact]
    item: str = ""


Outcome = tuple[object, ...] | Unknown
"""What a run ended with: what it returned, or why there is nothing."""


def unknown_of(error: BaseException) -> Unknown:
    """Return what an error that escaped from a check means."""
    text = shorten(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__, MAX_ERROR_CHARS)
    match error:
        case CannotMeasure():
            return Unknown(error.code, error.facts, error.item)
        case ExtraMissing():
            return Unknown(CHECK_NOT_USABLE, {"reason": str(error)})
        case SettingError():
            return Unknown(CHECK_REFUSED, {"reason": str(error)})
        case CheckError():
            return Unknown(CHECK_CRASHED, {"error": str(error)})
        case PermissionError():
            return Unknown(CHECK_NEEDS_RIGHTS, {"target": str(error.filename or "")})
        case FileNotFoundError() if str(error.filename).startswith(_OF_THE_KERNEL):
            return Unknown(CHECK_NOT_USABLE, {"reason": f"{error.filename} is missing"})
    return Unknown(CHECK_CRASHED, {"error": text, "where": _where(error)})


def findings_of_run(
    check: RunnableCheck, outcome: Outcome, previous: Mapping[str, Finding], measured_at: float
) -> tuple[Finding, ...]:
    """Return the findings of one run, at least one, of different items.

    `previous` are the findings of the last run that had a result, by item; hysteresis goes by them.
    """
    if isinstance(outcome, Unknown):
        return (_unknown_finding(check, outcome, measured_at),)
    findings: dict[str, Finding] = {}
    for part in islice(outcome, MAX_FINDINGS):
        if not isinstance(part, Measurement):
            bad = Unknown(CHECK_BAD_VALUE, {"metric": f"{type(part).__name__} instead of a measurement"})
            return (_unknown_finding(check, bad, measured_at),)
        measurement, fault = _usable(check, part)
        finding = judge(check.name, measurement, check.thresholds, previous.get(measurement.item), measured_at)
        if measurement.item in findings:
            finding, fault = findings[measurement.item], "item"
        findings[measurement.item] = _with_fault(finding, fault)
    if len(outcome) > MAX_FINDINGS:
        findings[""] = _with_fault(findings.get("", _ok(check, measured_at)), f"more than {MAX_FINDINGS} items")
    return _fitting(check, tuple(findings.values()) or (_ok(check, measured_at),))


def _usable(check: RunnableCheck, measurement: Measurement) -> tuple[Measurement, str]:
    """Return a measurement with what can be used of it, and what could not ("" for nothing)."""
    declared = {metric.name for metric in check.kind.metrics[:MAX_METRICS]}
    metrics: dict[str, float] = {}
    fault = ""
    for name, value in measurement.metrics.items():
        number = _finite(value)
        if number is None or name not in declared:
            fault = fault or str(name)
        else:
            metrics[name] = number
    problem = measurement.problem
    if problem is not None:
        problem = Problem(Status(problem.status), _code(problem.code), _usable_facts(problem.facts))
    room = MAX_FACTS - len(problem.facts if problem else ())
    facts = dict(islice(_usable_facts(measurement.facts).items(), max(room, 0)))
    return Measurement(str(measurement.item), metrics, facts, problem, measurement.unjudged), fault


def _usable_facts(facts: Mapping[str, Fact]) -> dict[str, Fact]:
    usable: dict[str, Fact] = {}
    for name, value in facts.items():
        if len(usable) < MAX_FACTS and len(name) <= MAX_NAME_CHARACTERS and METRIC_PATTERN.fullmatch(name):
            fact = _usable_fact(value)
            if fact is not None:
                usable[name] = fact
    return usable


def _usable_fact(value: object) -> Fact | None:
    if isinstance(value, bool):
        return value
    if isinstance(value, int) and -_LARGEST_INTEGER <= value < _LARGEST_INTEGER:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return shorten(str(value), MAX_FACT_CHARACTERS) if isinstance(value, str) else None


def _finite(value: object) -> float | None:
    if not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _code(code: str) -> str:
    usable = len(code) <= MAX_NAME_CHARACTERS and CODE_PATTERN.fullmatch(code)
    return code if usable else CHECK_BAD_VALUE


def _with_fault(finding: Finding, fault: str) -> Finding:
    """A finding of a measurement that was not sound; what is worse than unknown stays."""
    if not fault or finding.status.badness > Status.UNKNOWN.badness:
        return finding
    facts = {"metric": shorten(fault, MAX_NAME_CHARACTERS)}
    return replace(finding, status=Status.UNKNOWN, code=CHECK_BAD_VALUE, facts=facts, breach=None)


def _unknown_finding(check: RunnableCheck, unknown: Unknown, measured_at: float) -> Finding:
    facts = _usable_facts(unknown.facts)
    return Finding(check.name, str(unknown.item), Status.UNKNOWN, _code(unknown.code), facts, {}, measured_at)


def _ok(check: RunnableCheck, measured_at: float) -> Finding:
    """The finding of a check that had nothing to look at."""
    return Finding(check.name, "", Status.OK, "ok", {}, {}, measured_at)


def _fitting(check: RunnableCheck, findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """Return the findings, the worst of them only where all do not fit into one message."""
    room = MAX_SHAPE_BYTES - _SHAPE_BYTES - sum(len(metric.name) + 8 for metric in check.kind.metrics[:MAX_METRICS])
    if sum(map(_most_bytes, findings)) <= room:
        return findings
    rest = _with_fault(_ok(check, findings[0].measured_at), "too large for one report")
    kept = {rest.item: rest}
    for finding in sorted(findings, key=lambda finding: -finding.status.badness):
        room -= _most_bytes(finding)
        if room < _most_bytes(rest):
            break
        kept[finding.item] = finding
    return tuple(kept.values())


def _most_bytes(finding: Finding) -> int:
    """No finding takes more in a shape than this, and its values no more than twice this in a body, which holds twice
    as much."""
    facts = sum(len(name) + _most_text_bytes(value) + 24 for name, value in finding.facts.items())
    breach = len(finding.breach.metric) + 24 if finding.breach else 0
    return (
        _FINDING_BYTES + _most_text_bytes(finding.item) + len(finding.code) + facts + 4 * len(finding.metrics) + breach
    )


def _most_text_bytes(value: Fact) -> int:
    if not isinstance(value, str):
        return 8
    return len(value) if value.isascii() and value.isprintable() else 4 * len(value)


def _where(error: BaseException) -> str:
    """File and line where an error arose, without the folders."""
    trace = error.__traceback__
    if trace is None:
        return ""
    while trace.tb_next is not None:
        trace = trace.tb_next
    file = trace.tb_frame.f_code.co_filename.rsplit("/", 1)[-1]
    return f"{file}:{trace.tb_lineno}"
