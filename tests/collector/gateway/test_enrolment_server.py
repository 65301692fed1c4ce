"""Enrolment and recovery over real TLS with a real store: who gets a certificate, who does not, and what he is told."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from machines import DAY_MS, Machine, channel, first_certificate, key_pem
from sqlalchemy import Connection, event, func, select, text

from gengfu_collector.errors import Overloaded, Refused, UsageError
from gengfu_collector.fleet import agents, assets, tokens
from gengfu_collector.gateway import issuance
from gengfu_collector.gateway.admission import Admission, EnrolmentLimits, Rate
from gengfu_collector.gateway.authority import Authority
from gengfu_collector.gateway.certificates import uid_of
from gengfu_collector.gateway.challenges import Challenges
from gengfu_collector.gateway.enrolment import EnrolmentServicer, StreamAddress, start_enrolment_server
from gengfu_collector.store.database import Database
from gengfu_collector.store.schema import agent, certificate, token
from gengfu_collector.store.schema import event as event_table
from gengfu_collector.store.writer import Writer
from gengfu_collector.times import wall_clock_ms
from gengfu_proto.token import parse_token
from gengfu_proto.v1 import enrolment_pb2, enrolment_pb2_grpc, stream_pb2

START_MS = wall_clock_ms()


@dataclass
class Door:
    """A running enrolment listener, the clock it goes by, and a client's channel to it."""

    authority: Authority
    database: Database
    writer: Writer
    admission: Admission
    port: int
    channel: grpc.aio.Channel
    now_ms: int = START_MS
    monotonic_s: float = 0.0
    errors: list[BaseException] = field(default_factory=list)

    @property
    def servicer_calls(self) -> int:
        """How many calls are under way in the listener."""
        return self.admission.running

    @property
    def stub(self) -> Any:
        return enrolment_pb2_grpc.EnrolmentStub(self.channel)  # type: ignore[no-untyped-call]

    async def write(self, function: Callable[[Connection], Any]) -> Any:
        return await asyncio.wrap_future(self.writer.call(function))

    async def secret(self, uses: int = 1, ttl_s: int = 3600) -> str:
        line = await self.write(
            lambda c: tokens.create(
                c,
                pin=self.authority.pin,
                uses=uses,
                ttl_s=ttl_s,
                asset_class="server",
                labels={"site": "hq"},
                actor="li",
                now_ms=self.now_ms,
            )
        )
        return parse_token(line).secret

    def request(self, machine: Machine, secret: str, **fields: Any) -> enrolment_pb2.EnrolRequest:
        values = {
            "token_secret": secret,
            "csr_der": machine.csr,
            "binding_key_der": machine.binding_der,
            "hostname": "db-1",
            "machine_id": "m",
            "agent_version": "0.1.0",
            "platform": "linux-x86_64",
        }
        return enrolment_pb2.EnrolRequest(**(values | fields))

    async def enrol(self, machine: Machine, secret: str, **fields: Any) -> enrolment_pb2.Enrolled:
        """Over a connection of its own, as every machine has one."""
        async with channel(self.port, self.authority.bundle()) as own:
            stub: Any = enrolment_pb2_grpc.EnrolmentStub(own)  # type: ignore[no-untyped-call]
            return await stub.Enrol(self.request(machine, secret, **fields), timeout=20)  # type: ignore[no-any-return]

    async def nonce(self, uid: str) -> bytes:
        return (await self.stub.GetChallenge(enrolment_pb2.ChallengeRequest(agent_id=uid), timeout=20)).nonce  # type: ignore[no-any-return]

    async def recover(self, machine: Machine, uid: str, **fields: Any) -> enrolment_pb2.Enrolled:
        nonce = fields.get("nonce") or await self.nonce(uid)
        csr = machine.csr
        values = {
            "agent_id": uid,
            "nonce": nonce,
            "csr_der": csr,
            "signature": machine.sign_recovery(nonce, csr),
            "machine_id": "m",
        }
        request = enrolment_pb2.RecoverRequest(**(values | fields))
        return await self.stub.Recover(request, timeout=20)  # type: ignore[no-any-return]

    def count(self, table: Any) -> int:
        with self.database.read() as connection:
            return connection.execute(select(func.count()).select_from(table)).scalar_one()

    def agent_row(self, uid: str) -> Any:
        with self.database.read() as connection:
            return connection.execute(select(agent).where(agent.c.uid == uid)).one()


