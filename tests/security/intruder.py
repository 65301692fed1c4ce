"""The other end of the wire in the hands of a test: an agent with a valid certificate that says whatever it likes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from machinery import Collector
from machines import Machine, channel, key_pem

from gengfu_checks.model import OK_CODE, Finding, Status
from gengfu_proto.convert.report import EncodedRun, encode_findings_body, encode_run
from gengfu_proto.token import parse_token
from gengfu_proto.v1 import enrolment_pb2, report_pb2, stream_pb2

CONVERSE = "/gengfu.v1.AgentStream/Converse"
ENROL = "/gengfu.v1.Enrolment"
PATIENCE_S = 30.0


@dataclass(frozen=True)
class Card:
    """An identity: uid, key and certificate chain (PEM), and the roots that lead to the collector."""

    uid: str
    asset: str
    key: bytes
    chain: bytes
    roots: bytes
    machine: Machine


async def call(
    port: int, roots: bytes, method: str, request: Any, answer: Any, options: Mapping[str, int] | None = None
) -> Any:
    """One call of the enrolment listener."""
    async with channel(port, roots, None, options) as open_:
        return answer.FromString(await open_.unary_unary(f"{ENROL}/{method}")(request.SerializeToString(), timeout=20))


async def enrol(
    collector: Collector, hostname: str = "intruder", machine_id: str = "machine", token: str = "", **fields: Any
) -> Card:
    """Become an agent as any machine does."""
    machine = Machine()
    line = token or await asyncio.to_thread(collector.token)
    request = enrolment_pb2.EnrolRequest(
        token_secret=parse_token(line).secret,
        csr_der=machine.csr,
        binding_key_der=machine.binding_der,
        hostname=hostname,
        machine_id=machine_id,
        **fields,
    )
    roots = roots_of(collector)
    done = await call(collector.ports["enrol"], roots, "Enrol", request, enrolment_pb2.Enrolled)
    return Card(done.agent_id, done.asset, key_pem(machine.key), done.certificate_pem, done.roots_pem, machine)


def roots_of(collector: Collector) -> bytes:
    """What the collector's folder says."""
    text = b""
    for path in sorted((collector.data / "ca").glob("root-*.pem")):
        text += path.read_bytes().partition(b"-----END PRIVATE KEY-----\n")[2]
    return text


class Intruder:
    """One stream; `read` gives what comes down, `None` at its end."""

    def __init__(self, collector: Collector, card: Card, options: Mapping[str, Any] | None = None) -> None:
        self.card = card
        self._channel = channel(collector.ports["stream"], card.roots, (card.chain, card.key), options)
        self._call: Any = None
        self.welcome = stream_pb2.Welcome()
        self.live = 0
        self.seq = 0

    async def __aenter__(self) -> Intruder:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._call is not None:
            self._call.cancel()
        await self._channel.close()

    def open(self, **more: Any) -> None:
        """Begin a stream; nothing is said yet."""
        self._call = self._channel.stream_stream(CONVERSE)(**more)

    async def send_bytes(self, data: bytes) -> None:
        """Send; a stream that the collector has ended takes it and drops it."""
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await asyncio.wait_for(self._call.write(data), PATIENCE_S)

    async def send(self, **message: Any) -> None:
        await self.send_bytes(stream_pb2.Up(**message).SerializeToString())

    async def read(self, within_s: float = PATIENCE_S) -> stream_pb2.Down | None:
        try:
            data = await asyncio.wait_for(self._call.read(), within_s)
        except grpc.aio.AioRpcError:  # `ending` tells it
            return None
        return stream_pb2.Down.FromString(data) if isinstance(data, bytes) else None

    async def read_until(self, kind: str, within_s: float = PATIENCE_S) -> Any:
        """The next message of this kind; others before it are passed over."""
        deadline_s = time.monotonic() + within_s
        while True:
            down = await self.read(max(deadline_s - time.monotonic(), 0.01))
            assert down is not None, f"the stream ended before {kind}: {await self.ending()}"
            if down.WhichOneof("message") == "acknowledgement":
                self.live += down.acknowledgement.credit.live
            if down.WhichOneof("message") == kind:
                return getattr(down, kind)

    async def ending(self) -> tuple[grpc.StatusCode, str]:
        """How the call ended."""
        code = await asyncio.wait_for(self._call.code(), PATIENCE_S)
        return code, await self._call.details()

    async def hello(self, **fields: Any) -> stream_pb2.Welcome:
        """Begin a stream and be welcomed."""
        down = await self.ask(**fields)
        assert down is not None, await self.ending()
        assert down.WhichOneof("message") == "welcome", down
        self.welcome = down.welcome
        self.live = down.welcome.credit.live
        return down.welcome

    async def ask(self, **fields: Any) -> stream_pb2.Down | None:
        """Begin a stream with this Hello; return the answer."""
        self.open()
        await self.send(hello=a_hello(**fields))
        return await self.read()

    async def report(
        self, body: bytes, shapes: Any = (), *, seq: int = 0, epoch: int = 0, **more: Any
    ) -> stream_pb2.Acknowledgement:
        """Send one report and wait for the answer about it."""
        self.seq = seq or self.seq + 1
        self.live -= 1
        report = a_report(self.seq, body, shapes, epoch or self.welcome.epoch, **more)
        await self.send_bytes(report)
        found = await self.read_until("acknowledgement")
        assert isinstance(found, stream_pb2.Acknowledgement)
        return found

    async def is_heard(self) -> bool:
        """Whether a heartbeat is answered."""
        await self.send(heartbeat=stream_pb2.Heartbeat())
        return await self.read_until("credit") is not None


def a_hello(**fields: Any) -> stream_pb2.Hello:
    """A plain Hello, with these fields instead."""
    plain: dict[str, Any] = {"protocol": 1, "next_seq": 1, "machine_id": "machine", "hostname": "intruder"}
    return stream_pb2.Hello(**{**plain, "wall_clock_ms": round(time.time() * 1000), **fields})


def a_report(seq: int, body: bytes, shapes: Any = (), epoch: int = 1, **more: Any) -> bytes:
    """One report as the bytes of an Up message; live unless said otherwise."""
    fields = {"lane": report_pb2.LANE_LIVE, **more}
    report = report_pb2.Report(epoch=epoch, seq=seq, body=body, shapes=shapes, **fields)
    return stream_pb2.Up(report=report).SerializeToString()


def a_run(check: str = "disk", items: Any = ("",), status: Status = Status.OK, **fields: Any) -> EncodedRun:
    """A run with one finding an item."""
    code = fields.pop("code", OK_CODE if status is Status.OK else "disk.nearly_full")
    facts = fields.pop("facts", {})
    now_s = time.time()
    found = [Finding(check, item, status, code, facts, {"used_ratio": 0.5}, now_s) for item in items]
    return encode_run(check, fields.pop("kind", check), 60.0, found, {}, 0.01, **fields)


def body_of(*runs: EncodedRun) -> bytes:
    return encode_findings_body(runs)


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def load_key(pem: bytes) -> Any:
    return serialization.load_pem_private_key(pem, None)
