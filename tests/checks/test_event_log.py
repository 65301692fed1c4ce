"""What is made of log entries: rules, tallies, the book that is kept. Judged on messages of real kernels and events."""

from __future__ import annotations

import itertools
import json
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gengfu_checks.errors import SettingError
from gengfu_checks.local import event_log, event_log_rules
from gengfu_checks.local.event_log import CHECK, Book, Reader, Source, book_of, measure_source
from gengfu_checks.local.event_log_journal import Journal, entry_of, matches, place_of, read
from gengfu_checks.local.event_log_page import Gap, Page, Wanted
from gengfu_checks.local.event_log_rules import Entry, match, sample_of
from gengfu_checks.local.occurrences import MAX_NAMED, MAX_SUBJECTS, Limits, Tally, tally_of
from gengfu_checks.model import MAX_KEEP_BYTES, Measurement, Status
from gengfu_checks.settings import resolve_settings

# Each from the log of a real machine, as posted in the issue named behind it.
KERNEL = [
    # home-assistant/operating-system #3948
    ("I/O error, dev sda, sector 68537632 op 0x1:(WRITE) flags 0x103000 phys_seg 1 prio class 0", "io_error", "sda"),
    ("Buffer I/O error on dev sda8, logical block 8388772, lost async page write", "io_error", "sda8"),
    # coolsnowwolf/lede #6147
    (
        "blk_update_request: critical target error, dev sdb, sector 629659920 op 0x1:(WRITE) flags 0x800",
        "io_error",
        "sdb",
    ),
    ("[21628.545380] Aborting journal on device sdb1-8.", "read_only", "sdb1"),
    (
        "EXT4-fs error (device sdb1): ext4_journal_check_start:61: Detected aborted journal",
        "fs_error",
        "sdb1",
    ),
    ("[23423.107180] EXT4-fs (sdb1): Remounting filesystem read-only", "read_only", "sdb1"),
    # longhorn/longhorn #193, #2775
    ("sd 4:0:0:1: [sdb] tag#0 Sense Key : Medium Error [current] ", "io_error", "sdb"),
    ("print_req_error: critical medium error, dev sdf, sector 1811939592", "io_error", "sdf"),
    # QubesOS/qubes-issues #7795
    ("Buffer I/O error on device dm-4, logical block 2920460", "io_error", "dm-4"),
    # Ysurac/openmptcprouter #3114, #273
    ("NETDEV WATCHDOG: eth0 (e1000e): transmit queue 0 timed out", "nic_reset", "eth0"),
    ("e1000e 0000:00:19.0 eth0: Detected Hardware Unit Hang:", "nic_reset", "eth0"),
    # csrutil/OpenWrt-NIC-Drivers #11
    ("r8125 0000:22:04.0 eth4: NETDEV WATCHDOG: CPU: 3: transmit queue 0 timed out 5010 ms", "nic_reset", "eth4"),
    # Avnu/OpenAvnu #210
    ("igb 0000:09:00.0: Detected Tx Unit Hang", "nic_reset", "0000:09:00.0"),
    # raspberrypi/linux #1587, IRATI/stack #396, coreos/bugs #1341
    ("INFO: task kworker/u8:0:5 blocked for more than 120 seconds.", "hung_task", "kworker/u8:0"),
    ("BUG: soft lockup - CPU#5 stuck for 23s! [modprobe:4176]", "hung_task", "modprobe"),
    ("INFO: task hhvm:1577 blocked for more than 120 seconds.", "hung_task", "hhvm"),
    # this machine, Linux 6.18
    (
        "python3[32688]: segfault at 0 ip 00007fd5c3d85ad8 sp 00007ffc1846c498 error 4 in libc.so.6[167ad8,7fd5c3c4]",
        "segfault",
        "python3",
    ),
]
# Made after the format strings of the kernel's source (mm/oom_kill.c, arch/x86, pci/pcie/aer.c, fs/xfs, fs/btrfs).
BY_SOURCE = [
    ("Out of memory: Killed process 4711 (mysqld) total-vm:8000kB, anon-rss:1kB", "out_of_memory", "mysqld"),
    ("Memory cgroup out of memory: Killed process 99 (java) total-vm:1kB", "out_of_memory", "java"),
    ("traps: nginx[99] general protection fault ip:7f00 sp:7ffd error:0 in libc.so.6[7f00+1000]", "segfault", "nginx"),
    ("mce: [Hardware Error]: Machine check events logged", "hardware_corrected", ""),
    ("mce: [Hardware Error]: CPU 2: Machine Check: 0 Bank 8: 8c00004000010092", "hardware_corrected", "CPU 2"),
    ("mce: [Hardware Error]: CPU 2: Machine Check Exception: 5 Bank 0: b200", "hardware_error", "CPU 2"),
    ("mce: [Hardware Error]: CPU 0: Machine Check: 0 Bank 5: be00000000800400", "hardware_error", "CPU 0"),
    ("[Hardware Error]: Corrected error, no action required.", "hardware_corrected", ""),
    ("{1}[Hardware Error]: event severity: fatal", "hardware_error", ""),
    ("pcieport 0000:00:1c.0: AER: Uncorrectable (Fatal) error message received", "hardware_error", "0000:00:1c.0"),
    ("XFS (dm-0): Corruption of in-memory data detected.  Shutting down filesystem", "fs_error", "dm-0"),
    ("XFS (dm-0): Filesystem has been shut down due to log error (0x2).", "read_only", "dm-0"),
    ("BTRFS info (device sdc1: state E): forced readonly", "read_only", "sdc1"),
    ("BTRFS error (device sdc1): bdev /dev/sdc1 errs: wr 0, rd 1, flush 0, corrupt 0, gen 0", "fs_error", "sdc1"),
    ("BUG: unable to handle page fault for address: 0000000000001234", "kernel_bug", ""),
    ("nvme nvme0: I/O tag 128 (1080) opcode 0x2 (I/O Cmd) QID 2 timeout, aborting req_op:READ(0)", "io_error", "nvme0"),
    ("ata1.00: failed command: READ FPDMA QUEUED", "io_error", "ata1"),
]
HARMLESS = [
    "blk_update_request: I/O error, dev fd0, sector 0 op 0x0:(READ) flags 0x0 phys_seg 1 prio class 0",
    "I/O error, dev sr0, sector 1024 op 0x0:(READ) flags 0x0 phys_seg 1 prio class 2",
    "EXT4-fs (loop0): mounted filesystem a6e26b12 r/w with ordered data mode. Quota mode: none.",
    "EXT4-fs (dm-0): re-mounted 0ac8319e-1803-4a69-887d-6e3e99ceb4f7 r/w. Quota mode: none.",
    "pcieport 0000:00:1c.0: AER: Corrected error message received from 0000:03:00.0",
    "{1}[Hardware Error]: event severity: corrected",
    "igb: eth0 NIC Link is Up 1000 Mbps Full Duplex, Flow Control: RX/TX",
    "FAT-fs (sdb1): Volume was not properly unmounted. Some data may be corrupt. Please run fsck.",
    "[UFW BLOCK] IN=eth0 OUT= MAC=00 SRC=1.2.3.4 DST=5.6.7.8 LEN=40 I/O error",
    "",
]


