"""A collector whose memory is thrown away between any two events leaves the rows that one without interruption leaves.

Histories are random; row ids, which are taken in blocks, are the only thing that may differ.
"""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from intake_rig import NOW_MS, SESSION, Rig, finding, gap_submission, run, submission
from sqlalchemy import delete, insert

from gengfu_checks.model import Status
from gengfu_collector.errors import CollectorError
from gengfu_collector.faults.model import Rule
from gengfu_collector.intake import by_hand
from gengfu_collector.intake.greeting import PRESENCE, end_stream
from gengfu_collector.intake.observe import silence
from gengfu_collector.intake.presence import note_overdue, note_seen
from gengfu_collector.intake.submission import Rejection, RejectionReason
from gengfu_collector.store.database import Database, open_database
from gengfu_collector.store.schema import (
    agent,
    asset,
    fault,
    gap,
    ledger,
    metadata,
    outbox,
    rejected_report,
    report,
    span,
    subject,
    ticket,
    ticket_event,
)

AGENT_ID = 1
PLANS = [
    {"disk": Rule(confirm=1, recover=1), "cpu": Rule(confirm=2, recover=2, flap_openings=2, flap_hold_s=120)},
    {"disk": Rule(confirm=2, recover=1, worst=Status.WARNING)},
]

statuses = st.sampled_from([Status.OK, Status.OK, Status.CRITICAL, Status.CRITICAL, Status.WARNING, Status.UNKNOWN])
codes = st.sampled_from(["disk.nearly_full", "disk.read_only"])


@dataclass(frozen=True)
class Seen:
    """One run of one check: status and code by item."""

    check: str
    items: tuple[tuple[str, Status, str], ...]

    def encode(self) -> Any:
        parts = [finding(self.check, item, status, code) for item, status, code in self.items]
        first, *more = parts
        return run(self.check, first.status, first.item, first.code, *more)


items = st.lists(
    st.tuples(st.sampled_from(["", "", "/a"]), statuses, codes), min_size=1, max_size=2, unique_by=lambda part: part[0]
)
seen = st.builds(Seen, st.sampled_from(["disk", "disk", "cpu", "cpu", "unplanned"]), items.map(tuple))
runs = st.lists(seen, min_size=1, max_size=2)
tickets = st.integers(0, 3)
other_steps = st.one_of(
    st.tuples(st.just("late"), runs, st.booleans()),
    st.tuples(st.just("stale"), seen),
    st.tuples(st.just("duplicate"), st.integers(0, 5)),
    st.tuples(st.just("reject")),
    st.tuples(st.just("skip"), st.integers(1, 3)),
    st.tuples(st.just("gap")),
    st.tuples(st.just("silence"), st.sampled_from(["disk", "cpu", "unknown"])),
    st.tuples(st.just("wait"), st.sampled_from([1_000, 200_000, 3_600_000, 90_000_000])),
    st.tuples(st.just("acknowledge"), tickets),
    st.tuples(st.just("resolve"), tickets),
    st.tuples(st.just("close"), tickets),
    st.tuples(st.just("leave")),
    st.tuples(st.just("sweep")),
    st.tuples(st.just("plan"), st.integers(0, 1)),
)
# A machine mostly says the same some times over, whatever happens meanwhile.
stretches = st.tuples(runs, st.integers(1, 3), other_steps, st.integers(0, 2)).map(
    lambda part: [*[("live", part[0])] * part[1], part[2], *[("live", part[0])] * part[3]]
)
histories = st.lists(stretches, min_size=4, max_size=12).map(lambda parts: [step for part in parts for step in part])
interruptions = st.lists(st.sampled_from(["none", "forget", "restart"]), min_size=1, max_size=10)


