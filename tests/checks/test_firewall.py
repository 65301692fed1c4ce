"""The firewall check: real rules in a network namespace of its own, judgement on vendors' samples, rubbish.

Rules are loaded and read by nft 1.0.6 and iptables 1.8.9 (Debian 12). Windows: rows built after the documentation of
Get-NetFirewallProfile (Microsoft Learn, module NetSecurity), its enumerations as text. macOS: the line that
socketfilterfw prints as shown on kolide.com/features/checks/mac-firewall, and the other states after its help text.
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

from gengfu_checks.errors import CannotMeasure
from gengfu_checks.local import firewall
from gengfu_checks.local.firewall import CHECK, Linux, judge_linux, judge_mac, judge_profiles, measure_linux
from gengfu_checks.local.firewall_rules import input_tables, legacy_refuses, table_refuses
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
LOOP = """table inet fw {
  chain in { type filter hook input priority 0; policy accept;
    jump a
  }
  chain a { tcp dport 1 accept
  }
}"""

INSIDE = """
import json, os, subprocess, sys, time
from gengfu_checks.local.firewall import CHECK
from gengfu_checks.model import Context
from gengfu_checks.settings import resolve_settings

def look():
    context = Context(resolve_settings(CHECK, {}), {}, time.time, time.monotonic, 60.0)
    return [[m.problem.code if m.problem else "ok", dict(m.metrics), dict(m.facts)] for m in CHECK.measure(context)]

def as_nobody():
    read, write = os.pipe()
    if os.fork() == 0:
        os.setgroups([]); os.setgid(65534); os.setuid(65534)
        os.write(write, json.dumps(look()).encode())
        os._exit(0)
    os.wait()
    return json.loads(os.read(read, 65536))

found = []
for kind, rules in json.load(sys.stdin):
    subprocess.run(["nft", "flush", "ruleset"], check=True)
    if kind == "nft":
        subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)
    else:
        for line in rules.splitlines():
            subprocess.run([kind, *line.split()], check=True)
    found.append(look())
    if kind == "iptables-legacy":
        subprocess.run([kind, "-P", "INPUT", "ACCEPT"], check=True)
        subprocess.run([kind, "-F"], check=True)
found.append(as_nobody())
print(json.dumps(found))
"""

CASES = [
    ("nft", "", False),
    ("nft", POLICY_DROP, True),
    ("nft", LIKE_FIREWALLD, True),
    ("nft", IN_ANOTHER_CHAIN, True),
    ("nft", NEW_ONLY, True),
    ("nft", ONE_ADDRESS, False),
    ("nft", FORWARD_ONLY, False),
    ("nft", LOOP, False),
    ("iptables", "-A INPUT -p tcp --dport 22 -j ACCEPT\n-A INPUT -j REJECT", True),
    ("iptables", "-P INPUT DROP", True),
    ("ip6tables", "-A INPUT -i eth0 -j DROP", True),
    ("iptables", "-A INPUT -p tcp --dport 23 -j DROP", False),
    ("iptables-legacy", "-A INPUT -p tcp --dport 23 -j DROP", False),
    ("iptables-legacy", "-A INPUT -j DROP", True),
]


@pytest.fixture(scope="module")
def seen(unshare: str, requires_program: Callable[[str, str], str]) -> list[Any]:
    """What the check said after each case, and at the end as a user without rights."""
    requires_program("nft", "apt-get install nftables")
    requires_program("iptables-legacy", "apt-get install iptables")
    cases = json.dumps([(kind, rules) for kind, rules, _ in CASES])
    argv = [unshare, "--net", sys.executable, "-c", INSIDE]
    done = subprocess.run(argv, input=cases, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    found: list[Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("number", range(len(CASES)))
def test_real_rules(seen: list[Any], number: int) -> None:
    filters = CASES[number][2]
    assert seen[number] == [["ok" if filters else "firewall.off", {"active": float(filters)}, {}]]


def test_without_rights_the_kernel_says_nothing(seen: list[Any]) -> None:
    assert seen[-1] == [["check.needs_rights", {}, {}]]


def said(measurement: Measurement) -> tuple[str, float]:
    return measurement.problem.code if measurement.problem else "ok", measurement.metrics["active"]


def test_a_manager_without_rules_is_worse_than_none() -> None:
    assert said(judge_linux(False, "", True)) == ("firewall.off", 0.0)
    assert said(judge_linux(False, "", False)) == ("ok", 0.0)
    assert said(judge_linux(True, "ufw", True)) == ("ok", 1.0)
    not_loaded = judge_linux(False, "ufw", False)
    assert said(not_loaded) == ("firewall.not_loaded", 0.0)
    assert not_loaded.problem is not None
    assert not_loaded.problem.status is Status.CRITICAL


def test_without_rights_the_manager_is_believed(bench: Any) -> None:
    measured = measure_linux(bench(CHECK).context(), Linux(None, (), "firewalld", may_look=False))
    assert measured.metrics == {"active": 1.0}
    assert measured.facts == {"manager": "firewalld", "rules_seen": False}
    with pytest.raises(CannotMeasure) as caught:
        measure_linux(bench(CHECK).context(), Linux(None, (), "", may_look=False))
    assert caught.value.code == "check.needs_rights"


def a_program(folder: Path, name: str, body: str) -> str:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("body", ["exit 1", "echo rubbish", "exec yes", "exec sleep 100", "kill -9 $$"])
def test_an_nft_that_fails_is_unknown(bench: Any, tmp_path: Path, body: str) -> None:
    context = bench(CHECK).context()
    context.deadline_s = 3.0 if "sleep" in body else 60.0
    linux = Linux(a_program(tmp_path, "nft", body), (), "", may_look=True)
    (found,) = firewall.measure(context, lambda: linux)
    assert found.problem is not None
    assert (found.problem.status, found.problem.code) == (Status.UNKNOWN, "check.program_failed")
    assert found.metrics == {}


def test_a_save_program_that_fails_is_unknown(bench: Any, tmp_path: Path) -> None:
    linux = Linux(None, (a_program(tmp_path, "iptables-save", "exit 3"),), "", may_look=True)
    (found,) = firewall.measure(bench(CHECK).context(), lambda: linux)
    assert found.problem is not None
    assert found.problem.facts["reason"] == "ended with 3"


def test_ufw_and_firewalld_say_whether_they_are_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(firewall, "UFW_SETTINGS", tmp_path / "ufw.conf")
    monkeypatch.setattr(firewall, "FIREWALLD_PID", tmp_path / "firewalld.pid")
    assert firewall.this_linux().manager == ""
    # The file that ufw 0.36.2 (Debian 12) installs.
    (tmp_path / "ufw.conf").write_text("# comment\n#ENABLED=yes\nENABLED=no\nLOGLEVEL=low\n")
    assert firewall.this_linux().manager == ""
    (tmp_path / "ufw.conf").write_text("# comment\nENABLED=yes\nLOGLEVEL=low\n")
    assert firewall.this_linux().manager == "ufw"
    (tmp_path / "firewalld.pid").write_text("1\n")  # a number that is another program's by now
    assert firewall.this_linux().manager == "ufw"
    with subprocess.Popen([a_program(tmp_path, "firewalld", "read x")], stdin=subprocess.PIPE) as process:
        (tmp_path / "firewalld.pid").write_text(f"{process.pid}\n")
        assert firewall.this_linux().manager == "firewalld"
        process.communicate(b"\n")


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
                ["nftables", "chain", "rule", "hook", "type", "family", "table", "expr", "jump", "match", "left"]
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
