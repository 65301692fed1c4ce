"""Ways into the machine from outside: SSH, remote desktop, VNC, telnet and rlogin.

Items: `ssh`, `rdp`, `vnc`, `telnet`. A way is on when its usual port can be reached from outside, or any port of a
program that is known for it (whose ports they are only root is told); for remote desktop on Windows its switch in the
registry counts. What each SSH server that runs lets in is asked of `sshd -T`, which needs root, else read from its
files.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import psutil

from gengfu_checks.codes import CHECK_NEEDS_RIGHTS, CHECK_PROGRAM_FAILED
from gengfu_checks.errors import CannotMeasure
from gengfu_checks.local import ssh_servers, sshd_settings
from gengfu_checks.local.listening import open_ports, ports_by_program
from gengfu_checks.local.small_file import unknown
from gengfu_checks.local.ssh_servers import Access
from gengfu_checks.local.windows_security import registry_value
from gengfu_checks.model import (
    CheckKind,
    Context,
    Fact,
    Measurement,
    Metric,
    Problem,
    Setting,
    SettingType,
    Status,
)

ON = "remote_access.on"
CLEARTEXT = "remote_access.cleartext"
SSH_EMPTY_PASSWORDS = "remote_access.ssh_empty_passwords"
SSH_ROOT_PASSWORD = "remote_access.ssh_root_password"  # noqa: S105 - a code, not a password
SSH_PASSWORD = "remote_access.ssh_password"  # noqa: S105
RDP_WITHOUT_NLA = "remote_access.rdp_without_nla"

WAYS = ("rdp", "ssh", "telnet", "vnc")
RDP_PORT = 3389
VNC_PORTS = frozenset(range(5900, 5910))
TELNET_PORTS = frozenset((23, 512, 513))
"""telnet, rexec, rlogin. 514 is left out: log servers listen there."""
# Programs that are ways in on whatever port, by the 15 characters of their names that the kernel keeps.
SSH_PROGRAMS = ("sshd", "dropbear")
RDP_PROGRAMS = ("xrdp",)
TELNET_PROGRAMS = ("telnetd", "in.telnetd")
VNC_PROGRAMS = (
    "Xtightvnc", "Xtigervnc", "Xvnc", "krfb", "vino-server", "vncserver-x11-c", "wayvnc", "x0tigervncserve",
    "x0vncserver", "x11vnc",
)  # fmt: skip

_TERMINAL_SERVER = r"SYSTEM\CurrentControlSet\Control\Terminal Server"
_RDP_TCP = _TERMINAL_SERVER + r"\WinStations\RDP-Tcp"
_POLICY = r"SOFTWARE\Policies\Microsoft\Windows NT\Terminal Services"


@dataclass(frozen=True, slots=True)
class Rdp:
    """Remote desktop of Windows; `nla` is whether users prove who they are before a session is made for them."""

    enabled: bool
    nla: bool


@dataclass(frozen=True, slots=True)
class Rules:
    """What the settings allow."""

    allowed: frozenset[str]
    ssh_password: bool


def judge_ssh(access: Access | None, ports: frozenset[int], rules: Rules) -> Measurement:
    """The item `ssh` by one server that can be reached on these ports. `access` is None where nobody knows what it lets
    in."""
    if not ports:
        return Measurement("ssh", {"enabled": 0.0})
    problem = _not_allowed("ssh", ports, rules)
    if access is None:
        return Measurement("ssh", {"enabled": 1.0}, problem=problem)
    by_password = sshd_settings.lets_in_by_password(access.general)
    root = sshd_settings.lets_in_root(access.root)
    facts: dict[str, Fact] = {"password_login": by_password, "root_login": root}
    if sshd_settings.lets_in_empty(access.general):
        problem = Problem(Status.CRITICAL, SSH_EMPTY_PASSWORDS)
    elif problem is None and root == "by_password":
        problem = Problem(Status.WARNING, SSH_ROOT_PASSWORD)
    elif problem is None and by_password and not rules.ssh_password:
        problem = Problem(Status.WARNING, SSH_PASSWORD)
    return Measurement("ssh", {"enabled": 1.0}, facts, problem)


def worst(servers: Sequence[Measurement]) -> Measurement:
    """Of several servers the one that is told: the worst, else one that can be reached, else by password."""

    def badness(server: Measurement) -> tuple[Status, float, bool]:
        status = server.problem.status if server.problem else Status.OK
        return status, server.metrics.get("enabled", 0.0), bool(server.facts.get("password_login"))

    return max(servers, key=badness)


def judge_rdp(rdp: Rdp, rules: Rules) -> Measurement:
    """The item `rdp` of Windows."""
    problem = None
    if rdp.enabled:
        problem = _not_allowed("rdp", frozenset((RDP_PORT,)), rules)
        if problem is None and not rdp.nla:
            problem = Problem(Status.WARNING, RDP_WITHOUT_NLA)
    return Measurement("rdp", {"enabled": float(rdp.enabled)}, problem=problem)


def judge_ports(way: str, ports: frozenset[int], rules: Rules) -> Measurement:
    """An item of which no more is known than the ports of it that can be reached."""
    problem = _not_allowed(way, ports, rules) if ports else None
    return Measurement(way, {"enabled": float(bool(ports))}, problem=problem)


def _not_allowed(way: str, ports: frozenset[int], rules: Rules) -> Problem | None:
    if way in rules.allowed:
        return None
    facts: dict[str, Fact] = {"ports": ", ".join(map(str, sorted(ports)))}
    return Problem(Status.WARNING, CLEARTEXT if way == "telnet" else ON, facts)


def judge_registry(read: Callable[[str, str, str], object]) -> Rdp:
    """Remote desktop by the registry: a policy counts before the machine's own value, nothing means off."""

    def number(key: str, name: str) -> int | None:
        value = read("HKEY_LOCAL_MACHINE", _POLICY, name)
        value = read("HKEY_LOCAL_MACHINE", key, name) if value is None else value
        return value if isinstance(value, int) else None

    enabled = number(_TERMINAL_SERVER, "fDenyTSConnections") == 0
    return Rdp(enabled, nla=number(_RDP_TCP, "UserAuthentication") != 0)


