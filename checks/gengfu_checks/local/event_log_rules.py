"""What in a system's log means that something is broken, whoever runs the machine. Pure.

Linux: messages of the kernel, as its source prints them. Windows: provider and number of the event, as Microsoft Learn
lists them. A rule gives the subject as well: the device, file system, adapter or program that it happened to.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gengfu_checks.local.occurrences import MAX_NAME_CHARS
from gengfu_checks.local.plain_text import plain
from gengfu_checks.model import Status

MAX_MESSAGE_CHARS = 1000
"""Of a message, what rules and patterns look at."""
MAX_SAMPLE_CHARS = 200

_TIMESTAMP = re.compile(r"^\[ {0,8}\d{1,10}\.\d{6}\] ")
_SECRET = re.compile(
    r"(?i)(pass(?:word|wd|phrase)?|pwd|secret|token|api[_-]?key|authorization)\b(['\"]?\s{0,3}[=:]\s{0,3})(?:bearer\s|basic\s)?\S+"
)
_NOT_A_DISK = re.compile(r"(?:fd|sr)\d{1,3}|\\Device\\CdRom\d{1,3}")


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a log. `priority` is that of syslog (0 worst to 7), None where the log does not hold it.

    `event` is provider and number of a Windows event, `data` the first of its values.
    """

    at_s: float
    message: str
    priority: int | None = None
    program: str = ""
    is_kernel: bool = False
    event: tuple[str, int] | None = None
    data: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """A kind of trouble: its name is the item and, after `event_log.`, the code. `repeats` is for what counts only when
    it happens again and again."""

    name: str
    status: Status = Status.WARNING
    patterns: tuple[re.Pattern[str], ...] = ()
    events: Mapping[tuple[str, int], bool] | None = None
    """By provider and number; true when the first value of the event names the subject."""
    repeats: bool = False

    @property
    def code(self) -> str:
        """Guide code."""
        return f"event_log.{self.name}"


def _all(*patterns: str) -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(pattern) for pattern in patterns)


