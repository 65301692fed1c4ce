"""Defects to put into a program that is started for a test: each must be seen by the oracle.

They reach into the program by name, so that a change there that makes one of them void is an error and not a silence.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

SLOW_DISK_S = 0.5
UNHURT_S = 1.5


@dataclass(frozen=True, slots=True)
class Mutant:
    """`side` is "agent" or "collector"."""

    side: str
    apply: Callable[[], None]


def _replace(owner: Any, name: str, function: Callable[..., Any]) -> Any:
    """Put a function in another's place and return that; AttributeError when there is none."""
    before = getattr(owner, name)
    setattr(owner, name, function)
    return before


def acknowledge_before_commit() -> None:
    """The collector tells the streams what became of reports, and commits them then."""
    from gengfu_collector.intake.pipeline import ReportsJob

    def run_and_tell(self: Any, connection: Any) -> None:
        run(self, connection)
        self._intake.deliver(self._taken)
        time.sleep(SLOW_DISK_S)

    run = _replace(ReportsJob, "run", run_and_tell)
    _replace(ReportsJob, "committed", lambda self: None)


def commit_without_sync() -> None:
    """The collector leaves it to the system when what it has committed reaches the disk."""
    from sqlalchemy import event

    from gengfu_collector.store import database

    def create_carelessly(url: Any) -> Any:
        engine = create_engine(url)
        event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=NORMAL"))
        return engine

    create_engine = _replace(database, "_create_engine", create_carelessly)


def spool_without_sync() -> None:
    """So does the agent with its spool."""
    from gengfu_agent.spool import file

    transaction = _replace(file, "transaction", lambda connection, *, durable: transaction(connection, durable=False))


def high_water_apart() -> None:
    """The collector advances the account in one transaction and stores the rows in the next."""
    from gengfu_collector.intake.work import UnitOfWork
    from gengfu_collector.store.schema import report

    dies_at_s = time.monotonic() + UNHURT_S

    def flush_apart(self: Any) -> None:
        flush_ledgers(self)
        self.connection.exec_driver_sql("COMMIT")
        if self._inserts[report] and time.monotonic() > dies_at_s:
            os.kill(os.getpid(), signal.SIGKILL)  # a moment that kills from outside would seldom meet
        self.connection.exec_driver_sql("BEGIN IMMEDIATE")
        flush(self)

    flush = _replace(UnitOfWork, "flush", flush_apart)
    flush_ledgers = _replace(UnitOfWork, "_flush_ledgers", lambda self: None)


def drop_on_reconnect() -> None:
    """The agent takes what it has sent for delivered when the stream is gone."""
    from gengfu_agent.uplink.conversation import Conversation

    def init_and_drop(self: Any, stream: Any, parts: Any, *rest: Any) -> None:
        for epoch, seq in list(parts.sent):
            parts.spool.acknowledge(epoch, [(seq, seq)])
        parts.present.remove(list(parts.sent))
        parts.sent.clear()
        init(self, stream, parts, *rest)

    init = _replace(Conversation, "__init__", init_and_drop)


def number_anew_on_reconnect() -> None:
    """The agent gives what it has sent new numbers when the stream is gone, stored or not."""
    from gengfu_agent.uplink.conversation import Conversation

    def init_and_renumber(self: Any, stream: Any, parts: Any, *rest: Any) -> None:
        for epoch, seq in sorted(parts.sent):
            parts.spool.renumber(epoch, [seq])
        parts.present.remove(list(parts.sent))
        parts.sent.clear()
        init(self, stream, parts, *rest)

    init = _replace(Conversation, "__init__", init_and_renumber)


def believe_everything_at_once() -> None:
    """The collector opens a fault for the first bad finding, whatever the rule says."""
    from gengfu_collector.faults.model import Rule
    from gengfu_collector.intake.work import UnitOfWork

    def step_at_once(self: Any, record: Any, _rule: Any, event: Any) -> Any:
        return step(self, record, Rule(confirm=1, recover=1), event)

    step = _replace(UnitOfWork, "step", step_at_once)


def any_order() -> None:
    """The collector lets reports act in whatever order they come."""
    from gengfu_collector.intake import pipeline

    def observe_anyhow(work: Any, record: Any, shape: Any, run: Any, order: Any) -> Any:
        check = record.checks.get(shape.check)
        if check is not None:
            check.order = (0, 0)
        return observe_run(work, record, shape, run, order)

    observe_run = _replace(pipeline, "observe_run", observe_anyhow)


def newest_first() -> None:
    """The agent sends what waits in the wrong order; not a defect by itself, as the collector knows the right one."""
    from gengfu_agent.uplink.present import Present

    live = _replace(Present, "live", lambda self: live(self)[::-1])


ALL: dict[str, Mutant] = {
    "acknowledge_before_commit": Mutant("collector", acknowledge_before_commit),
    "commit_without_sync": Mutant("collector", commit_without_sync),
    "spool_without_sync": Mutant("agent", spool_without_sync),
    "high_water_apart": Mutant("collector", high_water_apart),
    "drop_on_reconnect": Mutant("agent", drop_on_reconnect),
    "number_anew_on_reconnect": Mutant("agent", number_anew_on_reconnect),
    "believe_everything_at_once": Mutant("collector", believe_everything_at_once),
    "any_order": Mutant("collector", any_order),
    "newest_first": Mutant("agent", newest_first),
}
