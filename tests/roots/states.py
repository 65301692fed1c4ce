"""The states that roots are put into, what an engineer expects to be told in each, and what else may be told."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from root import NOBODY, Root

Prepare = Callable[[Root], None]
Codes = Mapping[str, tuple[str, ...]]


class On(Enum):
    """What a state begins with."""

    BUILT = "built"
    """As debootstrap left it."""
    FETCHED = "fetched"
    """With all archives of the release, and their lists fetched."""
    TOOLS = "tools"
    """And with the programs installed that checks ask."""


PACKAGES = (
    "systemd", "cron", "cups", "cups-client", "dmidecode", "iproute2", "iptables", "iputils-ping", "iw", "lm-sensors",
    "logrotate", "mdadm", "nftables", "openssh-server", "procps", "rsyslog", "smartmontools", "ssl-cert", "ufw",
)  # fmt: skip
PROGRAMS = (
    "apt-get", "dmidecode", "dpkg-query", "ip6tables-legacy-save", "ip6tables-save", "iptables-legacy-save",
    "iptables-save", "iw", "journalctl", "lpstat", "nft", "ping", "smartctl", "sshd", "sysctl", "systemctl",
    "systemd-analyze", "ufw",
)  # fmt: skip
FOLDERS = ("usr/bin", "usr/sbin")
FILES = (
    "/etc/apt/apt.conf.d/99rubbish", "/etc/crontab", "/etc/cups/cupsd.conf", "/etc/default/ufw", "/etc/fstab",
    "/etc/group", "/etc/hosts.equiv", "/etc/login.defs", "/etc/machine-id", "/etc/mdadm/mdadm.conf",
    "/etc/nftables.conf", "/etc/os-release", "/etc/passwd", "/etc/resolv.conf", "/etc/shadow", "/etc/ssh/sshd_config",
    "/etc/ssl/certs/x.pem", "/etc/ssl/private/ssl-cert-snakeoil.key", "/etc/systemd/logind.conf", "/etc/ufw/ufw.conf",
    "/run/reboot-required", "/var/lib/dpkg/info/tar.list", "/var/log/btmp", "/var/log/kern.log", "/var/log/lastlog",
    "/var/log/syslog", "/var/log/wtmp", "/var/mail/root", "/var/spool/cron/crontabs/root",
)  # fmt: skip
SEED = 7

# Findings about the machine underneath, which all its roots share, or about what a root is not.
EVERYWHERE = {
    "clock.unsynchronised": "the clock is the machine's",
    "cpu.load_high": "building roots loads the machine",
    "cpu.busy": "the same",
    "cpu.iowait_high": "the same",
    "cpu.steal_high": "the same, beside others",
    "memory.low": "the same",
    "firewall.off": "none is set up on the machine that does this; a terminal's ticket",
    "gateway_latency.silent": "the machine's network",
    "gateway_latency.loss": "the same",
    "gateway_latency.slow": "the same",
    "gateway_latency.not_measured": "the same",
    "os_service:check.not_usable": "systemd does not run in a root",
    "gateway_latency:check.needs_rights": "without the program ping",
    "firewall:check.program_failed": "others' rules are in the kernel, and the root has no program that reads them",
    "os_release.no_date": "a release in the making has no end of support yet",
    "os_release.ends_soon": "a server's ticket half a year ahead, a terminal's a quarter",
}
LOST = {"updates": ("check.program_failed",)}
BASELINE = {"baseline:check.program_failed": "its rules about software cannot be judged"}
TOOLS_TELL_NOTHING = {"check.program_failed": "what is asked gives no usable answer", "check.needs_rights": "the same"}
OF_FILES = {**TOOLS_TELL_NOTHING, "uptime.reboot_pending": "the file that asks for a restart is among them"}


@dataclass(frozen=True, slots=True)
class State:
    """One state of a root.

    `expected`: by kind of check, codes of which one has to be told. `right`: further codes that are no false alarm
    here, and why. `asks_dpkg`: dpkg and apt can still be asked, and inventory and updates have to agree with them.
    """

    name: str
    on: On
    prepare: Prepare
    expected: Codes = field(default_factory=dict)
    right: Mapping[str, str] = field(default_factory=dict)
    asks_dpkg: bool = True
    user: str = ""
    with_sys: bool = True
    hangs: bool = False
    """Most checks wait until their deadline."""
    of_each_release: bool = False
    """Differs from release to release; the others are played on one release only."""


def nothing(_root: Root) -> None:
    """Leave it as it is."""


def without_lists(root: Root) -> None:
    """Somebody emptied the folder of apt's lists."""
    for path in root.file("/var/lib/apt/lists").iterdir():
        if path.is_file():
            path.unlink()


