"""The beginning of a stream: epochs, gaps, and old copies put back on either side."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from intake_rig import AT_ONCE, HOUR_MS, NOW_MS, RULES, Rig, finding, rig_on, run, submission

from gengfu_checks.model import Status
from gengfu_collector.faults.model import Rule
from gengfu_collector.intake import redelivery
from gengfu_collector.intake.submission import Outcome
from gengfu_collector.store.database import DATABASE_FILE, Database, open_database
from gengfu_collector.store.schema import agent, fault, gap, ledger, report, ticket_event
from gengfu_proto.convert.report import EncodedRun

BAD = Status.CRITICAL


@pytest.fixture
def rig(any_database: Database) -> Iterator[Rig]:
    with rig_on(any_database) as made:
        yield made


@pytest.fixture
def agent_id(rig: Rig) -> int:
    return rig.enrol()


def lost(rig: Rig) -> list[tuple[int, int, int, str]]:
    return [(row["epoch"], row["first_seq"], row["last_seq"], row["reason"]) for row in rig.rows(gap)]


def test_the_first_hello_opens_the_first_epoch(rig: Rig, agent_id: int) -> None:
    greeted = rig.hello(agent_id)
    assert (greeted.epoch, greeted.stored, greeted.high_water, greeted.rewound) == (1, (), 0, False)
    (row,) = rig.rows(agent)
    assert (row["epoch"], row["last_seen_at_ms"], row["absent_after_ms"]) == (1, NOW_MS, None)
    assert rig.statuses() == {("presence", ""): "ok"}


def test_an_agent_that_comes_back_goes_on_and_hears_what_is_stored(rig: Rig, agent_id: int) -> None:
    rig.hello(agent_id)
    for seq in (1, 2, 5):
        rig.report(agent_id, seq, run("disk"))
    greeted = rig.hello(agent_id, epoch=1, next_seq=8, held={1: ((4, 4), (6, 7))})
    assert (greeted.epoch, greeted.stored, greeted.high_water) == (1, ((1, 3), (5, 5)), 5)
    assert lost(rig) == [(1, 3, 3, "collector_rewound")]
    assert rig.send(*(submission(agent_id, seq, run("disk"), late=True) for seq in (4, 6, 7))) == [Outcome.STORED] * 3
    assert (rig.rows(ledger)[0]["high_water"], rig.unexplained()) == (7, 0)


def test_the_answer_to_hello_is_the_same_when_it_is_asked_again(rig: Rig, agent_id: int) -> None:
    rig.hello(agent_id)
    rig.report(agent_id, 1, run("disk"))
    first = rig.hello(agent_id, epoch=1, next_seq=2)
    rows = rig.counts()
    second = rig.hello(agent_id, epoch=1, next_seq=2)
    assert (first.epoch, first.stored) == (second.epoch, second.stored)
    assert rig.counts() == rows


def test_a_spool_that_begins_anew_gets_a_new_epoch_and_what_was_under_way_is_a_gap(rig: Rig, agent_id: int) -> None:
    rig.hello(agent_id)
    for seq in (1, 2, 6):
        rig.report(agent_id, seq, run("disk"))
    assert rig.hello(agent_id).epoch == 2
    assert lost(rig) == [(1, 3, 5, "rewound")]
    assert rig.report(agent_id, 1, run("disk", BAD), epoch=2) is Outcome.STORED
    assert rig.faults() == [("disk", "", "critical")]
    assert rig.unexplained() == 0


def test_an_old_copy_of_the_spool_gets_a_new_epoch_and_every_number_is_accounted_for(rig: Rig, agent_id: int) -> None:
    """A virtual machine is put back to its snapshot: numbers 1 to 4 are known, 5 to 8 are given out again."""
    rig.hello(agent_id)
    first = [submission(agent_id, seq, run("disk", value=seq)) for seq in range(1, 9)]
    rig.send(*first)
    greeted = rig.hello(agent_id, epoch=1, next_seq=5, held={1: ((3, 4),)})
    assert (greeted.epoch, greeted.rewound, greeted.stored) == (2, True, ((1, 8),))
    again = [submission(agent_id, seq, run("disk", value=seq)) for seq in (3, 4)]
    assert rig.send(*again) == [Outcome.DUPLICATE] * 2
    assert rig.report(agent_id, 5, run("disk", BAD, value=99)) is Outcome.RENUMBER
    assert rig.report(agent_id, 1, run("disk", BAD, value=99), epoch=2) is Outcome.STORED
    assert (lost(rig), rig.unexplained()) == ([], 0)


def put_back_under_taken_numbers(rig: Rig, agent_id: int) -> list[EncodedRun]:
    """A copy of the spool from before number 3 goes on without its collector: 3 and 4 are given out again."""
    rig.send(*(submission(agent_id, seq, run("disk", value=seq)) for seq in range(1, 6)))
    return [run("disk", BAD, value=seq) for seq in (33, 44)]


def test_a_copy_from_before_a_renumbering_delivers_nothing_for_the_second_time(rig: Rig, agent_id: int) -> None:
    rig.hello(agent_id)
    again = put_back_under_taken_numbers(rig, agent_id)
    for epoch in (2, 3, 4):
        assert rig.hello(agent_id, epoch=1, next_seq=5, held={1: ((3, 4),)}).epoch == epoch
        taken = rig.send(*(submission(agent_id, seq, part) for seq, part in zip((3, 4), again, strict=True)))
        if epoch == 2:
            assert taken == [Outcome.RENUMBER] * 2
            # Asked once more, as the answer was lost.
            assert rig.report(agent_id, 3, again[0]) is Outcome.RENUMBER
            renumbered = [submission(agent_id, seq, part, epoch=2) for seq, part in zip((1, 2), again, strict=True)]
            assert rig.send(*renumbered) == [Outcome.STORED] * 2
        else:
            assert taken == [Outcome.DUPLICATE] * 2
        rig.reopen()
    assert rig.report(agent_id, 1, run("disk", value=55), epoch=4) is Outcome.STORED
    assert len(rig.rows(report)) == 5 + 2 + 1
    assert (len(rig.tickets()), lost(rig), rig.unexplained()) == (1, [], 0)


def test_a_copy_from_before_the_first_contact_delivers_nothing_for_the_second_time(rig: Rig, agent_id: int) -> None:
    """A machine that falls back to such a copy with every start has given its first numbers before their epoch's."""
    first = [run("disk", BAD, value=seq) for seq in (1, 2)]
    for epoch in (1, 2, 3):
        assert rig.hello(agent_id, epoch=0, next_seq=4).epoch == epoch
        rig.reopen()
        held = [*first, run("disk", value=10 + epoch)]
        outcomes = rig.send(*(submission(agent_id, seq, part, epoch=epoch) for seq, part in enumerate(held, 1)))
        assert outcomes == [Outcome.STORED if epoch == 1 else Outcome.DUPLICATE] * 2 + [Outcome.STORED]
        assert rig.report(agent_id, 4, first[0], epoch=epoch) is Outcome.STORED
        rig.now_ms += HOUR_MS
        if epoch == 2:
            # What came again is not forgotten with what came for the first time.
            assert rig.do(lambda work: redelivery.prune(work.connection, NOW_MS + 1)) == 1
    assert (len(rig.rows(report)), rig.unexplained()) == (2 + 3 + 3, 0)
    assert lost(rig) == [(epoch, seq, seq, "delivered_before") for epoch in (2, 3) for seq in (1, 2)]


