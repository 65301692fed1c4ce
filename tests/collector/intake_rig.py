"""An intake on a real database, without network: what the gateway hands over, built from real wire bytes."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Table, func, select

from gengfu_checks.model import OK_CODE, Finding, Status
from gengfu_collector.faults.model import Rule
from gengfu_collector.fleet import agents
from gengfu_collector.intake.audit import accounts
from gengfu_collector.intake.greeting import Greeted, Hello, accept_hello
from gengfu_collector.intake.ledger import Ranges
from gengfu_collector.intake.live import LiveTable
from gengfu_collector.intake.pipeline import Intake
from gengfu_collector.intake.submission import Outcome, Rejection, Submission
from gengfu_collector.store.database import Database
from gengfu_collector.store.schema import fault, metadata, span, subject, ticket, ticket_event
from gengfu_collector.store.writer import Writer
from gengfu_proto.convert.report import (
    EncodedRun,
    GapRecord,
    decode_body,
    decode_shape,
    encode_findings_body,
    encode_gap_body,
    encode_run,
)

NOW_MS = 1_800_000_000_000
HOUR_MS = 3_600_000
AT_ONCE = Rule(confirm=1, recover=1)
RULES = {"disk": AT_ONCE, "cpu": Rule(confirm=2, recover=2)}
PATIENCE_S = 30
SESSION = b"session"


def run(
    check: str = "disk",
    status: Status = Status.OK,
    item: str = "",
    code: str | None = None,
    *more: Finding,
    value: float = 1.0,
    every_s: float = 60.0,
    measured_at_s: float = NOW_MS / 1000,
) -> EncodedRun:
    """One run of a check with one finding (and `more` of them)."""
    code = code or (OK_CODE if status is Status.OK else "disk.nearly_full")
    found = Finding(check, item, status, code, {"fs_type": "ext4"}, {"used_ratio": value}, measured_at_s)
    return encode_run(check, check, every_s, [found, *more], {}, 0.01)


def finding(check: str, item: str, status: Status, code: str = "disk.nearly_full") -> Finding:
    return Finding(
        check, item, status, OK_CODE if status is Status.OK else code, {}, {"used_ratio": 1.0}, NOW_MS / 1000
    )


class Receiver:
    """Stands for a stream: keeps what the intake said, in order."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, int, Outcome]] = []

    def finished(self, results: Sequence[Submission]) -> None:
        self.heard += [(result.epoch, result.seq, result.outcome) for result in results]


def submission(
    agent_id: int,
    seq: int,
    *runs: EncodedRun,
    epoch: int = 1,
    late: bool = False,
    data: bytes | None = None,
    rejection: Rejection | None = None,
    receiver: Receiver | None = None,
) -> Submission:
    """A report as the gateway makes it of the wire's bytes."""
    data = encode_findings_body(runs) if data is None else data
    body = decode_body(data)
    shapes = {encoded.shape_id: encoded.shape for encoded in runs}
    return Submission(
        receiver=receiver or Receiver(),
        agent_id=agent_id,
        epoch=epoch,
        seq=seq,
        data=data,
        body=body,
        runs=tuple((decode_shape(shapes[part.shape_id]), part) for part in body.runs),
        new_shapes=list(shapes.items()),
        late=late,
        rejection=rejection,
    )


def gap_submission(agent_id: int, seq: int, ranges: Ranges, reason: str = "quota", of_epoch: int = 1) -> Submission:
    return submission(agent_id, seq, data=encode_gap_body(GapRecord(of_epoch, ranges, reason, 0, 0)))


