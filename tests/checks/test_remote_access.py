"""The check of remote access: a real sshd (OpenSSH 9.2, Debian 12) in namespaces of its own, real sockets, the registry
by a stand-in.

The names and values of the registry are those of Microsoft Learn (fDenyTSConnections, UserAuthentication of the
component Microsoft-Windows-TerminalServices), read here from a dictionary: there is no Windows.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gengfu_checks.errors import CannotMeasure, SettingError
from gengfu_checks.local import remote_access, sshd_settings
from gengfu_checks.local.listening import open_ports, ports_in
from gengfu_checks.local.remote_access import CHECK, Rdp, Rules, judge_ports, judge_rdp, judge_registry, judge_ssh
from gengfu_checks.local.sshd_settings import effective, from_files
from gengfu_checks.model import Measurement, Status

ALLOWED = Rules(frozenset(("rdp", "ssh")), ssh_password=True)
KEYS_ONLY = Rules(frozenset(("rdp", "ssh")), ssh_password=False)
NOTHING = Rules(frozenset(), ssh_password=True)

# What stands in sshd_config, in an included file, and what the check has to say.
CASES: list[tuple[str, str, str]] = [
    ("", "", "ok"),
    ("PermitRootLogin yes\n", "", "remote_access.ssh_root_password"),
    ("PermitRootLogin yes\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n", "", "ok"),
    ("PermitRootLogin yes\nPasswordAuthentication no\nUsePAM yes\n", "", "remote_access.ssh_root_password"),
    ("permitrootlogin=yes # old\npasswordauthentication no\nUsePAM no\n", "", "ok"),
    ("PermitRootLogin no\n", "PermitRootLogin yes\n", "remote_access.ssh_root_password"),
    ("Match User git\nPermitRootLogin yes\n", "", "ok"),
    ("", "Match User git\n  PasswordAuthentication yes\n", "ok"),
    ('PermitRootLogin "no"\nPermitRootLogin yes\n', "", "ok"),
    ("PermitEmptyPasswords yes\n", "", "remote_access.ssh_empty_passwords"),
    ("Port 2222\nPermitRootLogin yes\n", "", "remote_access.ssh_root_password"),
    ("ListenAddress 127.0.0.1\nPermitRootLogin yes\n", "", "ok"),
    ("PermitRootLogin yes\nAuthenticationMethods publickey publickey,password\n", "", "ok"),
    (
        "PermitRootLogin yes\nAuthenticationMethods publickey keyboard-interactive:pam\n",
        "",
        "remote_access.ssh_root_password",
    ),
    ("PermitRootLogin yes\nDenyUsers guest root\n", "", "ok"),
    ("PermitRootLogin yes\nAllowUsers ann\nAllowUsers bob@192.0.2.*\n", "", "ok"),
    ("PermitRootLogin yes\nAllowUsers ann r*@192.0.2.*\n", "", "remote_access.ssh_root_password"),
    ("Match User git\nPermitRootLogin no\nMatch all\nPermitRootLogin yes\n", "", "remote_access.ssh_root_password"),
]

INSIDE = """
import json, subprocess, sys, time
from pathlib import Path
from gengfu_checks.local import sshd_settings
from gengfu_checks.local.listening import open_ports, ports_in, TABLES
from gengfu_checks.local.remote_access import CHECK
from gengfu_checks.model import Context
from gengfu_checks.settings import resolve_settings

etc, sshd = Path("/etc/ssh"), sys.argv[1]
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
Path("/run/sshd").mkdir()

def start():
    process = subprocess.Popen([sshd, "-D"])
    for _ in range(1000):
        if any(b" 0A " in table.read_bytes() for table in TABLES):
            return process
        time.sleep(0.01)
    raise SystemExit("sshd does not listen")

