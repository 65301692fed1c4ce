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
from gengfu_checks.local import remote_access, ssh_servers, sshd_settings
from gengfu_checks.local.listening import open_ports, ports_by_program, ports_in
from gengfu_checks.local.remote_access import (
    CHECK,
    SSH_ROOT_PASSWORD,
    Rdp,
    Rules,
    judge_ports,
    judge_rdp,
    judge_registry,
    judge_ssh,
)
from gengfu_checks.local.ssh_servers import Access
from gengfu_checks.local.sshd_settings import Settings, effective, from_files
from gengfu_checks.model import Measurement, Status

ALLOWED = Rules(frozenset(("rdp", "ssh")), ssh_password=True)
KEYS_ONLY = Rules(frozenset(("rdp", "ssh")), ssh_password=False)
NOTHING = Rules(frozenset(), ssh_password=True)

# What stands in sshd_config, in an included file, and what the check has to say.
# What follows, if anything, are options that it is started with.
CASES: list[tuple[str, ...]] = [
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
    ("PermitRootLogin no\nMatch User ann,root\nPermitRootLogin yes\n", "", SSH_ROOT_PASSWORD),
    ("PermitRootLogin yes\nMatch User root\nAuthenticationMethods publickey\nMatch all\nPort 22\n", "", "ok"),
    ("PermitRootLogin yes\nMatch User *,!root\nPermitRootLogin no\n", "", SSH_ROOT_PASSWORD),
    ("PermitRootLogin yes\nMatch User root Address 10.0.0.0/8\nPermitRootLogin no\n", "", SSH_ROOT_PASSWORD),
    ("", "", "ok", "-p", "2222"),
    ("Port 2022\n", "", SSH_ROOT_PASSWORD, "-p2222", "-o", "PermitRootLogin=yes"),
    ("PermitRootLogin yes\n", "", "ok", "-o", "PermitRootLogin no"),
    ("", "Port 2022\nPermitRootLogin yes\n", SSH_ROOT_PASSWORD, "-f", "/etc/ssh/sshd_config.d/a.conf"),
]

