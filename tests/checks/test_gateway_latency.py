"""The way to the gateway: judgement, what ping prints, and a gateway in a namespace that is slow, lossy, silent.

This kernel has no netem: delay and loss are made by a gateway of our own, a program that answers echo requests late or
not at all, across a real (virtual) cable.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gengfu_checks.local.gateway import Route
from gengfu_checks.local.gateway_latency import CHECK, System, measure_gateway
from gengfu_checks.local.icmp_echo import Echo, checksum, decode_reply, parse_ping
from gengfu_checks.threshold import judge

ROUTE = Route("eth0", "192.0.2.1", 100)
FINE = Echo(20, 20, 0.001)
NONE = Echo(20, 0, None)


def look(instance: Any, echo: Echo | None, is_there: bool | None = True, routes: tuple[Route, ...] = (ROUTE,)) -> Any:
    """The finding of one run, None for nothing."""
    system = System(lambda: list(routes), lambda *_: echo, lambda _: is_there)
    found = [judge(CHECK.name, m, CHECK.thresholds, None, 0.0) for m in measure_gateway(instance.context(), system)]
    return found[0] if found else None


def test_a_gateway_that_answers(bench: Any) -> None:
    instance = bench(CHECK)
    first = look(instance, FINE)
    assert (first.code, first.metrics) == ("ok", {"answering": 1.0, "round_trip_seconds": 0.001})
    assert first.facts == {"address": "192.0.2.1", "link": "eth0"}
    look(instance, FINE)
    assert look(instance, FINE).metrics["loss_ratio"] == 0.0


def test_loss_is_counted_over_runs_and_one_packet_is_none(bench: Any) -> None:
    instance = bench(CHECK)
    codes = [look(instance, Echo(20, n, 0.001)).code for n in (20, 20, 19, 18, 20, 20, 20)]
    assert codes == ["ok", "ok", "ok", "gateway_latency.loss", "gateway_latency.loss", "ok", "ok"]


def test_a_slow_gateway(bench: Any) -> None:
    assert look(bench(CHECK), Echo(20, 20, 0.15)).code == "gateway_latency.slow"


@pytest.mark.parametrize(
    ("is_there", "answered_before", "echo", "status", "code"),
    [
        (True, False, NONE, "ok", "ok"),
        (True, True, NONE, "warning", "gateway_latency.silent"),
        (None, True, NONE, "warning", "gateway_latency.silent"),
        (None, False, NONE, "unknown", "gateway_latency.not_measured"),
        (False, True, NONE, "unknown", "gateway_latency.not_measured"),
        (False, False, NONE, "unknown", "gateway_latency.not_measured"),
        (True, False, None, "unknown", "check.needs_rights"),
        (False, False, None, "unknown", "gateway_latency.not_measured"),
    ],
)
def test_what_silence_means(
    bench: Any, is_there: bool | None, answered_before: bool, echo: Echo | None, status: str, code: str
) -> None:
    instance = bench(CHECK)
    if answered_before:
        look(instance, FINE)
        instance.later(3600)
    found = look(instance, echo, is_there)
    assert (found.status.word, found.code) == (status, code)
    assert found.metrics == {"answering": 0.0}


def test_a_gateway_that_answers_at_times_is_no_fault(bench: Any) -> None:
    instance = bench(CHECK)
    codes = []
    for echo in (FINE, NONE, NONE, FINE, NONE):
        codes.append(look(instance, echo).code)
        instance.later(1700)
    assert codes == ["ok", "gateway_latency.not_measured", "gateway_latency.not_measured", "ok", codes[1]]


def test_another_gateway_has_promised_nothing(bench: Any) -> None:
    instance = bench(CHECK)
    for _ in range(3):
        look(instance, FINE)
    assert look(instance, NONE, routes=(Route("wlan0", "198.51.100.1", 50),)).code == "ok"
    assert "loss_ratio" not in look(instance, FINE).metrics


@pytest.mark.parametrize("routes", [(), (Route("ppp0", "", 0),), (Route("eth0", "fe80::1", 0),)])
def test_without_a_gateway_with_an_address_there_is_silence(bench: Any, routes: tuple[Route, ...]) -> None:
    assert look(bench(CHECK), FINE, routes=routes) is None


# --- ping. The first two were printed here by ping of iputils 20221126 (Debian 12); the third is built after the
# source of BusyBox (networking/ping.c), which says "packets received" and "round-trip".

IPUTILS = """PING 192.0.2.1 (192.0.2.1) 56(84) bytes of data.

