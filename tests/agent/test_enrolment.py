"""Enrolment against a real TLS server: what is sent to whom, and what people are told when it fails."""

from __future__ import annotations

import asyncio
import json
import stat
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from fake_collector import AGENT_ID, SECRET, Authority, FakeCollector

from gengfu_agent import keys
from gengfu_agent.clock import SystemClock
from gengfu_agent.enrolment import Enrolled, ask_authority, enrol, recover
from gengfu_agent.errors import (
    AlreadyEnrolled,
    BrokenProtocol,
    Refused,
    Unreachable,
    Untrusted,
    WrongClock,
    WrongUse,
)
from gengfu_agent.identity import Identity
from gengfu_proto.token import format_token, secret_text


async def enrol_at(collector: FakeCollector, state: Path, token: str | None = None) -> Enrolled:
    return await enrol(collector.enrol_address, token or collector.authority.token, state)


async def test_enrolment_lays_down_an_identity_that_belongs_together(collector: FakeCollector, tmp_path: Path) -> None:
    state = tmp_path / "state"
    enrolled = await enrol_at(collector, state)
    identity = Identity(state)
    agent, credentials = identity.agent(), identity.credentials()
    assert (enrolled.agent_id, enrolled.asset) == (agent.agent_id, agent.asset) == (AGENT_ID, "pc-1")
    assert agent.stream_address == f"127.0.0.1:{collector.stream_port}"
    assert abs(enrolled.clock_ahead_s) < 60
    facts = keys.check_credentials(credentials.key_pem, credentials.certificate_pem, identity.roots_pem())
    assert (facts.not_before_s, facts.not_after_s) == (credentials.not_before_s, credentials.not_after_s)
    (request,) = collector.enrol_requests
    assert request.token_secret == secret_text(SECRET)
    assert request.binding_key_der == keys.public_key_der(identity.binding_key_pem())
    assert request.hostname
    assert request.machine_id
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in state.iterdir()} == {0o600}
    assert sorted(path.name for path in state.iterdir()) == [
        "agent.json",
        "binding_key.pem",
        "credentials.json",
        "roots.pem",
    ]


async def test_a_collector_with_another_root_is_told_nothing(collector: FakeCollector, tmp_path: Path) -> None:
    with pytest.raises(Untrusted, match="not the collector that made this token"):
        await enrol_at(collector, tmp_path, Authority().token)
    assert collector.enrol_requests == []


async def test_a_collector_that_shows_the_right_root_but_does_not_own_it_is_told_nothing(
    collector: FakeCollector, tmp_path: Path
) -> None:
    owner = Authority()
    collector.shown_roots_pem = owner.roots_pem
    with pytest.raises(Untrusted, match="leads to another root"):
        await enrol_at(collector, tmp_path, owner.token)
    assert collector.enrol_requests == []


@pytest.mark.parametrize("roots", [b"", b"-----BEGIN CERTIFICATE-----\nAAA\n-----END CERTIFICATE-----\n", b"\x00" * 99])
async def test_garbage_instead_of_roots_is_no_match(collector: FakeCollector, tmp_path: Path, roots: bytes) -> None:
    collector.shown_roots_pem = roots
    with pytest.raises(Untrusted):
        await enrol_at(collector, tmp_path)


@pytest.mark.parametrize(
    "code", [grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.RESOURCE_EXHAUSTED]
)
async def test_a_refusal_is_told_in_the_collectors_own_words(
    collector: FakeCollector, tmp_path: Path, code: grpc.StatusCode
) -> None:
    collector.refuse_enrol = (code, "this token is used up")
    with pytest.raises(Refused, match="this token is used up") as caught:
        await enrol_at(collector, tmp_path)
    assert caught.value.exit_code == 1
    assert not Identity(tmp_path).is_enrolled()


async def test_an_unknown_secret_is_refused(collector: FakeCollector, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="not known"):
        await enrol_at(collector, tmp_path, format_token(bytes(20), collector.authority.pin))


async def test_the_key_is_the_same_when_the_answer_was_lost(collector: FakeCollector, tmp_path: Path) -> None:
    collector.lose_next_answer = True
    with pytest.raises(Unreachable):
        await enrol_at(collector, tmp_path)
    await enrol_at(collector, tmp_path)
    first, second = (public_key_of(request.csr_der) for request in collector.enrol_requests)
    assert first == second
    assert collector.enrol_requests[0].binding_key_der == collector.enrol_requests[1].binding_key_der


async def test_an_enrolled_machine_is_not_enrolled_again(collector: FakeCollector, tmp_path: Path) -> None:
    await enrol_at(collector, tmp_path)
    with pytest.raises(AlreadyEnrolled, match=str(tmp_path)):
        await enrol_at(collector, tmp_path)
    assert len(collector.enrol_requests) == 1


async def test_nobody_there(held_port: int, tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="refused") as caught:
        await enrol(f"127.0.0.1:{held_port}", Authority().token, tmp_path)
    assert caught.value.exit_code == 3