INSIDE = """
import json, subprocess, sys, time
from pathlib import Path
from gengfu_checks.local import ssh_servers, sshd_settings
from gengfu_checks.local.listening import open_ports, ports_in, TABLES
from gengfu_checks.local.remote_access import CHECK
from gengfu_checks.model import Context
from gengfu_checks.settings import resolve_settings

etc, sshd = Path("/etc/ssh"), sys.argv[1]
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
Path("/run/sshd").mkdir()

def start(options):
    process = subprocess.Popen([sshd, "-D", *options])
    for _ in range(1000):
        if any(b" 0A " in table.read_bytes() for table in TABLES):
            return process
        time.sleep(0.01)
    raise SystemExit("sshd does not listen")

found = []
def as_sshd_says(options):
    done = subprocess.run([sshd, "-T", *options], capture_output=True, text=True)
    return sshd_settings.effective(done.stdout)

for main, included, _, *options in json.load(sys.stdin):
    (etc / "sshd_config").write_text(f"Include /etc/ssh/sshd_config.d/*.conf\\n{main}")
    (etc / "sshd_config.d/a.conf").write_text(included)
    process = start(options)
    try:
        context = Context(resolve_settings(CHECK, {}), {}, time.time, time.monotonic, 30.0)
        ssh = next(m for m in CHECK.measure(context) if m.item == "ssh")
        (started_with,) = ssh_servers.running()
        said = [as_sshd_says(started_with), as_sshd_says(["-C", ssh_servers.ROOT, *started_with])]
        file, *others = started_with[1:] if started_with[:1] == ("-f",) else (etc / "sshd_config", *started_with)
        read = [sshd_settings.from_files(Path(file), others), sshd_settings.from_files(Path(file), others, "root")]
        ways = [[
            sshd_settings.lets_in_by_password(general), sshd_settings.lets_in_root(root),
            sshd_settings.lets_in_empty(general), sorted(sshd_settings.ports(general))]
            for general, root in (said, read)]
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


def judged(settings: Settings, reachable: frozenset[int], rules: Rules) -> Measurement:
    return judge_ssh(Access(settings, settings), reachable & sshd_settings.ports(settings), rules)


def said(measurement: Measurement) -> tuple[str, float]:
    return measurement.problem.code if measurement.problem else "ok", measurement.metrics["enabled"]


def test_what_is_allowed_decides() -> None:
    settings = effective("port 22\npasswordauthentication yes\npermitrootlogin without-password\n")
    on = frozenset((22, 80))
    assert said(judged(settings, on, ALLOWED)) == ("ok", 1.0)
    assert said(judged(settings, on, KEYS_ONLY)) == ("remote_access.ssh_password", 1.0)
    assert said(judged(settings, on, NOTHING)) == ("remote_access.on", 1.0)
    assert said(judged(settings, frozenset((80,)), NOTHING)) == ("ok", 0.0)
    assert said(judge_ssh(None, on, ALLOWED)) == ("ok", 1.0)
    assert said(judge_ssh(None, on, NOTHING)) == ("remote_access.on", 1.0)
    empty = judged(effective("permitemptypasswords yes\n"), on, NOTHING)
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
    assert sshd_settings.socket_ports(tmp_path) == {2222, 2223, 2224}


def test_root_asks_sshd_and_others_read_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bench: Any) -> None:
    sshd = tmp_path / "sshd"
    sshd.write_text('#!/bin/sh\n[ "$*" = -T ] && echo permitrootlogin no\n')
    sshd.chmod(0o755)
    (tmp_path / "sshd_config").write_text("PermitRootLogin yes\n")
    monkeypatch.setattr(ssh_servers, "CONFIGURATION", tmp_path / "sshd_config")
    monkeypatch.setattr(ssh_servers, "running", list)
    monkeypatch.setattr(ssh_servers, "find_program", lambda name: str(sshd))
    monkeypatch.setattr(remote_access, "open_ports", lambda: frozenset((22,)))
    for uid, expected in ((0, "ok"), (1000, "remote_access.ssh_root_password")):
        monkeypatch.setattr(os, "geteuid", lambda uid=uid: uid)
        assert said(bench(CHECK).run()["ssh"]) == (expected, 1.0)


def test_systemd_may_hold_another_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bench: Any) -> None:
    (tmp_path / "sshd_config").write_text("PermitRootLogin yes\n")
    monkeypatch.setattr(ssh_servers, "CONFIGURATION", tmp_path / "sshd_config")
    monkeypatch.setattr(ssh_servers, "running", list)
    monkeypatch.setattr(ssh_servers, "find_program", lambda name: None)
    monkeypatch.setattr(sshd_settings, "socket_ports", lambda: frozenset((2222,)))
    for port, expected in ((2222, (SSH_ROOT_PASSWORD, 1.0)), (2223, ("ok", 0.0))):
        monkeypatch.setattr(remote_access, "open_ports", lambda port=port: frozenset((80, port)))
        assert said(bench(CHECK).run()["ssh"]) == expected


def test_servers_are_found_by_their_command_lines(tmp_path: Path) -> None:
    titles = [
        "sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups",
        "sshd: /usr/sbin/sshd -D -f /etc/ssh/b -o PermitRootLogin no -p22 [listener] 1 of 10-100 startups",
        "/usr/sbin/sshd\0-p\0002022\0",  # as OpenSSH before 8.2 leaves it
        "/usr/sbin/sshd\0-D\0-R\0",
        "sshd: ann@pts/0",
        "sshd: unknown [listener of nothing",
        "",
    ]
    for number, title in enumerate(titles, 100):
        folder = tmp_path / str(number)
        (folder / "ns").mkdir(parents=True)
        (folder / "ns/net").symlink_to(Path("/proc/self/ns/net").readlink())
        (folder / "comm").write_text("sshd\n")
        (folder / "cmdline").write_text(title)
    if os.geteuid() != 0:
        assert ssh_servers.running(tmp_path) == [], "not of the system"
        return
    assert sorted(ssh_servers.running(tmp_path)) == [
        (),
        ("-f", "/etc/ssh/b", "-o", "PermitRootLogin no", "-p", "22"),
        ("-p", "2022"),
    ]
    os.chown(tmp_path / "100", 1000, 1000)
    (tmp_path / "102/ns/net").unlink()
    (tmp_path / "102/ns/net").symlink_to("net:[1]")
    assert len(ssh_servers.running(tmp_path)) == 1


def test_a_known_program_on_another_port_is_the_same_way(monkeypatch: pytest.MonkeyPatch, bench: Any) -> None:
    monkeypatch.setattr(remote_access, "open_ports", lambda: frozenset((5955, 3390, 2222)))
    owned = {"Xtigervnc": frozenset((5955,)), "xrdp": frozenset((3390,)), "dropbear": frozenset((2222,))}
    monkeypatch.setattr(remote_access, "ports_by_program", lambda: owned)
    found = bench(CHECK, allowed=[]).run()
    assert {item: said(found[item]) for item in ("ssh", "rdp", "vnc", "telnet")} == {
        "ssh": ("remote_access.on", 1.0),
        "rdp": ("remote_access.on", 1.0),
        "vnc": ("remote_access.on", 1.0),
        "telnet": ("ok", 0.0),
    }


def test_root_is_told_whose_ports_are_open() -> None:
    with socket.create_server(("0.0.0.0", 0)) as open_one, socket.create_server(("127.0.0.1", 0)) as own:
        ports = frozenset().union(*ports_by_program().values())
        assert open_one.getsockname()[1] in ports
        assert own.getsockname()[1] not in ports


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
    monkeypatch.setattr(ssh_servers, "CONFIGURATION", tmp_path / "sshd_config")
    monkeypatch.setattr(ssh_servers, "running", list)
    monkeypatch.setattr(ssh_servers, "find_program", lambda name: None)
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
    monkeypatch.setattr(ssh_servers, "CONFIGURATION", tmp_path / "sshd_config")
    monkeypatch.setattr(ssh_servers, "running", list)
    monkeypatch.setattr(ssh_servers, "find_program", lambda name: str(sshd))
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
