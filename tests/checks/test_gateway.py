"""Reading the kernel's tables of routes and neighbours, and asking the gateway."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gengfu_checks.local.gateway import (
    Route,
    System,
    default_route,
    is_reachable,
    parse_arp,
    parse_ipv4_routes,
    parse_ipv6_routes,
    uses_arp,
)

ETH = Route("eth0", "192.0.2.1", 0)


def ipv4_line(link: str, destination: int, gateway: bytes, flags: int, metric: int, mask: int) -> str:
    return f"{link}\t{destination:08X}\t{gateway.hex().upper()}\t{flags:04X}\t0\t0\t{metric}\t{mask:08X}\t0\t0\t0"


def test_the_tables_of_a_virtual_machine(samples: Path) -> None:
    """Recorded from /proc/net on a virtual machine with Linux 6.18 (little-endian)."""
    proc = samples / "proc"
    assert parse_ipv4_routes((proc / "net-route-linux-6.18").read_text(), "little") == [ETH]
    assert parse_ipv6_routes((proc / "net-ipv6_route-linux-6.18").read_text()) == [Route("eth0", "fd00::1", 1024)]
    assert parse_arp((proc / "net-arp-linux-6.18").read_text()) == {("192.0.2.1", "eth0")}


@given(st.ip_addresses(v=4).filter(lambda a: int(a) != 0), st.integers(0, 2**31), st.sampled_from(["little", "big"]))
def test_addresses_are_read_in_the_byte_order_of_the_machine(address: IPv4Address, metric: int, order: str) -> None:
    packed = address.packed if order == "big" else address.packed[::-1]
    table = "header\n" + ipv4_line("eth0", 0, packed, 3, metric, 0)
    assert parse_ipv4_routes(table, order) == [Route("eth0", str(address), metric)]


@pytest.mark.parametrize(
    "line",
    [
        ipv4_line("eth0", 0x000200C0, bytes(4), 1, 0, 0x00FFFFFF),  # a network
        ipv4_line("eth0", 0, bytes((1, 2, 0, 192)), 2, 0, 0),  # not up
        ipv4_line("*", 0, bytes(4), 0x201, 0, 0),  # unreachable on purpose
        ipv4_line("eth0", 0, bytes((1, 2, 0, 192)), 3, 0, 0x80),  # half of the internet, as VPNs do
        "eth0 00000000",
        "eth0\tzzzzzzzz\t010200C0\t0003\t0\t0\t0\t00000000",
        "eth0\t00000000\t010200C0\t-3\t0\t0\t0\t00000000",
        "eth0\t00000000\t010200C0\t0003\t0\t0\t-1\t00000000",
    ],
)
def test_other_routes_are_no_way_out(line: str) -> None:
    assert parse_ipv4_routes(f"header\n{line}\n", "little") == []


def test_a_link_that_is_the_way_out_itself_has_no_address() -> None:
    assert parse_ipv4_routes("header\n" + ipv4_line("ppp0", 0, bytes(4), 1, 0, 0)) == [Route("ppp0", "", 0)]


@given(st.text())
def test_no_table_breaks_the_parsers(text: str) -> None:
    for table in (text, f"header\n{text}"):
        assert parse_ipv4_routes(table) == []
        assert parse_ipv6_routes(table) == []
        assert all(len(pair) == 2 for pair in parse_arp(table))


fields = st.sampled_from(["eth0", "0" * 8, "0" * 32, "f" * 32, "00", "0003", "F" * 8, "-1", "²", "0x2", "1"])


@given(st.lists(fields, min_size=6, max_size=12))
def test_fields_in_wrong_places_break_nothing(words: list[str]) -> None:
    table = "header\n" + " ".join(words)
    for route in (*parse_ipv4_routes(table), *parse_ipv6_routes(table)):
        assert route.metric >= 0
    parse_arp(table)


def test_neighbours_without_an_answer_are_not_known() -> None:
    header = "IP address       HW type     Flags       HW address            Mask     Device\n"
    table = header + (
        "192.0.2.1        0x1         0x2         02:fc:00:00:00:05     *        eth0\n"
        "192.0.2.7        0x1         0x0         00:00:00:00:00:00     *        eth0\n"
        "192.0.2.8        0x1         0x6         02:fc:00:00:00:08     *        eth1\n"
    )
    assert parse_arp(table) == {("192.0.2.1", "eth0"), ("192.0.2.8", "eth1")}


def test_the_kernel_takes_ipv4_and_the_lowest_metric() -> None:
    wifi, six = Route("wlan0", "198.51.100.1", 600), Route("eth0", "fd00::1", 1)
    assert default_route([six, wifi, ETH]) == ETH
    assert default_route([six, wifi]) == wifi
    assert default_route([six]) == six
    assert default_route([]) is None


@dataclass(slots=True)
class Neighbourhood:
    """A link whose gateway answers after a while, or never."""

    answers_after_s: float | None = 0.0
    error: OSError | None = None
    clock_s: float = 0.0
    sent: list[str] = field(default_factory=list)

    def send(self, address: str) -> None:
        self.sent.append(address)
        if self.error is not None:
            raise self.error

    def read_arp(self) -> set[tuple[str, str]]:
        known = self.answers_after_s is not None and self.clock_s >= self.answers_after_s
        return {("192.0.2.1", "eth0")} if known else {("192.0.2.9", "eth0"), ("192.0.2.1", "eth1")}

    def sleep(self, seconds: float) -> None:
        self.clock_s += seconds

    def system(self, *, arp: bool = True, routes: Iterable[Route] = (ETH,)) -> System:
        return System(lambda: list(routes), lambda _: arp, self.read_arp, self.send, lambda: self.clock_s, self.sleep)


@pytest.mark.parametrize(("after_s", "expected"), [(0.0, True), (0.5, True), (2.9, True), (3.5, False), (None, False)])
def test_a_gateway_may_take_its_time(after_s: float | None, expected: bool) -> None:
    around = Neighbourhood(after_s)
    assert is_reachable(ETH, around.system(), 3.0) is expected
    assert around.sent == ["192.0.2.1"]
    assert around.clock_s < 3.5


@pytest.mark.parametrize("route", [Route("ppp0", "", 0), Route("eth0", "fd00::1", 0)])
def test_nothing_is_sent_where_arp_says_nothing(route: Route) -> None:
    around = Neighbourhood()
    assert is_reachable(route, around.system(), 3.0) is None
    assert is_reachable(ETH, around.system(arp=False), 3.0) is None
    assert around.sent == []


def test_a_local_firewall_is_not_taken_for_a_dead_gateway() -> None:
    refused = PermissionError(errno.EPERM, "Operation not permitted")
    assert is_reachable(ETH, Neighbourhood(None, refused).system(), 3.0) is None
    assert is_reachable(ETH, Neighbourhood(0.0, refused).system(), 3.0) is True


def test_no_way_to_the_gateway_is_unreachable() -> None:
    no_way = OSError(errno.ENETUNREACH, "Network is unreachable")
    assert is_reachable(ETH, Neighbourhood(None, no_way).system(), 3.0) is False


@pytest.mark.parametrize("link", ["lo", "", "..", "no such link"])
def test_loopback_and_what_is_no_link_have_no_neighbours(link: str) -> None:
    assert uses_arp(link) is False


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("up,broadcast,running,multicast", True),
        ("up,broadcast,running,noarp", False),
        ("up,pointopoint,running,multicast", False),
        ("", False),
    ],
)
def test_only_links_with_arp_are_asked(monkeypatch: pytest.MonkeyPatch, flags: str, expected: bool) -> None:
    monkeypatch.setattr("psutil.net_if_stats", lambda: {"x0": SimpleNamespace(flags=flags)})
    assert uses_arp("x0") is expected