@pytest.mark.parametrize("together", [True, False])
def test_what_came_under_one_new_number_has_no_effect_under_another(rig: Rig, agent_id: int, together: bool) -> None:
    """The copy was made after its reports had got new numbers, and another copy has delivered them meanwhile."""
    rig.hello(agent_id)
    again = put_back_under_taken_numbers(rig, agent_id)
    rig.hello(agent_id, epoch=1, next_seq=5)
    rig.report(agent_id, 3, again[0])
    rig.hello(agent_id, epoch=1, next_seq=5)
    both = [submission(agent_id, seq, again[0], epoch=epoch, late=True) for epoch, seq in ((3, 1), (2, 1), (2, 1))]
    outcomes = rig.send(*both) if together else [outcome for one in both for outcome in rig.send(one)]
    assert outcomes == [Outcome.STORED, Outcome.DUPLICATE, Outcome.DUPLICATE]
    assert len(rig.rows(report)) == 5 + 1
    assert (lost(rig), rig.unexplained()) == ([(2, 1, 1, "delivered_before")], 0)


def test_an_old_copy_of_the_database_is_caught_up_with_and_nothing_is_unexplained(tmp_path: Path) -> None:
    """The collector's database is put back from a backup: what was acknowledged since is a gap, said so."""
    data, backup = tmp_path / "data", tmp_path / "backup"
    data.mkdir()
    database = open_database(data)
    with rig_on(database) as rig:
        agent_id = rig.enrol()
        rig.hello(agent_id)
        rig.send(*(submission(agent_id, seq, run("disk", value=seq)) for seq in range(1, 5)))
        rig.report(agent_id, 5, run("disk", BAD))
    database.close()
    shutil.copytree(data, backup)
    database = open_database(data)
    with rig_on(database) as rig:
        rig.hello(agent_id, epoch=1, next_seq=6)
        rig.send(*(submission(agent_id, seq, run("disk", value=seq)) for seq in range(6, 11)))
        assert rig.tickets() == [("GF-2027-000001", "resolved")]
    database.close()
    shutil.rmtree(data)
    shutil.move(backup, data)
    assert (data / DATABASE_FILE).exists()
    database = open_database(data)
    with rig_on(database) as rig:
        assert rig.tickets() == [("GF-2027-000001", "open")]
        # 11 and 12 were not sent yet; 6 to 10 were acknowledged and left the spool.
        greeted = rig.hello(agent_id, epoch=1, next_seq=13, held={1: ((11, 12),)})
        assert (greeted.epoch, greeted.rewound) == (1, False)
        assert lost(rig) == [(1, 6, 10, "collector_rewound")]
        assert rig.send(*(submission(agent_id, seq, run("disk")) for seq in (11, 12))) == [Outcome.STORED] * 2
        assert rig.tickets() == [("GF-2027-000001", "resolved")]
        assert (rig.rows(ledger)[0]["high_water"], rig.unexplained()) == (12, 0)
    database.close()