def kernel(message: str, at_s: float = 0.0) -> Entry:
    return Entry(at_s, message, 3, "kernel", is_kernel=True)


@pytest.mark.parametrize(("message", "rule", "subject"), KERNEL + BY_SOURCE)
def test_messages_of_the_kernel(message: str, rule: str, subject: str) -> None:
    found = match(kernel(message))
    assert found is not None
    assert (found[0].name, found[1]) == (rule, subject)
    assert match(Entry(0.0, message, 3, "kernel")) is None, "said by somebody else"


@pytest.mark.parametrize("message", HARMLESS)
def test_what_is_no_trouble(message: str) -> None:
    assert match(kernel(message)) is None


@given(st.text(max_size=3000), st.sampled_from([m for m, _, _ in KERNEL + BY_SOURCE]))
def test_whatever_is_written_is_judged_and_comes_out_clean(noise: str, message: str) -> None:
    for text in (noise, noise + message, message[:20] + noise + message[20:]):
        found = match(kernel(text))
        subject, sample = found[1] if found else "", sample_of(kernel(text))
        assert len(subject) <= 64
        assert len(sample) <= 200
        assert not [c for c in subject + sample if unicodedata.category(c)[0] == "C"]


@pytest.mark.parametrize(
    ("message", "sample"),
    [
        ("login failed password=hunter2 for x", "login failed password=*** for x"),
        ("DB_PASSWORD: hunter2", "DB_PASSWORD: ***"),
        ('{"token": "abc.def"}', '{"token": ***'),
        ("Authorization: Bearer abc", "Authorization: ***"),
        ("two\nlines\x1b[31m \u202ehidden", r"two lines\x1b[31m \u202ehidden"),
        ("password checking failed", "password checking failed"),
    ],
)
def test_samples_are_clean_and_hold_no_passwords(message: str, sample: str) -> None:
    assert sample_of(Entry(0.0, message)) == sample


