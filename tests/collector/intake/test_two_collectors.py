"""Two collectors on one PostgreSQL: the database itself sees to it that nothing happens twice."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from intake_rig import AT_ONCE, SESSION, Rig, rig_on, run, submission
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from gengfu_checks.model import Status
from gengfu_collector.intake.greeting import end_stream
from gengfu_collector.intake.presence import note_overdue
from gengfu_collector.intake.submission import Outcome
from gengfu_collector.store.database import Database, open_database
from gengfu_collector.store.schema import agent, fault, ledger, rejected_report, report, ticket

BAD = Status.CRITICAL
RULES = {"disk": AT_ONCE}


@pytest.fixture
def pair(postgres_database: Database, tmp_path: Path) -> Iterator[tuple[Rig, Rig]]:
    url = postgres_database.engine.url.render_as_string(hide_password=False)
    second = open_database(tmp_path, url)
    with rig_on(postgres_database, rules=RULES) as one, rig_on(second, rules=RULES) as other:
        yield one, other
    second.close()


def at_once(*functions: Callable[[], Any]) -> None:
    """Run functions at the same time, each on a thread of its own."""
    errors: list[BaseException] = []
    together = threading.Barrier(len(functions))

    def work(function: Callable[[], Any]) -> None:
        together.wait()
        try:
            function()
        except Exception as error:  # noqa: BLE001 - told below
            errors.append(error)

    threads = [threading.Thread(target=work, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def check_that_all_is_single(rig: Rig) -> None:
    open_faults = Counter(row["subject_id"] for row in rig.rows(fault) if row["state"] == "open")
    unresolved = Counter(row["subject_id"] for row in rig.rows(ticket) if row["state"] in ("open", "acknowledged"))
    assert set(open_faults.values()) <= {1}
    assert open_faults == unresolved
    numbers = sorted(number for number, _ in rig.tickets())
    assert numbers == [f"GF-2027-{n:06d}" for n in range(1, len(numbers) + 1)]
    assert rig.unexplained() == 0


def test_both_find_the_same_agents_overdue(pair: tuple[Rig, Rig]) -> None:
    one, other = pair
    agents = [one.enrol(f"pc-{n}") for n in range(12)]
    for rig in pair:
        for agent_id in agents:
            rig.hello(agent_id, epoch=1, next_seq=1)

    def overdue(work: Any) -> None:
        for agent_id in agents:
            end_stream(work, agent_id, SESSION, False, work.now_ms)

    one.do(overdue)

    def sweep(rig: Rig) -> None:
        # As the regular work does: what fails is tried again in the next round.
        for _ in range(5):
            try:
                rig.do(lambda work: note_overdue(work, ()))
            except SQLAlchemyError:
                continue

    at_once(lambda: sweep(one), lambda: sweep(other))
    check_that_all_is_single(one)
    assert len(one.faults()) == len(agents)
    assert one.events() == ["opened"] * len(agents)
    assert {row["absent_after_ms"] for row in one.rows(agent)} == {None}


def test_an_agent_that_moved_on_is_not_missed_when_its_old_stream_ends_at_last(pair: tuple[Rig, Rig]) -> None:
    one, other = pair
    agent_id = one.enrol()
    one.hello(agent_id, session=b"first")
    other.hello(agent_id, session=b"second")
    one.do(lambda work: end_stream(work, agent_id, b"first", False, work.now_ms))
    assert one.do(lambda work: note_overdue(work, ())) == []
    assert one.tickets() == []
    other.do(lambda work: end_stream(work, agent_id, b"second", False, work.now_ms))
    assert one.do(lambda work: note_overdue(work, ())) == [agent_id]


def test_one_agents_reports_reach_both(pair: tuple[Rig, Rig]) -> None:
    """A half-dead stream at one collector still delivers what the agent repeats at the other."""
    one, other = pair
    agents = [one.enrol(f"pc-{n}") for n in range(3)]
    count = 40
    for rig in pair:
        for agent_id in agents:
            rig.hello(agent_id, epoch=1, next_seq=1)

    def reports(agent_id: int, seq: int) -> Any:
        return submission(agent_id, seq, run("disk", BAD if seq % 4 < 2 else Status.OK, f"/{seq % 3}"))

    def deliver(rig: Rig) -> None:
        waiting = [(agent_id, seq) for seq in range(1, count + 1) for agent_id in agents]
        while waiting:
            batch, waiting = waiting[:9], waiting[9:]
            outcomes = rig.send(*(reports(*key) for key in batch))
            assert set(outcomes) <= {Outcome.STORED, Outcome.DUPLICATE, Outcome.RETRY}
            waiting = [key for key, outcome in zip(batch, outcomes, strict=True) if outcome is Outcome.RETRY] + waiting

    at_once(lambda: deliver(one), lambda: deliver(other))
    check_that_all_is_single(one)
    assert one.rows(rejected_report) == []
    assert len(one.rows(report)) == count * len(agents)
    assert [(row["high_water"], row["stored"]) for row in one.rows(ledger)] == [(count, count)] * len(agents)


def test_what_one_accounts_for_is_not_taken_back_by_the_other(pair: tuple[Rig, Rig]) -> None:
    one, other = pair
    agent_id = one.enrol()
    one.hello(agent_id)
    other.hello(agent_id, epoch=1, next_seq=1)
    assert one.report(agent_id, 1, run("disk", BAD)) is Outcome.STORED
    # The other still believes that nothing was stored.
    assert other.report(agent_id, 2, run("disk", BAD, value=2)) is Outcome.STORED
    assert one.report(agent_id, 3, run("disk", value=3)) is Outcome.STORED
    assert other.report(agent_id, 1, run("disk", BAD)) is Outcome.DUPLICATE
    (account,) = one.rows(ledger)
    assert (account["high_water"], account["stored"]) == (3, 3)
    assert one.events() == ["opened", "resolved"]
    check_that_all_is_single(one)


def test_the_database_refuses_a_second_open_fault_of_a_subject(pair: tuple[Rig, Rig]) -> None:
    one, _ = pair
    agent_id = one.enrol()
    one.hello(agent_id)
    one.report(agent_id, 1, run("disk", BAD))
    for table in (fault, ticket):
        copy = {**one.rows(table)[0], "id": 999_999}
        if table is ticket:
            copy["number"] = "GF-2027-999999"
        with pytest.raises(IntegrityError):
            one.do(lambda work, table=table, copy=copy: work.connection.execute(table.insert().values(copy)))
    check_that_all_is_single(one)