--- 192.0.2.1 ping statistics ---
2 packets transmitted, 2 received, 0% packet loss, time 201ms
rtt min/avg/max/mdev = 0.228/0.231/0.235/0.003 ms
"""
IPUTILS_LOST = """PING 192.0.2.9 (192.0.2.9) 56(84) bytes of data.

--- 192.0.2.9 ping statistics ---
2 packets transmitted, 0 received, +2 errors, 100% packet loss, time 1014ms
pipe 2
"""
BUSYBOX = """PING 192.0.2.1 (192.0.2.1): 56 data bytes

--- 192.0.2.1 ping statistics ---
4 packets transmitted, 3 packets received, 25% packet loss
round-trip min/avg/max = 0.200/1.500/2.100 ms
"""


@pytest.mark.parametrize(
    ("printed", "echo"),
    [
        (IPUTILS, Echo(2, 2, 0.000231)),
        (IPUTILS_LOST, Echo(2, 0, None)),
        (BUSYBOX, Echo(4, 3, 0.0015)),
        ("", None),
        ("ping: invalid argument", None),
        ("0 packets transmitted, 0 received", None),
        ("1 packets transmitted, 9 received\nmin/avg/max = 1/1.2.3/4 ms", None),
    ],
)
def test_what_ping_prints(printed: str, echo: Echo | None) -> None:
    assert parse_ping(printed) == echo


@given(st.text(max_size=300))
def test_any_text_is_a_summary_or_none(text: str) -> None:
    parse_ping(text)


@pytest.mark.parametrize("data", [b"", b"\0\0\0\0\0\0\0\1", b"\3\0\0\0\0\0\0\1token", b"\0\0\0\0\0\0\0\1nekot"])
def test_what_is_no_answer_to_ours(data: bytes) -> None:
    assert decode_reply(data, b"token") is None


@given(st.binary(max_size=60).filter(lambda data: len(data) % 2 == 0))
def test_a_message_with_its_checksum_sums_up_to_ones(data: bytes) -> None:
    total = 0
    for position in range(0, len(data), 2):
        total += int.from_bytes(data[position : position + 2], "big")
        total = (total & 0xFFFF) + (total >> 16)  # end-around carry, word by word
    assert total + checksum(data) == 0xFFFF


# --- for real

GATEWAY = """
import json, os, socket, struct, sys, threading, time

# An echo reply, `late_s` after its request and with every n-th request passed over, by a raw socket.
late_s, pass_over = float(sys.argv[1]), int(sys.argv[2])
channel = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
print("ready", flush=True)
count = 0

def checksum(data):
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF

while True:
    packet, source = channel.recvfrom(2048)
    message = packet[(packet[0] & 15) * 4:]
    if message[0] != 8:
        continue
    count += 1
    if pass_over and count % pass_over == 0:
        continue
    reply = bytearray(b"\\0\\0\\0\\0" + message[4:])
    reply[2:4] = checksum(bytes(reply)).to_bytes(2, "big")
    threading.Timer(late_s, channel.sendto, (bytes(reply), source)).start()
"""

LOOK = """
import json, subprocess, sys, time
from gengfu_checks.local import gateway_latency, icmp_echo
from gengfu_checks.local.gateway_latency import CHECK
from gengfu_checks.model import Context
from gengfu_checks.settings import resolve_settings
from gengfu_checks.threshold import judge