# Tallies

ONCE = Limits(1, 3600, 3600)
THRICE = Limits(3, 3600, 3600)


def test_one_is_enough_and_quiet_heals() -> None:
    tally = Tally()
    tally.add("sda", 90, 100, ONCE, "line")
    tally.add("sdb", 95, 100, ONCE, "other")
    assert (tally.seen_s, tally.recent, tally.names(), tally.sample) == (100, 2, "sda, sdb", "line")
    tally.settle(3699, ONCE)
    assert tally.seen_s == 100
    tally.settle(3700, ONCE)
    assert (tally.seen_s, tally.recent, tally.total, tally.names(), tally.sample) == (None, 0, 2, "", "")


def test_repeats_count_for_one_subject_by_their_own_time() -> None:
    tally = Tally()
    for at_s in (0, 3000, 6000, 9000, 12_000):  # read in one go after the agent was down
        tally.add("firefox", at_s, 20_000, THRICE)
        tally.add(f"other{at_s}", at_s, 20_000, THRICE)
    assert tally.seen_s is None
    tally.add("firefox", 20_100, 20_200, THRICE)
    tally.add("firefox", 20_300, 20_400, THRICE)
    assert tally.seen_s is None
    tally.add("firefox", 20_500, 20_600, THRICE)
    assert (tally.seen_s, tally.names()) == (20_600, "firefox")


def test_what_happened_long_ago_is_told_when_it_is_read() -> None:
    tally = Tally()
    tally.add("sda", 0, 1_000_000, ONCE)
    tally.settle(1_003_000, ONCE)
    assert tally.seen_s == 1_000_000


def test_a_clock_that_is_set_back_does_not_keep_it_bad_for_ever() -> None:
    tally = Tally()
    tally.add("sda", 1e9, 1e9, ONCE)
    tally.settle(1000, ONCE)
    assert tally.seen_s == 1000
    tally.settle(4600, ONCE)
    assert tally.seen_s is None


def test_subjects_are_bounded() -> None:
    tally = Tally()
    for number in range(500):
        tally.add(f"disk{number}", 0, 0, ONCE)
    assert len(tally.times) == MAX_SUBJECTS
    assert len(tally.told) == MAX_NAMED
    assert tally.names().endswith("(+495)")


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9000), st.integers(0, 9000), st.booleans())),
    st.integers(1, 4),
)
def test_a_kept_tally_goes_on_as_if_nothing_had_been(steps: list[tuple[str, int, int, bool]], limit: int) -> None:
    limits = Limits(limit, 1000, 500)
    one, other = Tally(), Tally()
    for subject, at_s, now_s, settle in steps:
        for tally in (one, other):
            if settle:
                tally.settle(now_s, limits)
            tally.add(subject, at_s, now_s, limits, "x")
        other = tally_of(other.as_json())
    assert one == other