found = []
for main, included, _ in json.load(sys.stdin):
    (etc / "sshd_config").write_text(f"Include /etc/ssh/sshd_config.d/*.conf\\n{main}")
    (etc / "sshd_config.d/a.conf").write_text(included)
    process = start()
    try:
        context = Context(resolve_settings(CHECK, {}), {}, time.time, time.monotonic, 30.0)
        ssh = next(m for m in CHECK.measure(context) if m.item == "ssh")
        said = sshd_settings.effective(subprocess.run([sshd, "-T"], capture_output=True, text=True).stdout)
        read = sshd_settings.from_files(etc / "sshd_config")
        ways = [[f(s) if f is not sshd_settings.ports else sorted(f(s)) for f in (
            sshd_settings.lets_in_by_password, sshd_settings.lets_in_root, sshd_settings.lets_in_empty,
            sshd_settings.ports)] for s in (said, read)]
        found.append([ssh.problem.code if ssh.problem else "ok", dict(ssh.metrics), ways])
    finally:
        process.terminate()
        process.wait()
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def seen(
    unshare: str, requires_program: Callable[[str, str], str], tmp_path_factory: pytest.TempPathFactory
) -> list[Any]:
    """For each case: the code and metrics of the item ssh, and how `sshd -T` and our reader understand the files."""
    sshd = requires_program("sshd", "apt-get install openssh-server")
    keygen = requires_program("ssh-keygen", "apt-get install openssh-client")
    etc = tmp_path_factory.mktemp("ssh")
    (etc / "sshd_config.d").mkdir()
    key = etc / "ssh_host_ed25519_key"
    subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    script = 'mount --bind "$1" /etc/ssh && mount -t tmpfs tmpfs /run && shift && exec "$@"'
    argv = [unshare, "--mount", "--net", "sh", "-c", script, "sh", str(etc), sys.executable, "-c", INSIDE, sshd]
    done = subprocess.run(argv, input=json.dumps(CASES), capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    found: list[Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("number", range(len(CASES)))
def test_a_real_sshd(seen: list[Any], number: int) -> None:
    code, metrics, (said, read) = seen[number]
    assert code == CASES[number][2]
    assert metrics == {"enabled": 0.0 if "127.0.0.1" in CASES[number][0] else 1.0}
    assert read == said


def said(measurement: Measurement) -> tuple[str, float]:
    return measurement.problem.code if measurement.problem else "ok", measurement.metrics["enabled"]


def test_what_is_allowed_decides() -> None:
    settings = effective("port 22\npasswordauthentication yes\npermitrootlogin without-password\n")
    on = frozenset((22, 80))
    assert said(judge_ssh(settings, on, ALLOWED)) == ("ok", 1.0)
    assert said(judge_ssh(settings, on, KEYS_ONLY)) == ("remote_access.ssh_password", 1.0)
    assert said(judge_ssh(settings, on, NOTHING)) == ("remote_access.on", 1.0)
    assert said(judge_ssh(settings, frozenset((80,)), NOTHING)) == ("ok", 0.0)
    assert said(judge_ssh(None, on, ALLOWED)) == ("ok", 1.0)
    assert said(judge_ssh(None, on, NOTHING)) == ("remote_access.on", 1.0)
    empty = judge_ssh(effective("permitemptypasswords yes\n"), on, NOTHING)
    assert empty.problem is not None
    assert empty.problem.status is Status.CRITICAL


@pytest.mark.parametrize(
    ("way", "ports", "rules", "expected"),
    [
        ("vnc", {5900, 5901}, ALLOWED, ("remote_access.on", 1.0)),
        ("vnc", {5900}, Rules(frozenset(("vnc",)), ssh_password=True), ("ok", 1.0)),
        ("vnc", set(), NOTHING, ("ok", 0.0)),
        ("telnet", {23}, ALLOWED, ("remote_access.cleartext", 1.0)),
        ("rdp", {3389}, ALLOWED, ("ok", 1.0)),
        ("rdp", {3389}, NOTHING, ("remote_access.on", 1.0)),
    ],
)
def test_ports(way: str, ports: set[int], rules: Rules, expected: tuple[str, float]) -> None:
    assert said(judge_ports(way, frozenset(ports), rules)) == expected


def test_real_sockets_count_unless_they_listen_to_this_machine_alone() -> None:
    with socket.create_server(("0.0.0.0", 0)) as open_one, socket.create_server(("127.0.0.1", 0)) as own:
        ports = open_ports()
        assert open_one.getsockname()[1] in ports
        assert own.getsockname()[1] not in ports
    if not socket.has_dualstack_ipv6():
        return
    with (
        socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as both,
        socket.create_server(("::1", 0), family=socket.AF_INET6) as own,
        socket.create_server(("::ffff:127.0.0.1", 0), family=socket.AF_INET6, dualstack_ipv6=True) as mapped,
    ):
        ports = open_ports()
        assert both.getsockname()[1] in ports
        assert own.getsockname()[1] not in ports
        assert mapped.getsockname()[1] not in ports


def test_other_systems_are_asked_through_psutil(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "LINUX", False)
    with socket.create_server(("0.0.0.0", 0)) as open_one, socket.create_server(("127.0.0.1", 0)) as own:
        ports = open_ports()
        assert open_one.getsockname()[1] in ports
        assert own.getsockname()[1] not in ports

    def refuse(kind: str) -> list[Any]:
        raise psutil.AccessDenied

    monkeypatch.setattr(psutil, "net_connections", refuse)
    with pytest.raises(CannotMeasure) as caught:
        open_ports()
    assert caught.value.code == "check.needs_rights"


@given(st.lists(st.binary(max_size=60), max_size=5), st.sampled_from(["little", "big"]))
def test_any_table_is_survived(lines: list[bytes], byteorder: str) -> None:
    table = b"\n".join([b"head", *lines, b"  0: 0100007F:0016 0 0A x", b" 1: 00:17 0 0A x", b" 2: 00000000:ZZ 0 0A"])
    assert all(0 < port < 65536 for port in ports_in(table, byteorder))
    assert 22 not in ports_in(b"head\n  0: 0100007F:0016 0 0A x", "little")
    assert 22 in ports_in(b"head\n  0: 0100007F:0016 0 0A x", "big")  # there it is 1.0.0.127


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, Rdp(enabled=False, nla=True)),
        ({"fDenyTSConnections": 1}, Rdp(enabled=False, nla=True)),
        ({"fDenyTSConnections": 0, "UserAuthentication": 1}, Rdp(enabled=True, nla=True)),
        ({"fDenyTSConnections": 0, "UserAuthentication": 0}, Rdp(enabled=True, nla=False)),
        ({"fDenyTSConnections": 0, "policy fDenyTSConnections": 1}, Rdp(enabled=False, nla=True)),
        ({"fDenyTSConnections": 1, "policy fDenyTSConnections": 0}, Rdp(enabled=True, nla=True)),
        (
            {"fDenyTSConnections": 0, "UserAuthentication": 0, "policy UserAuthentication": 1},
            Rdp(enabled=True, nla=True),
        ),
        ({"fDenyTSConnections": "0"}, Rdp(enabled=False, nla=True)),
    ],
)
def test_remote_desktop_of_windows(values: dict[str, object], expected: Rdp) -> None:
    def read(hive: str, key: str, name: str) -> object:
        assert hive == "HKEY_LOCAL_MACHINE"
        return values.get(f"policy {name}" if "Policies" in key else name)

    assert judge_registry(read) == expected