@asynccontextmanager
async def open_door(database: Database, data: Path) -> AsyncIterator[Door]:
    errors: list[BaseException] = []
    authority = Authority.open(data, START_MS)
    writer = Writer(database, errors.append)
    clocks: list[Door] = []
    many = Rate(per_s=0.0, burst=1_000.0)
    admission = Admission(EnrolmentLimits(address=many, overall=many), lambda: clocks[0].monotonic_s if clocks else 0.0)
    servicer = EnrolmentServicer(
        authority,
        writer,
        StreamAddress(8421),
        lambda: clocks[0].now_ms,
        admission,
        Challenges(lambda: clocks[0].monotonic_s),
    )
    server, port = await start_enrolment_server("127.0.0.1:0", servicer, authority.enrolment_credentials())
    try:
        async with channel(port, authority.bundle()) as open_:
            clocks.append(Door(authority, database, writer, admission, port, open_, errors=errors))
            yield clocks[0]
    finally:
        await server.stop(0)
        writer.close()


@pytest.fixture
async def door(database: Database, tmp_path: Path) -> AsyncIterator[Door]:
    async with open_door(database, tmp_path) as opened:
        yield opened


@pytest.fixture
async def any_door(any_database: Database, tmp_path: Path) -> AsyncIterator[Door]:
    async with open_door(any_database, tmp_path) as opened:
        yield opened


