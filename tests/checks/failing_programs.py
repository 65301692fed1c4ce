"""A machine on which every check finds programs to ask, and programs that answer none of them properly."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gengfu_checks import software
from gengfu_checks.local import (
    baseline_probe,
    boot_time,
    clock,
    containers,
    cron_mail,
    disk_health,
    event_log_journal,
    firewall,
    gateway,
    gateway_latency,
    icmp_echo,
    os_service,
    programs,
    remote_access,
    scheduled_systemd,
    ssh_servers,
    updates,
    updates_apt,
    updates_rpm,
    uptime,
    wifi_linux,
)

PROSE = """Usage: tool [OPTION]... [FILE]...
This is what a tool says that was made for something else.

  -v, --version  tell the version, and end
Name=Value
3 upgrades. Report bugs to: nobody.service
"""
# What the shell does in the place of any program.
WAYS_TO_FAIL = {
    "fails": "cat prose; exit 1",
    "binary": "exec cat binary",
    "prose": "exec cat prose",
    "flood": "exec cat flood",
    "a word": "printf rubbish",
    "other JSON": "echo '{}'",
    "silent": "exit 0",
    "hangs": "exec sleep 1000",
}
ABSENT = "absent"
# To have these is an answer: they are never run.
ONLY_LOOKED_FOR = frozenset(("clamd", "clamscan", "firewalld", "dockerd"))


@dataclass
class Programs:
    """A folder in which there is a program of any name, except the missing, and which of them were run."""

    folder: Path
    program: Path | None
    missing: frozenset[str] = ONLY_LOOKED_FOR
    ran: set[str] = field(default_factory=set)

    def __truediv__(self, name: str) -> Path:
        path = self.folder / name
        if self.program is not None and name not in self.missing and not path.is_symlink():
            path.symlink_to(self.program)
        return path


def programs_that(way: str, folder: Path, patch: pytest.MonkeyPatch) -> Programs:
    """Let checks find nothing but programs that fail in this way."""
    program = None
    if way != ABSENT:
        rubbish = folder / "rubbish"
        rubbish.mkdir()
        (rubbish / "prose").write_text(PROSE)
        (rubbish / "binary").write_bytes(bytes(range(256)) * 8)
        (rubbish / "flood").write_bytes((bytes(range(256)) + PROSE.encode() * 10_000)[: 2**20])
        program = folder / "program"
        program.write_text(f"#!/bin/sh\ncd {rubbish}\n{WAYS_TO_FAIL[way]}\n")
        program.chmod(0o755)
    (folder / "bin").mkdir()
    found = Programs(folder / "bin", program)
    start = programs._start

    def note(argv: Any) -> Any:
        found.ran.add(Path(argv[0]).name)
        return start(argv)

    patch.setattr(programs, "FOLDERS", (found,))
    patch.setattr(programs, "_found", {})
    patch.setattr(programs, "_start", note)
    return found


def furnish(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """A machine with systemd, a journal, a disk, Wi-Fi, a gateway, Docker, Podman, apt, sshd, tables of nft and a clock
    that the kernel takes to be kept."""
    for part in (_services, _containers, _devices, _network, _software):
        part(folder, patch)


def _file(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def _services(folder: Path, patch: pytest.MonkeyPatch) -> None:
    systemd = folder / "systemd"
    systemd.mkdir(parents=True)
    for module in (baseline_probe, boot_time, os_service, scheduled_systemd):
        patch.setattr(module, "SYSTEMD_RUNNING", systemd)
    patch.setattr(boot_time, "CONTAINER_MARK", folder / "none")
    patch.setattr(event_log_journal, "is_there", lambda: True)
    patch.setattr(cron_mail, "mailbox", lambda: None)
    patch.setattr(clock, "read_kernel_clock", lambda: clock.KernelClock(0, 0, 0, 0, 0))
    patch.setattr(os, "geteuid", lambda: 0)


def _containers(folder: Path, patch: pytest.MonkeyPatch) -> None:
    docker = folder / "docker"
    with socket.socket(socket.AF_UNIX) as daemon:
        daemon.bind(str(docker))
    patch.setattr(containers, "reach", lambda _path: None)
    patch.setattr(containers, "docker_here", partial(containers.docker_here, folder / "none", docker))
    patch.setattr(containers, "podman_here", partial(containers.podman_here, folder))


def _devices(folder: Path, patch: pytest.MonkeyPatch) -> None:
    _file(folder / "sys/block/sda/device/model", "ST1000")
    _file(folder / "dev/sda")
    system = disk_health.System
    patch.setattr(disk_health, "SYS", folder / "sys")
    patch.setattr(disk_health, "System", lambda sys, _dev, smartctl: system(sys, folder / "dev", smartctl))
    patch.setattr(disk_health, "CONTAINER_MARKS", ())
    _file(folder / "sys/class/net/wlan0/phy80211/index", "0")
    read = partial(wifi_linux.read_stations, net=folder / "sys/class/net", wireless=folder / "none")
    patch.setattr(wifi_linux, "read_stations", read)


def _network(folder: Path, patch: pytest.MonkeyPatch) -> None:
    _tables(folder / "none", patch)
    patch.setattr(firewall, "has_tables", lambda: True)
    patch.setattr(firewall, "_has_capability", lambda _number: True)
    patch.setattr(remote_access, "open_ports", lambda: frozenset((22,)))
    settings = _file(
        folder / "sshd_config", "PermitRootLogin no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
    )
    patch.setattr(ssh_servers, "CONFIGURATION", settings)
    patch.setattr(ssh_servers, "running", list)

    def refuse(*_: object) -> None:
        raise PermissionError

    patch.setattr(icmp_echo, "_by_socket", refuse)
    patch.setattr(gateway, "read_routes", lambda: [gateway.Route("eth0", "192.0.2.1", 0)])
    patch.setattr(gateway_latency, "_is_there", lambda _route: True)


def _software(folder: Path, patch: pytest.MonkeyPatch) -> None:
    status = _file(folder / "var/lib/dpkg/status", "Package: a\nStatus: install ok installed\nVersion: 1\n\n")
    _file(folder / "var/lib/apt/lists/x_InRelease", "Suite: stable-security\nDate: Fri, 20 Nov 2026 00:12:41 UTC\n")
    patch.setattr(updates, "DPKG_STATUS", status)
    patch.setattr(software, "DPKG_STATUS", status)
    patch.setattr(software, "RPM_DATABASES", ())
    patch.setattr(updates_apt, "Apt", partial(updates_apt.Apt, root=folder))
    patch.setattr(uptime, "_MARKS", ())
    patch.setattr(uptime, "_BOOT", folder / "none")


def keep_software_with_rpm(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Let rpm and dnf5 keep the software of the machine instead of dpkg and apt."""
    for name in ("repomd.xml", "1-updateinfo.xml.gz"):
        _file(folder / "var/cache/libdnf5/updates/repodata" / name)
    patch.setattr(updates, "DPKG_STATUS", folder / "none/status")
    patch.setattr(software, "DPKG_STATUS", folder / "none/status")
    patch.setattr(software, "RPM_DATABASES", (_file(folder / "rpmdb.sqlite"),))
    find: Callable[[], updates_rpm.Rpm | None] = updates_rpm.find

    def find_here() -> updates_rpm.Rpm | None:
        found = find()
        return None if found is None else replace(found, root=folder)

    patch.setattr(updates_rpm, "find", find_here)


def filter_the_old_way(found: Programs, folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Let the packet filter have old tables only, and no nft."""
    found.missing |= {"nft"}
    _tables(_file(folder / "tables", "filter\n"), patch)
    patch.setattr(firewall, "has_tables", lambda: False)


def _tables(file: Path, patch: pytest.MonkeyPatch) -> None:
    tables = {protocol: (file, names) for protocol, (_, names) in firewall.LEGACY_TABLES.items()}
    patch.setattr(firewall, "LEGACY_TABLES", tables)


def hurry(seconds: float, patch: pytest.MonkeyPatch) -> None:
    """Shorten the times that do not come from the deadline of a check."""
    patch.setattr(baseline_probe, "PROGRAM_TIMEOUT_S", seconds)
    patch.setattr(software, "installed", partial(software.installed, seconds))
