"""Report bytes that are older than they are kept go; every account stays whole, and history stays."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from intake_rig import HOUR_MS, NOW_MS, Rig, gap_submission, rig_on, run, submission

from gengfu_checks.model import Status
from gengfu_collector.intake import audit, redelivery
from gengfu_collector.intake.audit import accounts, prune, prune_shapes
from gengfu_collector.intake.submission import Outcome, Rejection, RejectionReason
from gengfu_collector.store.database import Database
from gengfu_collector.store.schema import ledger, renumbered, report, shape


@pytest.fixture
def rig(any_database: Database) -> Iterator[Rig]:
    with rig_on(any_database) as made:
        yield made


def prune_all(rig: Rig, older_than_ms: int) -> int:
    total = 0
    while batch := rig.do(lambda work: prune(work.connection, older_than_ms)):
        total += batch
    return total


def test_accounts_stay_whole_when_old_bytes_go(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "PRUNE_BATCH", 3)
    first, second = rig.enrol("pc-1"), rig.enrol("pc-2")
    for agent_id in (first, second):
        rig.hello(agent_id)
        rig.send(*(submission(agent_id, seq, run("disk", Status.CRITICAL, value=seq)) for seq in range(1, 8)))
        rig.send(submission(agent_id, 8, run("disk"), rejection=Rejection(RejectionReason.LIMIT, "no")))
        rig.send(gap_submission(agent_id, 12, ((9, 11),)))
    rig.now_ms += HOUR_MS
    rig.report(first, 13, run("disk", Status.CRITICAL))
    spans, tickets = rig.spans(), rig.tickets()
    assert prune_all(rig, NOW_MS + 1) == 16
    assert [(row["agent_id"], row["seq"]) for row in rig.rows(report)] == [(first, 13)]
    assert [(row["stored"], row["rejected"], row["gaps"], row["pruned"]) for row in rig.rows(ledger)] == [
        (9, 1, 3, 8),
        (8, 1, 3, 8),
    ]
    assert (rig.unexplained(), rig.spans(), rig.tickets()) == (0, spans, tickets)


def test_nothing_is_pruned_before_its_time(rig: Rig) -> None:
    agent_id = rig.enrol()
    rig.hello(agent_id)
    rig.report(agent_id, 1, run("disk"))
    assert prune_all(rig, NOW_MS) == 0
    assert len(rig.rows(report)) == 1


def test_pruning_goes_on_behind_reports_that_came_while_the_clock_was_wrong(rig: Rig) -> None:
    agent_id = rig.enrol()
    rig.hello(agent_id)
    rig.now_ms = NOW_MS + 10 * HOUR_MS
    rig.report(agent_id, 1, run("disk"))
    rig.now_ms = NOW_MS
    rig.report(agent_id, 2, run("disk"))
    assert prune_all(rig, NOW_MS + 1) == 1
    assert [row["seq"] for row in rig.rows(report)] == [1]
    assert rig.unexplained() == 0


def test_a_report_whose_bytes_are_gone_is_still_known(rig: Rig) -> None:
    agent_id = rig.enrol()
    rig.hello(agent_id)
    rig.report(agent_id, 1, run("disk"))
    prune_all(rig, NOW_MS + 1)
    assert rig.report(agent_id, 1, run("disk")) is Outcome.DUPLICATE
    assert (rig.rows(report), rig.unexplained()) == ([], 0)


def test_what_was_noted_of_renumbered_reports_goes_with_them(rig: Rig) -> None:
    agent_id = rig.enrol()
    rig.hello(agent_id)
    rig.report(agent_id, 1, run("disk"))
    for value in (2, 3):
        assert rig.report(agent_id, 1, run("disk", value=value)) is Outcome.RENUMBER
    rig.now_ms += HOUR_MS
    rig.report(agent_id, 2, run("disk", value=3))
    assert rig.do(lambda work: redelivery.prune(work.connection, NOW_MS + 1)) == 1
    assert [row["came"] for row in rig.rows(renumbered)] == [True]
    assert rig.do(lambda work: redelivery.prune(work.connection, NOW_MS + HOUR_MS + 1)) == 1


def test_reports_go_on_while_others_are_pruned(rig: Rig) -> None:
    """The account in memory knows nothing of pruning; what it writes must not take the count back."""
    agent_id = rig.enrol()
    rig.hello(agent_id)
    rig.report(agent_id, 1, run("disk"))
    prune_all(rig, NOW_MS + 1)
    rig.now_ms += HOUR_MS
    rig.report(agent_id, 2, run("disk"))
    (row,) = rig.rows(ledger)
    assert (row["stored"], row["pruned"], rig.unexplained()) == (2, 1, 0)


def test_a_shape_in_use_stays(rig: Rig) -> None:
    agent_id = rig.enrol()
    rig.hello(agent_id)
    old, new = run("disk"), run("cpu")
    rig.report(agent_id, 1, old)
    rig.report(agent_id, 2, new)
    rig.now_ms += 25 * HOUR_MS
    rig.report(agent_id, 3, new)
    assert rig.do(lambda work: prune_shapes(work.connection, NOW_MS + 1)) == 1
    assert [row["id"] for row in rig.rows(shape)] == [new.shape_id]
    # The memory still believes that it is there: one that comes back is stored again.
    rig.report(agent_id, 4, old)
    assert {row["id"] for row in rig.rows(shape)} == {old.shape_id, new.shape_id}


def test_an_account_that_does_not_add_up_is_told(rig: Rig) -> None:
    agent_id = rig.enrol()
    rig.hello(agent_id)
    rig.send(*(submission(agent_id, seq, run("disk", value=seq)) for seq in (1, 2, 3)))
    rig.do(lambda work: work.connection.execute(report.delete().where(report.c.seq == 2)))
    assert rig.unexplained() == 1
    rig.do(lambda work: work.connection.execute(ledger.update().values(high_water=9)))
    assert rig.unexplained() == 1 + 6


def test_the_recount_sees_one_moment_while_reports_come_in(rig: Rig) -> None:
    agent_id = rig.enrol()
    rig.hello(agent_id)
    rig.report(agent_id, 1, run("disk", value=1))
    with rig.database.read() as connection:
        assert connection.scalar(report.select().with_only_columns(report.c.id)) is not None
        rig.report(agent_id, 2, run("disk", value=2))
        assert [(account.stored, account.rows, account.unexplained) for account in accounts(connection)] == [(1, 1, 0)]