async def test_a_folder_without_room_is_named_and_the_token_stays_good(
    collector: FakeCollector, tmp_path: Path
) -> None:
    """A limit on the size of files stands for a full disk: every write of the command fails."""
    where = ["--collector", collector.enrol_address, "--state", str(tmp_path)]
    enrolment = [sys.executable, "-m", "gengfu_agent", "enrol", "--token", collector.authority.token, *where]
    no_room = ["/bin/sh", "-c", 'ulimit -f 0; exec "$@"', "sh", *enrolment]
    done = await asyncio.to_thread(subprocess.run, no_room, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith(f"gengfu-agent: the state folder {tmp_path} cannot be written (File too large): make")
    assert "repeat this command; the token is still good" in done.stderr
    assert done.stderr.count("\n") == 1
    done = await asyncio.to_thread(subprocess.run, enrolment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


async def test_something_that_does_not_speak_tls(tmp_path: Path) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(BrokenProtocol, match="does not speak TLS"):
        await enrol(f"127.0.0.1:{port}", Authority().token, tmp_path)
    server.close()


async def test_the_port_of_the_stream_is_not_the_one_for_enrolment(collector: FakeCollector, tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match=r"port for streams.*give the port for enrolment, 8422 by default"):
        await enrol(f"127.0.0.1:{collector.stream_port}", collector.authority.token, tmp_path)


@pytest.mark.parametrize(("validity", "words"), [((-60.0, 30.0), "has expired"), ((30.0, 30.0), "is not yet valid")])
async def test_a_wrong_clock_is_named(tmp_path: Path, validity: tuple[float, float], words: str) -> None:
    collector = FakeCollector()
    collector.server_validity = validity
    told = f"{words} by the clock of this machine.*set this machine's clock.*valid from"
    async with collector.running():
        with pytest.raises(WrongClock, match=told):
            await enrol_at(collector, tmp_path)


async def test_a_clock_that_is_a_little_wrong_is_measured(collector: FakeCollector, tmp_path: Path) -> None:
    collector.wall_clock_ahead_s = -7200
    assert 7100 < (await enrol_at(collector, tmp_path)).clock_ahead_s < 7300


@pytest.mark.parametrize(
    ("address", "token"), [("", "x"), ("host:port", "x"), ("host:70000", "x"), ("127.0.0.1:1", "gengfu1.x.y.z")]
)
async def test_wrong_use(address: str, token: str, tmp_path: Path) -> None:
    with pytest.raises(WrongUse) as caught:
        await enrol(address, token, tmp_path / "new")
    assert caught.value.exit_code == 2
    assert not (tmp_path / "new").exists()


async def test_a_certificate_for_another_key_is_not_taken(collector: FakeCollector, tmp_path: Path) -> None:
    other = keys.certificate_request_der(keys.new_key())
    right = collector.certificate_for
    collector.certificate_for = lambda csr_der: right(other)  # type: ignore[method-assign]
    with pytest.raises(BrokenProtocol, match="another key"):
        await enrol_at(collector, tmp_path)
    assert not Identity(tmp_path).is_enrolled()


async def test_a_certificate_of_another_agent_is_not_taken(collector: FakeCollector, tmp_path: Path) -> None:
    def of_another(csr_der: bytes) -> bytes:
        public_key = x509.load_der_x509_csr(csr_der).public_key()
        assert isinstance(public_key, ec.EllipticCurvePublicKey)
        return collector.authority.agent_chain(public_key, "agent-2")

    collector.certificate_for = of_another  # type: ignore[method-assign]
    with pytest.raises(BrokenProtocol, match="'agent-2' to agent-1"):
        await enrol_at(collector, tmp_path)
    assert not Identity(tmp_path).is_enrolled()


async def test_recovery_by_the_binding_key(collector: FakeCollector, tmp_path: Path) -> None:
    identity = collector.identity_in(tmp_path, start_in_days=-60, days=30)
    old = identity.credentials()
    new = await recover(identity, SystemClock())
    assert new == identity.credentials()
    assert new.key_pem != old.key_pem
    assert new.not_after_s > old.not_after_s


async def test_recovery_repeats_its_key_and_is_refused_in_the_collectors_words(
    collector: FakeCollector, tmp_path: Path
) -> None:
    identity = collector.identity_in(tmp_path)
    collector.lose_next_answer = True
    with pytest.raises(Unreachable):
        await recover(identity, SystemClock())
    collector.refuse_enrol = (grpc.StatusCode.PERMISSION_DENIED, "recovered too often: ask your administrator")
    with pytest.raises(Refused, match="recovered too often"):
        await recover(identity, SystemClock())
    first, second = (public_key_of(request.csr_der) for request in collector.recover_requests)
    assert first == second


async def test_the_authority_is_asked_over_a_connection_that_trusts_the_stored_roots_alone(
    collector: FakeCollector, tmp_path: Path
) -> None:
    identity = collector.identity_in(tmp_path)
    assert (await ask_authority(identity, SystemClock())).roots_pem == collector.authority.roots_pem
    identity.store_roots(Authority().roots_pem)
    with pytest.raises(Untrusted):
        await ask_authority(identity, SystemClock())


async def test_no_secret_in_readable_files_or_errors(collector: FakeCollector, tmp_path: Path) -> None:
    await enrol_at(collector, tmp_path)
    assert secret_text(SECRET) not in "".join(path.read_text() for path in tmp_path.iterdir())
    assert "PRIVATE" not in json.dumps(json.loads((tmp_path / "agent.json").read_text()))


def public_key_of(csr_der: bytes) -> bytes:
    public_key = x509.load_der_x509_csr(csr_der).public_key()
    return public_key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
