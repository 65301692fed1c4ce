"""What becomes of a report: stored, known already, renumbered or a dead letter; and what follows from it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from intake_rig import NOW_MS, Rig, finding, gap_submission, rig_on, run, submission

from gengfu_checks.model import Status
from gengfu_collector.intake import pipeline
from gengfu_collector.intake import work as work_module
from gengfu_collector.intake.submission import Outcome, Rejection, RejectionReason
from gengfu_collector.store.database import Database
from gengfu_collector.store.documents import from_text
from gengfu_collector.store.schema import fault, gap, ledger, outbox, rejected_report, report, shape, ticket_event

BAD = Status.CRITICAL


@pytest.fixture
def rig(any_database: Database) -> Iterator[Rig]:
    with rig_on(any_database) as made:
        yield made


@pytest.fixture
def agent_id(rig: Rig) -> int:
    found = rig.enrol()
    assert rig.hello(found).epoch == 1
    return found


def test_a_report_is_stored_with_everything_that_follows_from_it(rig: Rig, agent_id: int) -> None:
    bad = run("disk", BAD, "/srv", value=0.97)
    sent = submission(agent_id, 1, bad)
    assert rig.send(sent) == [Outcome.STORED]
    (stored,) = rig.rows(report)
    assert (stored["epoch"], stored["seq"], stored["body"]) == (1, 1, sent.data)
    assert [row["id"] for row in rig.rows(shape)] == [bad.shape_id]
    assert rig.faults() == [("disk", "/srv", "critical")]
    assert rig.tickets() == [("GF-2027-000001", "open")]
    assert [row["kind"] for row in rig.rows(outbox)] == rig.events() == ["opened"]
    assert rig.statuses()["disk", "/srv"] == "critical"
    assert rig.unexplained() == 0


def test_the_same_report_ten_times_counts_once(rig: Rig, agent_id: int) -> None:
    rig.report(agent_id, 1, run("disk", BAD))
    before = rig.counts()
    assert [rig.report(agent_id, 1, run("disk", BAD)) for _ in range(9)] == [Outcome.DUPLICATE] * 9
    assert rig.counts() == before


def test_ten_copies_in_one_batch_count_once(rig: Rig, agent_id: int) -> None:
    copies = [submission(agent_id, 1, run("disk", BAD)) for _ in range(10)]
    assert rig.send(*copies) == [Outcome.STORED] + [Outcome.DUPLICATE] * 9
    assert (len(rig.rows(report)), len(rig.tickets()), rig.unexplained()) == (1, 1, 0)


@pytest.mark.parametrize("together", [True, False])
def test_other_bytes_under_a_known_number_ask_for_a_new_number(rig: Rig, agent_id: int, together: bool) -> None:
    first, second = submission(agent_id, 1, run("disk")), submission(agent_id, 1, run("disk", BAD))
    outcomes = rig.send(first, second) if together else rig.send(first) + rig.send(second)
    assert outcomes == [Outcome.STORED, Outcome.RENUMBER]
    assert (rig.faults(), rig.unexplained()) == ([], 0)


@pytest.mark.parametrize("together", [True, False])
def test_a_rejected_report_is_a_dead_letter_and_stays_one(rig: Rig, agent_id: int, together: bool) -> None:
    why = Rejection(RejectionReason.LIMIT, "x" * 10_000)
    twice = [submission(agent_id, 1, run("disk", BAD), rejection=why) for _ in range(2)]
    outcomes = rig.send(*twice) if together else rig.send(twice[0]) + rig.send(twice[1])
    assert outcomes == [Outcome.REJECTED] * 2
    (letter,) = rig.rows(rejected_report)
    assert (letter["seq"], letter["reason"], letter["body"]) == (1, "limit", twice[0].data)
    assert len(letter["detail"]) == pipeline.MAX_DETAIL_CHARACTERS
    assert (rig.rows(report), rig.faults(), rig.unexplained()) == ([], [], 0)


@pytest.mark.parametrize("together", [True, False])
def test_other_bytes_under_the_number_of_a_dead_letter_are_not_lost(
    rig: Rig, agent_id: int, together: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "MAX_DEAD_LETTER_BYTES", 20)
    why = Rejection(RejectionReason.MALFORMED, "no")
    first, again, other = (
        submission(agent_id, 1, run("disk", measured_at_s=at_s), rejection=why) for at_s in (1.0, 1.0, 2e9)
    )
    assert len(first.data) > 20
    outcomes = rig.send(first, again, other) if together else [rig.send(one)[0] for one in (first, again, other)]
    assert outcomes == [Outcome.REJECTED, Outcome.REJECTED, Outcome.RENUMBER]
    assert (len(rig.rows(rejected_report)), rig.unexplained()) == (1, 0)


@pytest.mark.parametrize("together", [True, False])
def test_a_number_that_was_declared_lost_is_not_taken_for_stored(rig: Rig, agent_id: int, together: bool) -> None:
    lost, found_again = gap_submission(agent_id, 5, ((1, 3),)), submission(agent_id, 2, run("disk"))
    outcomes = rig.send(lost, found_again) if together else rig.send(lost) + rig.send(found_again)
    assert outcomes == [Outcome.STORED, Outcome.RENUMBER]
    assert rig.unexplained() == 0


def test_a_gap_report_accounts_for_what_is_missing_and_only_that(rig: Rig, agent_id: int) -> None:
    rig.report(agent_id, 2, run("disk"))
    rig.send(gap_submission(agent_id, 6, ((1, 4), (6, 900))))
    assert [(row["first_seq"], row["last_seq"], row["reason"]) for row in rig.rows(gap)] == [
        (1, 1, "quota"),
        (3, 4, "quota"),
    ]
    (account,) = rig.rows(ledger)
    assert (account["high_water"], account["ahead"], account["stored"], account["gaps"]) == (4, "[[6,6]]", 2, 3)
    assert rig.unexplained() == 0


def test_a_gap_of_an_epoch_that_never_was_is_not_believed(rig: Rig, agent_id: int) -> None:
    assert rig.send(gap_submission(agent_id, 1, ((1, 50),), of_epoch=77)) == [Outcome.STORED]
    assert (rig.rows(gap), rig.unexplained()) == ([], 0)


def test_an_agent_that_leaves_out_every_second_number_costs_a_bounded_account(rig: Rig, agent_id: int) -> None:
    count = pipeline.MAX_HOLES + 2
    rig.send(*(submission(agent_id, 2 * n, run("disk")) for n in range(1, count + 1)))
    (account,) = rig.rows(ledger)
    assert len(from_text(account["ahead"])) <= pipeline.MAX_HOLES
    assert (account["stored"], account["gaps"]) == (count, pipeline.MAX_HOLES + 1)
    # What still comes is not lost: it only gets another number.
    assert rig.report(agent_id, 3, run("disk", BAD)) is Outcome.RENUMBER
    assert rig.unexplained() == 0


def test_a_gap_report_with_thousands_of_pieces_costs_a_bounded_account(rig: Rig, agent_id: int) -> None:
    pieces = tuple((2 * n, 2 * n) for n in range(1, 10_001))
    rig.send(gap_submission(agent_id, 30_000, pieces))
    (account,) = rig.rows(ledger)
    assert len(from_text(account["ahead"])) <= pipeline.MAX_HOLES
    assert rig.unexplained() == 0


def test_reports_out_of_order_are_all_accounted_for(rig: Rig, agent_id: int) -> None:
    for seq in (3, 1, 7, 2, 5):
        rig.report(agent_id, seq, run("disk", value=seq))
    (account,) = rig.rows(ledger)
    assert (account["high_water"], account["ahead"], account["stored"]) == (3, "[[5,5],[7,7]]", 5)
    assert rig.unexplained() == 0


def test_a_poisonous_report_becomes_a_dead_letter_and_harms_nobody(
    rig: Rig, agent_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = rig.enrol("pc-2")
    rig.hello(other)
    poison = run("disk", BAD, "/poison")
    observe = pipeline.observe_run

    def choke(work: Any, record: Any, found: Any, *rest: Any) -> None:
        observe(work, record, found, *rest)
        if any(part.item == "/poison" for part in found.findings):
            raise ArithmeticError("cannot digest this")

    monkeypatch.setattr(pipeline, "observe_run", choke)
    reports = [submission(agent_id, seq, run("disk", BAD, f"/{seq}")) for seq in range(1, 8)]
    reports.insert(3, submission(agent_id, 8, poison))
    reports += [submission(other, seq, run("disk", BAD, f"/{seq}")) for seq in range(1, 8)]
    outcomes = rig.send(*reports)
    assert [report.seq for report in reports if report.outcome is Outcome.REJECTED] == [8]
    assert outcomes.count(Outcome.STORED) == 14
    (letter,) = rig.rows(rejected_report)
    assert (letter["seq"], letter["reason"]) == (8, "failed")
    assert letter["detail"] == "ArithmeticError: cannot digest this"
    # What came before it and after it from the same agent acted; of itself nothing is left.
    assert ("disk", "/poison") not in rig.statuses()
    assert len(rig.faults()) == len(rig.tickets()) == 14
    assert rig.unexplained() == 0


def test_one_poisonous_report_among_many_costs_few_transactions(
    rig: Rig, agent_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    observe = pipeline.observe_run

    def choke(work: Any, record: Any, found: Any, *rest: Any) -> None:
        if any(part.item == "/poison" for part in found.findings):
            raise ArithmeticError("cannot digest this")
        observe(work, record, found, *rest)

    monkeypatch.setattr(pipeline, "observe_run", choke)
    begun: list[object] = []
    begin = rig.intake.begin
    monkeypatch.setattr(rig.intake, "begin", lambda connection: begun.append(1) or begin(connection))
    reports = [submission(agent_id, seq, run("disk", value=seq)) for seq in range(1, 301)]
    reports[171] = submission(agent_id, 172, run("disk", BAD, "/poison"))
    outcomes = rig.send(*reports)
    assert (outcomes.count(Outcome.STORED), outcomes.count(Outcome.REJECTED)) == (299, 1)
    assert len(begun) < 60


def test_two_runs_of_one_check_in_one_report_both_act(rig: Rig, agent_id: int) -> None:
    """An agent gathers runs for some seconds: a check that runs every second comes several times in a report."""
    rig.report(agent_id, 1, run("disk", value=0.1), run("disk", BAD, value=0.9))
    assert rig.faults() == [("disk", "", "critical")]


def test_shapes_without_end_are_stored_and_not_all_remembered(
    rig: Rig, agent_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work_module, "MAX_SHAPES_SEEN", 4)
    remembered = []
    for seq in range(1, 13):
        rig.report(agent_id, seq, run("disk", item=f"/{seq % 6}"))
        remembered.append(len(rig.intake.memory.shapes_seen_at_ms))
    assert max(remembered) <= 4
    assert len(rig.rows(shape)) == 6


def test_an_item_that_is_no_longer_there_has_no_data_and_stays_open(rig: Rig, agent_id: int) -> None:
    rig.report(agent_id, 1, run("disk", BAD, "/a", None, finding("disk", "/b", BAD)))
    rig.report(agent_id, 2, run("disk", Status.OK, "/a"))
    assert rig.statuses()["disk", "/b"] == "no-data"
    assert rig.faults() == [("disk", "/b", "critical")]


def test_a_repeated_finding_costs_an_append_and_nothing_else(rig: Rig, agent_id: int) -> None:
    for seq in range(1, 5):
        rig.report(agent_id, seq, run("disk", BAD, value=0.9 + seq / 100))
    before = rig.counts()
    for seq in range(5, 15):
        rig.report(agent_id, seq, run("disk", BAD, value=0.5 + seq / 100))
    after = rig.counts()
    assert {name for name in after if after[name] != before[name]} == {"report"}


@pytest.mark.parametrize("late_by", ["lane", "number"])
def test_old_news_goes_to_history_and_acts_on_nothing(rig: Rig, agent_id: int, late_by: str) -> None:
    rig.report(agent_id, 1, run("disk"))
    rig.report(agent_id, 10, run("disk"))
    before = rig.counts()
    seq, late = (11, True) if late_by == "lane" else (5, False)
    assert rig.report(agent_id, seq, run("disk", BAD), late=late) is Outcome.STORED
    assert rig.counts() == before | {"report": before["report"] + 1, "span": before["span"] + 1, "shape": 2}
    assert rig.spans(late=True) == [("disk", "critical")]
    assert (rig.faults(), rig.tickets(), rig.statuses()["disk", ""]) == ([], [], "ok")


@pytest.mark.parametrize("late_by", ["lane", "number"])
def test_old_good_news_closes_nothing(rig: Rig, agent_id: int, late_by: str) -> None:
    rig.report(agent_id, 10, run("disk", BAD))
    seq, late = (11, True) if late_by == "lane" else (5, False)
    rig.report(agent_id, seq, run("disk"), late=late)
    assert rig.faults() == [("disk", "", "critical")]


def test_a_check_that_is_not_planned_acts_on_nothing(rig: Rig, agent_id: int) -> None:
    assert rig.report(agent_id, 1, run("unplanned", BAD)) is Outcome.STORED
    assert (rig.faults(), rig.tickets()) == ([], [])


def test_the_rules_of_the_plan_decide_when_a_fault_opens(rig: Rig, agent_id: int) -> None:
    rig.report(agent_id, 1, run("cpu", BAD, code="cpu.busy"))
    assert rig.faults() == []
    rig.report(agent_id, 2, run("cpu", BAD, code="cpu.busy"))
    assert rig.faults() == [("cpu", "", "critical")]
    rig.report(agent_id, 3, run("cpu"))
    assert rig.faults() == [("cpu", "", "critical")]
    rig.report(agent_id, 4, run("cpu"))
    assert rig.faults() == []


def test_rules_hold_when_the_memory_of_an_agent_was_dropped(rig: Rig, agent_id: int) -> None:
    rig.do(lambda work: work.forget(agent_id))
    rig.report(agent_id, 1, run("disk", BAD))
    assert rig.faults() == [("disk", "", "critical")]


def test_the_severity_of_a_fault_changes_within_the_fault_and_its_ticket(rig: Rig, agent_id: int) -> None:
    for seq, status in enumerate((Status.WARNING, BAD, Status.WARNING, Status.OK), 1):
        rig.report(agent_id, seq, run("disk", status))
    assert rig.events() == ["opened", "raised", "lowered", "resolved"]
    (only,) = rig.rows(fault)
    assert (only["state"], only["closed_reason"], only["severity"]) == ("closed", "recovered", "warning")
    assert [state for _, state in rig.tickets()] == ["resolved"]


def test_what_is_evidence_is_kept_with_the_fault(rig: Rig, agent_id: int) -> None:
    rig.report(agent_id, 1, run("disk", BAD, value=0.97, measured_at_s=1_500_000_000))
    evidence = rig.rows(fault)[0]["evidence"]
    for part in ('"confirm":1', '"measured_at_ms":1500000000000', '"used_ratio":0.97', '"fs_type":"ext4"'):
        assert part in evidence
    assert '"used_ratio":0.97' in rig.rows(ticket_event)[0]["data"]


def test_a_wrong_clock_on_the_machine_changes_nothing_but_what_is_shown(rig: Rig, agent_id: int) -> None:
    ten_years_s = 315_360_000
    rig.report(agent_id, 1, run("disk", BAD, measured_at_s=NOW_MS / 1000 + ten_years_s))
    rig.report(agent_id, 2, run("disk", measured_at_s=NOW_MS / 1000 - ten_years_s))
    (only,) = rig.rows(fault)
    assert (only["opened_at_ms"], only["closed_at_ms"], only["state"]) == (NOW_MS, NOW_MS, "closed")


def test_the_live_table_shows_what_is_stored_and_not_late(rig: Rig, agent_id: int) -> None:
    from gengfu_collector.intake.live import LiveAgent

    shown = rig.live.agents[agent_id] = LiveAgent(agent_id, "uid", "pc-1", "server", {})
    rig.report(agent_id, 1, run("disk", value=0.5))
    rig.report(agent_id, 2, run("disk", value=0.9), late=True)
    rig.report(agent_id, 3, run("cpu"), rejection=Rejection(RejectionReason.LIMIT, "no"))
    assert {name: list(live.values) for name, live in shown.runs.items()} == {"disk": [0.5]}
