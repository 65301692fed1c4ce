"""Echo requests to one IPv4 address, by whatever way is open.

First an ICMP datagram socket, which the kernel grants to the groups of `net.ipv4.ping_group_range` (icmp(7)); then a
raw one, for root and who else has CAP_NET_RAW (raw(7)); else the program `ping` (iputils, BusyBox), which has the right
by itself.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import struct
import time
from dataclasses import dataclass, field

from gengfu_checks.errors import CannotMeasure
from gengfu_checks.local.programs import find_program, run_program

INTERVAL_S = 0.25
"""Not less: many gateways answer only so many a second, and what they pass over looks like loss."""
LAST_WAIT_S = 1.0
SOCKETS = (socket.SOCK_DGRAM, socket.SOCK_RAW)

_ECHO_REQUEST, _ECHO_REPLY = 8, 0
_HEADER = struct.Struct(">BBHHH")
_TOKEN_BYTES = 16
_MAX_REPLY_BYTES = 2048
_MAX_OUTPUT_BYTES = 65536
_COUNTS = re.compile(r"(\d{1,6}) packets transmitted, (\d{1,6}) (?:packets )?received")
_AVERAGE = re.compile(r"min/avg/max(?:/[a-z]{1,10})? = [0-9.]{1,12}/([0-9.]{1,12})/")


@dataclass(frozen=True, slots=True)
class Echo:
    """How many requests were sent and answered, and the mean time of the answers (None without any)."""

    sent: int
    received: int
    round_trip_s: float | None


@dataclass(slots=True)
class _Series:
    """Requests under way, by number: when each was sent, and how long its answer took."""

    token: bytes
    sent_at: dict[int, float] = field(default_factory=dict)
    took_s: dict[int, float] = field(default_factory=dict)


def echo(address: str, packets: int, deadline_s: float) -> Echo | None:
    """Send requests, one at a time, and wait for the answers; None where this user may not, or has no way."""
    for kind in SOCKETS:
        with (
            contextlib.suppress(OSError),
            contextlib.closing(socket.socket(socket.AF_INET, kind, socket.IPPROTO_ICMP)) as channel,
        ):
            return _by_socket(channel, address, packets)
    return _by_program(address, packets, deadline_s)


def parse_ping(output: str) -> Echo | None:
    """Return what the summary of `ping -q` says; None where there is none."""
    counts, average = _COUNTS.search(output), _AVERAGE.search(output)
    if counts is None or int(counts[1]) == 0:
        return None
    sent, received = int(counts[1]), min(int(counts[2]), int(counts[1]))
    try:
        return Echo(sent, received, float(average[1]) / 1000 if average is not None and received else None)
    except ValueError:
        return None


def decode_reply(data: bytes, token: bytes) -> int | None:
    """Return the number of the request that this answers; None for what is no answer to ours."""
    if len(data) < _HEADER.size + len(token):
        return None
    kind, _, _, _, number = _HEADER.unpack_from(data)
    is_ours = kind == _ECHO_REPLY and data[_HEADER.size :] == token
    return number if is_ours else None


def without_ip_header(packet: bytes) -> bytes:
    """Return what an IPv4 packet carries."""
    return packet[(packet[0] & 0x0F) * 4 :] if packet else b""


def checksum(data: bytes) -> int:
    """Return the checksum of a message of even length with a zero in its place (RFC 1071)."""
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def _request(number: int, token: bytes) -> bytes:
    """A datagram socket puts in an identifier and checksum of its own; a raw one sends these."""
    identifier = int.from_bytes(token[:2], "big")
    bare = _HEADER.pack(_ECHO_REQUEST, 0, 0, identifier, number) + token
    return _HEADER.pack(_ECHO_REQUEST, 0, checksum(bare), identifier, number) + token


def _by_socket(channel: socket.socket, address: str, packets: int) -> Echo:
    channel.connect((address, 0))
    series = _Series(os.urandom(_TOKEN_BYTES))
    for number in range(packets):
        series.sent_at[number] = time.monotonic()
        with contextlib.suppress(OSError):  # no way there just now: it counts as lost
            channel.send(_request(number, series.token))
        _receive(channel, series, series.sent_at[number] + INTERVAL_S)
    _receive(channel, series, time.monotonic() + LAST_WAIT_S, is_last=True)
    times = series.took_s.values()
    return Echo(packets, len(times), sum(times) / len(times) if times else None)


def _receive(channel: socket.socket, series: _Series, until_s: float, *, is_last: bool = False) -> None:
    """Take answers until a time; the last time no longer than until all are there."""
    while not (is_last and len(series.took_s) == len(series.sent_at)):
        left_s = until_s - time.monotonic()
        if left_s <= 0:
            return
        channel.settimeout(left_s)
        try:
            data = channel.recv(_MAX_REPLY_BYTES)
        except TimeoutError:
            return
        except OSError:  # an error message of a router for an earlier request
            continue
        if channel.type == socket.SOCK_RAW:
            data = without_ip_header(data)
        number = decode_reply(data, series.token)
        if number in series.sent_at and number not in series.took_s:
            series.took_s[number] = time.monotonic() - series.sent_at[number]


def _by_program(address: str, packets: int, deadline_s: float) -> Echo | None:
    program = find_program("ping")
    if program is None:
        return None
    argv = [program, "-n", "-q", "-c", str(packets), "-i", str(INTERVAL_S), "-W", "1", address]
    try:
        output = run_program(argv, deadline_s, _MAX_OUTPUT_BYTES)
    except CannotMeasure:
        return None
    return parse_ping(output.stdout.decode("ascii", "replace"))
