"""The network check on this machine's links, and in a network namespace whose cables are pulled for real."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from gengfu_checks.local.network import CHECK

LOOK = """
import json, subprocess, sys, time
from gengfu_checks.local.network import CHECK
from gengfu_checks.model import Context
from gengfu_checks.settings import resolve_settings

settings = resolve_settings(CHECK, {"include": ["veth*"]})
context = Context(settings, {}, time.time, time.monotonic, 10.0)

def look(item, code):
    # The kernel tells a change of the carrier up to a second later; a link that was never up is ok, too.
    ups = (None, float(code == "ok"))
    for _ in range(50):
        found = {}
        for m in CHECK.measure(context):
            found[m.item] = {"metrics": dict(m.metrics), "code": m.problem.code if m.problem else "ok"}
        if item in found and found[item]["code"] == code and found[item]["metrics"].get("up") in ups:
            break
        time.sleep(0.1)
    return found

looks = []
for commands, item, code in json.loads(sys.argv[1]):
    for command in commands:
        subprocess.run(command.split(), check=True)
    looks.append(look(item, code))
print(json.dumps(looks))
"""

# Two ends of a cable; the far end is a machine of its own (another namespace, kept by `sleep`).
SET_UP = [
    "ip link set lo up",
    "ip link add vetha type veth peer name vethb netns {peer}",
    "ip address add 192.0.2.1/24 dev vetha",
    "ip link set vetha up",
    "nsenter -t {peer} -n ip address add 192.0.2.2/24 dev vethb",
    "nsenter -t {peer} -n ip link set vethb up",
]


Step = tuple[list[str], str, str]
"""Commands, then the item that is looked at and the code that it should come to."""
InNamespace = Callable[[list[Step]], list[dict[str, Any]]]


@pytest.fixture
def in_namespace(unshare: str, requires_program: Callable[[str, str], str]) -> InNamespace:
    """Runs steps in a new network namespace; returns what the check saw after each."""
    requires_program("ip", "apt-get install iproute2")

    def run(steps: list[Step]) -> list[dict[str, Any]]:
        peer = subprocess.Popen([unshare, "-n", "sleep", "100"])
        try:
            wait_for_namespace(peer.pid)
            ready = [([c.format(peer=peer.pid) for c in commands], item, code) for commands, item, code in steps]
            done = subprocess.run(
                [unshare, "-n", sys.executable, "-c", LOOK, json.dumps(ready)], capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr
            looks: list[dict[str, Any]] = json.loads(done.stdout)
            assert [look[item]["code"] for look, (_, item, _) in zip(looks, steps, strict=True)] == [
                code for _, _, code in steps
            ]
            return looks
        finally:
            peer.kill()
            peer.wait()

    return run


def wait_for_namespace(pid: int) -> None:
    ours = Path("/proc/self/ns/net").readlink()
    for _ in range(1_000_000):
        if Path(f"/proc/{pid}/ns/net").readlink() != ours:
            return
    pytest.fail("unshare made no namespace")


def test_the_links_of_this_machine(bench: Any) -> None:
    items = bench(CHECK).run()
    assert "lo" not in items
    for name, counters in psutil.net_io_counters(pernic=True, nowrap=False).items():
        if name in items:
            assert 0 <= items[name].metrics["receive_bytes_total"] <= counters.bytes_recv


def test_loopback_counts_what_passes_it(bench: Any) -> None:
    instance = bench(CHECK, include=["lo"])
    before = instance.run()["lo"].metrics
    assert before["up"] == 1.0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.sendto(b"x" * 1000, receiver.getsockname())
    after = instance.run()["lo"].metrics
    assert after["receive_bytes_total"] >= before["receive_bytes_total"] + 1000


def test_a_cable_is_pulled_and_put_back(in_namespace: InNamespace) -> None:
    looks = in_namespace(
        [
            (SET_UP, "vetha", "ok"),
            (["nsenter -t {peer} -n ip link set vethb down"], "vetha", "network.link_down"),
            (["nsenter -t {peer} -n ip link set vethb up"], "vetha", "ok"),
            (["ip link delete vetha"], "vetha", "network.link_down"),
        ]
    )
    assert [look["vetha"]["metrics"]["up"] for look in looks] == [1.0, 0.0, 1.0, 0.0]
    assert looks[0]["gateway"]["metrics"] == {"gateway_present": 0.0}


def test_a_gateway_answers_then_is_one_that_does_not_then_is_gone(in_namespace: InNamespace) -> None:
    looks = in_namespace(
        [
            ([*SET_UP, "ip route add default via 192.0.2.2"], "gateway", "ok"),
            (["ip route replace default via 192.0.2.99"], "gateway", "network.gateway_unreachable"),
            (["ip route replace default via 192.0.2.2"], "gateway", "ok"),
            (["ip route delete default"], "gateway", "network.no_gateway"),
        ]
    )
    assert looks[0]["gateway"]["metrics"] == {"gateway_present": 1.0, "gateway_reachable": 1.0}


def test_a_gateway_that_fell_silent_is_noticed(in_namespace: InNamespace) -> None:
    """What the kernel knew of the neighbour is dropped here; left alone, that takes it up to a minute."""
    silence = ["nsenter -t {peer} -n ip address flush dev vethb", "ip neigh flush dev vetha"]
    in_namespace(
        [
            ([*SET_UP, "ip route add default via 192.0.2.2"], "gateway", "ok"),
            (silence, "gateway", "network.gateway_unreachable"),
        ]
    )
