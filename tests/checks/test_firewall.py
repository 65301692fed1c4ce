"""The firewall check: real rules in a network namespace of its own, judgement on vendors' samples, rubbish.

Rules are loaded and read by nft 1.0.6 and iptables 1.8.9 (Debian 12). Windows: rows built after the documentation of
Get-NetFirewallProfile (Microsoft Learn, module NetSecurity), its enumerations as text. macOS: the line that
socketfilterfw prints as shown on kolide.com/features/checks/mac-firewall, and the other states after its help text.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gengfu_checks.errors import CannotMeasure
from gengfu_checks.local import firewall
from gengfu_checks.local.firewall import CHECK, Linux, judge_linux, judge_mac, judge_profiles, measure_linux
from gengfu_checks.local.firewall_rules import input_tables, legacy_refuses, table_refuses
from gengfu_checks.local.nf_tables import tables_in
from gengfu_checks.model import Measurement, Status

POLICY_DROP = """table inet filter { chain input { type filter hook input priority 0; policy drop;
  ct state established,related accept
  iif lo accept
  tcp dport 22 accept
}
}"""
LIKE_FIREWALLD = """table inet firewalld {
  chain filter_INPUT { type filter hook input priority 10; policy accept;
    ct state established,related accept
    iifname "lo" accept
    ct state invalid drop
    jump filter_INPUT_ZONES
    reject with icmpx type admin-prohibited
  }
  chain filter_INPUT_ZONES { tcp dport 22 accept
  }
}"""
IN_ANOTHER_CHAIN = """table inet fw {
  chain in { type filter hook input priority 0; policy accept;
    goto world
  }
  chain world { tcp dport 22 accept
    iifname != "lo" counter log drop
  }
}"""
NEW_ONLY = """table ip fw { chain in { type filter hook input priority 0; policy accept;
  ct state new counter drop
}
}"""
ONE_ADDRESS = """table inet f2b { chain input { type filter hook input priority -1; policy accept;
  ip saddr 192.0.2.7 tcp dport 22 reject
  ct state invalid drop
  iif lo drop
}
}"""
FORWARD_ONLY = """table inet fw { chain forward { type filter hook forward priority 0; policy drop; }
}"""
ALL_IN_AFTER_ALL = """table inet fw { chain in { type filter hook input priority 0; policy drop;
  iif lo accept
  tcp dport 23 drop
  counter accept
}
}"""
# As firewalld 1.3 (Debian 12) loads them with the zone `trusted` as its default, shortened.
LIKE_FIREWALLD_TRUSTED = """table inet firewalld {
  chain filter_INPUT { type filter hook input priority 10; policy accept;
    ct state established,related accept
    iifname "lo" accept
    jump filter_INPUT_ZONES
    reject with icmpx type admin-prohibited
  }
  chain filter_INPUT_ZONES { goto filter_IN_trusted
  }
  chain filter_IN_trusted { jump filter_IN_trusted_pre
    accept
  }
  chain filter_IN_trusted_pre { tcp dport 23 drop
  }
}"""
BY_MAP = """table inet fw {
  chain in { type filter hook input priority 0; policy accept;
    ct state vmap { established : accept, related : accept, invalid : drop, new : jump fresh }
  }
  chain fresh { tcp dport 22 accept
    drop
  }
}"""
BY_MAP_OF_OTHERS = """table inet fw { chain in { type filter hook input priority 0; policy accept;
  ct state vmap { established : accept, invalid : drop }
  tcp dport vmap { 22 : accept, 23 : drop }
  iifname vmap { lo : drop }
}
}"""
# As ufw 0.36.2 (Debian 12) loads them after `ufw default allow incoming`, shortened.
UFW_LETS_IN = """-N not-local
-A INPUT -i lo -j ACCEPT
-A INPUT -j not-local
-A not-local -m addrtype --dst-type LOCAL -j RETURN
-A not-local -m addrtype --dst-type BROADCAST -j RETURN
-A not-local -j DROP"""
LOOP = """table inet fw {
  chain in { type filter hook input priority 0; policy accept;
    jump a
  }
  chain a { tcp dport 1 accept
  }
}"""

INSIDE = """
import json, os, subprocess, sys, time
from gengfu_checks.local import firewall
from gengfu_checks.local.firewall import CHECK
from gengfu_checks.model import Context
from gengfu_checks.settings import resolve_settings

