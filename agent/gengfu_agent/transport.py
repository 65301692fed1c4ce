"""Channels to the collector, and what gRPC's errors mean for people.

`gengfu_agent.process.prepare` must have run before this module is first imported: gRPC reads its environment then.
"""

from __future__ import annotations

import re

import grpc
import grpc.aio

from gengfu_agent.errors import BrokenProtocol, Refused, Unreachable, Untrusted, UplinkError, WrongClock
from gengfu_agent.identity import Credentials
from gengfu_proto import limits
from gengfu_proto.names import COLLECTOR_NAME
from gengfu_proto.text import clean, shorten

MAX_DETAIL_CHARACTERS = 4_096
SHOWN_DETAIL_CHARACTERS = 300

_HANDSHAKE_FAILED = re.compile("handshake failed.*certificate|Hostname Verification", re.IGNORECASE | re.DOTALL)

_WRAPPING = re.compile(
    "failed to connect to all addresses; last error: [A-Z_]+: [^ ]+: (Failed to connect to remote host: )?"
)

_REFUSALS = frozenset(
    {
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.NOT_FOUND,
    }
)
_NOT_THERE = frozenset(
    {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED, grpc.StatusCode.ABORTED}
)


def open_channel(
    address: str, roots_pem: bytes, credentials: Credentials | None, max_message_bytes: int
) -> grpc.aio.Channel:
    """Return a channel of its own (no subchannel shared with an earlier one) that trusts these roots alone."""
    tls = grpc.ssl_channel_credentials(
        roots_pem,
        credentials.key_pem if credentials else None,
        credentials.certificate_pem if credentials else None,
    )
    return grpc.aio.secure_channel(address, tls, options=channel_options(max_message_bytes))


def channel_options(max_message_bytes: int) -> list[tuple[str, str | int]]:
    """Return the options of every channel of the agent."""
    return [
        *limits.COMMON_CHANNEL_OPTIONS,
        ("grpc.ssl_target_name_override", COLLECTOR_NAME),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", limits.MAX_UP_BYTES),
        ("grpc.keepalive_time_ms", limits.KEEPALIVE_EVERY_MS),
        ("grpc.keepalive_permit_without_calls", 0),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_retries", 0),
        ("grpc.service_config_disable_resolution", 1),
        ("grpc.enable_http_proxy", 0),
    ]


def meaning(code: grpc.StatusCode, details: str | None, address: str, wall_clock: str) -> UplinkError:
    """Return what an RPC's failure means, in one line; `wall_clock` is this machine's, for people."""
    full = clean((details or "")[:MAX_DETAIL_CHARACTERS], MAX_DETAIL_CHARACTERS, "details")
    detail = shorten(_WRAPPING.sub("", full), SHOWN_DETAIL_CHARACTERS)
    if code in _REFUSALS:
        return Refused(detail or code.name.lower())
    if code not in _NOT_THERE:
        return BrokenProtocol(f"{address} answers with {code.name}: {detail}")
    if "certificate has expired" in full or "certificate is not yet valid" in full:
        what = "has expired" if "certificate has expired" in full else "is not yet valid"
        return WrongClock(
            f"the collector's certificate {what} by the clock of this machine ({wall_clock}): "
            "set this machine's clock; if it is right, the collector's certificate is not"
        )
    if _HANDSHAKE_FAILED.search(full):
        return Untrusted(
            f"{address} is not the collector that this machine trusts: its certificate leads to another root"
        )
    return Unreachable(f"no connection to the collector at {address}: {detail or code.name.lower()}")


def with_port(address: str, default_port: int) -> str:
    """Return HOST:PORT for an address that may lack its port; raises ValueError for what is no address.

    An IPv6 address with a port stands in brackets.
    """
    bare_ipv6 = address.count(":") > 1 and not address.startswith("[")
    if bare_ipv6 or ":" not in address.rpartition("]")[2]:
        address = f"[{address}]:{default_port}" if bare_ipv6 else f"{address}:{default_port}"
    host, _, port = address.rpartition(":")
    if not host.strip("[]") or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65_536:
        raise ValueError(f"{address!r} is not HOST:PORT")
    return f"{host}:{port}"


def host_of(address: str) -> str:
    """Return the host of HOST:PORT, without the brackets of an IPv6 address."""
    return address.rpartition(":")[0].strip("[]")
