"""The fault engine: a pure function of (rule, state, event, now).

What opens a fault is `confirm` bad findings in a row; what closes it is `recover` good ones, or an explicit act.
Unknown and no data are neither: they never open, never close, and break a row of good findings. Severity is an
attribute of the fault: it rises after `confirm` criticals in a row and falls after `recover` milder findings in a row.
"""

from __future__ import annotations

from dataclasses import replace

from gengfu_checks.model import Status
from gengfu_collector.faults.model import (
    ByHand,
    Effect,
    EffectKind,
    Ended,
    Event,
    Observed,
    OpenFault,
    Rule,
    Silent,
    SubjectState,
)

RECOVERED = "recovered"
_RECODE_AFTER = 2
_MAX_OPENINGS = 8

Step = tuple[SubjectState, tuple[Effect, ...]]


def step(rule: Rule, state: SubjectState, event: Event, now_ms: int) -> Step:
    """Return the state after an event and what follows from it, in the order in which it happens."""
    match event:
        case Observed():
            return _observe(rule, state, event, now_ms)
        case Silent():
            return _lose(state, now_ms)
        case Ended():
            return _end(state, event.reason)
        case ByHand.RESOLVED:
            return _resolve_by_hand(state)


def is_settled(rule: Rule, state: SubjectState, now_ms: int) -> bool:
    """True when the same finding again, however often and however late, would change nothing."""
    if state.status is None or (state.fault is not None and state.status is Status.OK):
        return False
    return _observe(rule, state, Observed(state.status, state.code), now_ms)[0] == state


def is_flapping(rule: Rule, state: SubjectState, now_ms: int) -> bool:
    """True when the subject opened too many faults lately."""
    begin = now_ms - rule.flap_window_s * 1000
    return sum(at > begin for at in state.openings_ms) >= rule.flap_openings


def _observe(rule: Rule, state: SubjectState, event: Observed, now_ms: int) -> Step:
    effects: list[Effect] = []
    severity = _severity(rule, event.status)
    after = _counted(rule, state, event, severity, now_ms)
    if (event.status, event.code) != (state.status, state.code):
        effects.append(Effect(EffectKind.STATUS, code=event.code))
        after = replace(after, status=event.status, code=event.code, since_ms=now_ms)
    if after.fault is None:
        after = _open_if_confirmed(rule, after, effects, now_ms)
    elif severity is not None:
        after = _adjust(rule, after, after.fault, effects)
    elif event.status is Status.OK:
        after = _close_if_recovered(rule, after, effects, now_ms)
    return after, tuple(effects)


def _severity(rule: Rule, status: Status) -> Status | None:
    if status is Status.CRITICAL:
        return rule.worst
    return Status.WARNING if status is Status.WARNING else None


def _counted(rule: Rule, state: SubjectState, event: Observed, severity: Status | None, now_ms: int) -> SubjectState:
    most = max(rule.confirm, rule.recover, _RECODE_AFTER)

    def more(count: int) -> int:
        return min(count + 1, most)

    if event.status is Status.UNKNOWN:
        return replace(state, good=0, good_since_ms=None)
    if severity is None:
        since = None if state.fault is None else state.good_since_ms or now_ms
        return replace(
            state, bad=0, worse=0, same_code=0, milder=more(state.milder), good=more(state.good), good_since_ms=since
        )
    critical = severity is Status.CRITICAL
    return replace(
        state,
        bad=more(state.bad),
        worse=more(state.worse) if critical else 0,
        milder=0 if critical else more(state.milder),
        good=0,
        good_since_ms=None,
        same_code=more(state.same_code) if event.code == state.code else 1,
    )


def _open_if_confirmed(rule: Rule, state: SubjectState, effects: list[Effect], now_ms: int) -> SubjectState:
    if state.bad < rule.confirm or state.status not in (Status.WARNING, Status.CRITICAL):
        return state
    severity = Status.CRITICAL if state.worse >= rule.confirm else Status.WARNING
    state = replace(
        state,
        fault=OpenFault(severity, state.code, now_ms),
        openings_ms=(*state.openings_ms, now_ms)[-_MAX_OPENINGS:],
    )
    effects.append(Effect(EffectKind.OPENED, severity, state.code, flapping=is_flapping(rule, state, now_ms)))
    return state


def _adjust(rule: Rule, state: SubjectState, fault: OpenFault, effects: list[Effect]) -> SubjectState:
    if fault.severity is not Status.CRITICAL and state.worse >= rule.confirm:
        fault = replace(fault, severity=Status.CRITICAL, code=state.code)
        effects.append(Effect(EffectKind.RAISED, fault.severity, fault.code))
    elif fault.severity is Status.CRITICAL and state.milder >= rule.recover:
        fault = replace(fault, severity=Status.WARNING, code=state.code)
        effects.append(Effect(EffectKind.LOWERED, fault.severity, fault.code))
    elif fault.code != state.code and state.same_code >= max(_RECODE_AFTER, rule.confirm):
        fault = replace(fault, code=state.code)
        effects.append(Effect(EffectKind.RECODED, fault.severity, fault.code))
    if fault.ticket_resolved and state.bad >= rule.confirm:
        fault = replace(fault, ticket_resolved=False)
        effects.append(Effect(EffectKind.STILL_BAD, fault.severity, fault.code))
    return replace(state, fault=fault)


def _close_if_recovered(rule: Rule, state: SubjectState, effects: list[Effect], now_ms: int) -> SubjectState:
    if state.good < rule.recover or state.good_since_ms is None:
        return state
    if is_flapping(rule, state, now_ms) and now_ms - state.good_since_ms < rule.flap_hold_s * 1000:
        return state
    effects.append(Effect(EffectKind.CLOSED, reason=RECOVERED))
    return replace(state, fault=None, good_since_ms=None)


def _lose(state: SubjectState, now_ms: int) -> Step:
    if state.status is None:
        return state, ()
    lost = replace(
        state, status=None, since_ms=now_ms, bad=0, worse=0, milder=0, good=0, good_since_ms=None, same_code=0
    )
    return lost, (Effect(EffectKind.STATUS, code=state.code),)


def _end(state: SubjectState, reason: str) -> Step:
    if state.fault is None:
        return state, ()
    ended = replace(state, fault=None, bad=0, worse=0, milder=0, good=0, good_since_ms=None, same_code=0)
    return ended, (Effect(EffectKind.CLOSED, reason=reason),)


def _resolve_by_hand(state: SubjectState) -> Step:
    if state.fault is None:
        return state, ()
    fault = replace(state.fault, ticket_resolved=True)
    return replace(state, fault=fault, bad=0, worse=0), ()
