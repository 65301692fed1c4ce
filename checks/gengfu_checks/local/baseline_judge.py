"""Judging the rules of a terminal standard: what was found against what is asked for. Pure.

Facts say `-` for nothing: not installed, not set, no such file. `***` stands for a value that is not told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from gengfu_checks.codes import CHECK_NOT_USABLE
from gengfu_checks.errors import CannotMeasure
from gengfu_checks.local.plain_text import plain
from gengfu_checks.model import Fact, Problem, Status
from gengfu_checks.software import Software
from gengfu_checks.standards.rules import Rule, Waiver
from gengfu_checks.standards.values import Value
from gengfu_checks.versions import is_at_least

DEVIATION = "baseline.deviation"
EXCEPTED = "baseline.excepted"
NOT_APPLICABLE = "baseline.not_applicable"

NOTHING = "-"
WITHHELD = "***"
OR = " | "
MAX_SHOWN_CHARS = 120
MAX_SHOWN = 5

_TRUE = frozenset(("true", "yes", "on", "1", "enabled"))
_FALSE = frozenset(("false", "no", "off", "0", "disabled"))
_WORDS = {EXCEPTED: "excepted", NOT_APPLICABLE: "not_applicable"}
_STATUS = {"info": Status.OK, "warning": Status.WARNING, "critical": Status.CRITICAL}


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting as it is; None when it is not set. A secret value is judged and not told."""

    value: Value | None
    is_secret: bool = False


@dataclass(frozen=True, slots=True)
class Services:
    """The state of each service in the system's own word, None for one that is not there, and which of them run."""

    states: Mapping[str, str | None]
    running: frozenset[str]


@dataclass(frozen=True, slots=True)
class File:
    """Whether a file (or anything else) is there, and its SHA-256 where the rule asks for one and it is a file."""

    exists: bool
    sha256: str | None = None


Evidence = tuple[Software, ...] | Setting | Services | File
"""What was found for a rule: matching software, a setting, services or a file, as its kind wants."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a rule is kept. `what` names what was looked at."""

    complies: bool
    what: str
    expected: str
    found: str


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a rule on a machine: `problem` None when it is kept, else a deviation, an exception, unknown, or
    that the rule does not apply.

    `facts` tell what was looked at where the problem does not.
    """

    rule: Rule
    problem: Problem | None
    facts: Mapping[str, Fact] = field(default_factory=dict)

    @property
    def word(self) -> str:
        """compliant, deviating, excepted, not_applicable or unknown."""
        if self.problem is None:
            return "compliant"
        if self.problem.status is Status.UNKNOWN:
            return "unknown"
        return _WORDS.get(self.problem.code, "deviating")


def judge_rule(rule: Rule, evidence: Evidence) -> Verdict:
    """Return whether the evidence keeps the rule; raises CannotMeasure when that cannot be said."""
    match evidence:
        case Setting():
            return _judge_setting(rule, evidence)
        case Services():
            return _judge_services(rule, evidence)
        case File():
            return _judge_file(rule, evidence)
    return _judge_software(rule, evidence)


def result_of(rule: Rule, verdict: Verdict, waiver: Waiver | None, severity: str) -> Result:
    """Return the result of a verdict; `severity` holds for rules that give none."""
    if verdict.complies:
        return Result(rule, None, {"what": verdict.what, "expected": verdict.expected, "found": verdict.found})
    facts: dict[str, Fact] = {
        "rule": rule.id,
        "what": verdict.what,
        "expected": verdict.expected,
        "found": verdict.found,
        "reason_zh": rule.reason.zh,
        "reason_en": rule.reason.en,
        "weight": rule.weight,
    }
    if waiver is None:
        return Result(rule, Problem(_STATUS[rule.severity or severity], DEVIATION, facts))
    facts |= {"owner": waiver.owner, "excepted_until": waiver.until, "exception_reason": waiver.reason}
    return Result(rule, Problem(Status.OK, EXCEPTED, facts))


def unknown_result(rule: Rule, error: CannotMeasure) -> Result:
    """Return the result of a rule that could not be measured."""
    return Result(rule, Problem(Status.UNKNOWN, error.code, {**error.facts, "rule": rule.id}))


def not_applicable(rule: Rule) -> Result:
    """Return the result of a rule about something that this machine does not have."""
    return Result(rule, Problem(Status.OK, NOT_APPLICABLE, {"rule": rule.id, "what": rule.if_exists or NOTHING}))


def waiver_for(rule: Rule, waivers: Iterable[Waiver], now_s: float) -> Waiver | None:
    """The exception from a rule that holds for longest, None when none holds any more."""
    holding = (w for w in waivers if now_s < w.ends_at_s and any(fnmatchcase(rule.id, p) for p in w.rules))
    return max(holding, key=lambda waiver: waiver.ends_at_s, default=None)


def totals(results: Sequence[Result]) -> dict[str, float]:
    """The counts, and the weighted share of rules that are kept among those that could be measured.

    A rule with an exception counts as kept, one that does not apply not at all. The ratio is left out when nothing
    could be measured.
    """
    metrics = {f"{word}_rules": 0.0 for word in ("compliant", "deviating", "excepted", "unknown")}
    weights = {"compliant": 0.0, "deviating": 0.0, "excepted": 0.0, "unknown": 0.0}
    for result in results:
        if result.word == "not_applicable":
            continue
        metrics[f"{result.word}_rules"] += 1
        weights[result.word] += result.rule.weight
    kept = weights["compliant"] + weights["excepted"]
    known = kept + weights["deviating"]
    return metrics | ({"compliance_ratio": kept / known} if known else {})


def _judge_software(rule: Rule, found: tuple[Software, ...]) -> Verdict:
    names = rule.wants["names"]
    what, version = _joined(names, OR), rule.wants.get("version")
    shown = _joined([f"{s.name} {s.version}".strip() for s in found]) or NOTHING
    if rule.kind == "software_forbidden":
        return Verdict(not found, what, NOTHING, shown)
    if version is None:
        return Verdict(bool(found), what, what, shown)
    new_enough = [_is_at_least(software, version) for software in found]
    # Where a program must be there, one new one will do; where old ones must not be, every one counts.
    complies = any(new_enough) if rule.kind == "software_required" else all(new_enough)
    return Verdict(complies, what, f"≥ {version}", shown)


def _is_at_least(software: Software, version: str) -> bool:
    answer = is_at_least(software.version, version, software.source)
    if answer is None:
        shown = f"{software.name} {software.version or NOTHING} cannot be compared with version {version}"
        raise CannotMeasure(CHECK_NOT_USABLE, {"reason": plain(shown, MAX_SHOWN_CHARS)})
    return answer


def _judge_setting(rule: Rule, setting: Setting) -> Verdict:
    value = setting.value if setting.value is not None else rule.wants.get("default")
    shown = NOTHING if value is None else plain(text_of(value), MAX_SHOWN_CHARS)
    if setting.value is None and value is not None:
        shown = f"{NOTHING} ({shown})"
    elif setting.is_secret and value is not None:
        shown = WITHHELD
    complies = value is not None and _fits(value, rule.wants)
    return Verdict(complies, _named(rule), _expected(rule.wants), shown)


def _fits(value: Value, wants: Mapping[str, object]) -> bool:
    equals, at_least, at_most = (wants.get(key) for key in ("equals", "at_least", "at_most"))
    if isinstance(equals, tuple) and not any(same(value, wanted) for wanted in equals):
        return False
    if at_least is None and at_most is None:
        return True
    number = number_of(value)
    if number is None:
        return False
    return not (isinstance(at_least, float) and number < at_least) and not (
        isinstance(at_most, float) and number > at_most
    )


def same(value: Value, wanted: Value) -> bool:
    """Whether a setting has the wanted value: texts without regard to case, numbers and switches by what they mean."""
    if isinstance(wanted, bool):
        return text_of(value).casefold() in (_TRUE if wanted else _FALSE)
    if isinstance(wanted, float):
        return number_of(value) == wanted
    return text_of(value).casefold() == text_of(wanted).casefold()


def number_of(value: Value) -> float | None:
    """A value as a number, None when it is none."""
    if isinstance(value, bool):
        return float(value)
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def text_of(value: Value) -> str:
    """A value as people write it: 1, not 1.0; true, not True."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)


