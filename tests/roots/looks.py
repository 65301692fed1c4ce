"""Running the agent inside a root as the built-in profiles would, and what is wrong with its answers (pure)."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gengfu_checks import codes, guide, registry
from gengfu_checks.model import Status
from gengfu_collector.fleet.inspection import load_inspection

CLASSES = ("terminal", "server")
LANGUAGES = ("zh", "en")

DEFECTS = frozenset(
    (codes.CHECK_CRASHED, codes.CHECK_STUCK, codes.CHECK_BAD_VALUE, codes.CHECK_REFUSED, codes.CHECK_TIMED_OUT)
)
"""Codes that are a defect of a check wherever they are met."""
# `gengfu-agent check` adds them to those of the check.
OF_THE_RUNNER = frozenset((codes.CHECK_NOT_USABLE, codes.CHECK_PROGRAM_FAILED, codes.THRESHOLD_BREACHED, "ok"))

Agent = Callable[[Sequence[str]], "Answer"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command of the agent left."""

    exit_code: int
    stdout: str
    stderr: str


@dataclass(frozen=True, slots=True)
class Planned:
    """A check as profiles set it: arguments of `gengfu-agent check`, and the classes whose profile says so."""

    kind: str
    arguments: tuple[str, ...]
    classes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Look:
    """One run of a planned check."""

    planned: Planned
    answer: Answer
    findings: tuple[Mapping[str, Any], ...] | None
    """None when the answer was not what `--json` promises."""
    seconds: float


def planned_checks() -> list[Planned]:
    """Every check of the built-in profiles, once for each way in which it is set."""
    classes: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for profile in load_inspection(None).profiles:
        for check in profile.checks:
            classes.setdefault((check.kind, tuple(_arguments(check.given))), []).append(profile.name)
    return [Planned(kind, arguments, tuple(names)) for (kind, arguments), names in sorted(classes.items())]


def _arguments(given: Mapping[tuple[str | int, ...], object]) -> Iterator[str]:
    for path, value in given.items():
        if path[0] == "set":
            yield from ("--set", f"{path[1]}={_text(value)}")
        elif path[0] == "thresholds":
            yield from ("--threshold", f"{path[1]}.{path[2]}={_text(value)}")


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def look(agent: Agent, planned: Planned) -> Look:
    """Run it once."""
    began_s = time.monotonic()
    answer = agent(("check", planned.kind, "--json", *planned.arguments))
    return look_of(planned, answer, round(time.monotonic() - began_s, 2))


def look_of(planned: Planned, answer: Answer, seconds: float) -> Look:
    """The look with this answer."""
    try:
        rows = json.loads(answer.stdout)
    except ValueError:
        rows = None
    findings = tuple(rows) if isinstance(rows, list) and rows and all(isinstance(row, dict) for row in rows) else None
    return Look(planned, answer, findings, seconds)


def wrong_with(found: Look, expected: Sequence[str], right: frozenset[str]) -> Iterator[str]:
    """Yield what is wrong, a sentence each.

    `expected` are codes of which at least one has to be told by this check (none: nothing in particular); `right` are
    further codes that are no false alarm here, `KIND:CODE` for one check only.
    """
    if found.findings is None:
        said = (found.answer.stderr or found.answer.stdout).strip()[-300:]
        yield f"no list of findings, exit code {found.answer.exit_code}: {said}"
        return
    if found.answer.stderr.strip():
        yield f"said on standard error: {found.answer.stderr.strip()[-300:]}"
    worst = max((Status[finding["status"].upper()] for finding in found.findings), key=lambda status: status.badness)
    if found.answer.exit_code != int(worst):
        yield f"exit code {found.answer.exit_code}, though the worst finding is {worst.word}"
    kind = registry.load(found.planned.kind)
    told = [finding["code"] for finding in found.findings]
    for finding in found.findings:
        code = finding["code"]
        is_right = bool({code, f"{kind.name}:{code}"} & right) or code in expected
        yield from _wrong_with_finding(finding, frozenset(kind.all_codes) | OF_THE_RUNNER, is_right)
    if expected and not set(told) & set(expected):
        yield f"told {', '.join(sorted(set(told)))} instead of {' or '.join(expected)}"


def _wrong_with_finding(finding: Mapping[str, Any], declared: frozenset[str], is_right: bool) -> Iterator[str]:
    code, item = finding["code"], finding["item"]
    where = f"{code} [{item}] {json.dumps(finding['facts'], ensure_ascii=False)}"
    if code in DEFECTS:
        yield where
    elif code not in declared:
        yield f"undeclared: {where}"
    elif finding["status"] != "ok" and not is_right:
        yield f"false alarm, or an expectation is missing: {finding['status']} {where}"
    if code in guide.codes():
        for language in LANGUAGES:
            summary = _summary(finding, language)
            if not summary or re.search(r"\{\w*\}", summary):
                yield f"its {language} sentence is not whole: {summary!r}"


def _summary(finding: Mapping[str, Any], language: str) -> str:
    breach = finding["breach"] or {}
    limit, metric = breach.get("limit"), breach.get("metric", "")
    facts, metrics = finding["facts"], finding["metrics"]
    return guide.summary(finding["code"], language, finding["item"], facts, metrics, limit, metric=metric)


def wrong_with_inventory(answer: Answer, packages: Mapping[str, str] | None) -> Iterator[str]:
    """Yield what is wrong with an inventory; `packages` are versions by name as dpkg has them, or None."""
    try:
        found = json.loads(answer.stdout)
        entries = found["entries"]
    except (ValueError, KeyError, TypeError):
        yield f"no inventory, exit code {answer.exit_code}: {(answer.stderr or answer.stdout).strip()[-300:]}"
        return
    if answer.stderr.strip() or answer.exit_code != 0:
        yield f"exit code {answer.exit_code}, said on standard error: {answer.stderr.strip()[-300:]}"
    if packages is None:
        return
    told = {
        entry["facts"]["name"]: entry["facts"].get("version", "")
        for entry in entries
        if entry["key"].startswith("software/dpkg/")
    }
    for name in sorted(told.keys() | packages.keys()):
        if told.get(name) != packages.get(name):
            yield f"package {name}: inventory has {told.get(name)}, dpkg-query {packages.get(name)}"


def wrong_with_updates(metrics: Mapping[str, float], upgraded: int, security: int) -> Iterator[str]:
    """Yield where the numbers of the check differ from those of apt. Without a security archive it may tell none."""
    for name, count, is_needed in (
        ("pending_updates", upgraded, True),
        ("pending_security_updates", security, security > 0),
    ):
        if metrics.get(name, None if is_needed else count) != count:
            yield f"{name} is {metrics.get(name)}, apt says {count}"