def look():
    context = Context(resolve_settings(CHECK, {}), {}, time.time, time.monotonic, 60.0)
    return [
        [m.problem.code if m.problem else "ok", dict(m.metrics), dict(m.problem.facts if m.problem else m.facts)]
        for m in CHECK.measure(context)
    ]

def look_without_programs():
    find, firewall.find_program = firewall.find_program, lambda name: None
    said, = look()
    firewall.find_program = find
    return [said[0], said[2].get("program")]

def as_nobody():
    read, write = os.pipe()
    if os.fork() == 0:
        os.setgroups([]); os.setgid(65534); os.setuid(65534)
        os.write(write, json.dumps(look()).encode())
        os._exit(0)
    os.wait()
    return json.loads(os.read(read, 65536))

subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
found, without = [], [look_without_programs()]
subprocess.run(["nft", "add", "table", "inet", "any"], check=True)
without.append(look_without_programs())
for kind, rules in json.load(sys.stdin):
    subprocess.run(["nft", "flush", "ruleset"], check=True)
    if kind == "nft":
        subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)
    elif kind == "ipv6":
        subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)
        subprocess.run(["ip", "-6", "address", "add", "2001:db8::1/64", "dev", "lo", "scope", "global"], check=True)
    else:
        for line in rules.splitlines():
            subprocess.run([kind, *line.split()], check=True)
    found.append(look())
    if kind == "ipv6":
        subprocess.run(["ip", "-6", "address", "del", "2001:db8::1/64", "dev", "lo"], check=True)
    if kind.endswith("-legacy"):
        subprocess.run([kind, "-P", "INPUT", "ACCEPT"], check=True)
        subprocess.run([kind, "-F"], check=True)
        subprocess.run([kind, "-X"], check=True)