@settings(max_examples=40)
@given(
    st.recursive(
        st.none() | st.integers() | st.text() | st.booleans(), lambda i: st.lists(i) | st.dictionaries(st.text(), i)
    )
)
def test_whatever_was_kept_is_a_tally_and_a_book(kept: Any) -> None:
    assert isinstance(tally_of(kept), Tally)
    assert isinstance(book_of(kept if isinstance(kept, dict) else {"tallies": kept}), Book)


# The check, over pages that a test makes


class Pages:
    """A source that gives what is put into it, entry by entry, and knows by its cursor what has been read."""

    def __init__(self, page_size: int = 1000) -> None:
        self.entries: list[Entry] = []
        self.page_size = page_size
        self.gap: Gap | None = None
        self.asked: list[Mapping[str, Any]] = []

    def read(self, cursor: Mapping[str, Any], _wanted: Wanted, _timeout_s: float) -> Page:
        self.asked.append(cursor)
        at = int(cursor.get("n", 0))
        page = self.entries[at : at + self.page_size]
        gap, self.gap = self.gap, None
        return Page(tuple(page), {"n": at + len(page)}, at + len(page) < len(self.entries), gap)


def look(instance: Any, pages: Pages, name: str = "journal") -> dict[str, Measurement]:
    context = instance.context()
    return {m.item: m for m in measure_source(context, Source(name, pages.read), instance.now_s)}


def test_every_rule_has_its_item_and_severity(bench: Callable[..., Any]) -> None:
    instance, pages = bench(CHECK), Pages()
    found = look(instance, pages)
    kernel_rules = {"io_error", "fs_error", "read_only", "out_of_memory", "segfault", "hardware_error", "hung_task"}
    assert set(found) == {"log", "errors", *kernel_rules, "hardware_corrected", "nic_reset", "kernel_bug"}
    assert not [m for m in found.values() if m.problem]
    pages.entries = [kernel(message, instance.now_s) for message, _, _ in KERNEL]
    found = look(instance, pages)
    problem = found["io_error"].problem
    assert problem is not None
    assert (problem.status, problem.code) == (Status.WARNING, "event_log.io_error")
    assert problem.facts["subjects"] == "dm-4, sda, sda8, sdb, sdf"
    assert str(problem.facts["sample"]).startswith("I/O error, dev sda, sector 68537632")
    assert found["read_only"].problem is not None
    assert found["read_only"].problem.status is Status.CRITICAL
    assert found["segfault"].problem is None, "once is not again and again"
    assert found["segfault"].metrics == {"entries_total": 1.0, "recent_entries": 1.0}
    instance.later(3600)
    quiet = look(instance, pages)
    assert not [m for m in quiet.values() if m.problem]
    assert quiet["io_error"].metrics["recent_entries"] == 0
    assert quiet["io_error"].metrics["entries_total"] == found["io_error"].metrics["entries_total"]


def test_rules_can_be_left_out(bench: Callable[..., Any]) -> None:
    instance, pages = bench(CHECK, ignore_rules=["io_error"]), Pages()
    pages.entries = [kernel(KERNEL[0][0])]
    assert "io_error" not in look(instance, pages)


def test_what_another_check_tells_of_is_not_told_twice(bench: Callable[..., Any]) -> None:
    source = Source("journal", Pages().read, frozenset(("segfault",)))
    instance = bench(CHECK, ignore_rules=["io_error"])
    found = {m.item for m in measure_source(instance.context(), source, instance.now_s)}
    assert found.isdisjoint({"segfault", "io_error"})
    assert "fs_error" in found


def test_patterns_are_items_of_their_own(bench: Callable[..., Any]) -> None:
    instance = bench(CHECK, patterns=["timed out$", "refused"], at_least=2, within="10m", sample=False)
    pages, now_s = Pages(), instance.now_s
    pages.entries = [Entry(now_s, "backend timed out", 3, "haproxy"), Entry(now_s, "timed out, again", 3, "haproxy")]
    assert look(instance, pages)["timed out$"].problem is None
    pages.entries += [Entry(now_s, "upstream timed out", 3, "haproxy"), Entry(now_s, "refused", 6, "sshd")]
    found = look(instance, pages)
    problem = found["timed out$"].problem
    assert problem is not None
    assert (problem.code, problem.facts) == ("event_log.matched", {"subjects": "haproxy"})
    assert found["refused"].metrics["entries_total"] == 0, "less severe than asked for"


