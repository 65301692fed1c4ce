"""Host firewall: whether packets that nobody asked for are kept out.

Linux: one item, "", by the rules in the kernel (`nft -j`, and `iptables-legacy-save` where old tables are loaded). They
need CAP_NET_ADMIN; without it only the word of a firewall that says it is on (firewalld, ufw) can be had. Windows: an
item for each profile, by Get-NetFirewallProfile of the active store; the firewall of another vendor that Windows
Security Center knows stands in. macOS: one item, "", by `socketfilterfw --getglobalstate`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from gengfu_checks.codes import CHECK_NEEDS_RIGHTS, CHECK_PROGRAM_FAILED
from gengfu_checks.errors import CannotMeasure
from gengfu_checks.local.firewall_rules import (
    IPV4,
    IPV6,
    Table,
    input_tables,
    is_listing,
    is_saved,
    legacy_refuses,
    table_refuses,
)
from gengfu_checks.local.nf_tables import has_tables
from gengfu_checks.local.plain_text import plain
from gengfu_checks.local.programs import failed, find_program, run_program
from gengfu_checks.local.running_programs import running
from gengfu_checks.local.small_file import needs_rights, read_small, read_small_text, unknown
from gengfu_checks.local.structured import powershell, powershell_rows, run_json
from gengfu_checks.local.windows_security import is_switched_on, product_names, windows_kind
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

OFF = "firewall.off"
LETS_ALL_IN = "firewall.lets_all_in"
NOT_LOADED = "firewall.not_loaded"
IPV6_OPEN = "firewall.ipv6_open"

MAX_RULES_BYTES = 2 * 1024 * 1024
CAP_NET_ADMIN = 12

LEGACY_TABLES = {
    IPV4: (Path("/proc/net/ip_tables_names"), ("iptables-legacy-save", "iptables-save")),
    IPV6: (Path("/proc/net/ip6_tables_names"), ("ip6tables-legacy-save", "ip6tables-save")),
}
ADDRESSES = Path("/proc/net/if_inet6")
UFW_SETTINGS = Path("/etc/ufw/ufw.conf")
UFW_DEFAULTS = Path("/etc/default/ufw")
SOCKETFILTERFW = "/usr/libexec/ApplicationFirewall/socketfilterfw"
# https://learn.microsoft.com/powershell/module/netsecurity/get-netfirewallprofile; ActiveStore is what policies leave.
PROFILES_PIPELINE = (
    "Get-NetFirewallProfile -PolicyStore ActiveStore | Select-Object Name,"
    "@{n='Enabled';e={[string]$_.Enabled}},@{n='DefaultInboundAction';e={[string]$_.DefaultInboundAction}}"
)
PRODUCTS_PIPELINE = (
    "Get-CimInstance -Namespace root/SecurityCenter2 -ClassName FirewallProduct"
    " | Select-Object displayName,productState"
)

_UFW_ENABLED = re.compile(r"^\s*ENABLED=[\"']?yes[\"']?\s*$", re.IGNORECASE | re.MULTILINE)
_UFW_LETS_IN = re.compile(r"^\s*DEFAULT_INPUT_POLICY=[\"']?ACCEPT[\"']?\s*$", re.MULTILINE)
_MAC_STATE = re.compile(r"State = (\d)")


@dataclass(frozen=True, slots=True)
class Linux:
    """What is to be asked on Linux: `nft` and `saves` are paths, `manager` the firewall that says it is on."""

    nft: str | None
    saves: Mapping[str, str]
    """By protocol: the program that shows the old tables, where the kernel has any; "" when it is not installed."""
    manager: str
    may_look: bool
    """Whether this process has CAP_NET_ADMIN."""
    has_ipv6: bool = False
    """Whether the machine has an address that other machines reach by IPv6."""
    lets_in: bool = False
    """Whether the manager has been told to let in whatever no rule forbids: its being on says nothing."""


def judge_linux(filtered: frozenset[str], linux: Linux, required: bool) -> Measurement:
    """The one item of Linux by the protocols whose input is filtered.

    A manager that is on while the kernel holds no filter is worse than none.
    """
    facts: dict[str, Fact] = {"manager": linux.manager} if linux.manager else {}
    wanted = frozenset((IPV4, IPV6)) if linux.has_ipv6 else frozenset((IPV4,))
    metrics = {"active": float(wanted <= filtered)}
    problem = None
    if IPV4 not in filtered and linux.manager:
        problem = Problem(Status.CRITICAL, NOT_LOADED)
    elif IPV4 not in filtered and required:
        problem = Problem(Status.WARNING, OFF)
    elif filtered == {IPV4} and linux.has_ipv6:
        problem = Problem(Status.WARNING, IPV6_OPEN)
    return Measurement("", metrics, facts, problem)


def judge_profiles(rows: Sequence[Mapping[str, Any]], products: Sequence[str], required: bool) -> list[Measurement]:
    """An item for each profile of the Windows firewall. `products` are other vendors' firewalls that are on."""
    measurements = []
    for row in rows[:8]:
        name, enabled, inbound = (str(row.get(key) or "") for key in ("Name", "Enabled", "DefaultInboundAction"))
        if enabled not in ("True", "False") or not name:
            continue
        facts: dict[str, Fact] = {"manager": plain(", ".join(products))} if products else {}
        is_on = enabled == "True" or bool(products)
        code = "" if products else OFF if enabled == "False" else LETS_ALL_IN if inbound == "Allow" else ""
        problem = Problem(Status.WARNING, code) if code and required else None
        measurements.append(Measurement(plain(name), {"active": float(is_on and not code)}, facts, problem))
    return measurements