icmp_echo.INTERVAL_S, icmp_echo.LAST_WAIT_S, gateway_latency.ARP_WAIT_S = 0.01, 0.4, 0.3
peer, gateway_program = sys.argv[1:]
memory = {}

def sh(*lines):
    for line in lines:
        subprocess.run(line.format(peer=peer).split(), check=True, stdout=subprocess.DEVNULL)

def look(packets=8):
    settings = resolve_settings(CHECK, {"packets": packets, "silent_after": 0.0})
    context = Context(settings, memory, time.time, time.monotonic, CHECK.timeout_s)
    found = [judge(CHECK.name, m, CHECK.thresholds, None, 0.0) for m in CHECK.measure(context)]
    return [[f.code, dict(f.facts), dict(f.metrics)] for f in found]

def gateway(late_s, pass_over):
    argv = ["nsenter", "-t", peer, "-n", sys.executable, "-c", gateway_program, str(late_s), str(pass_over)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE)
    process.stdout.readline()
    return process

sh("ip link set lo up", "ip link add vetha type veth peer name vethb netns {peer}",
   "ip address add 192.0.2.1/24 dev vetha", "ip link set vetha up",
   "nsenter -t {peer} -n ip address add 192.0.2.2/24 dev vethb", "nsenter -t {peer} -n ip link set vethb up")
found = {"no gateway": look()}
sh("ip route add default via 192.0.2.2")
both, icmp_echo.SOCKETS = icmp_echo.SOCKETS, ()
found["by program"] = look(2)
icmp_echo.SOCKETS, icmp_echo.find_program = both, lambda name: None
found["by raw socket"] = look(2)
with open("/proc/sys/net/ipv4/ping_group_range", "w") as stream:
    stream.write("0 2147483647")
sh("nsenter -t {peer} -n sysctl -qw net.ipv4.icmp_echo_ignore_all=1")
memory.clear()
found["never answers"] = look()
process = gateway(0.0, 0)
found["answers"] = look()
process.kill()
found["stopped"] = look()
process = gateway(0.15, 0)
found["slow"] = look()
process.kill()
memory.clear()
process = gateway(0.0, 4)
look(); look()
found["lossy"] = look()
process.kill()
sh("nsenter -t {peer} -n ip address del 192.0.2.2/24 dev vethb", "ip neigh flush dev vetha")
found["gone"] = look()
print(json.dumps(found))
"""


def test_a_real_gateway(unshare: str, requires_program: Callable[[str, str], str]) -> None:
    requires_program("ip", "apt-get install iproute2")
    requires_program("ping", "apt-get install iputils-ping")
    peer = subprocess.Popen([unshare, "-n", "sleep", "100"])
    try:
        ours = Path("/proc/self/ns/net").readlink()
        while Path(f"/proc/{peer.pid}/ns/net").readlink() == ours:
            assert peer.poll() is None, "unshare made no namespace"
        argv = [unshare, "-n", sys.executable, "-c", LOOK, str(peer.pid), GATEWAY]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=100)
    finally:
        peer.kill()
        peer.wait()
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {name: [code for code, _, _ in look] for name, look in found.items()} == {
        "no gateway": [],
        "by program": ["ok"],
        "by raw socket": ["ok"],
        "never answers": ["ok"],
        "answers": ["ok"],
        "stopped": ["gateway_latency.silent"],
        "slow": ["gateway_latency.slow"],
        "lossy": ["gateway_latency.loss"],
        "gone": ["gateway_latency.not_measured"],
    }
    for name in ("by program", "by raw socket", "answers"):
        assert found[name][0][2]["answering"] == 1.0
    assert found["never answers"][0][2] == {"answering": 0.0}
    assert found["slow"][0][2]["round_trip_seconds"] >= 0.15
    assert 0.25 <= found["lossy"][0][2]["loss_ratio"] < 1.0