async def refusal(call: Awaitable[Any]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    details = caught.value.details() or ""
    assert "\n" not in details
    return caught.value.code(), details


async def test_the_authority_tells_its_roots_and_its_clock(door: Door) -> None:
    door.authority.prepare_next_root(START_MS)
    answer: stream_pb2.Authority = await door.stub.GetAuthority(enrolment_pb2.AuthorityRequest(), timeout=20)
    assert answer.roots_pem == door.authority.bundle()
    assert answer.roots_pem.count(b"BEGIN CERTIFICATE") == 2
    assert answer.wall_clock_ms == START_MS


async def test_a_machine_gets_in_by_a_token(any_door: Door) -> None:
    machine = Machine()
    answer = await any_door.enrol(machine, await any_door.secret())
    identity = uid_of(answer.certificate_pem)
    assert (identity.uid, answer.asset, answer.stream_port) == (answer.agent_id, "db-1", 8421)
    assert answer.roots_pem == any_door.authority.bundle()
    assert first_certificate(answer.certificate_pem).public_key() == machine.key.public_key()
    with any_door.database.read() as connection:
        asset = assets.find(connection, "db-1")
        assert (asset.asset_class, asset.labels) == ("server", {"site": "hq"})
        row = connection.execute(select(certificate)).one()
        assert (row.serial, row.pem) == (identity.serial, answer.certificate_pem)
        assert (row.not_before_ms, row.not_after_ms) == (identity.not_before_ms, identity.not_after_ms)
        shown = agents.details(connection, answer.agent_id)
        assert shown["certificate_until"] is not None


async def test_a_lost_answer_is_given_again_and_counts_no_use(any_door: Door) -> None:
    machine, secret = Machine(), await any_door.secret(uses=1)
    first = await any_door.enrol(machine, secret)
    for later_ms in (0, 7_200_000):  # the second time the token has expired
        any_door.now_ms = START_MS + later_ms
        assert await any_door.enrol(machine, secret) == first
    assert any_door.count(agent) == 1


async def test_the_same_answer_is_not_given_to_a_blocked_agent(door: Door) -> None:
    machine, secret = Machine(), await door.secret()
    uid = (await door.enrol(machine, secret)).agent_id
    await door.write(lambda c: agents.block(c, uid, actor="li", now_ms=START_MS))
    code, details = await refusal(door.enrol(machine, secret))
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert details == f"agent {uid} is blocked; an engineer can let it in with gengfu-collector agent unblock {uid}"


async def test_the_same_key_enrols_anew_after_its_certificate_has_expired(any_door: Door) -> None:
    machine, secret = Machine(), await any_door.secret(uses=2, ttl_s=40 * 86_400)
    first = await any_door.enrol(machine, secret)
    any_door.now_ms = START_MS + 31 * DAY_MS
    second = await any_door.enrol(machine, secret)
    assert (first.agent_id, first.asset) != (second.agent_id, second.asset)
    assert (await refusal(any_door.enrol(Machine(), secret)))[0] is grpc.StatusCode.PERMISSION_DENIED


async def test_of_two_machines_at_once_one_gets_the_last_use(any_door: Door) -> None:
    secret = await any_door.secret(uses=1)
    outcomes = await asyncio.gather(*(any_door.enrol(Machine(), secret) for _ in range(6)), return_exceptions=True)
    failed = [outcome for outcome in outcomes if isinstance(outcome, grpc.aio.AioRpcError)]
    assert len(failed) == 5
    assert {error.code() for error in failed} == {grpc.StatusCode.PERMISSION_DENIED}
    assert (any_door.count(agent), any_door.count(certificate)) == (1, 1)


async def test_one_machine_that_asks_many_times_at_once_is_one_agent(any_door: Door) -> None:
    machine, secret = Machine(), await any_door.secret(uses=5)
    answers = await asyncio.gather(*(any_door.enrol(machine, secret) for _ in range(5)))
    assert all(answer == answers[0] for answer in answers)
    with any_door.database.read() as connection:
        assert connection.execute(select(token.c.uses_left)).scalar_one() == 4


def test_one_machine_that_asks_two_collectors_at_once_is_one_agent(any_database: Database, tmp_path: Path) -> None:
    """Collectors that share a database have a writer each: transactions really run side by side."""
    authority = Authority.open(tmp_path, START_MS)
    machine = Machine()
    start = threading.Barrier(4)
    with any_database.write() as connection:
        line = tokens.create(
            connection,
            pin=authority.pin,
            uses=9,
            ttl_s=60,
            asset_class="server",
            labels={},
            actor="li",
            now_ms=START_MS,
        )

    def ask(asking: Machine) -> issuance.Issue:
        who = agents.Machine("db-1", "m", "0.1.0", "linux")
        request = issuance.EnrolmentRequest(parse_token(line).secret, asking.csr, asking.binding_der, who)
        with any_database.write() as connection:
            return issuance.enrol(authority, connection, request, START_MS)

    def ask_with_the_others() -> issuance.Issue:
        start.wait(20)
        return ask(machine)

    ask(Machine())
    with ThreadPoolExecutor(4) as pool:
        answers = [future.result(20) for future in [pool.submit(ask_with_the_others) for _ in range(4)]]
    assert all(answer == answers[0] for answer in answers)
    with any_database.read() as connection:
        assert connection.execute(select(token.c.uses_left)).scalar_one() == 7


async def test_unknown_and_malformed_tokens_get_the_same_answer(door: Door) -> None:
    known = await door.secret()
    wrong = ["", "x", known[:-1], known.upper(), known + "a", "a" * 32, "gengfu1." + known, "中" * 32, "a" * 60_000]
    answers = {await refusal(door.enrol(Machine(), secret)) for secret in wrong}
    assert answers == {(grpc.StatusCode.UNAUTHENTICATED, tokens.UNKNOWN_TOKEN)}
    assert door.admission.refusals == {"unknown": len(wrong)}
    assert door.count(agent) == 0


async def test_used_up_and_expired_tokens_are_told_apart(door: Door) -> None:
    used, late = await door.secret(uses=1), await door.secret(ttl_s=60)
    await door.enrol(Machine(), used)
    door.now_ms = START_MS + 60_000
    assert await refusal(door.enrol(Machine(), used)) == (
        grpc.StatusCode.PERMISSION_DENIED,
        "this token is used up: ask an engineer for a new one (gengfu-collector token create)",
    )
    assert await refusal(door.enrol(Machine(), late)) == (
        grpc.StatusCode.PERMISSION_DENIED,
        "this token has expired: ask an engineer for a new one (gengfu-collector token create)",
    )


async def test_bad_requests_are_refused_and_count_no_use(any_door: Door) -> None:
    secret = await any_door.secret(uses=1)
    machine = Machine()
    bad: list[dict[str, Any]] = [
        {"csr_der": b""},
        {"csr_der": b"\x30\x00"},
        {"csr_der": machine.csr[:-1]},
        {"csr_der": b"x" * 5_000},
        {"binding_key_der": b""},
        {"binding_key_der": b"rubbish"},
        {"hostname": "x" * 257},
        {"machine_id": "x" * 129},
        {"agent_version": "x" * 65},
        {"platform": "x" * 65},
    ]
    for fields in bad:
        code, details = await refusal(any_door.enrol(machine, secret, **fields))
        assert (code, bool(details)) == (grpc.StatusCode.INVALID_ARGUMENT, True), fields
    assert (any_door.count(agent), any_door.count(assets.asset)) == (0, 0)
    await any_door.enrol(machine, secret)


async def test_hostile_names_arrive_harmless(any_door: Door) -> None:
    answer = await any_door.enrol(
        Machine(), await any_door.secret(), hostname="a\x00b\x1b[0m\u202ec\n", platform="\x00"
    )
    assert answer.asset == "a\ufffdb\ufffd[0m\ufffdc\ufffd"
    assert any_door.agent_row(answer.agent_id).platform == "\ufffd"


async def test_a_machine_that_was_off_for_long_comes_back_three_times_then_asks(any_door: Door) -> None:
    machine = Machine()
    uid = (await any_door.enrol(machine, await any_door.secret())).agent_id
    for absence in range(1, 4):
        any_door.now_ms = START_MS + absence * 100 * DAY_MS
        machine.key = ec.generate_private_key(ec.SECP256R1())
        answer = await any_door.recover(machine, uid)
        assert uid_of(answer.certificate_pem).uid == answer.agent_id == uid
        assert uid_of(answer.certificate_pem).is_valid(any_door.now_ms)
        assert await any_door.recover(machine, uid) == answer  # the answer was lost: the same again, not counted
        assert any_door.agent_row(uid).recoveries_left == 3 - absence
    machine.key = ec.generate_private_key(ec.SECP256R1())
    code, details = await refusal(any_door.recover(machine, uid))
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert f"gengfu-collector agent allow {uid}" in details
    await any_door.write(lambda c: agents.allow(c, uid, actor="li", now_ms=any_door.now_ms))
    await any_door.recover(machine, uid)
    with any_door.database.read() as connection:
        kinds = connection.scalars(select(event_table.c.kind).order_by(event_table.c.id)).all()
        kept = connection.execute(select(func.count()).select_from(certificate)).scalar_one()
    assert kinds == ["token_created", "enrolled", *["recovered"] * 3, "recovery_allowed", "recovered"]
    assert kept == 2  # expired ones went


async def test_who_does_not_hold_the_binding_key_learns_nothing(door: Door) -> None:
    machine = Machine()
    uid = (await door.enrol(machine, await door.secret())).agent_id
    nonce = await door.nonce(uid)
    attempts = [
        door.recover(Machine(), uid),
        door.recover(machine, "nobody"),
        door.recover(machine, uid, nonce=nonce, signature=machine.sign_recovery(bytes(32), machine.csr)),
        door.recover(machine, uid, signature=b""),
        door.recover(machine, uid, csr_der=Machine().csr),
    ]
    answers = {await refusal(attempt) for attempt in attempts}
    assert answers == {(grpc.StatusCode.UNAUTHENTICATED, issuance.NOT_PROVEN)}
    assert door.agent_row(uid).recoveries_left == 3


async def test_a_challenge_is_good_once_for_a_minute_and_for_one_agent(door: Door) -> None:
    machine = Machine()
    uid = (await door.enrol(machine, await door.secret())).agent_id
    used, late, anothers = await door.nonce(uid), await door.nonce(uid), await door.nonce("another")
    await door.recover(machine, uid, nonce=used)
    door.monotonic_s = 60.0
    for nonce in (used, late, anothers, bytes(32)):
        code, details = await refusal(door.recover(machine, uid, nonce=nonce))
        assert (code, "ask for a new one" in details) == (grpc.StatusCode.PERMISSION_DENIED, True)


@pytest.mark.parametrize("state", ["blocked", "quarantined", "retired"])
async def test_agents_that_are_kept_out_do_not_recover(door: Door, state: str) -> None:
    machine = Machine()
    uid = (await door.enrol(machine, await door.secret())).agent_id
    await door.write(lambda c: c.execute(agent.update().values(state=state)))
    code, details = await refusal(door.recover(machine, uid))
    assert (code, state in details) == (grpc.StatusCode.PERMISSION_DENIED, True)


@pytest.mark.parametrize("name", ["", "A", "x" * 65, "../x", "a b", "中"])
async def test_what_is_no_agent_id_gets_no_challenge(door: Door, name: str) -> None:
    assert (await refusal(door.nonce(name)))[0] is grpc.StatusCode.INVALID_ARGUMENT


async def test_renewal_gives_a_new_certificate_once_a_key_and_restores_recoveries(any_door: Door) -> None:
    machine = Machine()
    enrolled = await any_door.enrol(machine, await any_door.secret())
    row_id = any_door.agent_row(enrolled.agent_id).id

    async def renew(csr: bytes) -> bytes:
        return await any_door.write(  # type: ignore[no-any-return]
            lambda c: issuance.renew(any_door.authority, c, row_id, csr, any_door.now_ms)
        )

    machine.key = ec.generate_private_key(ec.SECP256R1())
    await any_door.recover(machine, enrolled.agent_id)
    assert any_door.agent_row(enrolled.agent_id).recoveries_left == 2
    any_door.now_ms = START_MS + 16 * DAY_MS
    fresh = Machine()
    renewed = await renew(fresh.csr)
    assert await renew(fresh.csr) == renewed
    assert uid_of(renewed).uid == enrolled.agent_id
    assert uid_of(renewed).not_after_ms > any_door.now_ms + 29 * DAY_MS
    assert any_door.agent_row(enrolled.agent_id).recoveries_left == 3
    any_door.now_ms += 16 * DAY_MS
    assert await renew(fresh.csr) != renewed  # past half of its life the old one is no answer
    with pytest.raises(UsageError):
        await renew(b"rubbish")
    await any_door.write(lambda c: agents.block(c, enrolled.agent_id, actor="li", now_ms=any_door.now_ms))
    with pytest.raises(Refused):
        await renew(Machine().csr)


async def test_an_agent_cannot_fill_the_store_with_certificates(door: Door) -> None:
    machine = Machine()
    enrolled = await door.enrol(machine, await door.secret())
    row_id = door.agent_row(enrolled.agent_id).id
    for _ in range(issuance.MAX_VALID_CERTIFICATES - 1):
        await door.write(lambda c: issuance.renew(door.authority, c, row_id, Machine().csr, START_MS))
    with pytest.raises(Overloaded, match="20 valid certificates"):
        await door.write(lambda c: issuance.renew(door.authority, c, row_id, Machine().csr, START_MS))
    machine.key = ec.generate_private_key(ec.SECP256R1())
    assert (await refusal(door.recover(machine, enrolled.agent_id)))[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert door.agent_row(enrolled.agent_id).recoveries_left == 3  # what was refused has counted nothing
    later_ms = START_MS + 31 * DAY_MS
    await door.write(lambda c: issuance.renew(door.authority, c, row_id, Machine().csr, later_ms))
    assert door.count(certificate) == 1


async def test_too_many_calls_are_refused_and_counted(door: Door) -> None:
    codes = set()
    for _ in range(1_001):
        try:
            await door.nonce("a")
        except grpc.aio.AioRpcError as error:
            codes.add((error.code(), error.details()))
    assert codes == {
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "too many calls from this address: try again in a minute"),
    }
    assert door.admission.refusals == {"address_rate": 1}


class Hold:
    """Keeps the writer busy, so that what arrives meanwhile shares the next transaction."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._gate = threading.Event()
        self._busy = threading.Event()
        self._job = writer.call(self._wait)

    def _wait(self, _connection: Connection) -> None:
        self._busy.set()
        assert self._gate.wait(20)

    async def until_waiting(self, jobs: int) -> None:
        assert await asyncio.to_thread(self._busy.wait, 20)
        async with asyncio.timeout(20):
            while self._writer.waiting < jobs:
                await asyncio.sleep(0.01)

    async def release(self) -> None:
        self._gate.set()
        await asyncio.wrap_future(self._job)


async def test_a_client_that_goes_away_does_not_stop_the_writer(door: Door) -> None:
    secret = await door.secret(uses=100)
    hold = Hold(door.writer)
    calls = [door.stub.Enrol(door.request(Machine(), secret)) for _ in range(3)]
    await hold.until_waiting(3)
    async with asyncio.timeout(20):
        for call in calls:
            call.cancel()
        while door.servicer_calls:
            await asyncio.sleep(0.01)
    await hold.release()
    await door.enrol(Machine(), secret)
    assert door.errors == []
    assert door.count(agent) == 4


async def test_one_refusal_does_not_undo_what_shares_its_transaction(door: Door) -> None:
    secret = await door.secret(uses=100)
    hold = Hold(door.writer)
    transactions: list[str] = []
    both = asyncio.gather(
        refusal(door.enrol(Machine(), secret, csr_der=b"rubbish")),
        door.enrol(Machine(), secret),
        refusal(door.enrol(Machine(), "x")),
    )
    await hold.until_waiting(3)
    event.listen(door.database.engine, "commit", lambda _: transactions.append("commit"))
    event.listen(door.database.engine, "rollback", lambda _: transactions.append("rollback"))
    await hold.release()
    await both
    assert transactions == ["commit", "commit"]
    assert door.errors == []


@pytest.fixture
def failing_store(database: Database) -> Database:
    with database.write() as connection:
        connection.execute(text("ALTER TABLE certificate RENAME TO certificate_gone"))
    return database


async def test_a_failing_store_is_reported_without_telling_what_it_holds(
    failing_store: Database, tmp_path: Path
) -> None:
    async with open_door(failing_store, tmp_path) as door:
        secret = await door.secret()
        code, details = await refusal(door.enrol(Machine(), secret))
        assert (code, details) == (
            grpc.StatusCode.UNAVAILABLE,
            "the collector cannot write at present: try again later",
        )
        assert len(door.errors) == 1
        assert door.admission.refusals == {"store": 1}


async def test_the_enrolled_certificate_opens_a_mutual_tls_channel(door: Door) -> None:
    from gengfu_collector.gateway.admission import stream_options
    from gengfu_collector.gateway.listener import start_listener

    machine = Machine()
    answer = await door.enrol(machine, await door.secret())

    async def who(_request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        return uid_of(bytes(next(iter(context.auth_context()["x509_pem_cert"])))).uid.encode()

    handler = grpc.method_handlers_generic_handler("t.T", {"Who": grpc.unary_unary_rpc_method_handler(who)})
    server, port = await start_listener(
        "127.0.0.1:0", "--stream", door.authority.stream_credentials(), stream_options(), handler
    )
    try:
        async with channel(port, answer.roots_pem, (answer.certificate_pem, key_pem(machine.key))) as open_:
            assert await open_.unary_unary("/t.T/Who")(b"", timeout=20) == answer.agent_id.encode()
    finally:
        await server.stop(0)
