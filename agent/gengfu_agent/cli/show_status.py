"""`gengfu-agent status`: how the agent on this machine is doing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from gengfu_agent.cli import table
from gengfu_agent.cli.error_words import in_words
from gengfu_agent.cli.words import connection_words, word
from gengfu_agent.identity import AGENT_FILE
from gengfu_agent.status import Status, is_running, read_status
from gengfu_checks import guide
from gengfu_checks.guide import text, words
from gengfu_proto.text import harmless_lines, json_lines

MAX_PROGRAMS_CHARACTERS = 2000
MAX_REFUSED_SHOWN = 20
MAX_REASON_CHARACTERS = 500


def status(state: Path, *, as_json: bool, language: str) -> int:
    """Print what the agent on this folder says; returns 1 when none runs."""
    running = is_running(state)
    said = read_status(state)
    if as_json:
        print(json_lines({"running": running, **(asdict(said) if said else {})}))
    else:
        for line in _shown(state, running, said, language):
            print(harmless_lines(line))
    return 0 if running else 1


def _shown(state: Path, running: bool, said: Status | None, language: str) -> Iterator[str]:
    if not running:
        enrolled = (state / AGENT_FILE).exists()
        yield f"{word('not_running', language)} ({state})"
        yield word("start" if enrolled else "not_enrolled", language)
    elif said is None:
        yield word("not_readable", language)
    if said is None:
        return
    rows = list(_rows(said, running, language))
    widest = max(table.width(label) for label, _ in rows)
    for label, shown in rows:
        yield f"{table.pad(label, widest)}  {shown}"


def _rows(said: Status, running: bool, language: str) -> Iterator[tuple[str, str]]:
    now = time.time() if running else said.written_at

    def duration(seconds: float) -> str:
        return text.duration(max(seconds, 0.0), language)

    def since(at: float) -> str:
        return f"{word('since', language)} {_local(at)}"

    state = word("running", language) if running else _local(said.written_at)
    yield word("agent", language), f"{said.version}, {state}, pid {said.pid}, {since(said.started_at)}"
    yield word("asset", language), f"{said.asset} ({said.agent_id})"
    connected = f", {since(said.connected_since)}" if said.connected_since else ""
    yield word("collector", language), f"{said.collector}: {connection_words(said.connection, language)}{connected}"
    if said.last_error:
        yield word("last_error", language), text.clean(in_words(said.last_error, language), MAX_REASON_CHARACTERS)
    acknowledged = said.last_acknowledged_at
    yield (
        word("last_acknowledged", language),
        word("ago", language, duration(now - acknowledged)) if acknowledged else word("never", language),
    )
    yield word("plan", language), _plan(said, language)
    for number, line in enumerate(_refused(said, language)):
        yield word("refused", language) if number == 0 else "", line
    yield word("spool", language), _spool(said, language)
    yield word("cost", language), _cost(said, language)
    if said.programs:
        yield word("programs", language), text.clean(", ".join(said.programs.values()), MAX_PROGRAMS_CHARACTERS)
    if said.clock_skew_s is not None:
        sign = "-" if said.clock_skew_s < 0 else "+"
        yield word("clock", language), word("clock_off", language, sign + duration(abs(said.clock_skew_s)))
    if said.certificate_expires_at is not None:
        left_s = said.certificate_expires_at - now
        expiry = word("expires_in", language, duration(left_s)) if left_s > 0 else word("expired", language)
        yield word("certificate", language), expiry


def _plan(said: Status, language: str) -> str:
    if not said.plan_version:
        return word("no_plan", language)
    counts = (("refused_count", said.refused_checks), ("hanging_count", said.hanging_checks))
    parts = [said.plan_version, word("checks_count", language, said.checks)]
    return ", ".join(parts + [word(name, language, count) for name, count in counts if count])


def _refused(said: Status, language: str) -> Iterator[str]:
    """A line for each check of the plan that will not run here, and why."""
    separator = "：" if language == "zh" else ": "
    for refused in said.refused[:MAX_REFUSED_SHOWN]:
        reason = words.fact_value("", "reason", refused["reason"], language)
        parts = [refused["name"], guide.article(refused["code"]).text(language).title, str(reason)]
        yield separator.join(text.clean(part, MAX_REASON_CHARACTERS) for part in parts)
    more = len(said.refused) - MAX_REFUSED_SHOWN
    if more > 0:
        yield word("more_refused", language, more)


def _spool(said: Status, language: str) -> str:
    parts = [word("reports_count", language, said.spool_reports), text.byte_size(said.spool_bytes, language)]
    if said.spool_reports:
        parts.append(word("oldest", language, text.duration(said.spool_oldest_age_s, language)))
    if said.dropped_reports:
        parts.append(word("dropped", language, said.dropped_reports))
    return ", ".join(parts)


def _cost(said: Status, language: str) -> str:
    cpu = word("cpu", language, text.duration(said.cpu_s, language))
    minutes = (said.written_at - said.started_at) / 60
    if minutes >= 1:
        a_minute = text.duration(said.cpu_s / minutes, language)
        cpu += f" ({word('a_minute', language, a_minute)})"
    threads = word("threads", language, said.threads)
    return ", ".join([text.byte_size(said.memory_bytes, language), cpu, threads])


def _local(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")
