"""What a check of updates knows of a machine, whoever keeps its software, and the judgement of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from gengfu_checks.local.plain_text import plain
from gengfu_checks.model import Fact, Measurement, Problem, Status

INTERRUPTED = "updates.interrupted"
NO_LISTS = "updates.no_lists"

MAX_NAMES = 8
MAX_NAME_CHARS = 60
MAX_PENDING = 20_000
MAX_KEPT = 1000
"""Updates without a day of publication of which it is kept since when they wait; those for security come first."""
FIRST_SEEN = "first_seen"


@dataclass(frozen=True, slots=True)
class Pending:
    """An update that is not installed. `published_at`: seconds since the epoch, where its maker says so."""

    name: str
    security: bool = False
    published_at: float | None = None


@dataclass(frozen=True, slots=True)
class State:
    """What is known of updates. Times are seconds since the epoch, None where unknown."""

    manager: str
    pending: Sequence[Pending] | None
    """None where it cannot be known because an update was interrupted, or because there are no lists."""
    knows_security: bool = True
    """Security updates can be told from others."""
    dates_waiting: bool = True
    """The list of what is pending is reliable enough to say how long it has been waiting."""
    refreshed_at: float | None = None
    """When the lists of available updates were last fetched."""
    archive_at: float | None = None
    """When the newest of the lists was made by its archive or mirror."""
    installed_at: float | None = None
    """When a package was last installed or updated."""
    held: int | None = None
    broken: Sequence[str] = ()
    """Packages that an interrupted update left half installed."""
    has_lists: bool = True


def named(names: Iterable[str]) -> str:
    """A few names, sorted, each once and cleaned, and how many more there are."""
    shown = sorted({plain(name, MAX_NAME_CHARS) for name in names})
    text = ", ".join(shown[:MAX_NAMES])
    return text if len(shown) <= MAX_NAMES else f"{text} (+{len(shown) - MAX_NAMES})"


def waiting_since(pending: Sequence[Pending], state: State, keep: dict[str, Any], now_s: float) -> dict[str, float]:
    """Since when each update has been pending, by name.

    The best that is known counts: the day of publication; else the moment at which a run first saw the update pending.
    For what was pending already at the very first look that is the last installation of any package: longer ago the
    machine may well have been complete, so the wait is never told longer than since then.
    """
    first_look = FIRST_SEEN not in keep
    seen: dict[str, float] = keep.get(FIRST_SEEN, {})
    unknown_s = state.installed_at if first_look and state.installed_at is not None else now_s
    since: dict[str, float] = {}
    still: dict[str, float] = {}
    for update in sorted(pending, key=lambda update: not update.security):
        started_s = update.published_at
        if started_s is None:
            started_s = min(now_s, seen.get(_key(update), unknown_s))
            if len(still) < MAX_KEPT:
                still[_key(update)] = started_s
        since[update.name] = min(now_s, started_s, since.get(update.name, now_s))
    keep[FIRST_SEEN] = still
    return since


def judge(state: State, keep: dict[str, Any], now_s: float) -> Measurement:
    """The measurement of a state; `keep` holds since when updates are pending, over restarts of the agent."""
    metrics: dict[str, float] = {}
    facts: dict[str, Fact] = {"manager": state.manager}
    ages = {
        "lists_age_seconds": state.refreshed_at,
        "archive_age_seconds": state.archive_at,
        "last_update_age_seconds": state.installed_at,
    }
    metrics |= {name: max(0.0, now_s - at) for name, at in ages.items() if at is not None}
    if state.held is not None:
        metrics["held_packages"] = float(state.held)
    if state.pending is not None:
        metrics |= _pending_metrics(state, state.pending, keep, now_s)
        security = named(update.name for update in state.pending if update.security)
        if security:
            facts["security_updates"] = security
    return Measurement("", metrics, facts, _problem(state))


def _pending_metrics(state: State, pending: Sequence[Pending], keep: dict[str, Any], now_s: float) -> dict[str, float]:
    names = {update.name for update in pending}
    security = {update.name for update in pending if update.security}
    metrics = {"pending_updates": float(len(names))}
    if state.knows_security:
        metrics["pending_security_updates"] = float(len(security))
    if state.dates_waiting:
        since = waiting_since(pending, state, keep, now_s)
        metrics["waiting_seconds"] = now_s - min(since.values(), default=now_s)
        if state.knows_security:
            metrics["security_waiting_seconds"] = now_s - min((since[name] for name in security), default=now_s)
    return metrics


def _key(update: Pending) -> str:
    return plain(update.name, MAX_NAME_CHARS)


def _problem(state: State) -> Problem | None:
    if state.broken:
        return Problem(Status.WARNING, INTERRUPTED, {"packages": named(state.broken)})
    if not state.has_lists:
        return Problem(Status.WARNING, NO_LISTS)
    return None