class Twin:
    """Goes through a history; `interrupt` throws away what it remembers."""

    def __init__(self, database: Database) -> None:
        self.rig = Rig(database, PLANS[0])
        self.next_seq = 1
        self.sent: list[tuple[int, list[Seen]]] = []
        self.holes: list[int] = []
        self.connected = True
        self.rig.hello(AGENT_ID)

    def interrupt(self, how: str) -> None:
        if how == "forget":
            self.rig.do(lambda work: work.forget(AGENT_ID))
        elif how == "restart":
            self.rig.reopen()
            if self.connected:
                self.hello()

    def hello(self) -> None:
        held = tuple((seq, seq) for seq in sorted(self.holes))
        self.rig.hello(AGENT_ID, epoch=1, next_seq=self.next_seq, held={1: held})
        self.connected = True

    def step(self, kind: str, *arguments: Any) -> None:
        getattr(self, f"_{kind}")(*arguments)

    def _live(self, parts: list[Seen]) -> None:
        if not self.connected:
            self.hello()
        self.rig.now_ms += 60_000
        self.sent.append((self._number(), parts))
        self._send(*self.sent[-1])

    def _stale(self, old: Seen) -> None:
        """An older run of a check comes after a newer one."""
        if self.connected and self.sent and self.holes and self.holes[0] < self.sent[-1][0]:
            seq, newest = self.holes.pop(0), self.sent[-1][1][0]
            self.sent.append((seq, [replace(old, check=newest.check)]))
            self._send(*self.sent[-1])

    def _late(self, parts: list[Seen], fill: bool) -> None:
        if not self.connected:
            self.hello()
        seq = self.holes.pop(0) if fill and self.holes else self._number()
        self.sent.append((seq, parts))
        self._send(seq, parts, late=True)

    def _duplicate(self, index: int) -> None:
        if self.sent and self.connected:
            self._send(*self.sent[index % len(self.sent)])

    def _reject(self) -> None:
        if self.connected:
            why = Rejection(RejectionReason.LIMIT, "no")
            self.rig.send(submission(AGENT_ID, self._number(), run("disk", Status.CRITICAL), rejection=why))

    def _skip(self, count: int) -> None:
        self.holes += [self._number() for _ in range(count)]

    def _gap(self) -> None:
        if self.holes and self.connected:
            seq = self.holes.pop(0)
            self.rig.send(gap_submission(AGENT_ID, self._number(), ((seq, seq),)))

    def _silence(self, check: str) -> None:
        self.rig.do(lambda work: silence(work, work.agent(AGENT_ID), check))

    def _wait(self, pause_ms: int) -> None:
        self.rig.now_ms += pause_ms

    def _acknowledge(self, index: int) -> None:
        self._by_hand(by_hand.acknowledge, index)

    def _resolve(self, index: int) -> None:
        self._by_hand(by_hand.resolve, index, "cause", "solution")

    def _close(self, index: int) -> None:
        self._by_hand(by_hand.close, index)

    def _leave(self) -> None:
        self.rig.do(lambda work: end_stream(work, AGENT_ID, SESSION, False, work.now_ms + 120_000))
        self.connected = False

    def _sweep(self) -> None:
        connected = [AGENT_ID] if self.connected else []
        self.rig.do(lambda work: note_overdue(work, connected))
        self.rig.do(lambda work: note_seen(work, connected))

    def _plan(self, index: int) -> None:
        self.rig.rules = dict(PLANS[index])
        self.hello()

    def _number(self) -> int:
        self.next_seq += 1
        return self.next_seq - 1

    def _send(self, seq: int, parts: list[Seen], *, late: bool = False) -> None:
        self.rig.send(submission(AGENT_ID, seq, *(part.encode() for part in parts), late=late))

    def _by_hand(self, act: Any, index: int, *texts: str) -> None:
        numbers = [number for number, _ in self.rig.tickets()]
        if numbers:
            with contextlib.suppress(CollectorError):
                self.rig.do(lambda work: act(work, numbers[index % len(numbers)], "li", *texts))

    def rows(self) -> dict[str, list[Any]]:
        """Everything that is stored, with names in place of row ids."""
        rig = self.rig
        subjects = {row["id"]: (row["check"], row["item"]) for row in rig.rows(subject)}
        numbers = {row["id"]: row["number"] for row in rig.rows(ticket)}
        names = {"subject_id": subjects, "ticket_id": numbers}

        def named(row: dict[str, Any]) -> dict[str, Any]:
            return {key: names[key][value] if key in names else value for key, value in row.items() if key != "id"}

        tables = (subject, span, fault, ticket, ticket_event, outbox, ledger, gap, rejected_report, report)
        found = {table.name: [named(row) for row in rig.rows(table)] for table in tables}
        found["agent"] = [{**row, "last_seen_at_ms": None} for row in rig.rows(agent)]
        # Coming back after a restart is one more sign of life.
        found["subject"] = [{**row, "counters": ""} if row["check"] == PRESENCE else row for row in found["subject"]]
        return found


@pytest.fixture(scope="module")
def databases() -> Iterator[tuple[Database, Database]]:
    """Two empty databases, in memory where the machine has such a folder."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        made = []
        for name in ("twin", "interrupted"):
            (Path(folder) / name).mkdir()
            made.append(open_database(Path(folder) / name))
        yield made[0], made[1]
        for database in made:
            database.close()


def make_empty(database: Database) -> None:
    with database.write() as connection:
        for table in reversed(metadata.sorted_tables):
            connection.execute(delete(table))
        connection.execute(
            insert(asset).values(
                {"id": 1, "name": "pc-1", "class": "server", "labels": "{}", "state": "active", "created_at_ms": NOW_MS}
            )
        )
        connection.execute(
            insert(agent).values(
                id=AGENT_ID,
                uid="uid",
                asset_id=1,
                state="active",
                enrolled_at_ms=NOW_MS,
                binding_key=b"",
                recoveries_left=3,
                machine_id="machine",
                hostname="pc-1",
                version="",
                platform="",
            )
        )


@settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)
@given(histories, interruptions)
def test_an_interruption_anywhere_changes_nothing(
    databases: tuple[Database, Database], history: list[tuple[Any, ...]], interrupted_by: list[str]
) -> None:
    for database in databases:
        make_empty(database)
    twin, interrupted = (Twin(database) for database in databases)
    try:
        for step, interruption in zip(history, itertools.cycle(interrupted_by), strict=False):
            twin.step(*step)
            interrupted.interrupt(interruption)
            interrupted.step(*step)
        assert interrupted.rows() == twin.rows()
        assert interrupted.rig.unexplained() == twin.rig.unexplained() == 0
    finally:
        twin.rig.close()
        interrupted.rig.close()