def test_a_restored_database_follows_the_agent_into_its_later_epoch(rig: Rig, agent_id: int) -> None:
    rig.hello(agent_id)
    rig.report(agent_id, 1, run("disk"))
    greeted = rig.hello(agent_id, epoch=4, next_seq=3, held={4: ((2, 2),)})
    assert (greeted.epoch, greeted.rewound) == (4, False)
    assert lost(rig) == [(4, 1, 1, "collector_rewound")]
    assert rig.report(agent_id, 2, run("disk", BAD), epoch=4) is Outcome.STORED
    assert (rig.faults(), rig.unexplained()) == ([("disk", "", "critical")], 0)


def test_a_check_that_leaves_the_plan_ends_its_faults_with_that_reason(rig: Rig, agent_id: int) -> None:
    rig.hello(agent_id)
    rig.report(agent_id, 1, run("disk", BAD))
    rig.rules = {"cpu": AT_ONCE}
    rig.hello(agent_id, epoch=1, next_seq=2)
    (only,) = rig.rows(fault)
    assert (only["state"], only["closed_reason"]) == ("closed", "no longer in the plan")
    assert [state for _, state in rig.tickets()] == ["resolved"]
    assert "no longer in the plan" in rig.rows(ticket_event)[-1]["data"]


def test_an_item_that_leaves_the_plan_ends_its_fault_and_what_was_under_way_opens_none(rig: Rig, agent_id: int) -> None:
    rig.hello(agent_id)
    rig.report(agent_id, 1, run("disk", BAD, "a", None, finding("disk", "b", BAD)))
    rig.rules = {"disk": Rule(confirm=1, recover=1, items=frozenset("a"))}
    rig.hello(agent_id, epoch=1, next_seq=2)
    assert rig.faults() == [("disk", "a", "critical")]
    rig.report(agent_id, 2, run("disk", BAD, "a", None, finding("disk", "b", BAD)))
    assert rig.faults() == [("disk", "a", "critical")]
    assert [row["closed_reason"] for row in rig.rows(fault) if row["state"] == "closed"] == ["no longer in the plan"]


def test_a_fault_of_a_check_that_stays_in_the_plan_outlives_hello(rig: Rig, agent_id: int) -> None:
    rig.hello(agent_id)
    rig.report(agent_id, 1, run("disk", BAD))
    rig.rules = {**RULES, "more": AT_ONCE}
    rig.hello(agent_id, epoch=1, next_seq=2)
    assert (rig.faults(), rig.events()) == ([("disk", "", "critical")], ["opened"])