def _ssh(context: Context, reachable: frozenset[int], owned: frozenset[int], rules: Rules) -> Measurement:
    """Each server that runs by its own settings; what listens besides, as systemd does for sshd, by the usual file."""
    servers = ssh_servers.running() if psutil.LINUX else []
    within_s = context.deadline_s * 0.6 / (len(servers) + 1)
    measured, left = [], reachable
    for options in servers:
        measurement, ports = _ssh_server(options, within_s, reachable, rules)
        measured.append(measurement)
        left -= ports
    measurement, ports = _ssh_server((), within_s, left, rules)
    measured += [measurement, judge_ssh(None, (owned & left) - ports, rules)]
    return worst(measured)


def _ssh_server(
    options: tuple[str, ...], within_s: float, reachable: frozenset[int], rules: Rules
) -> tuple[Measurement, frozenset[int]]:
    """The item by one server, and those of its ports that can be reached. systemd listens for the usual one."""
    try:
        by_systemd = sshd_settings.socket_ports() if psutil.LINUX and not options else frozenset()
        access = ssh_servers.access(options, within_s)
    except CannotMeasure as error:
        ports = reachable & ssh_servers.named_ports(options)
        return Measurement("ssh", {"enabled": float(bool(ports))}, problem=unknown(error) if ports else None), ports
    ports = reachable & (sshd_settings.ports(access.general if access else {}) | by_systemd)
    return judge_ssh(access, ports, rules), ports


def _rdp(reachable: frozenset[int], rules: Rules) -> Measurement:
    if not psutil.WINDOWS:
        return judge_ports("rdp", reachable, rules)
    try:
        return judge_rdp(judge_registry(registry_value), rules)
    except CannotMeasure as error:
        return Measurement("rdp", problem=unknown(error))


def measure(context: Context) -> Iterator[Measurement]:
    """Measure the ways into this machine."""
    rules = Rules(frozenset(context.settings["allowed"]), context.settings["ssh_password_login"])
    try:
        reachable, owned = open_ports(), ports_by_program()
    except CannotMeasure as error:
        yield Measurement("", problem=unknown(error))
        return

    def of_way(ports: frozenset[int], programs: Collection[str]) -> frozenset[int]:
        return (reachable & ports) | frozenset().union(*(owned.get(name, frozenset()) for name in programs))

    yield _ssh(context, reachable, of_way(frozenset(), SSH_PROGRAMS), rules)
    yield _rdp(of_way(frozenset((RDP_PORT,)), RDP_PROGRAMS), rules)
    yield judge_ports("vnc", of_way(VNC_PORTS, VNC_PROGRAMS), rules)
    yield judge_ports("telnet", of_way(TELNET_PORTS, TELNET_PROGRAMS), rules)


def _verify_ways(value: tuple[str, ...]) -> None:
    unknown_ways = sorted(set(value) - set(WAYS))
    if unknown_ways:
        raise ValueError(f"{unknown_ways[0]!r} is none of {', '.join(WAYS)}")


CHECK = CheckKind(
    name="remote_access",
    measure=measure,
    metrics=(Metric("enabled", "1 when this way into the machine is open, 0 when it is not"),),
    codes=(
        ON,
        CLEARTEXT,
        SSH_EMPTY_PASSWORDS,
        SSH_ROOT_PASSWORD,
        SSH_PASSWORD,
        RDP_WITHOUT_NLA,
        CHECK_NEEDS_RIGHTS,
        CHECK_PROGRAM_FAILED,
    ),
    settings=(
        Setting(
            "allowed",
            SettingType.TEXT_LIST,
            "ways that may be open: rdp, ssh, telnet, vnc",
            ("rdp", "ssh"),
            verify=_verify_ways,
        ),
        Setting("ssh_password_login", SettingType.BOOLEAN, "a password may be enough to log in by SSH", True),
    ),
    every_s=3600.0,
    timeout_s=30.0,
)
