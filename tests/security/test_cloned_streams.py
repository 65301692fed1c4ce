"""Two folders with one identity on the wire: who is let in, who is kept out, and what is said of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from intruder import Card, Intruder, a_run, body_of, enrol
from machinery import Collector, Site, constants, quiet_profile

from gengfu_proto.v1 import stream_pb2

QUICK = (
    # What is heard in the same second counts, and nobody waits long for an old stream to end.
    "gengfu_collector.gateway.session:ALIVE_AFTER_S=0.0",
    "gengfu_collector.gateway.stream:MAKE_WAY_S=0.1",
)
QUARANTINED = stream_pb2.DRAIN_REASON_QUARANTINED
REBALANCE = stream_pb2.DRAIN_REASON_REBALANCE


@pytest.fixture
def collector(site: Site) -> Collector:
    made = site.collector(launcher=constants("gengfu_collector.cli:main", *QUICK), inspection=quiet_profile())
    made.start()
    return made


@pytest.fixture
async def card(collector: Collector) -> Card:
    return await enrol(collector, "pc-1", "machine-1")


@pytest.fixture
async def stream(collector: Collector, card: Card) -> AsyncIterator[Callable[[], Intruder]]:
    made: list[Intruder] = []

    def new() -> Intruder:
        made.append(Intruder(collector, card))
        return made[-1]

    yield new
    for one in made:
        await one.__aexit__()


def as_machine(number: int, **more: Any) -> dict[str, Any]:
    """Hello of one of several machines."""
    plain = {"machine_id": f"machine-{number}", "hostname": f"pc-{number}", "instance": bytes([number]) * 16}
    return {**plain, **more}


async def drained(answer: stream_pb2.Down | None) -> stream_pb2.Drain:
    assert answer is not None
    assert answer.WhichOneof("message") == "drain", answer
    return answer.drain


async def cloned(collector: Collector) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = await asyncio.to_thread(collector.tickets, code="agent.cloned")
    return found


async def shown(collector: Collector, card: Card) -> list[tuple[str, str]]:
    """Host names and machines of the copies that are kept out."""
    found = await asyncio.to_thread(collector.ask, "agent.show", uid=card.uid)
    return [(copy["hostname"], copy["machine_id"]) for copy in found["copies"]]


async def meet(first: Intruder, second: Callable[[], Intruder], **hello: Any) -> stream_pb2.Drain:
    """The second comes, is told to come again, the first is heard, the second comes again."""
    drain = await drained(await second().ask(**hello))
    assert (drain.reason, drain.retry_after_ms) == (REBALANCE, 20_000)
    assert await first.is_heard()
    return await drained(await second().ask(**hello))


async def test_a_copy_on_another_machine_is_kept_out_while_the_holder_goes_on(
    collector: Collector, card: Card, stream: Callable[[], Intruder]
) -> None:
    first = stream()
    welcome = await first.hello(**as_machine(1))
    drain = await meet(first, stream, **as_machine(2, session=welcome.session))
    assert drain.reason == QUARANTINED
    assert drain.retry_after_ms == 600_000
    assert "pc-1" in drain.detail
    assert "gengfu-agent enrol --as-new" in drain.detail
    for _ in range(3):
        again = await drained(await stream().ask(**as_machine(2, session=welcome.session)))
        assert again.reason == QUARANTINED
    assert await first.is_heard(), "the holder was not disturbed"
    (ticket,) = await cloned(collector)
    assert (ticket["severity"], ticket["category"], ticket["asset"]) == ("critical", "security", card.asset)
    details = await asyncio.to_thread(collector.ask, "ticket.show", number=ticket["number"])
    assert details["events"][0]["data"]["facts"] == {"first_host": "pc-1", "second_host": "pc-2"}
    assert await shown(collector, card) == [("pc-2", "machine-2")]


async def test_a_copy_on_a_machine_that_looks_the_same_is_kept_out_and_the_holder_comes_back_at_once(
    collector: Collector, card: Card, stream: Callable[[], Intruder]
) -> None:
    """The hard case: one session, one machine id, one host name; only the processes differ."""
    first = stream()
    welcome = await first.hello(**as_machine(1))
    copy = as_machine(1, session=welcome.session, instance=b"copy" * 4)
    drain = await meet(first, stream, **copy)
    assert drain.reason == QUARANTINED
    moved = await first.read_until("drain")
    assert (moved.reason, moved.retry_after_ms) == (REBALANCE, 100)
    second = stream()
    # Its new session tells the two apart from now on, also after a restart.
    new = await second.hello(**as_machine(1, session=welcome.session))
    assert (await drained(await stream().ask(**copy))).reason == QUARANTINED
    await second.__aexit__()
    third = stream()
    await third.hello(**as_machine(1, session=new.session, instance=b"next" * 4))
    assert (await drained(await stream().ask(**copy))).reason == QUARANTINED
    assert len(await cloned(collector)) == 1
    assert await shown(collector, card) == [("pc-1", "machine-1")]


async def test_copies_that_take_turns_are_found_at_the_third_meeting_and_the_ticket_names_both(
    collector: Collector, card: Card, stream: Callable[[], Intruder]
) -> None:
    first = stream()
    old = await first.hello(**as_machine(1))
    await first.__aexit__()
    first = stream()
    last = await first.hello(**as_machine(1, session=old.session, instance=b"restarted"))
    await first.__aexit__()
    copy = stream()
    taken = await copy.hello(**as_machine(2, session=old.session))
    await copy.__aexit__()
    assert await cloned(collector) == [], "it may be a machine that was put back and moved"
    back = stream()
    await back.hello(**as_machine(1, session=last.session, instance=b"again"))
    (ticket,) = await cloned(collector)
    details = await asyncio.to_thread(collector.ask, "ticket.show", number=ticket["number"])
    assert details["events"][0]["data"]["facts"] == {"first_host": "pc-1", "second_host": "pc-2"}
    drain = await drained(await stream().ask(**as_machine(2, session=taken.session, instance=b"restarted too")))
    assert drain.reason == QUARANTINED
    assert await back.is_heard()


async def test_a_process_that_lost_its_stream_comes_back_at_once(stream: Callable[[], Intruder]) -> None:
    """The collector has not noticed yet that the old stream is dead."""
    first = stream()
    welcome = await first.hello(**as_machine(1))
    await stream().hello(**as_machine(1, session=welcome.session))
    assert (await first.read_until("drain")).reason == stream_pb2.DRAIN_REASON_REPLACED


async def test_a_machine_that_was_reset_waits_for_its_dead_stream_and_is_no_copy(
    collector: Collector, card: Card, stream: Callable[[], Intruder]
) -> None:
    first = stream()
    welcome = await first.hello(**as_machine(1))
    # It reboots with another process and, after a change of its board, another machine id. The old stream says nothing.
    reborn = as_machine(2, session=welcome.session)
    for _ in range(3):
        assert (await drained(await stream().ask(**reborn))).reason == REBALANCE
    await first.__aexit__()
    await stream().hello(**reborn)
    assert await cloned(collector) == []


async def test_what_a_copy_says_is_never_stored_and_the_holder_loses_nothing(
    collector: Collector, card: Card, stream: Callable[[], Intruder]
) -> None:
    first = stream()
    welcome = await first.hello(**as_machine(1))
    run = a_run("agent")
    await first.report(body_of(run), [run.shape])
    await meet(first, stream, **as_machine(2, session=welcome.session, epoch=1, next_seq=9))
    assert (await first.report(body_of(run))).accepted
    ledger = await asyncio.to_thread(collector.ask, "ledger.verify")
    assert (ledger["reports"], ledger["gaps"], ledger["unexplained"]) == (2, 0, 0)


async def test_the_ticket_resolves_when_the_last_copy_becomes_a_machine_of_its_own(
    collector: Collector, card: Card, stream: Callable[[], Intruder]
) -> None:
    first = stream()
    welcome = await first.hello(**as_machine(1))
    for number in (2, 3):
        drain = await meet(first, stream, **as_machine(number, session=welcome.session))
        assert drain.reason == QUARANTINED
    assert len(await cloned(collector)) == 1
    for number, state in ((2, "open"), (3, "resolved")):
        former = {"former_agent_id": card.uid, "former_session": welcome.session}
        new = await enrol(collector, f"pc-{number}", f"machine-{number}", **former)
        assert new.uid != card.uid
        (ticket,) = await cloned(collector)
        assert ticket["state"] == state
    assert await shown(collector, card) == []
    assert await first.is_heard()


async def test_nobody_can_end_a_quarantine_without_being_the_copy(
    collector: Collector, card: Card, stream: Callable[[], Intruder]
) -> None:
    first = stream()
    welcome = await first.hello(**as_machine(1))
    await meet(first, stream, **as_machine(2, session=welcome.session))
    for session, machine in ((b"guess", "machine-2"), (welcome.session, "machine-3"), (b"", "")):
        await enrol(collector, "pc-9", machine, former_agent_id=card.uid, former_session=session)
    assert [ticket["state"] for ticket in await cloned(collector)] == ["open"]
    assert await shown(collector, card) == [("pc-2", "machine-2")]


async def test_when_the_holder_turns_out_to_be_the_copy_the_other_takes_its_place(
    collector: Collector, card: Card, stream: Callable[[], Intruder]
) -> None:
    first = stream()
    welcome = await first.hello(**as_machine(1))
    await meet(first, stream, **as_machine(2, session=b"older"))
    await first.__aexit__()
    await enrol(collector, "pc-1", "machine-1", former_agent_id=card.uid, former_session=welcome.session)
    assert [ticket["state"] for ticket in await cloned(collector)] == ["resolved"]
    await stream().hello(**as_machine(2, session=b"older"))


async def test_an_engineer_can_close_the_ticket_or_let_the_copy_in(
    collector: Collector, card: Card, stream: Callable[[], Intruder]
) -> None:
    first = stream()
    welcome = await first.hello(**as_machine(1))
    copy = as_machine(2, session=welcome.session)
    await meet(first, stream, **copy)
    (ticket,) = await cloned(collector)
    closed = await asyncio.to_thread(collector.ask, "ticket.close", number=ticket["number"])
    assert closed["state"] == "closed"
    assert (await drained(await stream().ask(**copy))).reason == QUARANTINED, "the copy is still a copy"
    assert sorted(one["state"] for one in await cloned(collector)) == ["closed", "open"]
    await first.__aexit__()
    await asyncio.to_thread(collector.ask, "agent.unblock", uid=card.uid)
    await stream().hello(**copy)
    assert sorted(one["state"] for one in await cloned(collector)) == ["closed", "resolved"]


async def test_a_quarantine_outlives_a_restart_of_the_collector(
    collector: Collector, card: Card, stream: Callable[[], Intruder]
) -> None:
    first = stream()
    welcome = await first.hello(**as_machine(1))
    copy = as_machine(2, session=welcome.session)
    await meet(first, stream, **copy)
    await asyncio.to_thread(collector.kill)
    await asyncio.to_thread(collector.start)
    assert (await drained(await stream().ask(**copy))).reason == QUARANTINED
    await stream().hello(**as_machine(1, session=welcome.session))