def judge_mac(printed: str, required: bool) -> Measurement | None:
    """The one item of macOS by what socketfilterfw printed (0 off, 1 on, 2 blocks everything); None for rubbish."""
    state = _MAC_STATE.search(printed)
    if state is None:
        return None
    is_on = state[1] != "0"
    problem = None if is_on or not required else Problem(Status.WARNING, OFF)
    return Measurement("", {"active": float(is_on)}, problem=problem)


def measure_linux(context: Context, linux: Linux) -> Measurement:
    """Ask the kernel; where that is not allowed, take the word of a manager that says it is on."""
    if not linux.may_look:
        if linux.manager and not linux.lets_in:
            return Measurement("", {"active": 1.0}, {"manager": linux.manager, "rules_seen": False})
        raise needs_rights("CAP_NET_ADMIN", "packet filter rules")
    within_s = context.deadline_s * 0.4
    filtered = _nft_filtered(linux.nft, within_s) | _legacy_filtered(linux.saves, within_s)
    return judge_linux(filtered, linux, context.settings["required"])


def _nft_filtered(nft: str | None, within_s: float) -> frozenset[str]:
    filtered: frozenset[str] = frozenset()
    if nft is None:
        _require_no_tables()
        return filtered
    tables = input_tables(_listing([nft, "-j", "list", "chains"], within_s / 4))
    for table in sorted(tables, key=lambda table: not table.drops):
        if table.protocols <= filtered:
            continue
        if table_refuses(_rules(nft, table, within_s / 8)):
            filtered |= table.protocols
    return filtered


def _rules(nft: str, table: Table, within_s: float) -> Any:
    """A table without the elements of its named sets, of which there may be a hundred thousand; with them where nft is
    too old to leave them out, as 0.9.0 is (Debian 10, UOS 20, openEuler 20.03)."""
    words = ("list", "table", table.family, table.name)
    try:
        return _listing([nft, "-j", "--terse", *words], within_s)
    except CannotMeasure:
        return _listing([nft, "-j", *words], within_s)


def _listing(argv: Sequence[str], within_s: float) -> Any:
    answer = run_json(argv, within_s, max_bytes=MAX_RULES_BYTES)
    if not is_listing(answer):
        raise failed(argv[0], "its answer is not a listing")
    return answer


def _require_no_tables() -> None:
    """Without `nft` nothing is known of tables that are there."""
    try:
        are_there = has_tables()
    except OSError as error:
        raise failed("nft", f"is not installed, and the kernel does not answer: {error.strerror}") from error
    if are_there:
        raise failed("nft", "is not installed: apt-get install nftables (or dnf install nftables)")


