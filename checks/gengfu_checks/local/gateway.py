"""The default gateway: which one the kernel's route tables name, and whether it answers on its own link.

Nothing but one empty UDP datagram to the gateway is ever sent; that makes the kernel ask for its hardware address
(ARP), and the kernel's table tells whether somebody answered. No rights are needed. Linux only.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import re
import socket
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

IPV4_ROUTES = Path("/proc/net/route")
IPV6_ROUTES = Path("/proc/net/ipv6_route")
ARP_TABLE = Path("/proc/net/arp")

DISCARD_PORT = 9
FIRST_WAIT_S = 0.01
LONGEST_WAIT_S = 0.25

_NO_WAY = frozenset((errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH))
_UP, _REJECT = 0x1, 0x200
_ARP_COMPLETE = 0x2
_HEX4, _HEX6 = re.compile(r"[0-9A-Fa-f]{8}"), re.compile(r"[0-9A-Fa-f]{32}")


@dataclass(frozen=True, slots=True)
class Route:
    """A default route. `address` is "" where the link itself is the way out (a tunnel, a modem)."""

    link: str
    address: str
    metric: int


@dataclass(frozen=True, slots=True)
class System:
    """Where routes and answers come from."""

    read_routes: Callable[[], list[Route]]
    uses_arp: Callable[[str], bool]
    read_arp: Callable[[], set[tuple[str, str]]]
    send: Callable[[str], None]
    """Send one datagram to this address; raises OSError."""
    monotonic: Callable[[], float]
    sleep: Callable[[float], None]


def may_reach_others() -> bool:
    """Whether there is a default route; where nothing is known of routes, there may be."""
    return not IPV4_ROUTES.exists() or bool(read_routes())


def parse_ipv4_routes(text: str, byteorder: str = sys.byteorder) -> list[Route]:
    """Return the default routes of /proc/net/route, whose addresses stand in the byte order of the machine."""
    routes = []
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 8 or not all(_HEX4.fullmatch(fields[i]) for i in (1, 2, 7)):
            continue
        link, destination, gateway, flags, metric, mask = (fields[i] for i in (0, 1, 2, 3, 6, 7))
        if int(destination, 16) or int(mask, 16) or not _is_way_out(flags) or not metric.isdecimal():
            continue
        packed = bytes.fromhex(gateway) if byteorder == "big" else bytes.fromhex(gateway)[::-1]
        routes.append(Route(link, str(ipaddress.IPv4Address(packed)) if any(packed) else "", int(metric)))
    return routes


def parse_ipv6_routes(text: str) -> list[Route]:
    """Return the default routes of /proc/net/ipv6_route."""
    routes = []
    for line in text.splitlines():
        fields = line.split()
        if len(fields) < 10 or not all(_HEX6.fullmatch(fields[i]) for i in (0, 4)) or not _HEX4.fullmatch(fields[5]):
            continue
        destination, length, gateway, metric, flags, link = (fields[i] for i in (0, 1, 4, 5, 8, 9))
        if int(destination, 16) or length != "00" or not _is_way_out(flags):
            continue
        packed = bytes.fromhex(gateway)
        routes.append(Route(link, str(ipaddress.IPv6Address(packed)) if any(packed) else "", int(metric, 16)))
    return routes


def parse_arp(text: str) -> set[tuple[str, str]]:
    """Return address and link of everybody in /proc/net/arp whose hardware address is known."""
    known = set()
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) >= 6 and fields[2].startswith("0x") and _flags(fields[2][2:]) & _ARP_COMPLETE:
            known.add((fields[0], fields[-1]))
    return known


def default_route(routes: Iterable[Route]) -> Route | None:
    """Return the route that the kernel takes: IPv4 before IPv6, then the lowest metric."""
    return min(routes, key=lambda route: (":" in route.address, route.metric), default=None)


def is_reachable(route: Route, system: System, within_s: float) -> bool | None:
    """Return whether the gateway answers on its link; None where that cannot be found out.

    A gateway that has just died still looks alive for up to a minute, while the kernel trusts what it knew.
    """
    if not route.address or ":" in route.address or not system.uses_arp(route.link):
        return None
    neighbour = (route.address, route.link)
    try:
        system.send(route.address)
    except OSError as error:
        if error.errno not in _NO_WAY:  # a local firewall: only other traffic can have asked
            return True if neighbour in system.read_arp() else None
    deadline = system.monotonic() + within_s
    wait_s = FIRST_WAIT_S
    while neighbour not in system.read_arp():
        if system.monotonic() >= deadline:
            return False
        system.sleep(wait_s)
        wait_s = min(2 * wait_s, LONGEST_WAIT_S)
    return True


def read_routes() -> list[Route]:
    """Return all default routes of this machine."""
    routes = parse_ipv4_routes(IPV4_ROUTES.read_text(errors="replace"))
    with contextlib.suppress(FileNotFoundError):  # a kernel without IPv6
        routes += parse_ipv6_routes(IPV6_ROUTES.read_text(errors="replace"))
    return routes


def read_arp() -> set[tuple[str, str]]:
    """Return the known neighbours of this machine."""
    return parse_arp(ARP_TABLE.read_text(errors="replace"))


def uses_arp(link: str) -> bool:
    """Whether neighbours on this link are asked for by ARP, as on Ethernet and Wi-Fi."""
    stats = psutil.net_if_stats().get(link)
    flags = stats.flags.split(",") if stats is not None else []
    return "broadcast" in flags and "noarp" not in flags


def send(address: str) -> None:
    """Send an empty datagram to the discard port of a gateway, with a life of one hop."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
        channel.setblocking(False)
        channel.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 1)
        channel.sendto(b"", (address, DISCARD_PORT))


SYSTEM = System(read_routes, uses_arp, read_arp, send, time.monotonic, time.sleep)


def _is_way_out(flags: str) -> bool:
    return _flags(flags) & (_UP | _REJECT) == _UP


def _flags(text: str) -> int:
    return int(text, 16) if re.fullmatch(r"[0-9A-Fa-f]{1,8}", text) else 0