RULES: tuple[Rule, ...] = (
    Rule(
        "io_error",
        patterns=_all(
            r"I/O error, dev (?P<subject>\w{1,32}), sector",
            r"critical (?:medium|target|nexus) error, dev (?P<subject>\w{1,32}),",
            r"Buffer I/O error on dev(?:ice)? (?P<subject>[\w-]{1,32})",
            r"^(?P<subject>ata\d{1,3})(?:\.\d{1,2})?: failed command:",
            r"^nvme (?P<subject>nvme\d{1,3}): (?:I/O .{1,60} timeout|controller is down)",
            r"^sd \S{1,20} \[(?P<subject>sd[a-z]{1,3})\] .{0,40}Sense Key ?: (?:Medium|Hardware) Error",
        ),
        events={
            ("disk", 7): True,
            ("disk", 11): True,
            ("disk", 51): True,
            ("disk", 153): True,
            ("storahci", 129): True,
        },
    ),
    Rule(
        "fs_error",
        patterns=_all(
            r"^EXT[234]-fs error \(device (?P<subject>[^)\s]{1,64})\)",
            r"^XFS \((?P<subject>[^)\s]{1,64})\): (?:Metadata (?:CRC error|corruption)|Corruption of|metadata I/O)",
            r"^BTRFS(?:: error| error| critical) \(device (?P<subject>[^)\s:]{1,64})",
            r"^FAT-fs \((?P<subject>[^)\s]{1,64})\): error,",
        ),
        events={("Ntfs", 55): True, ("Microsoft-Windows-Ntfs", 55): True},
    ),
    Rule(
        "read_only",
        Status.CRITICAL,
        _all(
            r"^EXT[234]-fs \((?:device )?(?P<subject>[^)\s]{1,64})\): Remounting filesystem read-only",
            r"^Aborting journal on device (?P<subject>[^\s.]{1,64}?)(?:-8)?\.",  # 8: the inode of a journal
            r"^BTRFS.{0,10} \(device (?P<subject>[^)\s:]{1,64}).{0,40}forced readonly",
            r"^XFS \((?P<subject>[^)\s]{1,64})\): .{0,200}(?:Shutting down filesystem|has been shut down due to)",
        ),
    ),
    Rule(
        "out_of_memory",
        patterns=_all(r"(?:[Oo]ut of memory|oom-kill): Kill(?:ed)? process \d{1,10} \((?P<subject>[^)]{1,32})\)"),
        events={("Microsoft-Windows-Resource-Exhaustion-Detector", 2004): False},
    ),
    Rule(
        "segfault",
        patterns=_all(
            r"^(?:traps: )?(?P<subject>[^\[]{1,32})\[\d{1,10}\]:? "
            r"(?:segfault at|general protection|trap (?:invalid opcode|divide))"
        ),
        repeats=True,
    ),
    Rule(
        "hardware_error",
        Status.CRITICAL,
        _all(
            # Bit 61 of the bank's status: the error was not corrected (Intel SDM 3B, "IA32_MCi_STATUS").
            r"mce: \[Hardware Error\]: (?P<subject>CPU \d{1,5}): Machine Check[^:]{0,20}: "
            r"[0-9a-f]{1,16} Bank \d{1,3}: [2367abef]",
            r"\[Hardware Error\]: event severity: (?:recoverable|fatal)",
            r"(?P<subject>[0-9a-f:.]{5,16}): AER: Uncorrect(?:ed|able) \((?:Fatal|Non-Fatal)\)",
        ),
        events={("Microsoft-Windows-WHEA-Logger", number): False for number in (1, 18, 20)},
    ),
    Rule(
        "hardware_corrected",
        patterns=_all(
            r"mce: \[Hardware Error\]: (?:Machine check events logged|(?P<subject>CPU \d{1,5}): Machine Check)",
            r"\[Hardware Error\]: Corrected error, no action required",
        ),
        repeats=True,
    ),
    Rule(
        "hung_task",
        patterns=_all(
            r"INFO: task (?P<subject>.{1,32}):\d{1,10} blocked for more than \d{1,6} seconds",
            r"BUG: soft lockup - CPU#\d{1,5} stuck for \d{1,6}s! \[(?P<subject>[^\]:]{1,32})",
            r"Watchdog detected hard LOCKUP|self-detected stall on CPU|detected stalls on CPUs",
        ),
    ),
    Rule(
        "nic_reset",
        patterns=_all(
            r"NETDEV WATCHDOG: (?P<subject>\S{1,32}) \(",
            r"(?P<subject>\S{1,32}): NETDEV WATCHDOG: CPU",
            r"(?P<subject>\S{1,32}): (?:Reset adapter|Detected (?:Hardware|Tx) Unit Hang|transmit timed out)",
        ),
    ),
    Rule(
        "kernel_bug",
        Status.CRITICAL,
        _all(
            r"^BUG: (?:unable to handle|kernel NULL pointer|Bad page state)|^kernel BUG at |^Oops: |"
            r"^Kernel panic - not syncing"
        ),
    ),
    Rule("unclean_shutdown", events={("Microsoft-Windows-Kernel-Power", 41): False}),
    Rule(
        "log_cleared",
        events={("Microsoft-Windows-Eventlog", 104): False},
    ),
)
NAMES = tuple(rule.name for rule in RULES)
CODES = tuple(rule.code for rule in RULES)


def match(entry: Entry, rules: Sequence[Rule] = RULES) -> tuple[Rule, str] | None:
    """The first rule that an entry fits, and its subject ("" when it names none)."""
    if entry.event is not None:
        return _match_event(entry, entry.event, rules)
    if not entry.is_kernel:
        return None
    message = kernel_message(entry.message)
    for rule in rules:
        for pattern in rule.patterns:
            found = pattern.search(message)
            if found is not None:
                subject = found.groupdict().get("subject") or ""
                return None if _is_harmless(rule, subject) else (rule, _name(subject))
    return None


def kernel_message(message: str) -> str:
    """A message of the kernel without the time that it may begin with, cut to what rules look at."""
    return _TIMESTAMP.sub("", message[:MAX_MESSAGE_CHARS])


def sample_of(entry: Entry) -> str:
    """A line for people: cut, cleaned, what looks like a password or key struck out."""
    line = plain(" ".join(entry.message[:MAX_MESSAGE_CHARS].split()), MAX_MESSAGE_CHARS)
    return plain(_SECRET.sub(r"\1\2***", line), MAX_SAMPLE_CHARS)


def _match_event(entry: Entry, event: tuple[str, int], rules: Sequence[Rule]) -> tuple[Rule, str] | None:
    for rule in rules:
        if rule.events is not None and event in rule.events:
            subject = entry.data if rule.events[event] else ""
            return None if _is_harmless(rule, subject) else (rule, _name(subject))
    return None


def _is_harmless(rule: Rule, subject: str) -> bool:
    """Floppies and optical drives fail reads whenever they are empty or a disc is scratched."""
    return rule.name == "io_error" and _NOT_A_DISK.fullmatch(subject) is not None


def _name(subject: str) -> str:
    return plain(subject.strip(), MAX_NAME_CHARS)
