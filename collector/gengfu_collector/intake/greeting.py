"""The beginning of a stream: what an agent's Hello changes in the store, and what it is answered."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from sqlalchemy import select

from gengfu_checks.model import OK_CODE, Status
from gengfu_collector.faults.model import Ended, Observed, Rule
from gengfu_collector.intake.copies import IDENTITY, Claim, claim_of, settle
from gengfu_collector.intake.inventory import INVENTORY, has_rules
from gengfu_collector.intake.ledger import Ranges, greet
from gengfu_collector.intake.observe import NOT_PLANNED, Occasion, apply, observe_one
from gengfu_collector.intake.pipeline import record_gaps
from gengfu_collector.intake.records import AgentRecord, SubjectRecord
from gengfu_collector.intake.work import UnitOfWork
from gengfu_collector.store.schema import agent
from gengfu_collector.tickets.lifecycle import ENGINE

PRESENCE = "presence"
KEPT_OUT = "kept out"
MAX_GAPS_OF_AN_EPOCH = 1_000
SELF_CHECK = "agent"
AT_ONCE = Rule(confirm=1, recover=1)


@dataclass(frozen=True, slots=True)
class Hello:
    """What an agent says of itself at the beginning of a stream. `held` are numbers in its spool, by epoch."""

    session: bytes
    epoch: int
    next_seq: int
    held: Mapping[int, Ranges]
    agent_version: str
    platform: str
    hostname: str
    machine_id: str
    boot_id: str
    plan_version: str
    instance: bytes = b""


@dataclass(frozen=True, slots=True)
class Greeted:
    """What follows from a Hello. `stored` are the numbers of Hello's epoch that are accounted for."""

    record: AgentRecord
    epoch: int
    stored: Ranges
    high_water: int
    rewound: bool


def accept_hello(
    work: UnitOfWork,
    agent_id: int,
    hello: Hello,
    session: bytes,
    rules_for: Callable[[AgentRecord], Mapping[str, Rule]],
) -> Greeted | str:
    """Bring the store up to date with a Hello: epoch, gaps, rules, presence. The agent is there from now on.

    Or return why it is not let in: its state, or KEPT_OUT for a copy; then nothing has changed but when that was seen.
    """
    work.forget(agent_id)
    record = work.agent(agent_id)
    if record.state != "active":
        return record.state
    claim = _claim(work, record, hello)
    settle(work, record, claim, (hello.session, hello.machine_id), hello.hostname, hello.instance)
    if claim is Claim.KEPT_OUT:
        return KEPT_OUT
    greeting = greet(record.epoch, record.ledgers, hello.epoch, hello.next_seq, hello.held)
    work.set(record, "epoch", max(greeting.epoch, record.epoch))
    for epoch, gaps in sorted(greeting.gaps.items()):
        # Whoever leaves out more is told to give what still comes a new number.
        ranges = gaps if len(gaps) <= MAX_GAPS_OF_AN_EPOCH else ((gaps[0][0], gaps[-1][1]),)
        reason = "rewound" if greeting.rewound or epoch < greeting.epoch else "collector_rewound"
        record_gaps(work, record, epoch, ranges, reason)
    if hello.epoch == 0 and hello.next_seq > 1:
        account = work.ledger(record, greeting.epoch)
        work.set_ledger(record, greeting.epoch, replace(account, unnamed=hello.next_seq - 1))
    set_rules(work, record, rules_for(record))
    work.set(record, "session", session)
    work.set(record, "machine_id", hello.machine_id or record.machine_id)
    work.update(
        agent,
        record.id,
        session=session,
        epoch=greeting.epoch,
        version=hello.agent_version,
        platform=hello.platform,
        hostname=hello.hostname,
        machine_id=record.machine_id,
        boot_id=hello.boot_id,
        last_seen_at_ms=work.now_ms,
        left_at_ms=None,
        absent_after_ms=None,
    )
    observe_one(work, record, AT_ONCE, PRESENCE, Observed(Status.OK, OK_CODE), Occasion(measured_at_ms=work.now_ms))
    account = work.ledger(record, hello.epoch)
    return Greeted(record, greeting.epoch, account.known, account.top, greeting.rewound)


def refuse_copy(work: UnitOfWork, agent_id: int, hello: Hello) -> bool:
    """True, and noted, when this Hello is of a copy that is kept out."""
    record = work.agent(agent_id)
    claim = _claim(work, record, hello)
    if claim is Claim.KEPT_OUT:
        settle(work, record, claim, (hello.session, hello.machine_id), hello.hostname, hello.instance)
    return claim is Claim.KEPT_OUT


def _claim(work: UnitOfWork, record: AgentRecord, hello: Hello) -> Claim:
    return claim_of(work, record, hello.session, hello.machine_id, hello.instance)


def set_rules(work: UnitOfWork, record: AgentRecord, rules: Mapping[str, Rule]) -> None:
    """Judge by these rules from now on; faults of checks and items without one end."""
    work.set_rules(record, {**rules, SELF_CHECK: Rule()})
    own = (PRESENCE, IDENTITY, *((INVENTORY,) if has_rules(rules) else ()))
    for name, check in record.checks.items():
        rule = record.rules.get(name)
        if name not in own:
            unplanned = [target for item, target in check.subjects.items() if rule is None or not rule.plans(item)]
            end_faults(work, record, unplanned, NOT_PLANNED, ENGINE)
    for check in record.checks.values():
        work.set(check, "settled", False)


def note_plan(work: UnitOfWork, agent_id: int, version: str) -> None:
    """Note which plan an agent works by."""
    work.update(agent, agent_id, plan_version=version)


def end_stream(work: UnitOfWork, agent_id: int, session: bytes, left: bool, absent_after_ms: int | None) -> None:
    """Note that the stream of this session ended, and from when on the agent's silence is a fault (None: never).

    An agent that has a later session is somewhere else by now, perhaps at another collector: nothing is noted.
    """
    latest = work.connection.scalar(select(agent.c.session).where(agent.c.id == agent_id))
    if latest and latest != session:
        return
    work.update(
        agent,
        agent_id,
        last_seen_at_ms=work.now_ms,
        left_at_ms=work.now_ms if left else None,
        absent_after_ms=absent_after_ms,
    )


def end_faults(work: UnitOfWork, record: AgentRecord, targets: Iterable[SubjectRecord], reason: str, actor: str) -> int:
    """Close the open faults of these subjects by an explicit act; return how many."""
    count = 0
    for target in targets:
        if target.fault_id is not None:
            count += 1
            apply(work, record, target, AT_ONCE, Ended(reason), Occasion(measured_at_ms=work.now_ms, actor=actor))
    return count