def test_remote_desktop_without_nla_is_a_problem_though_allowed() -> None:
    assert said(judge_rdp(Rdp(enabled=True, nla=False), ALLOWED)) == ("remote_access.rdp_without_nla", 1.0)
    assert said(judge_rdp(Rdp(enabled=True, nla=True), ALLOWED)) == ("ok", 1.0)
    assert said(judge_rdp(Rdp(enabled=True, nla=True), NOTHING)) == ("remote_access.on", 1.0)
    assert said(judge_rdp(Rdp(enabled=False, nla=False), NOTHING)) == ("ok", 0.0)


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        ("port 22\nlistenaddress 0.0.0.0:22\nlistenaddress [::]:22\n", {22}),
        ("listenaddress host:2222\n", {2222}),
        ("listenaddress [::1]:2223 rdomain x\n", {2223}),
        ("listenaddress fe80::1\nlistenaddress host\n", {22}),
        ("port rubbish\n", {22}),
        ("port 22\nport 2022\n", {22, 2022}),
    ],
)
def test_ports_that_sshd_listens_on(printed: str, expected: set[int]) -> None:
    assert sshd_settings.ports(effective(printed)) == expected


def test_ports_that_systemd_holds_for_sshd(tmp_path: Path) -> None:
    assert sshd_settings.socket_ports(tmp_path) == set()
    units = tmp_path / "etc/systemd/system/ssh.socket.d"
    units.mkdir(parents=True)
    # As `systemctl edit ssh.socket` leaves it on Ubuntu 22.10 and later, in every form of systemd.socket(5).
    (units / "override.conf").write_text(
        "[Socket]\nListenStream=\nListenStream=2222\nListenStream = [::]:2223\nListenStream=/run/x\nAccept=no\n"
    )
    generated = tmp_path / "run/systemd/generator/ssh.socket.d"
    generated.mkdir(parents=True)
    (generated / "addresses.conf").write_text("[Socket]\nListenStream=0.0.0.0:2224\n")
    held = sshd_settings.socket_ports(tmp_path)
    assert held == {2222, 2223, 2224}
    settings = effective("port 22\npermitrootlogin yes\n")
    assert said(judge_ssh(settings, frozenset((80, 2222)), ALLOWED, held)) == ("remote_access.ssh_root_password", 1.0)
    assert said(judge_ssh(settings, frozenset((80,)), ALLOWED, held)) == ("ok", 0.0)


