"""The agent's own code against this listener: what one side sends, the other side takes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gengfu_agent import enrolment as agent_side
from gengfu_agent.clock import SystemClock
from gengfu_agent.errors import Refused, Untrusted
from gengfu_agent.identity import Identity
from gengfu_collector.fleet import agents, tokens
from gengfu_collector.gateway.admission import Admission
from gengfu_collector.gateway.authority import Authority
from gengfu_collector.gateway.certificates import uid_of
from gengfu_collector.gateway.enrolment import EnrolmentServicer, StreamAddress, start_enrolment_server
from gengfu_collector.store.database import Database
from gengfu_collector.store.writer import Writer
from gengfu_collector.times import wall_clock_ms
from gengfu_proto.token import format_token


@dataclass
class Collector:
    """The part of a collector that lets machines in."""

    authority: Authority
    writer: Writer
    address: str

    def token(self) -> str:
        return self.writer.call(
            lambda c: tokens.create(
                c,
                pin=self.authority.pin,
                uses=1,
                ttl_s=600,
                asset_class="terminal",
                labels={},
                actor="li",
                now_ms=wall_clock_ms(),
            )
        ).result(20)

    async def enrol(self, token: str, state: Path) -> Identity:
        await agent_side.enrol(self.address, token, state)
        return Identity(state)


@pytest.fixture
async def collector(database: Database, tmp_path: Path) -> AsyncIterator[Collector]:
    authority = Authority.open(tmp_path, wall_clock_ms())
    errors: list[BaseException] = []
    writer = Writer(database, errors.append)
    servicer = EnrolmentServicer(authority, writer, StreamAddress(8421), wall_clock_ms, Admission())
    server, port = await start_enrolment_server("127.0.0.1:0", servicer, authority.enrolment_credentials())
    yield Collector(authority, writer, f"127.0.0.1:{port}")
    await server.stop(0)
    writer.close()
    assert errors == []


async def test_an_agent_enrols_and_comes_back_until_it_must_ask(collector: Collector, tmp_path: Path) -> None:
    identity = await collector.enrol(collector.token(), tmp_path / "state")
    uid = identity.agent().agent_id
    assert uid_of(identity.credentials().certificate_pem).uid == uid
    for _ in range(agents.RECOVERIES):
        before = identity.credentials()
        await agent_side.recover(identity, SystemClock())
        assert identity.credentials().key_pem != before.key_pem
    with pytest.raises(Refused, match=f"gengfu-collector agent allow {uid}"):
        await agent_side.recover(identity, SystemClock())


async def test_an_agent_that_slept_through_a_change_of_roots_comes_back(collector: Collector, tmp_path: Path) -> None:
    old_token = collector.token()
    sleeper = await collector.enrol(collector.token(), tmp_path / "sleeper")
    collector.authority.prepare_next_root(wall_clock_ms())
    collector.authority.use_next_root(wall_clock_ms())
    await agent_side.recover(sleeper, SystemClock())
    assert sleeper.roots_pem() == collector.authority.bundle()
    for name, token in (("printed-before", old_token), ("printed-after", collector.token())):
        identity = await collector.enrol(token, tmp_path / name)
        assert identity.agent().agent_id != sleeper.agent().agent_id


async def test_an_agent_tells_a_wrong_collector_nothing_and_hears_why_a_right_one_refuses(
    collector: Collector, tmp_path: Path
) -> None:
    elsewhere = format_token(bytes(20), bytes(32))
    with pytest.raises(Untrusted, match="nothing was sent"):
        await collector.enrol(elsewhere, tmp_path / "a")
    unknown = format_token(bytes(20), collector.authority.pin)
    with pytest.raises(Refused, match="not known here"):
        await collector.enrol(unknown, tmp_path / "b")
    used = collector.token()
    await collector.enrol(used, tmp_path / "c")
    with pytest.raises(Refused, match="used up"):
        await collector.enrol(used, tmp_path / "d")
