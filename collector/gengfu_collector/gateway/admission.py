"""Limits that hold before anybody has proven who they are: how often, how many, how much."""

from __future__ import annotations

import contextlib
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import unquote

from gengfu_collector.errors import Overloaded
from gengfu_proto import limits

TRY_AGAIN = "try again in a minute"
MAX_ENROLMENT_CONNECTIONS = 256
MAX_STREAM_CONNECTIONS = 20_000
HANDSHAKE_TIMEOUT_MS = 20_000
ENROLMENT_CONNECTION_AGE_MS = 60_000
STREAM_CONNECTION_IDLE_MS = 60_000
STREAM_CONNECTION_AGE_MS = 24 * 3_600_000
CONNECTION_GRACE_MS = 60_000
MAX_STREAMS_A_CONNECTION = 8

Options = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Rate:
    """A token bucket's size: `burst` calls at once, `per_s` in the long run."""

    per_s: float
    burst: float


@dataclass(frozen=True, slots=True)
class EnrolmentLimits:
    """Of calls to the enrolment listener. A site behind one address may roll out hundreds of machines."""

    address: Rate = Rate(per_s=10.0, burst=60.0)
    overall: Rate = Rate(per_s=100.0, burst=400.0)
    concurrent: int = 64
    addresses: int = 4_096


@dataclass(slots=True)
class Bucket:
    """A token bucket; refilled when it is looked at. Full at first."""

    rate: Rate
    filled_at_s: float
    level: float = field(init=False)

    def __post_init__(self) -> None:
        self.level = self.rate.burst

    def take(self, now_s: float) -> bool:
        """Take one token; False when there is none."""
        self._fill(now_s)
        if self.level < 1.0:
            return False
        self.level -= 1.0
        return True

    def spend(self, now_s: float, amount: float) -> float:
        """Take so many tokens, there or not; return how long to wait until none are owed."""
        self._fill(now_s)
        self.level -= amount
        return max(0.0, -self.level / self.rate.per_s)

    def is_full(self, now_s: float) -> bool:
        """True when this bucket no longer differs from a new one."""
        self._fill(now_s)
        return self.level >= self.rate.burst

    def _fill(self, now_s: float) -> None:
        passed_s = max(0.0, now_s - self.filled_at_s)
        self.level = min(self.rate.burst, self.level + passed_s * self.rate.per_s)
        self.filled_at_s = now_s


class Limited(Overloaded):
    """A call was not admitted; counted already."""


class Admission:
    """Lets calls in or refuses them, and counts every refusal by its reason. Lives on the event loop.

    `running` (calls under way) and `refusals` are for metrics; the keys of the latter are a closed set of short words.
    """

    def __init__(
        self,
        bounds: EnrolmentLimits | None = None,
        monotonic_s: Callable[[], float] = time.monotonic,
        on_call: Callable[[str], object] = lambda _result: None,
    ) -> None:
        """`on_call` hears how each call ended: "answered", or the reason of its refusal."""
        self._bounds = bounds or EnrolmentLimits()
        self._monotonic_s = monotonic_s
        self.on_call = on_call
        self._overall = Bucket(self._bounds.overall, monotonic_s())
        self._addresses: OrderedDict[str, Bucket] = OrderedDict()
        self.running = 0
        self.refusals: dict[str, int] = {}

    @property
    def addresses(self) -> int:
        """How many addresses are remembered."""
        return len(self._addresses)

    def count(self, reason: str) -> None:
        """Count a refusal."""
        self.refusals[reason] = self.refusals.get(reason, 0) + 1
        self.on_call(reason)

    @contextlib.contextmanager
    def admit(self, peer: str) -> Iterator[None]:
        """Around the work of one call of `peer` (as gRPC names it); raises Limited."""
        now_s = self._monotonic_s()
        # The address first, so that one address cannot use up what is there for all.
        if not self._bucket(address_of(peer), now_s).take(now_s):
            raise self._refuse("address_rate", "too many calls from this address")
        if not self._overall.take(now_s):
            raise self._refuse("overall_rate", "too many machines enrol at once")
        if self.running >= self._bounds.concurrent:
            raise self._refuse("concurrent", "too many machines enrol at once")
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1

    def _refuse(self, reason: str, text: str) -> Limited:
        self.count(reason)
        return Limited(f"{text}: {TRY_AGAIN}")

    def _bucket(self, address: str, now_s: float) -> Bucket:
        """The bucket of an address. Least recently used first: those at the front are forgotten when they are full
        again, or when there are too many."""
        bucket = self._addresses.pop(address, None) or Bucket(self._bounds.address, now_s)
        while self._addresses:
            oldest = next(iter(self._addresses))
            if len(self._addresses) < self._bounds.addresses and not self._addresses[oldest].is_full(now_s):
                break
            del self._addresses[oldest]
        self._addresses[address] = bucket
        return bucket


def address_of(peer: str) -> str:
    """The part of gRPC's peer name that limits go by: the IPv4 address, the /64 network of an IPv6 one."""
    kind, _, rest = unquote(peer).partition(":")
    if kind not in ("ipv4", "ipv6"):
        return kind
    host = rest.rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return kind
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))


def enrolment_options() -> Options:
    """gRPC's options of the enrolment listener."""
    return (
        *_common(limits.MAX_ENROLMENT_BYTES, limits.MAX_ENROLMENT_BYTES),
        ("grpc.max_connection_age_ms", ENROLMENT_CONNECTION_AGE_MS),
        ("grpc.max_allowed_incoming_connections", MAX_ENROLMENT_CONNECTIONS),
    )


def stream_options() -> Options:
    """gRPC's options of the stream listener."""
    return (
        *_common(limits.MAX_UP_BYTES, limits.MAX_DOWN_BYTES),
        ("grpc.max_connection_age_ms", STREAM_CONNECTION_AGE_MS),
        ("grpc.max_connection_idle_ms", STREAM_CONNECTION_IDLE_MS),
        ("grpc.max_allowed_incoming_connections", MAX_STREAM_CONNECTIONS),
    )


def _common(max_receive_bytes: int, max_send_bytes: int) -> Options:
    return (
        *limits.COMMON_CHANNEL_OPTIONS,
        ("grpc.so_reuseport", 0),
        # What goes down is short; the default of 16 KiB is kept for every connection.
        ("grpc.tsi.max_frame_size", 4096),
        ("grpc.max_receive_message_length", max_receive_bytes),
        ("grpc.max_send_message_length", max_send_bytes),
        ("grpc.max_concurrent_streams", MAX_STREAMS_A_CONNECTION),
        ("grpc.max_connection_age_grace_ms", CONNECTION_GRACE_MS),
        ("grpc.server_handshake_timeout_ms", HANDSHAKE_TIMEOUT_MS),
        ("grpc.keepalive_time_ms", limits.KEEPALIVE_EVERY_MS),
        # Half of what agents keep to: their timers need not be exact.
        ("grpc.http2.min_ping_interval_without_data_ms", limits.KEEPALIVE_EVERY_MS // 2),
    )