subprocess.run(["nft", "flush", "ruleset"], check=True)
without.append(look_without_programs())
found += [without, as_nobody()]
print(json.dumps(found))
"""

OFF, OPEN = "firewall.off", "firewall.ipv6_open"
CASES = [
    ("nft", "", OFF),
    ("nft", POLICY_DROP, "ok"),
    ("nft", LIKE_FIREWALLD, "ok"),
    ("nft", IN_ANOTHER_CHAIN, "ok"),
    ("nft", NEW_ONLY, "ok"),
    ("nft", ONE_ADDRESS, OFF),
    ("nft", FORWARD_ONLY, OFF),
    ("nft", LOOP, OFF),
    ("nft", ALL_IN_AFTER_ALL, OFF),
    ("nft", LIKE_FIREWALLD_TRUSTED, OFF),
    ("nft", BY_MAP, "ok"),
    ("nft", BY_MAP_OF_OTHERS, OFF),
    ("iptables", "-P INPUT DROP\n-A INPUT -j ACCEPT", OFF),
    ("iptables", UFW_LETS_IN, OFF),
    ("iptables", "-P INPUT DROP\n-A INPUT -p tcp -j ACCEPT", OFF),
    ("iptables-legacy", "-P INPUT DROP\n-A INPUT -p tcp -j ACCEPT", OFF),
    ("iptables-legacy", "-A INPUT -p tcp -j DROP", OFF),
    ("iptables-legacy", "-P INPUT DROP\n-A INPUT -p udp -j ACCEPT\n-A INPUT ! -p tcp -j ACCEPT", "ok"),
    ("nft", POLICY_DROP.replace("tcp dport 22", "meta l4proto { tcp, udp }"), OFF),
    ("iptables", "-A INPUT -m comment --comment rest -j DROP", "ok"),
    ("iptables-legacy", "-P INPUT DROP\n-A INPUT -i lo -j DROP\n-A INPUT -j ACCEPT", OFF),
    ("iptables-legacy", "-P INPUT DROP\n-A INPUT -i eth1 -j ACCEPT", "ok"),
    ("iptables-legacy", "-P INPUT DROP\n-A INPUT -i eth1 -j RETURN\n-A INPUT -m comment --comment rest -j DROP", "ok"),
    ("iptables-legacy", UFW_LETS_IN, OFF),
    ("iptables", "-A INPUT -p tcp --dport 22 -j ACCEPT\n-A INPUT -j REJECT", "ok"),
    ("iptables", "-P INPUT DROP", "ok"),
    ("iptables", "-A INPUT -i eth0 -j DROP", "ok"),
    ("ip6tables", "-A INPUT -i eth0 -j DROP", OFF),
    ("iptables", "-A INPUT -p tcp --dport 23 -j DROP", OFF),
    ("iptables-legacy", "-A INPUT -p tcp --dport 23 -j DROP", OFF),
    ("iptables-legacy", "-A INPUT -j DROP", "ok"),
    ("ip6tables-legacy", "-P INPUT DROP", OFF),
    ("ipv6", NEW_ONLY, OPEN),
    ("ipv6", POLICY_DROP, "ok"),
    ("ipv6", "", OFF),
]


@pytest.fixture(scope="module")
def seen(unshare: str, requires_program: Callable[[str, str], str]) -> list[Any]:
    """What the check said after each case, and at the end as a user without rights."""
    requires_program("nft", "apt-get install nftables")
    requires_program("iptables-legacy", "apt-get install iptables")
    requires_program("ip", "apt-get install iproute2")
    cases = json.dumps([(kind, rules) for kind, rules, _ in CASES])
    argv = [unshare, "--net", sys.executable, "-c", INSIDE]
    done = subprocess.run(argv, input=cases, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    found: list[Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("number", range(len(CASES)))
def test_real_rules(seen: list[Any], number: int) -> None:
    code = CASES[number][2]
    assert seen[number] == [[code, {"active": float(code == "ok")}, {}]]


def test_without_its_programs_only_a_kernel_without_tables_is_known(seen: list[Any]) -> None:
    """At first there is none, then one of nft, at last none but the old ones."""
    failed = "check.program_failed"
    assert seen[-2] == [[OFF, None], [failed, "nft"], [failed, "iptables-save"]]


def test_without_rights_the_kernel_says_nothing(seen: list[Any]) -> None:
    assert seen[-1] == [["check.needs_rights", {}, {"needs": "CAP_NET_ADMIN", "target": "packet filter rules"}]]


@given(st.binary(max_size=40))
def test_any_answer_of_the_kernel_is_a_word_or_an_error(answer: bytes) -> None:
    with contextlib.suppress(OSError):
        assert tables_in(answer) in (True, False)


def said(measurement: Measurement) -> tuple[str, float]:
    return measurement.problem.code if measurement.problem else "ok", measurement.metrics["active"]


FOUR, SIX = frozenset(("IPv4",)), frozenset(("IPv6",))
BOTH, NEITHER = FOUR | SIX, frozenset[str]()


@pytest.mark.parametrize(
    ("filtered", "manager", "has_ipv6", "required", "expected"),
    [
        (NEITHER, "", False, True, ("firewall.off", 0.0)),
        (NEITHER, "", False, False, ("ok", 0.0)),
        (NEITHER, "ufw", False, False, ("firewall.not_loaded", 0.0)),
        (FOUR, "ufw", False, True, ("ok", 1.0)),
        (FOUR, "ufw", True, True, ("firewall.ipv6_open", 0.0)),
        (FOUR, "", True, False, ("firewall.ipv6_open", 0.0)),
        (BOTH, "", True, True, ("ok", 1.0)),
        (SIX, "", True, True, ("firewall.off", 0.0)),
        (SIX, "ufw", False, True, ("firewall.not_loaded", 0.0)),
        (NEITHER, "", True, False, ("ok", 0.0)),
    ],
)
def test_linux(
    filtered: frozenset[str], manager: str, has_ipv6: bool, required: bool, expected: tuple[str, float]
) -> None:
    linux = Linux(None, {}, manager, may_look=True, has_ipv6=has_ipv6)
    assert said(judge_linux(filtered, linux, required)) == expected


def test_a_manager_without_rules_is_worse_than_none() -> None:
    problem = judge_linux(NEITHER, Linux(None, {}, "ufw", may_look=True), required=True).problem
    assert problem is not None
    assert problem.status is Status.CRITICAL


def test_without_rights_the_manager_is_believed(bench: Any) -> None:
    measured = measure_linux(bench(CHECK).context(), Linux(None, {}, "firewalld", may_look=False))
    assert measured.metrics == {"active": 1.0}
    assert measured.facts == {"manager": "firewalld", "rules_seen": False}
    with pytest.raises(CannotMeasure) as caught:
        measure_linux(bench(CHECK).context(), Linux(None, {}, "", may_look=False))
    assert caught.value.code == "check.needs_rights"
    with pytest.raises(CannotMeasure):
        measure_linux(bench(CHECK).context(), Linux(None, {}, "ufw", may_look=False, lets_in=True))


def a_program(folder: Path, name: str, body: str) -> str:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("body", ["exit 1", "echo rubbish", "exec yes", "exec sleep 100", "kill -9 $$"])
def test_an_nft_that_fails_is_unknown(bench: Any, tmp_path: Path, body: str) -> None:
    context = bench(CHECK).context()
    context.deadline_s = 3.0 if "sleep" in body else 60.0
    linux = Linux(a_program(tmp_path, "nft", body), {}, "", may_look=True)
    (found,) = firewall.measure(context, lambda: linux)
    assert found.problem is not None
    assert (found.problem.status, found.problem.code) == (Status.UNKNOWN, "check.program_failed")
    assert found.metrics == {}


OLD_NFT = """case "$*" in *--terse*) exit 1;; *chains*) echo '{"nftables": [{"chain": CHAIN}]}';;
*) echo '{"nftables": [{"chain": CHAIN}, {"rule": RULE}]}';; esac"""
CHAIN = '{"family": "inet", "table": "f", "name": "i", "type": "filter", "hook": "input", "policy": "drop"}'
RULE = '{"chain": "i", "expr": [{"accept": null}]}'


@pytest.mark.parametrize(("rule", "code"), [(RULE, "firewall.off"), ("{}", "ok")])
def test_an_nft_that_cannot_leave_out_elements(bench: Any, tmp_path: Path, rule: str, code: str) -> None:
    """nft(8) of 0.9.0, as Debian 10 and UOS 20 have it, knows no --terse."""
    nft = a_program(tmp_path, "nft", OLD_NFT.replace("CHAIN", CHAIN).replace("RULE", rule))
    (found,) = firewall.measure(bench(CHECK).context(), lambda: Linux(nft, {}, "", may_look=True))
    assert said(found)[0] == code


def test_a_save_program_that_fails_is_unknown(bench: Any, tmp_path: Path) -> None:
    linux = Linux(None, {"IPv4": a_program(tmp_path, "iptables-save", "exit 3")}, "", may_look=True)
    (found,) = firewall.measure(bench(CHECK).context(), lambda: linux)
    assert found.problem is not None
    assert found.problem.facts["reason"] == "ended with 3"


def test_ufw_and_firewalld_say_whether_they_are_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(firewall, "UFW_SETTINGS", tmp_path / "ufw.conf")
    monkeypatch.setattr(firewall, "find_program", lambda name: None if name == "firewalld" else f"/usr/sbin/{name}")
    assert firewall.this_linux().manager == ""
    # The file that ufw 0.36.2 (Debian 12) installs.
    (tmp_path / "ufw.conf").write_text("# comment\n#ENABLED=yes\nENABLED=no\nLOGLEVEL=low\n")
    assert firewall.this_linux().manager == ""
    (tmp_path / "ufw.conf").write_text("# comment\nENABLED=yes\nLOGLEVEL=low\n")
    assert firewall.this_linux().manager == "ufw"
    monkeypatch.setattr(firewall, "UFW_DEFAULTS", tmp_path / "default")
    # As `ufw default deny incoming` and `ufw default allow incoming` leave it.
    for policy, lets_in in (("DROP", False), ("ACCEPT", True)):
        (tmp_path / "default").write_text(f'IPV6=yes\n\nDEFAULT_INPUT_POLICY="{policy}"\n')
        assert firewall.this_linux().lets_in is lets_in
    monkeypatch.setattr(firewall, "find_program", lambda name: f"/usr/sbin/{name}")
    assert firewall.this_linux().manager == "ufw"
    program = a_program(tmp_path, "firewalld", "echo there; read x")
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"there\n"
            assert firewall.this_linux().manager == "firewalld"
        finally:
            process.communicate(b"\n")


def test_only_addresses_that_others_reach_make_ipv6_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # The form is that of /proc/net/if_inet6 here: this machine's own loopback, and made-up addresses of each kind.
    lines = {
        "00000000000000000000000000000001 01 80 10 80       lo": False,
        "fe800000000000000000000000000001 02 40 20 80     eth0": False,
        "fd000000000000000000000000000001 02 40 00 80     eth0": False,
        "20010db8000000000000000000000001 02 40 00 80     eth0": True,
        "rubbish": False,
    }
    monkeypatch.setattr(firewall, "ADDRESSES", tmp_path / "if_inet6")
    for line, expected in lines.items():
        (tmp_path / "if_inet6").write_text(f"{line}\n")
        assert firewall.this_linux().has_ipv6 is expected
    (tmp_path / "if_inet6").unlink()
    assert firewall.this_linux().has_ipv6 is False


def rows(*profiles: tuple[str, str, str]) -> list[dict[str, str]]:
    return [{"Name": name, "Enabled": on, "DefaultInboundAction": inbound} for name, on, inbound in profiles]


def test_windows_profiles_each_on_its_own() -> None:
    answer = rows(("Domain", "True", "Block"), ("Private", "False", "Block"), ("Public", "True", "Allow"))
    found = {m.item: said(m) for m in judge_profiles(answer, (), required=True)}
    assert found == {
        "Domain": ("ok", 1.0),
        "Private": ("firewall.off", 0.0),
        "Public": ("firewall.lets_all_in", 0.0),
    }
    assert {said(m)[0] for m in judge_profiles(answer, (), required=False)} == {"ok"}
    others = judge_profiles(answer, ("Other Firewall",), required=True)
    assert {(said(m), m.facts["manager"]) for m in others} == {(("ok", 1.0), "Other Firewall")}


def test_rubbish_of_windows_is_no_profile() -> None:
    assert judge_profiles([{}, {"Name": "Domain", "Enabled": 7}, {"Enabled": "True"}], (), required=True) == []


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        ("Firewall is enabled. (State = 1)\n", ("ok", 1.0)),
        ("Firewall is blocking all non-essential incoming connections. (State = 2)\n", ("ok", 1.0)),
        ("Firewall is disabled. (State = 0)\n", ("firewall.off", 0.0)),
    ],
)
def test_macos(printed: str, expected: tuple[str, float]) -> None:
    measured = judge_mac(printed, required=True)
    assert measured is not None
    assert said(measured) == expected
    assert judge_mac("Killed: 9", required=True) is None


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.text(max_size=4), st.sampled_from(["input", "filter", "drop", "ip", "-x"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.sampled_from(
                [
                    "nftables",
                    "chain",
                    "rule",
                    "hook",
                    "type",
                    "family",
                    "table",
                    "expr",
                    "jump",
                    "match",
                    "left",
                    "vmap",
                ]
            ),
            inner,
            max_size=4,
        ),
    ),
)


@given(JSON)
def test_any_json_is_survived_and_no_table_looks_like_an_option(answer: Any) -> None:
    assert table_refuses(answer) in (True, False)
    for table in input_tables(answer):
        assert not table.name.startswith("-")


@given(st.text(st.sampled_from("-AINPUTjDROP !i:\n"), max_size=60))
def test_any_text_of_iptables_is_survived(text: str) -> None:
    assert legacy_refuses(text) in (True, False)


def test_chains_that_call_each_other_end() -> None:
    assert not legacy_refuses("-A INPUT -j A\n-A A -j B\n-A B -j A\n-A B -g INPUT\n")
    assert legacy_refuses("-A INPUT -j A\n-A A -j B\n-A B ! -i lo -j REJECT --reject-with icmp-port-unreachable\n")
    assert not legacy_refuses("-A INPUT -i lo -j DROP\n-A INPUT -s 192.0.2.1/32 -j DROP\n-A OUTPUT -j DROP\n")
