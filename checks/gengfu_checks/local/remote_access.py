"""Ways into the machine from outside: SSH, remote desktop, VNC, telnet and rlogin.

Items: `ssh`, `rdp`, `vnc`, `telnet`. A way is on when its port can be reached from outside; for remote desktop on
Windows its switch in the registry counts. What SSH lets in is asked of `sshd -T`, which needs root, else read from its
files.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from gengfu_checks.codes import CHECK_NEEDS_RIGHTS, CHECK_PROGRAM_FAILED
from gengfu_checks.errors import CannotMeasure
from gengfu_checks.local import sshd_settings
from gengfu_checks.local.listening import open_ports
from gengfu_checks.local.programs import find_program, run_program
from gengfu_checks.local.small_file import unknown
from gengfu_checks.local.sshd_settings import Settings
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
SSHD_CONFIG = Path("/etc/ssh/sshd_config")
RDP_PORT = 3389
VNC_PORTS = frozenset(range(5900, 5910))
TELNET_PORTS = frozenset((23, 512, 513))
"""telnet, rexec, rlogin. 514 is left out: log servers listen there."""

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


def judge_ssh(
    settings: Settings | None, reachable: frozenset[int], rules: Rules, by_systemd: frozenset[int] = frozenset()
) -> Measurement:
    """The item `ssh`. `settings` is None where there is no file of a server; `by_systemd` are ports that systemd holds
    for it."""
    ports = reachable & (sshd_settings.ports(settings or {}) | by_systemd)
    if not ports:
        return Measurement("ssh", {"enabled": 0.0})
    if settings is None:
        return Measurement("ssh", {"enabled": 1.0}, problem=_not_allowed("ssh", ports, rules))
    by_password = sshd_settings.lets_in_by_password(settings)
    root = sshd_settings.lets_in_root(settings)
    facts: dict[str, Fact] = {"password_login": by_password, "root_login": root}
    problem = _not_allowed("ssh", ports, rules)
    if sshd_settings.lets_in_empty(settings):
        problem = Problem(Status.CRITICAL, SSH_EMPTY_PASSWORDS)
    elif problem is None and root == "by_password":
        problem = Problem(Status.WARNING, SSH_ROOT_PASSWORD)
    elif problem is None and by_password and not rules.ssh_password:
        problem = Problem(Status.WARNING, SSH_PASSWORD)
    return Measurement("ssh", {"enabled": 1.0}, facts, problem)


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


def ssh_settings(within_s: float) -> Settings | None:
    """The settings of this machine's SSH server; None when it has none."""
    if psutil.WINDOWS:
        folder = os.environ.get("PROGRAMDATA", r"C:\ProgramData")
        return sshd_settings.from_files(Path(folder) / "ssh" / "sshd_config")
    sshd = find_program("sshd")
    if sshd is not None and os.geteuid() == 0:
        try:
            output = run_program([sshd, "-T"], within_s, 256 * 1024)
        except CannotMeasure:  # the files say nearly the same
            return sshd_settings.from_files(SSHD_CONFIG)
        settings = sshd_settings.effective(output.stdout.decode("utf-8", "replace"))
        if output.exit_code == 0 and "permitrootlogin" in settings:  # it prints every setting that there is
            return settings
    return sshd_settings.from_files(SSHD_CONFIG)


def _ssh(context: Context, reachable: frozenset[int], rules: Rules) -> Measurement:
    try:
        settings = ssh_settings(context.deadline_s * 0.5)
        by_systemd = sshd_settings.socket_ports() if psutil.LINUX else frozenset()
    except CannotMeasure as error:
        if 22 not in reachable:
            return Measurement("ssh", {"enabled": 0.0})
        return Measurement("ssh", {"enabled": 1.0}, problem=unknown(error))
    return judge_ssh(settings, reachable, rules, by_systemd)


def _rdp(reachable: frozenset[int], rules: Rules) -> Measurement:
    if not psutil.WINDOWS:
        return judge_ports("rdp", reachable & {RDP_PORT}, rules)
    try:
        return judge_rdp(judge_registry(registry_value), rules)
    except CannotMeasure as error:
        return Measurement("rdp", problem=unknown(error))


def measure(context: Context) -> Iterator[Measurement]:
    """Measure the ways into this machine."""
    rules = Rules(frozenset(context.settings["allowed"]), context.settings["ssh_password_login"])
    try:
        reachable = open_ports()
    except CannotMeasure as error:
        yield Measurement("", problem=unknown(error))
        return
    yield _ssh(context, reachable, rules)
    yield _rdp(reachable, rules)
    yield judge_ports("vnc", reachable & VNC_PORTS, rules)
    yield judge_ports("telnet", reachable & TELNET_PORTS, rules)


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
