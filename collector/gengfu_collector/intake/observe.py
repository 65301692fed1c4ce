"""From a check run to what follows: status spans, faults, tickets, outbox rows. Writes through a UnitOfWork only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gengfu_checks import guide
from gengfu_checks.model import OK_CODE, Finding, Status
from gengfu_collector.faults.engine import RECOVERED, is_settled
from gengfu_collector.faults.model import Effect, EffectKind, Ended, Event, Observed, Rule, Silent, SubjectState
from gengfu_collector.intake.records import AgentRecord, CheckRecord, SubjectRecord
from gengfu_collector.intake.work import UnitOfWork
from gengfu_collector.store.documents import to_text
from gengfu_collector.store.schema import fault, outbox, span, subject, ticket, ticket_event
from gengfu_collector.tickets.lifecycle import (
    ENGINE,
    TicketEventKind,
    TicketRef,
    TicketState,
    continues,
    priority,
)
from gengfu_proto.convert.report import Run, Shape, findings_of

_CHANGES = {
    EffectKind.RAISED: TicketEventKind.RAISED,
    EffectKind.LOWERED: TicketEventKind.LOWERED,
    EffectKind.RECODED: TicketEventKind.RECODED,
}
NOT_PLANNED = "no longer in the plan"


@dataclass(frozen=True, slots=True)
class Occasion:
    """What an event of a subject comes from: the finding that said it, if one did, and when it was measured."""

    finding: Finding | None = None
    measured_at_ms: int = 0
    actor: str = ENGINE


def observe_run(work: UnitOfWork, record: AgentRecord, shape: Shape, run: Run, order: tuple[int, int]) -> bool:
    """Let a fresh run act; False when it is not the present.

    A run older than the last one that acted, or of a check that is not planned, changes only history. A report may
    hold several runs of a check, in their order.
    """
    rule = record.rules.get(shape.check)
    check = record.checks.get(shape.check)
    if check is None and rule is not None:
        check = CheckRecord(order=record.order_at_load)
        work.put(record.checks, shape.check, check)
    if check is None or rule is None or order < check.order:
        record_history(work, record, shape, run)
        return False
    work.set(check, "order", order)
    if check.settled and check.shape_id == shape.id:
        return True
    findings = [finding for finding in findings_of(shape, run) if rule.plans(finding.item)]
    for finding in findings:
        subject_record = subject_of(work, record, check, finding.check, finding.item)
        occasion = Occasion(finding, run.measured_at_ms)
        apply(work, record, subject_record, rule, Observed(finding.status, finding.code), occasion)
        _note_settings(work, subject_record, shape.settings_id)
    present = {finding.item for finding in findings}
    is_whole = all(map(_leaves_nothing_out, findings))
    for item, subject_record in check.subjects.items():
        if item not in present:
            event = _unnamed(shape, subject_record) if is_whole else Silent.LOST
            apply(work, record, subject_record, rule, event, Occasion(measured_at_ms=run.measured_at_ms))
            if is_whole:
                _note_settings(work, subject_record, b"")
    work.set(check, "shape_id", shape.id)
    settled = all(
        is_settled(rule, subject_record.state, work.now_ms) or subject_record.state.status is None
        for subject_record in check.subjects.values()
    )
    work.set(check, "settled", settled)
    return True


def _leaves_nothing_out(finding: Finding) -> bool:
    """False when something could not be looked at, or is wrong with the whole: with the item without name."""
    return finding.status is Status.OK or (finding.status is not Status.UNKNOWN and finding.item != "")


def _unnamed(shape: Shape, target: SubjectRecord) -> Event:
    """What follows for an item that a run which could look at everything does not name.

    Silence is no good news, unless the check was told to look elsewhere, or says of itself what its silence means.
    """
    if target.state.fault is None:
        return Silent.LOST
    if shape.settings_id and target.settings_id and shape.settings_id != target.settings_id:
        return Ended(NOT_PLANNED)
    return Observed(Status.OK, OK_CODE) if shape.gone_is_over else Silent.LOST


def _note_settings(work: UnitOfWork, target: SubjectRecord, settings_id: bytes) -> None:
    if target.settings_id != settings_id:
        work.set(target, "settings_id", settings_id)
        work.update(subject, target.id, settings_id=settings_id)


def record_history(work: UnitOfWork, record: AgentRecord, shape: Shape, run: Run) -> None:
    """Keep what a late run says in the history of its subjects; it acts on nothing."""
    check = record.checks.get(shape.check)
    for finding in shape.findings:
        known = check.subjects.get(finding.item) if check else None
        if known is None or (finding.status, finding.code) == (Status.OK, OK_CODE):
            continue
        work.insert(
            span,
            subject_id=known.id,
            started_at_ms=work.now_ms,
            measured_at_ms=run.measured_at_ms,
            status=finding.status.word,
            code=finding.code,
            late=True,
        )


def observe_one(
    work: UnitOfWork, record: AgentRecord, rule: Rule, check_name: str, event: Event, occasion: Occasion
) -> None:
    """Let the collector's own observation of an agent act: an item without name of a check of its own."""
    check = record.checks.get(check_name)
    if check is None:
        check = CheckRecord()
        work.put(record.checks, check_name, check)
    apply(work, record, subject_of(work, record, check, check_name, ""), rule, event, occasion)