def _legacy_filtered(saves: Mapping[str, str], within_s: float) -> frozenset[str]:
    filtered = set()
    for protocol, save in saves.items():
        if not save:
            raise failed("iptables-save", "is not installed: apt-get install iptables (or dnf install iptables)")
        output = run_program([save, "-t", "filter"], within_s / 2, MAX_RULES_BYTES)
        if output.exit_code != 0:
            raise failed(save, f"ended with {output.exit_code}")
        saved = output.stdout.decode("utf-8", "replace")
        if not is_saved(saved):
            raise failed(save, "its answer is not the table filter")
        if legacy_refuses(saved):
            filtered.add(protocol)
    return frozenset(filtered)


def this_linux() -> Linux:
    """What there is to ask on this machine."""
    manager = _manager()
    lets_in = manager == "ufw" and _UFW_LETS_IN.search(read_small_text(UFW_DEFAULTS) or "") is not None
    may_look = _has_capability(CAP_NET_ADMIN)
    return Linux(find_program("nft"), _legacy_saves(), manager, may_look, _has_ipv6(), lets_in)


def _legacy_saves() -> dict[str, str]:
    """The programs that show the old tables, where the kernel has such tables (reading the list loads none); "" for
    one that is not installed."""
    saves = {}
    for protocol, (tables, programs) in LEGACY_TABLES.items():
        try:
            names = (read_small(tables) or b"").split()
        except CannotMeasure:
            continue
        if b"filter" in names:
            saves[protocol] = next(filter(None, map(find_program, programs)), "")
    return saves


def _manager() -> str:
    if find_program("firewalld") and "firewalld" in running().names:
        return "firewalld"
    return "ufw" if _UFW_ENABLED.search(read_small_text(UFW_SETTINGS) or "") else ""


def _has_ipv6() -> bool:
    """By the fields of /proc/net/if_inet6: address, index, length, scope (00 is global), flags, name."""
    lines = (line.split() for line in (read_small_text(ADDRESSES) or "").splitlines())
    return any(fields[0][:1] in "23" for fields in lines if len(fields) == 6 and fields[3] == "00")


def _has_capability(number: int) -> bool:
    status = read_small_text(Path("/proc/self/status")) or ""
    effective = re.search(r"^CapEff:\s*([0-9a-f]{1,16})$", status, re.MULTILINE)
    return effective is not None and bool(int(effective[1], 16) >> number & 1)


def _measure_windows(context: Context) -> list[Measurement]:
    rows = powershell_rows(PROFILES_PIPELINE, context.deadline_s * 0.45)
    required: bool = context.settings["required"]
    measurements = judge_profiles(rows, (), required)
    if not measurements:
        raise failed("Get-NetFirewallProfile", "its answer names no profile")
    if windows_kind() == "workstation" and any(measurement.problem for measurement in measurements):
        others = powershell_rows(PRODUCTS_PIPELINE, context.deadline_s * 0.45)
        return judge_profiles(rows, product_names(others, is_switched_on), required)
    return measurements


def _measure_mac(context: Context) -> list[Measurement]:
    output = run_program([SOCKETFILTERFW, "--getglobalstate"], context.deadline_s * 0.9, 4096)
    measurement = judge_mac(output.stdout.decode("utf-8", "replace"), context.settings["required"])
    if measurement is None:
        raise failed(SOCKETFILTERFW, "its answer names no state")
    return [measurement]


def measure(context: Context, linux: Callable[[], Linux] = this_linux) -> Iterator[Measurement]:
    """Measure the firewall of this machine."""
    try:
        if psutil.WINDOWS:
            yield from _measure_windows(context)
        elif psutil.MACOS:
            yield from _measure_mac(context)
        else:
            yield measure_linux(context, linux())
    except CannotMeasure as error:
        yield Measurement("", problem=unknown(error))


def usable() -> str | None:
    """Linux, Windows and macOS."""
    if psutil.WINDOWS:
        return None if powershell() else "PowerShell is not on this machine"
    return None if psutil.LINUX or psutil.MACOS else f"not supported on {sys.platform}"


CHECK = CheckKind(
    name="firewall",
    measure=measure,
    metrics=(Metric("active", "1 when packets that nothing lets in are refused, 0 when they are not"),),
    codes=(OFF, LETS_ALL_IN, NOT_LOADED, IPV6_OPEN, CHECK_NEEDS_RIGHTS, CHECK_PROGRAM_FAILED),
    settings=(Setting("required", SettingType.BOOLEAN, "the machine must have a firewall that is on", True),),
    every_s=3600.0,
    timeout_s=60.0,
    usable=usable,
)
