"""`gengfu-agent check KIND`: one check, here and now."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from queue import Empty, SimpleQueue

from gengfu_agent.cli import table
from gengfu_agent.cli.words import word
from gengfu_agent.clock import SystemClock
from gengfu_agent.errors import AgentError
from gengfu_agent.plan import RunnableCheck
from gengfu_agent.runner import Runner, RunResult
from gengfu_agent.verdict import Unknown, findings_of_run
from gengfu_checks import guide, registry
from gengfu_checks.codes import CHECK_NOT_USABLE, CHECK_REFUSED
from gengfu_checks.errors import CheckError, ExtraMissing
from gengfu_checks.guide import text, words
from gengfu_checks.model import OK_CODE, CheckKind, Finding, Status
from gengfu_checks.settings import parse_assignment, resolve_settings, resolve_thresholds
from gengfu_proto.text import json_lines

_SEPARATOR = " · "
_LEVELS = ("warning", "critical", "hysteresis")


def run_check(
    kind_name: str, assignments: Sequence[str], limits: Sequence[str], *, as_json: bool, language: str
) -> int:
    """Run it and print what it found; return the exit code of a monitoring plugin. Raises AgentError for wrong use."""
    result = _result(kind_name, assignments, limits)
    for finding in result.findings:
        if finding.code == CHECK_REFUSED:  # settings that only a look can find wrong
            raise AgentError(str(finding.facts["reason"]))
    if as_json:
        print(json_lines([_as_json(finding) for finding in result.findings]))
    else:
        for line in _shown(result, language):
            print(line)
    return int(max((finding.status for finding in result.findings), key=lambda status: status.badness))


def _result(kind_name: str, assignments: Sequence[str], limits: Sequence[str]) -> RunResult:
    try:
        kind = registry.load(kind_name)
        settings = resolve_settings(kind, dict(parse_assignment(kind, part) for part in assignments))
        thresholds = resolve_thresholds(kind, _parse_limits(limits))
        why_not = kind.usable()
    except ExtraMissing as error:
        return _not_usable(CheckKind(kind_name, lambda _: (), (), ()), str(error))
    except CheckError as error:
        raise AgentError(str(error)) from error
    if why_not is not None:
        return _not_usable(kind, why_not)
    return _run(RunnableCheck(kind_name, kind, kind.every_s, kind.timeout_s, settings, thresholds))


def _not_usable(kind: CheckKind, reason: str) -> RunResult:
    check = RunnableCheck(kind.name, kind, kind.every_s, kind.timeout_s)
    outcome = Unknown(CHECK_NOT_USABLE, {"reason": reason})
    return RunResult(check, findings_of_run(check, outcome, {}, time.time()), 0.0)


def _parse_limits(parts: Iterable[str]) -> dict[str, dict[str, object]]:
    """Turn METRIC.LEVEL=NUMBER into the table that a profile would hold."""
    limits: dict[str, dict[str, object]] = {}
    for part in parts:
        name, _, value = part.partition("=")
        metric, _, level = name.rpartition(".")
        if not metric or level not in _LEVELS:
            raise AgentError(f"--threshold {part!r}: write METRIC.LEVEL=NUMBER with a level of {', '.join(_LEVELS)}")
        try:
            limits.setdefault(metric, {})[level] = False if value == "false" else float(value)
        except ValueError:
            raise AgentError(f"--threshold {part!r}: {value!r} is neither a number nor false") from None
    return limits


def _run(check: RunnableCheck) -> RunResult:
    """Run it as the agent would, deadline included: a check that hangs does not hang this command."""
    clock = SystemClock()
    calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
    results: list[RunResult] = []
    runner = Runner(results.append, calls.put, clock)
    runner.start(check)
    while not results:
        deadline_s = runner.next_deadline_s() or 0.0
        with suppress(Empty):
            calls.get(timeout=max(deadline_s - clock.boot_ms() / 1000, 0.001))()
        runner.expire()
    return results[0]


def _shown(result: RunResult, language: str) -> Iterator[str]:
    """The table, then what to do about each thing that is bad."""
    findings = sorted(result.findings, key=lambda finding: -finding.status.badness)
    with_items = any(finding.item for finding in findings)
    headings = [word("status", language), *([word("item", language)] if with_items else []), word("finding", language)]
    cells = [[word(f.status.word, language), *([text.clean(f.item)] if with_items else [])] for f in findings]
    columns = table.room_for_last([headings[:-1], *cells], table.terminal_columns())
    rows = [
        (row, _described(f, result.check.kind.name, columns, language)) for row, f in zip(cells, findings, strict=True)
    ]
    statuses = {row[0]: finding.status for row, finding in zip(cells, findings, strict=True)}
    for line in table.table(headings, rows):
        first = line.split(" ", 1)[0]
        status = statuses.get(first)
        yield line if status is None else table.coloured(first, status) + line[len(first) :]
    yield from _remedies(findings, language)


def _described(finding: Finding, kind: str, columns: int, language: str) -> list[str]:
    """Lines that tell one finding."""
    lines: list[str] = []
    if finding.code != OK_CODE:
        title = guide.article(finding.code).text(language).title
        limit, metric = (finding.breach.limit, finding.breach.metric) if finding.breach else (None, "")
        summary = guide.summary(
            finding.code, language, "", finding.facts, finding.metrics, limit, metric=metric, check=kind
        )
        lines += table.wrap(list(dict.fromkeys((title, summary))), columns, "：" if language == "zh" else ": ")
    more = words.details(kind, finding.metrics, finding.facts if finding.code == OK_CODE else {}, language)
    lines += table.wrap(more, columns, _SEPARATOR)
    return lines or [word("nothing", language)]


def _remedies(findings: Iterable[Finding], language: str) -> Iterator[str]:
    codes = dict.fromkeys(finding.code for finding in findings if finding.status is not Status.OK)
    for code in codes:
        article = guide.article(code).text(language)
        yield ""
        yield word("what_to_do", language, article.title, code)
        for number, step in enumerate(article.remedy, 1):
            for i, line in enumerate(table.wrap([step], table.terminal_columns() - 4, "")):
                yield f" {number}. {line}" if i == 0 else f"    {line}"


def _as_json(finding: Finding) -> dict[str, object]:
    at = datetime.fromtimestamp(finding.measured_at, UTC).replace(tzinfo=None)
    breach = finding.breach
    return {
        "check": finding.check,
        "item": finding.item,
        "status": finding.status.word,
        "code": finding.code,
        "facts": dict(finding.facts),
        "metrics": dict(finding.metrics),
        "measured_at": at.isoformat(timespec="milliseconds") + "Z",
        "breach": breach and {"metric": breach.metric, "limit": breach.limit, "direction": breach.direction.value},
    }