def silence(work: UnitOfWork, record: AgentRecord, check_name: str) -> None:
    """A check of a connected agent fell silent: its subjects have no data."""
    check = record.checks.get(check_name)
    if check is None:
        return
    work.set(check, "settled", False)
    rule = record.rules.get(check_name, Rule())
    for subject_record in check.subjects.values():
        apply(work, record, subject_record, rule, Silent.LOST, Occasion(measured_at_ms=work.now_ms))


def apply(
    work: UnitOfWork, record: AgentRecord, target: SubjectRecord, rule: Rule, event: Event, occasion: Occasion
) -> None:
    """Take one step of the engine and write down everything that follows."""
    stepped = work.step(target, rule, event)
    for effect in stepped.effects:
        _follow(work, record, target, rule, stepped.state, effect, occasion)


def subject_of(work: UnitOfWork, record: AgentRecord, check: CheckRecord, name: str, item: str) -> SubjectRecord:
    """The subject of an item, made when it is new."""
    found = check.subjects.get(item)
    if found is None:
        found = SubjectRecord(work.next_id(subject), record.asset_id, name, item, SubjectState())
        work.put(check.subjects, item, found)
        work.insert(
            subject,
            id=found.id,
            asset_id=record.asset_id,
            check=name,
            item=item,
            status=found.state.word,
            code=found.state.code,
            since_at_ms=work.now_ms,
            counters="{}",
            settings_id=found.settings_id,
        )
    return found


def _follow(
    work: UnitOfWork,
    record: AgentRecord,
    target: SubjectRecord,
    rule: Rule,
    state: SubjectState,
    effect: Effect,
    occasion: Occasion,
) -> None:
    match effect.kind:
        case EffectKind.STATUS:
            work.insert(
                span,
                subject_id=target.id,
                started_at_ms=work.now_ms,
                measured_at_ms=occasion.measured_at_ms,
                status=state.word,
                code=effect.code,
                late=False,
            )
        case EffectKind.OPENED:
            _open(work, record, target, rule, effect, occasion)
        case EffectKind.RAISED | EffectKind.LOWERED | EffectKind.RECODED:
            _change(work, record, target, effect, occasion)
        case EffectKind.CLOSED:
            _close(work, target, effect, occasion)
        case EffectKind.STILL_BAD:
            _reopen(work, target, effect, occasion)


def _open(
    work: UnitOfWork,
    record: AgentRecord,
    target: SubjectRecord,
    rule: Rule,
    effect: Effect,
    occasion: Occasion,
) -> None:
    severity = effect.severity or Status.WARNING
    if target.ticket is not None and continues(target.ticket, work.now_ms):
        ticket_id = target.ticket.id
        if not target.ticket.state.unresolved:
            _reopen(work, target, effect, occasion)
        work.update(ticket, ticket_id, **_urgency(record, effect))
    else:
        ticket_id = _new_ticket(work, record, target, effect, occasion)
    fault_id = work.next_id(fault)
    work.set(target, "fault_id", fault_id)
    work.insert(
        fault,
        id=fault_id,
        subject_id=target.id,
        asset_id=record.asset_id,
        check=target.check,
        item=target.item,
        code=effect.code,
        severity=severity.word,
        state="open",
        opened_at_ms=work.now_ms,
        closed_at_ms=None,
        closed_reason=None,
        ticket_id=ticket_id,
        evidence=to_text(_evidence(rule, effect, occasion)),
    )


