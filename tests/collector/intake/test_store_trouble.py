"""A store that cannot be written: nothing is acknowledged or remembered that is not stored, and it recovers."""

from __future__ import annotations

import asyncio
import copy
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from intake_rig import PATIENCE_S, Rig, rig_on, run, submission
from sqlalchemy import event, text
from sqlalchemy.exc import OperationalError

from gengfu_checks.model import Status
from gengfu_collector.errors import Overloaded
from gengfu_collector.intake.submission import Outcome
from gengfu_collector.store import writer as writer_module
from gengfu_collector.store.database import Database, open_database
from gengfu_collector.store.schema import ledger, report

BAD = Status.CRITICAL


@pytest.fixture
def rig(any_database: Database) -> Iterator[Rig]:
    with rig_on(any_database) as made:
        yield made


@pytest.fixture
def agent_id(rig: Rig) -> int:
    found = rig.enrol()
    rig.hello(found)
    return found


class Failing:
    """Makes statements that begin so fail, as a database does that cannot write."""

    def __init__(self, database: Database, begins_with: str) -> None:
        self._engine, self._begins_with = database.engine, begins_with
        self.count = 0

    def __enter__(self) -> Failing:
        event.listen(self._engine, "before_cursor_execute", self._fail)
        return self

    def __exit__(self, *_error: object) -> None:
        event.remove(self._engine, "before_cursor_execute", self._fail)

    def _fail(self, _connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if statement.startswith(self._begins_with):
            self.count += 1
            raise OperationalError(statement, {}, Exception("disk I/O error"))


def remembered(rig: Rig) -> Any:
    return copy.deepcopy(
        (rig.intake.memory.agents, rig.intake.memory.rules, rig.intake.memory.ids, rig.intake.memory.shapes_seen_at_ms)
    )


@pytest.mark.parametrize(
    "begins_with", ["INSERT INTO report", "INSERT INTO ticket ", "UPDATE ledger", "INSERT INTO outbox"]
)
def test_what_cannot_be_stored_is_not_acknowledged_and_not_remembered(
    rig: Rig, agent_id: int, begins_with: str
) -> None:
    rig.report(agent_id, 1, run("disk"))
    before, rows = remembered(rig), rig.counts()
    with Failing(rig.database, begins_with):
        assert rig.send(*(submission(agent_id, n, run("disk", BAD, f"/{n}")) for n in (2, 3))) == [Outcome.RETRY] * 2
    assert (remembered(rig), rig.counts()) == (before, rows)
    assert rig.send(*(submission(agent_id, n, run("disk", BAD, f"/{n}")) for n in (2, 3))) == [Outcome.STORED] * 2
    assert (len(rig.faults()), rig.tickets(), rig.unexplained()) == (
        2,
        [("GF-2027-000001", "open"), ("GF-2027-000002", "open")],
        0,
    )


def test_a_commit_that_fails_acknowledges_nothing(rig: Rig, agent_id: int, monkeypatch: pytest.MonkeyPatch) -> None:
    before, rows = remembered(rig), rig.counts()
    dialect = rig.database.engine.dialect
    commit, broken = dialect.do_commit, True

    def fail(connection: Any) -> None:
        if broken:
            raise OperationalError("COMMIT", {}, Exception("disk full"))
        commit(connection)

    monkeypatch.setattr(dialect, "do_commit", fail)
    assert rig.report(agent_id, 1, run("disk", BAD)) is Outcome.RETRY
    broken = False
    assert (remembered(rig), rig.counts()) == (before, rows)
    assert rig.report(agent_id, 1, run("disk", BAD)) is Outcome.STORED


def test_a_database_that_is_gone_sends_everybody_away_instead_of_turning_in_circles(rig: Rig, agent_id: int) -> None:
    def refuse(_connection: Any) -> None:
        raise OperationalError("BEGIN", {}, Exception("connection refused"))

    event.listen(rig.database.engine, "begin", refuse)
    reports = [submission(agent_id, n, run("disk")) for n in range(1, 20)]
    assert rig.send(*reports) == [Outcome.RETRY] * 19
    event.remove(rig.database.engine, "begin", refuse)
    assert len(rig.errors) <= len(reports)
    assert rig.intake.waiting == 0
    assert rig.send(*(submission(agent_id, n, run("disk")) for n in range(1, 20))) == [Outcome.STORED] * 19


@contextmanager
def held_writer(rig: Rig) -> Iterator[None]:
    """Whatever is queued inside shares one transaction."""
    begun, go_on = threading.Event(), threading.Event()
    held = rig.writer.call(lambda _connection: (begun.set(), go_on.wait(PATIENCE_S)))
    assert begun.wait(PATIENCE_S)
    try:
        yield
    finally:
        go_on.set()
        held.result(PATIENCE_S)


def fail(_work: Any) -> None:
    raise ArithmeticError("a defect")


def test_a_job_that_fails_harms_none_of_those_that_share_its_transaction(rig: Rig, agent_id: int) -> None:
    rig.reopen()
    sent = submission(agent_id, 1, run("disk", BAD))
    with held_writer(rig):
        rig.intake.submit(sent)
        greeted = rig.intake.execute(lambda work: work.forget(agent_id) or work.agent(agent_id))
        failed = rig.intake.execute(fail)
    rig.wait_for(sent)
    assert sent.outcome is Outcome.STORED
    assert greeted.result(PATIENCE_S).id == agent_id
    with pytest.raises(ArithmeticError):
        failed.result(PATIENCE_S)
    assert rig.unexplained() == 0


def test_an_undone_transaction_leaves_the_memory_as_it_was(rig: Rig, agent_id: int) -> None:
    rig.report(agent_id, 1, run("disk"))
    before = remembered(rig)

    def spoil(work: Any) -> None:
        record = work.agent(agent_id)
        work.set_rules(record, {})
        work.forget(agent_id)
        work.set(work.agent(agent_id), "epoch", 99)
        work.forget(agent_id)
        raise ArithmeticError("a defect")

    with pytest.raises(ArithmeticError):
        rig.do(spoil)
    assert remembered(rig) == before


async def test_a_caller_that_goes_away_does_not_stop_the_writer(rig: Rig, agent_id: int) -> None:
    with held_writer(rig):
        waiting = asyncio.ensure_future(asyncio.wrap_future(rig.intake.execute(lambda work: work.now_ms)))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    assert rig.do(lambda work: work.now_ms) == rig.now_ms


def test_a_full_queue_refuses_callers_and_goes_on_with_reports(
    rig: Rig, agent_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "MAX_QUEUED_JOBS", 3)
    first, second = (submission(agent_id, n, run("disk")) for n in (1, 2))
    with held_writer(rig):
        for _ in range(3):
            rig.intake.execute(lambda work: None)
        with pytest.raises(Overloaded):
            rig.intake.execute(lambda work: None)
        rig.intake.submit(first)
    rig.wait_for(first)
    assert rig.send(second) == [Outcome.STORED]
    assert first.outcome is Outcome.STORED


def test_a_connection_that_dies_under_a_report_costs_no_report(
    postgres_database: Database, postgres_server: Any
) -> None:
    with rig_on(postgres_database) as rig:
        agent_id = rig.enrol()
        rig.hello(agent_id)
        killed: list[int] = []

        def kill(connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
            if statement.startswith("INSERT INTO report") and not killed:
                killed.append(connection.connection.dbapi_connection.info.backend_pid)
                postgres_server.execute(f"SELECT pg_terminate_backend({killed[0]})")

        event.listen(postgres_database.engine, "before_cursor_execute", kill)
        first, second = rig.report(agent_id, 1, run("disk", BAD)), rig.report(agent_id, 1, run("disk", BAD))
        assert (first, second) in [(Outcome.RETRY, Outcome.STORED), (Outcome.STORED, Outcome.DUPLICATE)]
        assert killed
        assert (len(rig.rows(report)), len(rig.tickets()), rig.unexplained()) == (1, 1, 0)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two MiB of its own."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a file system")
    folder = tmp_path / "small"
    folder.mkdir()
    made = subprocess.run(
        ["/usr/bin/env", "mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if made.returncode != 0:
        pytest.skip(f"cannot mount a file system here: {made.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["/usr/bin/env", "umount", "--lazy", str(folder)], check=True)


def fill(folder: Path, leave_bytes: int) -> Callable[[], None]:
    """Fill a file system but for some bytes; returns what frees it again."""
    room = os.statvfs(folder)
    filler = folder / "filler"
    filler.write_bytes(b"x" * (room.f_bavail * room.f_frsize - leave_bytes))
    return filler.unlink


def test_a_full_disk_acknowledges_nothing_keeps_what_is_stored_and_recovers_by_itself(small_disk: Path) -> None:
    database = open_database(small_disk)
    with rig_on(database) as rig:
        agent_id = rig.enrol()
        rig.hello(agent_id)
        assert rig.report(agent_id, 1, run("disk")) is Outcome.STORED
        free = fill(small_disk, 64 * 1024)
        outcomes = []
        for seq in range(2, 60):
            before = remembered(rig)
            big = [run("disk", BAD, f"/{'x' * 200}{n}") for n in range(40)]
            outcomes.append(rig.report(agent_id, seq, *big))
            if outcomes[-1] is Outcome.RETRY:
                assert remembered(rig) == before
                break
        assert outcomes[-1] is Outcome.RETRY
        stored = outcomes.count(Outcome.STORED) + 1
        assert (len(rig.rows(report)), rig.rows(ledger)[0]["high_water"]) == (stored, stored)
        free()
        assert rig.report(agent_id, stored + 1, run("disk", BAD, "/after")) is Outcome.STORED
        assert rig.unexplained() == 0
    with database.read() as connection:
        assert connection.execute(text("PRAGMA integrity_check")).scalar_one() == "ok"
    database.close()