def test_errors_are_counted_over_the_set_time(bench: Callable[..., Any]) -> None:
    instance, pages = bench(CHECK, within="1h", priority="info"), Pages()
    for _ in range(12):
        pages.entries += [Entry(instance.now_s, "x", 3), Entry(instance.now_s, "y", 4), Entry(instance.now_s, "z", 0)]
        found = look(instance, pages)
        instance.later(600)
    assert found["errors"].metrics["entries_total"] == 24
    assert 12 <= found["errors"].metrics["recent_errors"] <= 14


def test_errors_of_another_time_are_forgotten_when_the_setting_changes(bench: Callable[..., Any]) -> None:
    instance, pages = bench(CHECK, within="1h"), Pages()
    pages.entries = [Entry(instance.now_s, "x", 3)]
    assert look(instance, pages)["errors"].metrics["recent_errors"] == 1
    instance.settings["within"] = "24h"
    assert look(instance, pages)["errors"].metrics == {"entries_total": 1, "recent_errors": 0}


def test_the_kernel_is_no_unit(bench: Callable[..., Any]) -> None:
    instance, pages = bench(CHECK, units=["nginx"], patterns=["timed out"]), Pages()
    pages.entries = [kernel("NETDEV WATCHDOG: eth0 (e1000e): transmit queue 0 timed out", instance.now_s)]
    found = look(instance, pages)
    assert (found["errors"].metrics["entries_total"], found["timed out"].problem) == (0, None)
    assert found["nic_reset"].problem is not None


def test_nothing_counts_twice_and_nothing_is_missed_when_the_agent_is_killed(bench: Callable[..., Any]) -> None:
    instance, pages = bench(CHECK, patterns=["x"]), Pages(page_size=3)
    for turn in range(6):
        pages.entries += [Entry(instance.now_s, f"x{i}", 3) for i in range(turn)]
        before = dict(instance.keep)
        first = look(instance, pages)
        instance.keep = before  # killed before it was stored
        instance.restart()
        assert look(instance, pages) == first
        assert first["x"].metrics["entries_total"] == len(pages.entries)