def _new_ticket(
    work: UnitOfWork, record: AgentRecord, target: SubjectRecord, effect: Effect, occasion: Occasion
) -> int:
    ticket_id = work.next_id(ticket)
    work.insert(
        ticket,
        id=ticket_id,
        state=TicketState.OPEN.value,
        asset_id=record.asset_id,
        subject_id=target.id,
        check=target.check,
        item=target.item,
        opened_at_ms=work.now_ms,
        acknowledged_at_ms=None,
        resolved_at_ms=None,
        closed_at_ms=None,
        cause=None,
        solution=None,
        **_urgency(record, effect),
    )
    work.set(target, "ticket", TicketRef(ticket_id, TicketState.OPEN, None))
    tell(work, ticket_id, TicketEventKind.OPENED, occasion.actor, finding_document(occasion))
    return ticket_id


def _change(work: UnitOfWork, record: AgentRecord, target: SubjectRecord, effect: Effect, occasion: Occasion) -> None:
    severity = effect.severity or Status.WARNING
    if target.fault_id is not None:
        work.update(fault, target.fault_id, severity=severity.word, code=effect.code)
    if target.ticket is not None:
        work.update(ticket, target.ticket.id, **_urgency(record, effect))
        tell(work, target.ticket.id, _CHANGES[effect.kind], occasion.actor, finding_document(occasion))


def _close(work: UnitOfWork, target: SubjectRecord, effect: Effect, occasion: Occasion) -> None:
    if target.fault_id is not None:
        work.update(fault, target.fault_id, state="closed", closed_at_ms=work.now_ms, closed_reason=effect.reason)
        work.set(target, "fault_id", None)
    if target.ticket is None:
        return
    data = {"reason": effect.reason, **finding_document(occasion)}
    if target.ticket.state.unresolved:
        work.update(ticket, target.ticket.id, state=TicketState.RESOLVED.value, resolved_at_ms=work.now_ms)
        work.set(target, "ticket", TicketRef(target.ticket.id, TicketState.RESOLVED, work.now_ms))
        tell(work, target.ticket.id, TicketEventKind.RESOLVED, occasion.actor, data)
    elif effect.reason == RECOVERED:
        tell(work, target.ticket.id, TicketEventKind.RECOVERED, occasion.actor, data)


def _reopen(work: UnitOfWork, target: SubjectRecord, effect: Effect, occasion: Occasion) -> None:
    if target.ticket is None:
        return
    work.update(ticket, target.ticket.id, state=TicketState.OPEN.value, resolved_at_ms=None, acknowledged_at_ms=None)
    work.set(target, "ticket", TicketRef(target.ticket.id, TicketState.OPEN, None))
    data = {"flapping": effect.flapping, **finding_document(occasion)}
    tell(work, target.ticket.id, TicketEventKind.REOPENED, occasion.actor, data)


def tell(work: UnitOfWork, ticket_id: int, kind: TicketEventKind, actor: str, data: Mapping[str, Any]) -> None:
    """Write an event of a ticket, and its row in the outbox for those who must hear of it."""
    text = to_text(data)
    work.insert(ticket_event, ticket_id=ticket_id, at_ms=work.now_ms, actor=actor, kind=kind.value, data=text)
    work.insert(outbox, at_ms=work.now_ms, kind=kind.value, ticket_id=ticket_id, data=text)


def _urgency(record: AgentRecord, effect: Effect) -> dict[str, Any]:
    severity = effect.severity or Status.WARNING
    return {
        "code": effect.code,
        "severity": severity.word,
        "category": guide.article(effect.code).category.value,
        "priority": priority(record.asset_class, severity),
    }


def finding_document(occasion: Occasion) -> dict[str, Any]:
    """What a finding said, as events of tickets hold it."""
    finding = occasion.finding
    if finding is None:
        return {}
    document: dict[str, Any] = {
        "status": finding.status.word,
        "code": finding.code,
        "facts": dict(finding.facts),
        "metrics": dict(finding.metrics),
    }
    if finding.breach is not None:
        document["breach"] = {
            "metric": finding.breach.metric,
            "limit": finding.breach.limit,
            "direction": finding.breach.direction.value,
        }
    return document


def _evidence(rule: Rule, effect: Effect, occasion: Occasion) -> dict[str, Any]:
    return {
        "rule": {"confirm": rule.confirm, "recover": rule.recover, "worst": rule.worst.word},
        "flapping": effect.flapping,
        "measured_at_ms": occasion.measured_at_ms,
        **finding_document(occasion),
    }