def test_root_asks_sshd_and_others_read_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bench: Any) -> None:
    sshd = tmp_path / "sshd"
    sshd.write_text('#!/bin/sh\n[ "$*" = -T ] && echo permitrootlogin no\n')
    sshd.chmod(0o755)
    (tmp_path / "sshd_config").write_text("PermitRootLogin yes\n")
    monkeypatch.setattr(remote_access, "SSHD_CONFIG", tmp_path / "sshd_config")
    monkeypatch.setattr(remote_access, "find_program", lambda name: str(sshd))
    monkeypatch.setattr(remote_access, "open_ports", lambda: frozenset((22,)))
    for uid, expected in ((0, "ok"), (1000, "remote_access.ssh_root_password")):
        monkeypatch.setattr(os, "geteuid", lambda uid=uid: uid)
        assert said(bench(CHECK).run()["ssh"]) == (expected, 1.0)


def test_includes_that_go_in_circles_end(tmp_path: Path) -> None:
    (tmp_path / "sshd_config").write_text("Include sshd_config\nInclude *.d/*\nPermitRootLogin no\n")
    settings = from_files(tmp_path / "sshd_config")
    assert settings is not None
    assert settings["permitrootlogin"] == ("no",)
    assert from_files(tmp_path / "absent") is None


def test_files_that_may_not_be_read_are_no_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bench: Any
) -> None:
    (tmp_path / "sshd_config").write_text("Include secret\nPermitRootLogin no\n")
    (tmp_path / "secret").write_text("PermitRootLogin yes\n")
    real_open = os.open

    def refuse(path: Any, *arguments: Any, **keywords: Any) -> int:
        if str(path).endswith("secret"):
            raise PermissionError(13, "Permission denied", str(path))
        return real_open(path, *arguments, **keywords)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(CannotMeasure):
        from_files(tmp_path / "sshd_config")
    monkeypatch.setattr(remote_access, "SSHD_CONFIG", tmp_path / "sshd_config")
    monkeypatch.setattr(remote_access, "find_program", lambda name: None)
    for ports, code in ((frozenset((22,)), "check.needs_rights"), (frozenset((80,)), "ok")):
        monkeypatch.setattr(remote_access, "open_ports", lambda ports=ports: ports)
        assert said(bench(CHECK).run()["ssh"])[0] == code


@pytest.mark.parametrize("body", ["exit 255", "echo rubbish; exit 1", "exec yes", "kill -9 $$"])
def test_an_sshd_that_does_not_answer_leaves_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bench: Any, body: str
) -> None:
    sshd = tmp_path / "sshd"
    sshd.write_text(f"#!/bin/sh\n{body}\n")
    sshd.chmod(0o755)
    (tmp_path / "sshd_config").write_text("PermitRootLogin yes\n")
    monkeypatch.setattr(remote_access, "SSHD_CONFIG", tmp_path / "sshd_config")
    monkeypatch.setattr(remote_access, "find_program", lambda name: str(sshd))
    monkeypatch.setattr(remote_access, "open_ports", lambda: frozenset((22,)))
    assert said(bench(CHECK).run()["ssh"]) == ("remote_access.ssh_root_password", 1.0)


def test_only_known_ways_can_be_allowed(bench: Any) -> None:
    with pytest.raises(SettingError, match="'teamviewer' is none of rdp, ssh, telnet, vnc"):
        bench(CHECK, allowed=["ssh", "teamviewer"]).run()


@given(st.text(max_size=200))
def test_any_text_of_sshd_is_survived(text: str) -> None:
    settings = effective(text)
    assert sshd_settings.ports(settings)
    assert sshd_settings.lets_in_root(settings) in ("no", "by_key", "by_password")