def interrupted(root: Root) -> None:
    """dpkg was ended between unpacking and configuring."""
    root.must("/usr/bin/apt-get", "-qq", "-o", "Dir::Cache::archives=/opt/", "-d", "install", "hello")
    package = next(root.file("/opt").glob("hello_*.deb"))
    root.must("/usr/bin/dpkg", "--unpack", f"/opt/{package.name}")


def journal_left(root: Root) -> None:
    """dpkg was ended while it wrote its status."""
    root.file("/var/lib/dpkg/updates/0001").write_text("Package: half\nStat")


def damaged_status(root: Root) -> None:
    """A block of dpkg's status was overwritten, and its end is gone."""
    path = root.file("/var/lib/dpkg/status")
    data = path.read_bytes()
    middle = len(data) // 2
    path.write_bytes(data[:middle] + random.Random(SEED).randbytes(4096) + data[middle + 4096 : -1000])


def empty_status(root: Root) -> None:
    """A file system without power left dpkg's status without content."""
    root.file("/var/lib/dpkg/status").write_bytes(b"")


def no_status(root: Root) -> None:
    """dpkg's status is gone."""
    root.file("/var/lib/dpkg/status").unlink()


def rubbish_files(root: Root) -> None:
    """Files that checks read hold random bytes."""
    noise = random.Random(SEED)
    for name in FILES:
        path = root.file(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(noise.randbytes(noise.randrange(1, 20_000)))


def empty_files(root: Root) -> None:
    """The same files are empty."""
    for name in FILES:
        path = root.file(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.touch()


def programs_that(body: str) -> Prepare:
    """Put a script in the place of every program that checks ask."""

    def prepare(root: Root) -> None:
        for folder in FOLDERS:
            for name in PROGRAMS:
                path = root.file(f"{folder}/{name}")
                if path.exists() or path.is_symlink():
                    path.unlink()
                    path.write_text(f"#!/bin/sh\n{body}\n")
                    path.chmod(0o755)

    return prepare


STATES = (
    State("as debootstrap left it", On.BUILT, nothing, of_each_release=True),
    State("all archives, lists fetched", On.FETCHED, nothing, of_each_release=True),
    State("no lists", On.FETCHED, without_lists, {"updates": ("updates.no_lists",)}),
    State(
        "a package half installed", On.FETCHED, interrupted, {"updates": ("updates.interrupted",)}, of_each_release=True
    ),
    State("dpkg's journal left over", On.FETCHED, journal_left, {"updates": ("updates.interrupted",)}, asks_dpkg=False),
    State("dpkg's status damaged", On.FETCHED, damaged_status, {"updates": ("check.program_failed",)}, asks_dpkg=False),
    State("dpkg's status empty", On.FETCHED, empty_status, LOST, BASELINE, asks_dpkg=False),
    State("dpkg's status gone", On.FETCHED, no_status, LOST, BASELINE, asks_dpkg=False),
    State(
        "an agent without rights",
        On.FETCHED,
        nothing,
        right={"check.needs_rights": "it says which it lacks"},
        user=NOBODY,
    ),
    State(
        "no /sys, no /dev",
        On.FETCHED,
        nothing,
        right={"check.not_usable": "what is read from /sys cannot be looked at"},
        with_sys=False,
    ),
    State("all tools", On.TOOLS, nothing, of_each_release=True),
    State(
        "all tools, an agent without rights",
        On.TOOLS,
        nothing,
        of_each_release=True,
        right={"check.needs_rights": "it says which it lacks"},
        user=NOBODY,
    ),
    State("files of rubbish", On.TOOLS, rubbish_files, right=OF_FILES, asks_dpkg=False),
    State("empty files", On.TOOLS, empty_files, right=OF_FILES, asks_dpkg=False),
    State(
        "tools that fail",
        On.TOOLS,
        programs_that("exit 1"),
        {"updates": ("check.program_failed",)},
        TOOLS_TELL_NOTHING,
        asks_dpkg=False,
    ),
    State(
        "tools that print rubbish",
        On.TOOLS,
        programs_that("exec /usr/bin/head -c 100000 /dev/urandom"),
        right=TOOLS_TELL_NOTHING,
        asks_dpkg=False,
    ),
    State(
        "tools that never stop printing",
        On.TOOLS,
        programs_that("exec /usr/bin/yes"),
        {"updates": ("check.program_failed",)},
        TOOLS_TELL_NOTHING,
        asks_dpkg=False,
    ),
    State(
        "tools that hang",
        On.TOOLS,
        programs_that("exec /usr/bin/sleep 1000"),
        {"updates": ("check.program_failed",)},
        TOOLS_TELL_NOTHING,
        asks_dpkg=False,
        hangs=True,
    ),
)
