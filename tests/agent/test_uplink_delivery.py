"""Nothing is lost and nothing is renamed between spool and collector, whatever happens to the connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from fake_collector import Conversation
from uplink_rig import Rig, numbers, rig_at

from gengfu_agent.uplink.states import State
from gengfu_proto.convert.report import shape_id_of
from gengfu_proto.v1 import report_pb2, stream_pb2

LIVE, BACKLOG = report_pb2.LANE_LIVE, report_pb2.LANE_BACKLOG


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with rig_at(tmp_path) as made:
        yield made


async def test_hello_says_where_the_spool_stands_and_what_it_holds(rig: Rig) -> None:
    rig.spool.open_epoch(1)
    rig.spool.set_session(b"before")
    rig.start()
    for _ in range(4):
        await rig.append(tell=False)
    rig.spool.acknowledge(1, [(2, 2)])
    hello = (await rig.collector.conversation(1)).hello
    assert (hello.session, hello.epoch, hello.plan_version, hello.machine_id) == (b"before", 1, "plan-0", "machine-1")
    assert hello.protocol == 1
    assert len(hello.instance) == 16


async def test_hello_names_the_numbers_that_wait(rig: Rig) -> None:
    rig.spool.open_epoch(1)
    for _ in range(4):
        rig._append("cpu")
    rig.spool.acknowledge(1, [(2, 2)])
    rig.start()
    hello = (await rig.collector.conversation(1)).hello
    assert (hello.next_seq, hello.oldest_seq, hello.waiting) == (5, 1, 3)
    assert [(held.epoch, [(r.first, r.last) for r in held.ranges]) for held in hello.held] == [(1, [(1, 1), (3, 4)])]


async def test_an_acknowledged_report_leaves_the_spool(rig: Rig) -> None:
    rig.start()
    entry = await rig.append()
    await rig.until(lambda: rig.waiting == 0)
    (report,) = rig.collector.conversations[0].reports
    assert (report.epoch, report.seq, report.body, report.lane) == (1, 1, entry.body, LIVE)
    assert [shape_id_of(shape) for shape in report.shapes] == list(entry.shape_ids)
    assert rig.uplink.counters.acknowledged_total == 1
    assert rig.uplink.counters.last_acknowledged_ms > 0
    assert rig.spool.session() == b"session-1"


async def test_a_shape_is_sent_once_on_each_stream(rig: Rig) -> None:
    rig.start()
    for _ in range(3):
        await rig.append()
    first = await rig.collector.conversation(1)
    await rig.collector.until(lambda: len(first.reports) == 3)
    assert [len(report.shapes) for report in first.reports] == [1, 0, 0]
    first.outgoing.put_nowait(None)
    await rig.append()
    second = await rig.collector.conversation(2)
    await rig.collector.until(lambda: second.reports)
    assert len(second.reports[0].shapes) == 1


async def test_unacknowledged_reports_come_again_with_the_same_numbers_and_bodies(rig: Rig) -> None:
    rig.collector.acknowledge_at_once = False
    rig.start()
    for check in ("cpu", "memory", "disk"):
        await rig.append(check)
    first = await rig.collector.conversation(1)
    await rig.collector.until(lambda: len(first.reports) == 3)
    await rig.collector.stop()
    await rig.until(lambda: rig.uplink.link.state is not State.STREAMING)
    await rig.append("clock")
    rig.collector.acknowledge_at_once = True
    await rig.collector.start()
    second = await rig.collector.conversation(2)
    await rig.until(lambda: rig.waiting == 0)
    assert [(r.seq, r.body) for r in second.reports][:3] == [(r.seq, r.body) for r in first.reports]
    assert sorted(numbers(second.reports)) == [(1, 1), (1, 2), (1, 3), (1, 4)]
    assert {report.lane for report in second.reports} == {LIVE}


async def test_a_crash_of_the_agent_changes_no_number(rig: Rig) -> None:
    rig.collector.acknowledge_at_once = False
    rig.start()
    for _ in range(3):
        await rig.append()
    first = await rig.collector.conversation(1)
    await rig.collector.until(lambda: len(first.reports) == 3)
    await rig.kill()
    rig.collector.acknowledge_at_once = True
    rig.start()
    await rig.until(lambda: rig.waiting == 0)
    second = rig.collector.conversations[1]
    assert sorted((r.seq, r.body) for r in second.reports) == [(r.seq, r.body) for r in first.reports]
    assert len(second.reports) == 3
    # The newest run of the check is the present state, also for the next process; the others are history.
    assert {r.seq: r.lane for r in second.reports} == {1: BACKLOG, 2: BACKLOG, 3: LIVE}
    assert second.reports[0].seq == 3


async def test_live_goes_before_backlog_and_the_newest_run_of_a_check_stays_live(tmp_path: Path) -> None:
    async with rig_at(tmp_path, fresh_ms=0) as rig:
        rig.spool.open_epoch(1)
        await rig.collector.stop()
        rig.start()
        for check in ("daily", "cpu", "cpu", "cpu", "memory"):
            await rig.append(check)
        await rig.collector.start()
        await rig.until(lambda: rig.waiting == 0)
        sent = [(report.seq, report.lane) for report in rig.collector.conversations[0].reports]
        assert sent == [(1, LIVE), (4, LIVE), (5, LIVE), (2, BACKLOG), (3, BACKLOG)]


async def test_what_was_live_and_had_to_wait_becomes_backlog_and_is_not_forgotten(tmp_path: Path) -> None:
    async with rig_at(tmp_path, fresh_ms=0) as rig:
        rig.collector.welcome_credit = (0, 0)
        rig.collector.acknowledge_at_once = False
        rig.start()
        for _ in range(3):
            await rig.append("cpu")
        conversation = await rig.collector.conversation(1)
        conversation.send(credit=stream_pb2.Credit(live=1, backlog=5))
        await rig.collector.until(lambda: len(conversation.reports) == 3)
        sent = [(report.seq, report.lane) for report in conversation.reports]
        assert sent == [(3, LIVE), (1, BACKLOG), (2, BACKLOG)]


async def test_what_was_passed_over_as_live_goes_as_backlog_when_it_is_not_fresh_any_more(tmp_path: Path) -> None:
    async with rig_at(tmp_path, suspend_s=1e9) as rig:
        rig.collector.welcome_credit = (0, 9)
        rig.collector.acknowledge_at_once = False
        rig.start()
        await rig.until_state(State.STREAMING)
        conversation = rig.collector.conversations[0]
        for check in ("cpu", "cpu", "memory"):
            await rig.append(check)
        await settle(rig, conversation)
        assert conversation.reports == []
        rig.clock.asleep_ms += 91_000
        await rig.append("disk")
        await rig.collector.until(lambda: conversation.reports)
        await settle(rig, conversation)
        # Number 2 is the newest run of its check and stays live, for as long as there is no credit for it.
        assert [(report.seq, report.lane) for report in conversation.reports] == [(1, BACKLOG)]


async def test_credit_bounds_each_lane_and_adds_up(rig: Rig) -> None:
    rig.spool.open_epoch(1)
    for _ in range(5):
        rig._append("old")
    rig.clock.asleep_ms += 200_000  # all of them are old now
    rig.collector.welcome_credit = (1, 2)
    rig.collector.acknowledge_at_once = False
    rig.start()
    conversation = await rig.collector.conversation(1)
    await rig.append("cpu")
    await rig.append("cpu")

    def lanes() -> list[int]:
        return [report.lane for report in conversation.reports]

    await rig.collector.until(lambda: len(conversation.reports) >= 3)
    await settle(rig, conversation)
    assert sorted(lanes()) == [LIVE, BACKLOG, BACKLOG]
    conversation.send(credit=stream_pb2.Credit(live=1))
    conversation.acknowledge(1, backlog=1)
    await rig.collector.until(lambda: len(conversation.reports) >= 5)
    await settle(rig, conversation)
    assert sorted(lanes()) == [LIVE, LIVE, BACKLOG, BACKLOG, BACKLOG]


async def settle(rig: Rig, conversation: Conversation) -> None:
    """A whole heartbeat passes: whatever the agent wanted to send is there."""
    beats = len(conversation.of_kind("heartbeat"))
    if rig.collector.heartbeat_every_ms > 1000:
        await asyncio.sleep(0.3)
        return
    await rig.collector.until(lambda: len(conversation.of_kind("heartbeat")) > beats + 1)


async def test_rejected_reports_leave_the_spool_and_are_counted(rig: Rig) -> None:
    def reject(conversation: Conversation, report: report_pb2.Report) -> None:
        rejection = stream_pb2.Rejection(seq=report.seq, reason=stream_pb2.REJECTION_REASON_MALFORMED)
        conversation.send(acknowledgement=stream_pb2.Acknowledgement(epoch=report.epoch, rejected=[rejection]))

    rig.collector.on_report = reject
    rig.start()
    await rig.append()
    await rig.until(lambda: rig.uplink.counters.rejected_total == 1)
    await rig.until(lambda: rig.waiting == 0)
    assert rig.uplink.counters.acknowledged_total == 0


async def test_an_answered_report_is_never_sent_again_on_its_stream(rig: Rig) -> None:
    """The answer is quicker than the spool, here for ever: as on a full disk, it goes on holding the report."""
    rig.spool.acknowledge = lambda epoch, ranges: 0  # type: ignore[method-assign]
    rig.start()
    for _ in range(5):
        await rig.append()
    await rig.until(lambda: rig.uplink.counters.acknowledged_total == 5)
    await rig.append()
    await rig.until(lambda: rig.uplink.counters.acknowledged_total == 6)
    assert numbers(rig.collector.conversations[0].reports) == [(1, seq) for seq in range(1, 7)]


async def test_what_was_appended_is_not_touched_before_it_is_told(rig: Rig) -> None:
    """Else a new record could go as backlog, and what it says of the present would be lost as history."""
    rig.start()
    await rig.until_state(State.STREAMING)
    first = await rig.append(tell=False)
    second = await rig.append("memory")
    await rig.until(lambda: rig.uplink.counters.acknowledged_total == 2)
    conversation = rig.collector.conversations[0]
    assert {report.seq: report.lane for report in conversation.reports} == {first.seq: BACKLOG, second.seq: LIVE}
    third = await rig.append("disk", tell=False)
    rig.uplink.appended(second)  # told once more: the spool is read again
    await settle(rig, conversation)
    assert len(conversation.reports) == 2
    rig.uplink.appended(third)
    await rig.until(lambda: rig.uplink.counters.acknowledged_total == 3)
    assert conversation.reports[2].lane == LIVE


async def test_a_number_that_is_taken_is_changed_and_the_report_stays_live(rig: Rig) -> None:
    def answer(conversation: Conversation, report: report_pb2.Report) -> None:
        if report.seq == 1:
            conversation.send(acknowledgement=stream_pb2.Acknowledgement(epoch=1, renumber=[1]))
        else:
            conversation.acknowledge(report.seq)

    rig.collector.on_report = answer
    rig.start()
    entry = await rig.append()
    await rig.until(lambda: rig.waiting == 0)
    first, second = rig.collector.conversations[0].reports
    assert (first.seq, second.seq) == (1, 2)
    assert first.body == second.body == entry.body
    assert second.lane == LIVE
    assert rig.uplink.counters.renumbered_total == 1


@pytest.mark.parametrize("newest_is_told", [True, False], ids=["acknowledged", "waiting"])
async def test_what_gets_a_new_number_behind_newer_news_is_history(rig: Rig, newest_is_told: bool) -> None:
    """As after an old copy of the spool: under a number of now, the old news would open and close faults."""
    rig.collector.acknowledge_at_once = False
    rig.start()
    for check in ("cpu", "memory", "cpu"):
        await rig.append(check)
    conversation = await rig.collector.conversation(1)
    await rig.collector.until(lambda: len(conversation.reports) == 3)
    if newest_is_told:
        conversation.acknowledge(3)
    conversation.send(acknowledgement=stream_pb2.Acknowledgement(epoch=1, renumber=[1, 2]))
    await rig.collector.until(lambda: len(conversation.reports) == 5)
    lanes = {report.seq: report.lane for report in conversation.reports[3:]}
    assert lanes == {4: BACKLOG, 5: LIVE}, "number 1 is older than number 3, number 2 is the latest of its check"
    found = {entry.seq: entry.checks for entry in rig.spool.read(None, 10)}
    assert (found[4], found[5]) == ((), ("memory",)), "and an agent that starts again knows it"


async def test_records_of_no_epoch_go_under_the_one_that_welcome_names(rig: Rig) -> None:
    rig.collector.epoch = 7
    rig._append("cpu")
    rig.start()
    await rig.append()
    await rig.until(lambda: rig.waiting == 0)
    conversation = rig.collector.conversations[0]
    assert (conversation.hello.epoch, conversation.hello.next_seq) in {(0, 2), (0, 3)}
    assert sorted(numbers(conversation.reports)) == [(7, 1), (7, 2)]


async def test_a_new_epoch_leaves_old_records_their_numbers(rig: Rig) -> None:
    rig.spool.open_epoch(3)
    rig._append("cpu")
    rig.collector.epoch = 4
    rig.start()
    await rig.until_state(State.STREAMING)
    entry = await rig.append()
    assert (entry.epoch, entry.seq) == (4, 1)
    await rig.until(lambda: rig.waiting == 0)
    assert sorted(numbers(rig.collector.conversations[0].reports)) == [(3, 1), (4, 1)]


async def test_what_welcome_says_is_stored_is_not_sent_again_if_this_process_sent_it(rig: Rig) -> None:
    rig.collector.acknowledge_at_once = False
    rig.start()
    for check in ("cpu", "memory"):
        await rig.append(check)
    first = await rig.collector.conversation(1)
    await rig.collector.until(lambda: len(first.reports) == 2)
    rig.collector.stored = [(1, 1)]
    first.outgoing.put_nowait(None)
    second = await rig.collector.conversation(2)
    await rig.collector.until(lambda: second.reports)
    assert numbers(second.reports) == [(1, 2)]
    assert rig.waiting == 1


async def test_numbers_that_this_process_never_sent_are_sent_whatever_welcome_says(rig: Rig) -> None:
    rig.spool.open_epoch(1)
    rig._append("cpu")
    rig.collector.stored = [(1, 100)]
    rig.start()
    conversation = await rig.collector.conversation(1)
    await rig.collector.until(lambda: conversation.reports)
    assert numbers(conversation.reports) == [(1, 1)]


async def test_an_acknowledgement_of_what_was_never_sent_changes_nothing(rig: Rig) -> None:
    rig.collector.welcome_credit = (0, 0)
    rig.collector.heartbeat_every_ms = 100
    rig.start()
    conversation = await rig.collector.conversation(1)
    await rig.append()
    everything = [report_pb2.SeqRange(first=1, last=2**63)]
    conversation.send(acknowledgement=stream_pb2.Acknowledgement(epoch=1, accepted=everything, renumber=[1]))
    await settle(rig, conversation)
    assert rig.waiting == 1
    assert rig.uplink.link.state is State.STREAMING


async def test_a_damaged_spool_gets_a_new_epoch_in_mid_stream(rig: Rig) -> None:
    rig.start()
    await rig.append()
    await rig.until(lambda: rig.waiting == 0)
    damage(rig)
    rig.collector.epoch = 2
    entry = await rig.append()
    assert entry.epoch == 0
    second = await rig.collector.conversation(2)
    await rig.until(lambda: rig.waiting == 0)
    assert second.hello.epoch == 0
    assert (2, entry.seq) in numbers(second.reports)
    assert rig.collector.conversations[0].of_kind("goodbye") == [
        stream_pb2.Goodbye(reason=stream_pb2.GOODBYE_REASON_RECONNECT)
    ]


def damage(rig: Rig) -> None:
    """Spoil the file so that the spool sees it with the next use."""
    import sqlite3

    with closing(sqlite3.connect(rig.folder / "spool.db")) as connection, connection:
        connection.execute("UPDATE state SET data = x'00'")
    connection.close()
    rig.spool._connection.close()  # type: ignore[union-attr]
    rig.spool._connection = None


async def test_a_backlog_of_hundreds_arrives_whole_and_in_order(rig: Rig) -> None:
    rig.spool.open_epoch(1)
    for _ in range(300):
        rig._append("cpu")
    rig.clock.asleep_ms += 200_000
    rig.collector.welcome_credit = (4, 4)
    rig.start()
    await rig.until(lambda: rig.waiting == 0)
    assert numbers(rig.collector.conversations[0].reports) == [(1, seq) for seq in range(1, 301)]


async def test_plan_and_patrol_order_are_answered(rig: Rig) -> None:
    from gengfu_proto.v1 import plan_pb2

    rig.start()
    conversation = await rig.collector.conversation(1)
    conversation.send(plan=plan_pb2.Plan(version="plan-1"))
    conversation.send(patrol_order=plan_pb2.PatrolOrder(order_id="order-1", patrol="night"))
    await rig.collector.until(lambda: conversation.of_kind("plan_applied"))
    await rig.collector.until(lambda: conversation.of_kind("patrol_order_answer"))
    assert rig.plans == [plan_pb2.Plan(version="plan-1").SerializeToString()]
    refused = stream_pb2.RefusedCheck(name="x", reason="check.refused", detail="not here")
    assert conversation.of_kind("plan_applied") == [stream_pb2.PlanApplied(version="plan-1", refused=[refused])]
    answer = stream_pb2.PatrolOrderAnswer(order_id="order-1", accepted=False, reason="unknown")
    assert conversation.of_kind("patrol_order_answer") == [answer]
