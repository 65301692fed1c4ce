"""The network check on links made by hand; real ones are in test_network_real.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gengfu_checks.local import gateway, network
from gengfu_checks.local.gateway import Route
from gengfu_checks.local.network import CHECK, MIN_PACKETS, ErrorWindow, Link, System, next_window
from gengfu_checks.model import CheckKind, Measurement, Status
from gengfu_checks.threshold import judge

ETH0 = Link("eth0", True, 1e9, "full", receive_packets=5000, transmit_packets=5000)
WARNING, CRITICAL = Status.WARNING, Status.CRITICAL


@dataclass(slots=True)
class Machine:
    """A machine with these links and routes; its gateway answers or does not."""

    links: list[Link] = field(default_factory=lambda: [ETH0])
    routes: list[Route] = field(default_factory=lambda: [Route("eth0", "192.0.2.1", 100)])
    gateway_answers: bool = True
    clock_s: float = 0.0

    def sleep(self, seconds: float) -> None:
        self.clock_s += seconds

    def kind(self, *, knows_routes: bool = True) -> CheckKind:
        routes = gateway.System(
            lambda: self.routes,
            lambda _: True,
            lambda: {("192.0.2.1", "eth0")} if self.gateway_answers else set(),
            lambda _: None,
            lambda: self.clock_s,
            self.sleep,
        )
        system = System(lambda: self.links, routes if knows_routes else None)
        return replace(CHECK, measure=lambda context: network.measure_network(context, system))


@pytest.fixture
def machine() -> Machine:
    return Machine()


def problems(items: Mapping[str, Measurement]) -> dict[str, tuple[Status, str]]:
    return {item: (m.problem.status, m.problem.code) for item, m in items.items() if m.problem is not None}


def test_a_healthy_machine(bench: Any, machine: Machine) -> None:
    items = bench(machine.kind()).run()
    assert problems(items) == {}
    assert items["eth0"].metrics["up"] == 1.0
    assert items["eth0"].metrics["speed_bytes_per_second"] == 125e6
    assert items["eth0"].facts == {"duplex": "full"}
    assert items["gateway"].metrics == {"gateway_present": 1.0, "gateway_reachable": 1.0}
    assert items["gateway"].facts == {"link": "eth0", "address": "192.0.2.1"}


@pytest.mark.parametrize(
    "name", ["lo", "veth1a2b", "docker0", "br-1f2e", "virbr0", "tun0", "tap3", "wg0", "ifb0", "vEthernet (Default)"]
)
def test_links_that_software_made_are_left_out_unless_asked_for(bench: Any, machine: Machine, name: str) -> None:
    machine.links = [ETH0, replace(ETH0, name=name)]
    assert list(bench(machine.kind()).run()) == ["eth0", "gateway"]
    assert name in bench(machine.kind(), include=[name[:4] + "*"]).run()
    assert name in bench(machine.kind(), required=[name], exclude=["*"]).run()


@pytest.mark.parametrize("name", ["eno1", "enp3s0f0", "wlan0", "wlp2s0", "bond0", "br0", "en0", "Ethernet", "以太网"])
def test_links_to_the_outside_are_looked_at(bench: Any, machine: Machine, name: str) -> None:
    machine.links = [replace(ETH0, name=name)]
    assert name in bench(machine.kind()).run()
    assert name not in bench(machine.kind(), exclude=[name]).run()


def test_a_link_that_never_was_up_is_no_fault(bench: Any, machine: Machine) -> None:
    machine.links = [replace(ETH0, name="eth1", up=False)]
    items = bench(machine.kind()).run()
    assert problems(items) == {}
    assert items["eth1"].metrics["up"] == 0.0
    assert "speed_bytes_per_second" not in items["eth1"].metrics


def test_a_link_that_went_down_is_told_until_it_is_back(bench: Any, machine: Machine) -> None:
    instance = bench(machine.kind())
    instance.run()
    machine.links = [replace(ETH0, up=False)]
    for _ in range(2):
        assert problems(instance.run()) == {"eth0": (WARNING, "network.link_down")}
    machine.links = []
    items = instance.run()
    assert problems(items) == {"eth0": (WARNING, "network.link_down")}
    assert items["eth0"].metrics == {"up": 0.0}
    machine.links = [ETH0]
    assert problems(instance.run()) == {}


def test_cables_may_come_and_go_where_the_profile_says_so(bench: Any, machine: Machine) -> None:
    instance = bench(machine.kind(), links_stay_up=False)
    instance.run()
    machine.links = [replace(ETH0, up=False)]
    assert problems(instance.run()) == {}
    machine.links = []
    assert list(instance.run()) == ["gateway"]


def test_a_required_link_is_critical_from_the_first_look(bench: Any, machine: Machine) -> None:
    machine.links = [replace(ETH0, up=False)]
    items = bench(machine.kind(), required=["eth0", "eth7"], links_stay_up=False).run()
    down = (CRITICAL, "network.link_down")
    assert problems(items) == {"eth0": down, "eth7": down}


def test_half_duplex_is_told_and_only_on_a_link_that_is_up(bench: Any, machine: Machine) -> None:
    machine.links = [replace(ETH0, duplex="half"), replace(ETH0, name="eth1", duplex="half", up=False)]
    items = bench(machine.kind()).run()
    assert problems(items) == {"eth0": (WARNING, "network.half_duplex")}
    assert items["eth0"].facts == {"duplex": "half"}


@pytest.mark.parametrize(("speed", "slow"), [(1e8, True), (1e9, False), (1e10, False), (0.0, False)])
def test_slow_links_are_told_where_a_minimum_is_set(bench: Any, machine: Machine, speed: float, slow: bool) -> None:
    machine.links = [replace(ETH0, speed_bits_per_second=speed)]
    assert problems(bench(machine.kind()).run()) == {}
    items = bench(machine.kind(), minimum_bits_per_second=1_000_000_000).run()
    assert problems(items) == ({"eth0": (WARNING, "network.slow_link")} if slow else {})


def test_errors_are_judged_over_enough_packets(bench: Any, machine: Machine) -> None:
    instance = bench(machine.kind())
    seen = []
    previous = None
    link = ETH0
    for packets, errors in ((0, 0), (100, 50), (1000, 0), (5000, 0), (10, 10), (990, 0), (3000, 300)):
        link = replace(
            link, receive_packets=link.receive_packets + packets, receive_errors=link.receive_errors + errors
        )
        machine.links = [link]
        measurement = instance.run()["eth0"]
        previous = judge("network", measurement, CHECK.thresholds, previous, 0.0)
        seen.append((round(measurement.metrics.get("error_ratio", -1.0), 4), previous.status))
    assert seen == [
        (-1.0, Status.OK),
        (-1.0, Status.OK),  # too few packets to say anything
        (round(50 / 1150, 4), WARNING),
        (0.0, Status.OK),
        (0.0, Status.OK),
        (round(10 / 1010, 4), Status.OK),
        (round(300 / 3300, 4), CRITICAL),
    ]
    assert previous is not None
    assert previous.code == "network.errors_rising"


counters = st.integers(0, 10**6)


@given(st.lists(st.tuples(counters, counters), min_size=1, max_size=20))
def test_the_error_share_is_that_of_a_slow_recount(steps: list[tuple[int, int]]) -> None:
    """Against a reference that keeps every look and searches its own start of the window."""
    window: ErrorWindow | None = None
    start, expected = 0, None
    for i, (good, bad) in enumerate(steps):
        window = next_window(Link("x", True, 0, "full", receive_packets=good, receive_errors=bad), window)
        first_good, first_bad = steps[start]
        if i == 0 or good < first_good or bad < first_bad:
            start, expected = i, None
        elif (good + bad) - (first_good + first_bad) >= MIN_PACKETS:
            expected = (bad - first_bad) / ((good - first_good) + (bad - first_bad))
            start = i
        assert window.ratio == expected
        assert window.ratio is None or 0.0 <= window.ratio <= 1.0


def test_a_machine_that_never_had_a_gateway_is_no_fault(bench: Any, machine: Machine) -> None:
    machine.routes = []
    items = bench(machine.kind()).run()
    assert problems(items) == {}
    assert items["gateway"].metrics == {"gateway_present": 0.0}
    assert problems(bench(machine.kind(), gateway_required=True).run()) == {"gateway": (CRITICAL, "network.no_gateway")}


def test_a_lost_gateway_is_told(bench: Any, machine: Machine) -> None:
    instance = bench(machine.kind())
    instance.run()
    machine.routes = []
    assert problems(instance.run()) == {"gateway": (WARNING, "network.no_gateway")}


def test_a_gateway_that_does_not_answer_is_critical(bench: Any, machine: Machine) -> None:
    machine.gateway_answers = False
    items = bench(machine.kind()).run()
    assert problems(items) == {"gateway": (CRITICAL, "network.gateway_unreachable")}
    assert items["gateway"].metrics["gateway_reachable"] == 0.0


def test_a_gateway_that_cannot_be_asked_is_no_fault(bench: Any, machine: Machine) -> None:
    machine.routes = [Route("ppp0", "", 0)]
    items = bench(machine.kind()).run()
    assert problems(items) == {}
    assert items["gateway"].metrics == {"gateway_present": 1.0}
    assert items["gateway"].facts == {"link": "ppp0"}


def test_where_routes_are_not_known_there_is_no_gateway_item(bench: Any, machine: Machine) -> None:
    assert list(bench(machine.kind(knows_routes=False)).run()) == ["eth0"]