def test_what_is_left_over_is_read_next_time_and_being_late_is_said(
    bench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    instance, pages = bench(CHECK), Pages(page_size=1)
    look(instance, pages)
    start_s = instance.now_s
    monkeypatch.setattr(event_log, "MAX_PAGES", 8)
    pages.entries = [Entry(start_s + i, "x", 3) for i in range(20)]
    instance.later(7200)
    found = look(instance, pages)["log"]
    assert found.metrics["entries_total"] == event_log.MAX_PAGES
    assert found.problem is not None
    assert found.problem.code == "event_log.behind"
    for _ in range(2):
        found = look(instance, pages)["log"]
    assert (found.metrics, found.problem) == ({"entries_total": 20.0, "behind_seconds": 0.0}, None)


def test_the_first_look_may_take_longer_as_a_run_by_hand_has_no_other(bench: Callable[..., Any]) -> None:
    """A machine on which every page takes six seconds: the clock is read twice for each."""
    pages, reader = Pages(page_size=1), Reader(resolve_settings(CHECK, {}), 1_000.0, (), {})
    time_s = itertools.count(0, 3)
    book = Book()
    pages.entries = [Entry(900.0, "x", 3) for _ in range(20)]
    for read_by_then in (5, 6):
        assert event_log.look(Source("journal", pages.read), book, reader, 60.0, lambda: float(next(time_s)))
        assert book.read_total == read_by_then


def test_the_first_look_goes_back_and_another_source_begins_where_the_last_one_ended(bench: Callable[..., Any]) -> None:
    instance, pages = bench(CHECK, quiet_after="30m"), Pages()
    look(instance, pages)
    looked_s = instance.now_s
    instance.later(600)
    look(instance, pages, "windows")
    look(instance, pages, "files")
    assert pages.asked == [{"since_s": looked_s - 1800}, {"since_s": looked_s}, {"since_s": looked_s + 600}]


def test_a_gap_is_told_for_a_while(bench: Callable[..., Any]) -> None:
    instance, pages = bench(CHECK), Pages()
    look(instance, pages)
    instance.later(300)
    pages.gap = Gap("journal", 42)
    problem = look(instance, pages)["log"].problem
    assert problem is not None
    assert (problem.code, problem.facts) == (
        "event_log.gap",
        {"log": "journal", "since": "2027-01-15T08:00:00+00:00", "lost": 42},
    )
    instance.later(3599)
    assert look(instance, pages)["log"].problem == problem
    instance.later(1)
    assert look(instance, pages)["log"].problem is None


def test_what_is_kept_is_bounded(bench: Callable[..., Any]) -> None:
    instance, pages = (
        bench(CHECK, patterns=["[xyz中]" + "|中" * i for i in range(12)], at_least=20, repeats=20),
        Pages(10**6),
    )
    for number in range(20):
        pages.entries += [Entry(instance.now_s, "中" * 300, 3, f"{number}" + "程" * 300) for _ in range(20)]
        pages.entries += [
            kernel(m.replace("sda", f"s{number}"), instance.now_s + number) for m, _, _ in KERNEL + BY_SOURCE
        ]
    look(instance, pages)
    assert len(json.dumps(instance.keep, ensure_ascii=False).encode()) < MAX_KEEP_BYTES


@pytest.mark.parametrize(
    "given_settings",
    [
        {"patterns": ["("]},
        {"patterns": ["a", "a"]},
        {"patterns": ["errors"]},
        {"patterns": [f"a{i}" for i in range(13)]},
        {"units": [""]},
        {"units": ["a b"]},
        {"units": [f"u{i}" for i in range(51)]},
        {"ignore_rules": ["io"]},
        {"priority": "error"},
        {"within": "5s"},
        {"repeats": 0},
    ],
)
def test_settings_that_cannot_be_used_are_refused(given_settings: dict[str, Any]) -> None:
    with pytest.raises(SettingError):
        resolve_settings(CHECK, given_settings)


def test_the_kept_book_of_another_form_is_a_new_one() -> None:
    gap = {"seen_s": 1.0, "source": "journal", "lost": None, "since": "x"}
    book = Book("journal", {"at": "x"}, 5.0, 1, 2, {3: 4}, gap, {"a": Tally(1)})
    assert book_of(book.as_json()) == book
    assert book_of({**book.as_json(), "cursor": 3}) == Book()
    assert book_of({**book.as_json(), "gap": {"seen_s": 1.0}}) == Book()
    assert book_of({}) == Book()


# The journal's own words


def test_what_journalctl_is_asked_for() -> None:
    assert matches(Wanted(1)) == ["_TRANSPORT=kernel", "+", "PRIORITY=0", "PRIORITY=1"]
    assert matches(Wanted(0, ("a.service",))) == (
        ["_TRANSPORT=kernel", "+", "PRIORITY=0", "_SYSTEMD_UNIT=a.service", "+", "PRIORITY=0", "UNIT=a.service"]
    )


@pytest.mark.parametrize(
    ("row", "message", "priority"),
    [
        ({"MESSAGE": "plain", "PRIORITY": "3"}, "plain", 3),
        ({"MESSAGE": [228, 184, 173, 255], "PRIORITY": "9"}, "中\ufffd", None),
        ({"MESSAGE": ["first", "second"], "PRIORITY": ["6", "4"]}, "second", 4),
        ({"MESSAGE": None}, "", None),
        ({"MESSAGE": {"a": 1}, "PRIORITY": 3}, "", None),
        ({"MESSAGE": [[[]]], "__REALTIME_TIMESTAMP": "9" * 400}, "", None),
    ],
)
def test_fields_of_the_journal_in_every_form(row: dict[str, Any], message: str, priority: int | None) -> None:
    entry = entry_of(row)
    assert (entry.message, entry.priority) == (message, priority)


def test_cursors() -> None:
    # from systemd 252 on this machine
    text = (
        "s=e6aac30d6b2546a1a4db7409caa440e9;i=5;b=11111111111111111111111111111111;m=4c4b40;t=660cfecad86ff;x=921dc4b2"
    )
    found = place_of(text)
    assert found is not None
    assert (found.number, found.monotonic_us, found.checksum) == (5, 5_000_000, "921dc4b2")
    assert [place_of(bad) for bad in ("", "x", "s=1;i=zz;b=1;m=1;t=1;x=1", "s=1;i=1")] == [None] * 4


def test_every_rule_has_a_code_of_its_own() -> None:
    assert len(set(event_log_rules.CODES)) == len(event_log_rules.RULES)
    assert set(event_log_rules.CODES) <= set(CHECK.codes)


def events(*rows: Sequence[Any]) -> list[Entry]:
    return [Entry(0.0, "m", 3, provider, event=(provider, number), data=data) for provider, number, data in rows]


def test_windows_events_by_provider_and_number() -> None:
    """Providers and numbers as Microsoft Learn lists them ("Data corruption and disk errors troubleshooting guidance",
    KB 244780, events 41, 104, 1001 and 2004); the entries are made up."""
    device = r"\Device\Harddisk1\DR1"
    found = [match(entry) for entry in events(
        ("disk", 153, device), ("storahci", 129, r"\Device\RaidPort1"), ("Ntfs", 55, "C:"),
        ("Microsoft-Windows-Kernel-Power", 41, "0"),
        ("disk", 51, r"\Device\CdRom0"), ("Service Control Manager", 7, device),
        ("Microsoft-Windows-Eventlog", 104, ""),
    )]  # fmt: skip
    assert [(f[0].name, f[1]) if f else None for f in found] == [
        ("io_error", r"\Device\Harddisk1\DR1"),
        ("io_error", r"\Device\RaidPort1"),
        ("fs_error", "C:"),
        ("unclean_shutdown", ""),
        None,
        None,
        ("log_cleared", ""),
    ]


def place(sequence: str, number: int, boot: str, time_us: int) -> str:
    return f"s={sequence};i={number:x};b={boot};m={time_us:x};t={time_us:x};x=0"


@pytest.mark.parametrize(
    ("oldest", "persistent", "gap"),
    [
        (place("a", 90, "one", 90), True, None),  # the journal goes back before the last look
        (place("a", 101, "one", 500), True, None),  # it begins right after it
        (place("a", 104, "one", 500), True, Gap("journal", 3)),
        (place("a", 104, "one", 5), True, Gap("journal", 3)),  # the clock was set back
        (place("b", 1, "two", 500), True, Gap("journal")),  # removed as a whole
        (place("b", 1, "two", 500), False, None),  # kept in memory: gone with every restart
        (place("b", 1, "one", 500), False, Gap("journal")),  # but not within one
        (place("b", 1, "zero", 50), True, None),
        ("opaque", True, None),
    ],
)
def test_what_the_oldest_entry_says_of_a_gap(tmp_path: Path, oldest: str, persistent: bool, gap: Gap | None) -> None:
    script = tmp_path / "journalctl"
    newest = json.dumps({"__CURSOR": place("z", 900, "two", 900)})
    first = json.dumps({"__CURSOR": oldest})
    script.write_text(f"#!/bin/sh\ncase $* in *lines=1*) echo '{newest}';; *cursor=*) ;; *) echo '{first}';; esac\n")
    script.chmod(0o755)
    journal = Journal((str(script),), tmp_path if persistent else tmp_path / "none")
    found = read(journal, {"at": place("a", 100, "one", 100)}, Wanted(3), 10.0)
    assert (found.gap, found.entries, found.more) == (gap, (), False)
    assert found.cursor == {"at": place("z", 900, "two", 900)}