def _judge_services(rule: Rule, services: Services) -> Verdict:
    names = rule.wants["names"]
    there = [f"{name} {state}" for name in names if (state := services.states.get(name)) is not None]
    running = [name for name in names if name in services.running]
    found = _joined(there) or NOTHING
    if rule.kind == "service_running":
        return Verdict(bool(running), _joined(names, OR), "running", found)
    return Verdict(not running, _joined(names, OR), NOTHING, found)


def _judge_file(rule: Rule, file: File) -> Verdict:
    path = plain(rule.wants["path"], MAX_SHOWN_CHARS)
    if rule.kind == "file_absent":
        return Verdict(not file.exists, path, NOTHING, path if file.exists else NOTHING)
    wanted = rule.wants.get("sha256")
    if wanted is None or not file.exists:
        return Verdict(file.exists, path, path, path if file.exists else NOTHING)
    return Verdict(file.sha256 == wanted, path, f"sha256 {wanted}", f"sha256 {file.sha256 or NOTHING}")


def _named(rule: Rule) -> str:
    wants = rule.wants
    match rule.kind:
        case "registry_value":
            name = f"{wants['key']}\\{wants['name']}"
        case "macos_default":
            name = f"{wants['domain']} {wants['key']}"
        case "file_setting":
            section = f" [{wants['section']}]" if "section" in wants else ""
            name = f"{wants['file'][-1]}{section} {wants['key']}"
        case _:
            name = wants["key"]
    return plain(name, MAX_SHOWN_CHARS)


def _expected(wants: Mapping[str, object]) -> str:
    equals = wants.get("equals")
    parts = [OR.join(text_of(value) or '""' for value in equals)] if isinstance(equals, tuple) else []
    parts += [f"{sign} {text_of(wants[key])}" for key, sign in _SIGNS if key in wants]  # type: ignore[arg-type]
    return plain(", ".join(parts), MAX_SHOWN_CHARS)


_SIGNS = (("at_least", "≥"), ("at_most", "≤"))


def _joined(names: Sequence[str], separator: str = ", ") -> str:
    shown = separator.join(names[:MAX_SHOWN])
    more = len(names) - MAX_SHOWN
    return plain(f"{shown} (+{more})" if more > 0 else shown, MAX_SHOWN_CHARS)
