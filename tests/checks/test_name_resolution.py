"""Name resolution: against tiny name servers of our own, against a real dnsmasq, and the judgement by itself."""

from __future__ import annotations

import errno
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gengfu_checks.errors import SettingError
from gengfu_checks.local import dns_query, name_resolution
from gengfu_checks.local.dns_query import NoRoute, Reply
from gengfu_checks.local.hang_guard import HUNG
from gengfu_checks.local.name_resolution import CHECK, Server, System, measure_names, name_problem
from gengfu_checks.local.name_servers import (
    is_behind_stub,
    leads_nowhere,
    parse_resolv_conf,
    parse_windows,
    read_resolv_conf,
)
from gengfu_checks.model import Status
from gengfu_checks.threshold import judge

HEADER = struct.Struct(">HHHHHH")
A_RECORD = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\xc0\0\2\7"


class NameServer:
    """A name server on an address of this machine's own network; `behaviour` makes a reply of a query, or none."""

    def __init__(self, address: str, port: int, behaviour: Callable[[bytes], list[bytes]]) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((address, port))
        self.port = self.socket.getsockname()[1]
        self.queries: list[bytes] = []
        self.sources: set[int] = set()
        self.behaviour = behaviour
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        while True:
            query, source = self.socket.recvfrom(4096)
            if not query:
                return
            self.queries.append(query)
            self.sources.add(source[1])
            for reply in self.behaviour(query):
                self.socket.sendto(reply, source)

    def end(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
            channel.sendto(b"", self.socket.getsockname())
        self.thread.join()
        self.socket.close()


def reply(query: bytes, rcode: int = 0, records: bytes = A_RECORD, number: int = 0) -> bytes:
    return HEADER.pack(HEADER.unpack_from(query)[0] ^ number, 0x8180 | rcode, 1, bool(records), 0, 0) + (
        query[12:] + records
    )


def fine(query: bytes) -> list[bytes]:
    return [reply(query)]


def silent(query: bytes) -> list[bytes]:
    return []


def no_such_name(query: bytes) -> list[bytes]:
    return [reply(query, 3, b"")]


Start = Callable[..., list[NameServer]]


@pytest.fixture
def start() -> Iterator[Start]:
    """`start(fine, silent)` starts servers on 127.0.0.1, 127.0.0.2 ... with one port."""
    servers: list[NameServer] = []

    def run(*behaviours: Callable[[bytes], list[bytes]]) -> list[NameServer]:
        for index, behaviour in enumerate(behaviours, 1):
            servers.append(NameServer(f"127.0.0.{index}", servers[0].port if servers else 0, behaviour))
        return servers

    yield run
    for server in servers:
        server.end()


def look(instance: Any, addresses: list[str], port: int, look_up: Callable[[str], object] = len) -> dict[str, Any]:
    """Findings by item."""
    system = System(lambda: addresses, partial(dns_query.ask, port=port), look_up)
    measured = measure_names(instance.context(), system)
    return {m.item: judge(CHECK.name, m, CHECK.thresholds, None, 0.0) for m in measured}


def codes(found: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {item: (finding.status.word, finding.code) for item, finding in found.items()}


OK = ("ok", "ok")
QUICK = {"answer_within": "200ms"}


def test_servers_that_answer_are_fine_and_timed(bench: Any, start: Start) -> None:
    servers = start(fine, no_such_name)
    found = look(bench(CHECK), ["127.0.0.1", "127.0.0.2"], servers[0].port)
    assert codes(found) == {"": OK, "127.0.0.1": OK, "127.0.0.2": OK}
    assert found[""].metrics["servers_answering"] == found[""].metrics["servers"] == 2
    assert 0 < found["127.0.0.1"].metrics["response_seconds"] < 3


def test_numbers_and_ports_cannot_be_guessed(start: Start) -> None:
    server = start(fine)[0]
    for _ in range(8):
        dns_query.ask("127.0.0.1", "a.example", dns_query.TYPE_A, 5.0, server.port)
    assert len({query[:2] for query in server.queries}) >= 7
    assert len(server.sources) >= 4


def test_a_silent_server_beside_one_that_answers(bench: Any, start: Start) -> None:
    servers = start(fine, silent)
    found = look(bench(CHECK, answer_within="1s"), ["127.0.0.1", "127.0.0.2", "127.0.0.3"], servers[0].port)
    bad = ("warning", "name_resolution.server_silent")
    assert codes(found) == {"": OK, "127.0.0.1": OK, "127.0.0.2": bad, "127.0.0.3": bad}
    assert found["127.0.0.2"].facts == {"reason": "no answer"}
    assert found["127.0.0.3"].facts == {"reason": "Connection refused"}
    assert len(servers[1].queries) == dns_query.TRIES


def test_where_no_server_ever_answered_nothing_is_claimed(bench: Any, start: Start) -> None:
    servers = start(silent)
    found = look(bench(CHECK, **QUICK), ["127.0.0.1"], servers[0].port)
    assert codes(found) == {
        "": ("unknown", "name_resolution.no_server_answers"),
        "127.0.0.1": ("unknown", "name_resolution.server_silent"),
    }


def test_servers_that_fall_silent_are_one_fault(bench: Any, start: Start) -> None:
    server = start(fine)[0]
    instance = bench(CHECK)
    look(instance, ["127.0.0.1"], server.port)
    server.behaviour = silent
    instance.settings.update(QUICK)
    found = look(instance, ["127.0.0.1"], server.port)
    assert codes(found) == {
        "": ("critical", "name_resolution.no_server_answers"),
        "127.0.0.1": ("unknown", "name_resolution.server_silent"),
    }
    assert found[""].facts == {"addresses": "127.0.0.1"}


def test_a_name_that_must_resolve(bench: Any, start: Start) -> None:
    servers = start(fine, no_such_name)
    instance = bench(CHECK, names=["erp.example.com"])
    both = look(instance, ["127.0.0.1", "127.0.0.2"], servers[0].port)["erp.example.com"]
    assert (both.code, both.facts) == (
        "name_resolution.servers_disagree",
        {"addresses": "127.0.0.2", "answer": "NXDOMAIN"},
    )
    none = look(instance, ["127.0.0.2"], servers[0].port)["erp.example.com"]
    assert (none.code, none.status) == ("name_resolution.not_resolved", Status.CRITICAL)
    assert look(instance, ["127.0.0.1"], servers[0].port)["erp.example.com"].code == "ok"


def test_a_name_with_an_address_of_version_6_alone_resolves(bench: Any, start: Start) -> None:
    def only_v6(query: bytes) -> list[bytes]:
        return [reply(query, 0, A_RECORD if query[-3] == dns_query.TYPE_AAAA else b"")]

    server = start(only_v6)[0]
    found = look(bench(CHECK, names=["v6.example"]), ["127.0.0.1"], server.port)
    assert found["v6.example"].code == "ok"


def test_the_systems_own_resolver(bench: Any, start: Start) -> None:
    server = start(fine)[0]

    def broken(name: str) -> object:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    found = look(bench(CHECK, names=["erp.example"]), ["127.0.0.1"], server.port, broken)["erp.example"]
    assert (found.code, found.facts) == (
        "name_resolution.system_fails",
        {"reason": "Temporary failure in name resolution"},
    )
    whole = look(bench(CHECK), ["127.0.0.1"], server.port, broken)[""]
    assert whole.code == "ok", "the own name need not be known anywhere"
    assert "lookup_seconds" not in whole.metrics


def test_a_resolver_that_hangs() -> None:
    answered = [Server("192.0.2.1", {"a": Reply("NOERROR", 1, 0.01)})]
    problem = name_problem("a", answered, HUNG)
    assert problem is not None
    assert (problem.code, problem.facts) == ("name_resolution.system_fails", {"reason": "no answer in time"})
    assert name_problem("a", answered, 0.1) is None


def test_a_machine_that_is_off_the_network_has_another_fault(bench: Any) -> None:
    def unreachable(*_: object) -> Reply:
        raise NoRoute(errno.ENETUNREACH, "Network is unreachable")

    instance = bench(CHECK)
    instance.memory["ever"] = True
    found = {m.item: m for m in measure_names(instance.context(), System(lambda: ["192.0.2.1"], unreachable, len))}
    assert found[""].problem.status is Status.UNKNOWN
    assert found["192.0.2.1"].problem.facts == {"reason": os.strerror(errno.ENETUNREACH)}


def test_a_server_that_a_neighbour_calls_unreachable_is_silent(bench: Any) -> None:
    def unreachable(address: str, *_: object) -> Reply:
        if address == "192.0.2.1":
            return Reply("NOERROR", 1, 0.001)
        raise OSError(errno.EHOSTUNREACH, "No route to host")

    system = System(lambda: ["192.0.2.1", "192.0.2.2"], unreachable, len)
    found = {m.item: m for m in measure_names(bench(CHECK).context(), system)}
    assert found["192.0.2.2"].problem is not None
    assert found["192.0.2.2"].problem.status is Status.WARNING


ASK_WITHOUT_ROUTE = """
from gengfu_checks.local.dns_query import NoRoute, ask
try:
    ask("192.0.2.1", "a.example", 1, 1.0)
except NoRoute as error:
    print(error)
"""


def test_without_a_route_nothing_is_sent(unshare: str) -> None:
    done = subprocess.run([unshare, "-n", sys.executable, "-c", ASK_WITHOUT_ROUTE], capture_output=True, text=True)
    assert "Network is unreachable" in done.stdout, done.stderr


def test_no_servers_is_silence_unless_somebody_expects_one(bench: Any) -> None:
    def said(instance: Any, **known: Callable[[], bool]) -> list[tuple[str, str]]:
        system = System(list, dns_query.ask, len, **known)
        return [(m.problem.status.word, m.problem.code) for m in measure_names(instance.context(), system) if m.problem]

    assert look(bench(CHECK), [], 53) == {}
    assert said(bench(CHECK, names=["a.example"])) == [("critical", "name_resolution.no_servers")]
    assert said(bench(CHECK), is_cut_off=lambda: True) == [("warning", "name_resolution.no_servers")]
    once = bench(CHECK)
    once.memory["ever"] = True
    assert said(once) == [("warning", "name_resolution.no_servers")]
    assert said(once, is_on_network=lambda: False) == [("unknown", "name_resolution.no_servers")]


@pytest.mark.parametrize(
    ("alive", "whole"),
    [
        ({"127.0.0.53", "192.0.2.1"}, None),
        ({"127.0.0.53", "192.0.2.1", "192.0.2.2"}, None),
        ({"127.0.0.53"}, "192.0.2.1, 192.0.2.2"),  # the stub answers by itself, and can ask nobody
        ({"192.0.2.1"}, "127.0.0.53, 192.0.2.2"),  # whom no program of this machine asks
    ],
)
def test_a_stub_needs_both_itself_and_a_server(bench: Any, alive: set[str], whole: str | None) -> None:
    def ask(address: str, *_: object) -> Reply:
        if address in alive:
            return Reply("NOERROR", 1, 0.001)
        raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")

    addresses = ["127.0.0.53", "192.0.2.1", "192.0.2.2"]
    instance = bench(CHECK)
    instance.memory["ever"] = True
    system = System(lambda: addresses, ask, len, is_behind_stub=lambda: True)
    problem = {m.item: m.problem for m in measure_names(instance.context(), system)}[""]
    told = problem and (problem.status, problem.code, problem.facts["addresses"])
    assert told == (whole and (Status.CRITICAL, "name_resolution.no_server_answers", whole))


def test_a_link_to_a_file_that_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    assert not leads_nowhere(path)
    path.symlink_to(tmp_path / "stub-resolv.conf")
    assert leads_nowhere(path)
    (tmp_path / "stub-resolv.conf").touch()
    assert not leads_nowhere(path)


# --- replies that are none


@pytest.mark.parametrize(
    "forge",
    [
        lambda query: reply(query, number=1),
        lambda query: query,
        lambda query: b"",
        lambda query: reply(query)[:11],
        lambda query: reply(query).replace(b"example", b"examp1e"),
        lambda query: reply(query)[:2] + b"\x81\x80\0\0\0\1\0\0\0\0",
    ],
)
def test_what_does_not_answer_the_question_is_passed_over(start: Start, forge: Callable[[bytes], bytes]) -> None:
    server = start(lambda query: [forge(query), reply(query, 5, b"")])[0]
    found = dns_query.ask("127.0.0.1", "www.example", dns_query.TYPE_A, 5.0, server.port)
    assert (found.rcode, found.answers) == ("REFUSED", 0)


def test_a_reply_from_elsewhere_does_not_count(start: Start) -> None:
    def from_elsewhere(query: bytes) -> list[bytes]:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            for port in servers[0].sources:
                other.sendto(reply(query), ("127.0.0.1", port))
        return []

    servers = start(from_elsewhere)
    with pytest.raises(TimeoutError):
        dns_query.ask("127.0.0.1", "www.example", dns_query.TYPE_A, 0.2, servers[0].port)


def test_a_flood_of_rubbish_does_not_hold_the_check(start: Start) -> None:
    server = start(lambda query: [b"x" * 100] * 200)[0]
    with pytest.raises(TimeoutError):
        dns_query.ask("127.0.0.1", "www.example", dns_query.TYPE_A, 60.0, server.port)


@given(st.binary(max_size=80))
def test_any_bytes_are_a_reply_or_none(data: bytes) -> None:
    found = dns_query.decode_reply(data, 7, dns_query.encode_question("a.b", 1))
    assert found is None or data[:2] == b"\0\7"


# --- where servers are named

RESOLV_CONF = """# made by hand
search corp.example
nameserver 192.0.2.53
  nameserver 2001:db8::53 ; second
nameserver fe80::1%eth0
nameserver ns.example
nameserver
;nameserver 192.0.2.99
options timeout:1
"""


def test_resolv_conf_by_example() -> None:
    """Built after resolv.conf(5)."""
    assert parse_resolv_conf(RESOLV_CONF) == ["192.0.2.53", "2001:db8::53", "fe80::1%eth0"]


@given(st.text(max_size=200))
def test_any_resolv_conf_can_be_read(text: str) -> None:
    parse_resolv_conf(text)


def test_behind_the_stub_of_systemd_resolved_the_real_servers_are_asked_too(tmp_path: Path) -> None:
    first, behind = tmp_path / "a", tmp_path / "b"
    first.write_text("nameserver 127.0.0.53\n")
    assert read_resolv_conf((first, behind)) == ["127.0.0.53"]
    behind.write_text("nameserver 192.0.2.1\nnameserver 192.0.2.1\n")
    assert read_resolv_conf((first, behind)) == ["127.0.0.53", "192.0.2.1"]
    assert is_behind_stub(first)
    first.write_text("nameserver 192.0.2.2\n")
    assert read_resolv_conf((first, behind)) == ["192.0.2.2"]
    assert not is_behind_stub(first)
    assert not is_behind_stub(tmp_path / "absent")


def test_the_servers_of_windows() -> None:
    """Rows built after the documentation of Get-DnsClientServerAddress (Microsoft Learn); no recording."""
    rows = [
        {"InterfaceAlias": "以太网", "ServerAddresses": ["192.0.2.1", "192.0.2.2"]},
        {"InterfaceAlias": "Ethernet", "ServerAddresses": ["fec0:0:0:ffff::1", "fec0:0:0:ffff::2"]},
        {"InterfaceAlias": "Wi-Fi", "ServerAddresses": "192.0.2.1"},
        {"InterfaceAlias": "Loopback", "ServerAddresses": []},
        {"InterfaceAlias": "odd", "ServerAddresses": None},
        {"InterfaceAlias": "odd", "ServerAddresses": [7, "x"]},
    ]
    assert parse_windows(rows) == ["192.0.2.1", "192.0.2.2"]


def test_on_windows_the_list_is_kept_until_nobody_on_it_answers(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(name_resolution.psutil, "WINDOWS", True)
    asked: list[int] = []
    instance = bench(CHECK)

    def read() -> list[str]:
        asked.append(1)
        return ["192.0.2.1"]

    def run(answering: bool) -> None:
        def ask(*_: object) -> Reply:
            if answering:
                return Reply("NOERROR", 1, 0.001)
            raise TimeoutError

        list(measure_names(instance.context(), System(read, ask, len)))
        instance.later(300)

    run(True)
    run(True)
    assert len(asked) == 1
    run(False)
    run(True)
    assert len(asked) == 2
    instance.later(3600)
    run(True)
    assert len(asked) == 3


@pytest.mark.parametrize(
    "settings",
    [{"names": ["a..b"]}, {"names": ["x" * 64 + ".example"]}, {"names": ["n"] * 11}, {"servers": ["ns.example"]}],
)
def test_settings_that_cannot_be_used_are_refused(bench: Any, settings: dict[str, object]) -> None:
    with pytest.raises(SettingError):
        bench(CHECK, **settings).context()


# --- real servers


def test_a_real_dnsmasq_whose_upstream_is_dead_still_proves_that_it_lives(
    bench: Any, requires_program: Callable[[str, str], str], held_port: int
) -> None:
    """Debian's package `dnsmasq-base`."""
    program = requires_program("dnsmasq", "apt-get install dnsmasq-base")
    argv = [program, "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--pid-file=", "--user="]
    argv += [f"--port={held_port}", "--listen-address=127.0.0.1", "--bind-interfaces", "--server=127.0.0.9#1"]
    argv += ["--address=/erp.example/192.0.2.7", "--log-facility=-"]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        found = look(bench(CHECK), ["127.0.0.1"], held_port)
        while found[""].code != "ok":
            assert time.monotonic() < deadline
            assert process.poll() is None
            found = look(bench(CHECK), ["127.0.0.1"], held_port)
        named = look(bench(CHECK, names=["erp.example"]), ["127.0.0.1"], held_port)
        assert named["erp.example"].code == "ok"
        outside = look(bench(CHECK, names=["gone.example"], answer_within="1s"), ["127.0.0.1"], held_port)
        assert outside[""].code == "ok"
        assert outside["gone.example"].facts == {"addresses": "127.0.0.1", "answer": "no answer"}
    finally:
        process.terminate()
        process.wait()


def test_this_machine(bench: Any) -> None:
    found = bench(CHECK).run()
    configured = read_resolv_conf()
    assert set(found) == ({"", *configured} if configured else set())