class Rig:
    """An intake with its writer. Time stands still unless `now_ms` is moved; the test's thread is the event loop."""

    def __init__(self, database: Database, rules: Mapping[str, Rule] | None = None) -> None:
        self.database = database
        self.rules = dict(RULES if rules is None else rules)
        self.now_ms = NOW_MS
        self.errors: list[BaseException] = []
        self.live = LiveTable()
        self._calls: queue.Queue[tuple[Callable[..., object], tuple[Any, ...]]] = queue.Queue()
        self.open()

    def open(self) -> None:
        """Begin with an empty memory, as a collector that just started."""
        self.writer = Writer(self.database, self.errors.append)
        self.intake = Intake(
            self.database,
            self.writer,
            self.live,
            lambda call, *arguments: self._calls.put((call, arguments)),
            lambda: self.now_ms,
        )

    def reopen(self) -> None:
        self.close()
        self.open()

    def close(self) -> None:
        self.writer.close()

    def enrol(self, hostname: str = "pc-1", asset_class: str = "server") -> int:
        machine = agents.Machine(hostname, f"machine-{hostname}", "0.1.0", "linux-x86_64")
        enrolled = self.writer.call(
            lambda connection: agents.enrol(
                connection, machine, b"key", asset_class=asset_class, labels={}, actor="test", now_ms=self.now_ms
            )
        ).result(PATIENCE_S)
        return enrolled.id

    def hello(
        self,
        agent_id: int,
        epoch: int = 0,
        next_seq: int = 1,
        held: Mapping[int, Ranges] | None = None,
        session: bytes = SESSION,
    ) -> Greeted:
        said = Hello(b"", epoch, next_seq, held or {}, "0.1.0", "linux", "pc-1", "machine", "boot", "")
        return self.do(lambda work: accept_hello(work, agent_id, said, session, lambda _record: self.rules))

    def do(self, function: Callable[..., Any]) -> Any:
        """Run a function in a unit of work, durably."""
        return self.intake.execute(function).result(PATIENCE_S)

    def send(self, *reports: Submission) -> list[Outcome]:
        """Hand over reports at once, wait for all of them."""
        for report in reports:
            self.intake.submit(report)
        self.wait_for(*reports)
        return [report.outcome for report in reports]

    def wait_for(self, *reports: Submission) -> None:
        """Carry out what the writer hands to the event loop until these reports were delivered."""
        while not all(self._was_told(report) for report in reports):
            call, arguments = self._calls.get(timeout=PATIENCE_S)
            call(*arguments)

    def report(self, agent_id: int, seq: int, *runs: EncodedRun, **more: Any) -> Outcome:
        """Send one report."""
        return self.send(submission(agent_id, seq, *runs, **more))[0]

    @staticmethod
    def _was_told(report: Submission) -> bool:
        receiver = report.receiver
        assert isinstance(receiver, Receiver)
        return (report.epoch, report.seq) in {(epoch, seq) for epoch, seq, _ in receiver.heard}

    # What is in the database

    def rows(self, table: Table) -> list[dict[str, Any]]:
        with self.database.read() as connection:
            key = list(table.primary_key.columns)
            return [dict(row) for row in connection.execute(select(table).order_by(*key)).mappings()]

    def counts(self) -> dict[str, int]:
        """Rows of every table."""
        with self.database.read() as connection:
            return {
                table.name: connection.scalar(select(func.count()).select_from(table)) or 0
                for table in metadata.sorted_tables
            }

    def unexplained(self) -> int:
        with self.database.read() as connection:
            return sum(account.unexplained for account in accounts(connection))

    def faults(self, state: str = "open") -> list[tuple[str, str, str]]:
        """(check, item, severity) of faults."""
        return [(row["check"], row["item"], row["severity"]) for row in self.rows(fault) if row["state"] == state]

    def tickets(self) -> list[tuple[str, str]]:
        """(number, state)."""
        return [(row["number"], row["state"]) for row in self.rows(ticket)]

    def events(self) -> list[str]:
        """Kinds of all ticket events, in order."""
        return [row["kind"] for row in self.rows(ticket_event)]

    def statuses(self) -> dict[tuple[str, str], str]:
        return {(row["check"], row["item"]): row["status"] for row in self.rows(subject)}

    def spans(self, late: bool = False) -> list[tuple[str, str]]:
        """(check, status) of the history's rows, presence left out."""
        names = {row["id"]: row["check"] for row in self.rows(subject)}
        return [
            (names[row["subject_id"]], row["status"])
            for row in self.rows(span)
            if row["late"] is late and names[row["subject_id"]] != "presence"
        ]


@contextmanager
def rig_on(database: Database, **more: Any) -> Iterator[Rig]:
    made = Rig(database, **more)
    try:
        yield made
    finally:
        made.close()
