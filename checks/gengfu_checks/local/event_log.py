"""The system's log: what the kernel says is broken, lines that fit patterns, and how many errors there are.

Read from systemd's journal, else from what a syslog daemon writes, on Windows from the event logs; each entry once,
also over a restart of the agent. Items: `log` (how reading goes), `errors`, one for each rule (`event_log_rules`) and
one for each pattern. An item stays bad until nothing new has come for the time `quiet_after`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import psutil

from gengfu_checks.codes import CHECK_NEEDS_RIGHTS, CHECK_PROGRAM_FAILED
from gengfu_checks.errors import SettingError
from gengfu_checks.local import event_log_files, event_log_journal, event_log_windows, structured
from gengfu_checks.local.crash_reports import program_crashes_are_kept
from gengfu_checks.local.event_log_page import Page, Wanted
from gengfu_checks.local.event_log_rules import CODES, NAMES, RULES, Entry, Rule, match, sample_of
from gengfu_checks.local.occurrences import MAX_LIMIT, MAX_NAME_CHARS, Limits, Tally, tally_of
from gengfu_checks.local.os_service import unit_name
from gengfu_checks.local.pattern import Pattern
from gengfu_checks.local.plain_text import plain
from gengfu_checks.local.programs import failed, find_program
from gengfu_checks.model import (
    CheckKind,
    Context,
    Fact,
    Measurement,
    Metric,
    MetricType,
    Problem,
    Setting,
    SettingType,
    Status,
    Threshold,
)

MATCHED = "event_log.matched"
GAP = "event_log.gap"
BEHIND = "event_log.behind"
MANY_ERRORS = "event_log.many_errors"

PRIORITIES = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")
ERROR = PRIORITIES.index("err")
MAX_PATTERNS = 12
MAX_UNITS = 50
MAX_PAGES = 32
LOOK_S = 2.0
"""After this time no further page is begun: a flood must not weigh on the machine."""
FIRST_LOOK_SHARE = 0.5
"""Of its deadline the first look may take this much instead: a single run by hand has no other."""
BEHIND_S = 3600.0

_LOG = "log"
_ERRORS = "errors"
_BUCKETS = 12

ReadPage = Callable[[Mapping[str, Any], Wanted, float], Page]


@dataclass(frozen=True, slots=True)
class Source:
    """Where entries come from: its name, and what reads a page after a cursor within a time.

    `told_elsewhere` are rules whose trouble another check tells of on this machine: one trouble is one ticket.
    """

    name: str
    read: ReadPage
    told_elsewhere: frozenset[str] = frozenset()


@dataclass(slots=True)
class Book:
    """What is known from one look to the next: where reading goes on, and how often what was seen."""

    source: str = ""
    cursor: Mapping[str, Any] = field(default_factory=dict)
    looked_s: float = 0.0
    read_total: int = 0
    errors_total: int = 0
    buckets: dict[int, int] = field(default_factory=dict)
    """Errors by number of the twelfth part of `within` in which they happened."""
    gap: dict[str, Any] = field(default_factory=dict)
    tallies: dict[str, Tally] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """What `book_of` makes it from again."""
        return {
            "source": self.source,
            "cursor": dict(self.cursor),
            "looked_s": self.looked_s,
            "read_total": self.read_total,
            "errors_total": self.errors_total,
            "buckets": {str(number): count for number, count in self.buckets.items()},
            "gap": self.gap,
            "tallies": {name: tally.as_json() for name, tally in self.tallies.items()},
        }


def book_of(kept: Mapping[str, Any]) -> Book:
    """The book that was kept; an empty one where there is none or it is of another form."""
    try:
        return Book(
            source=str(kept["source"]),
            cursor=dict(kept["cursor"]),
            looked_s=float(kept["looked_s"]),
            read_total=int(kept["read_total"]),
            errors_total=int(kept["errors_total"]),
            buckets={int(number): int(count) for number, count in kept["buckets"].items()},
            gap={name: kept["gap"][name] for name in ("seen_s", "source", "lost", "since")} if kept["gap"] else {},
            tallies={str(name): tally_of(tally) for name, tally in kept["tallies"].items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return Book()


@dataclass(slots=True)
class Reader:
    """How entries are judged: by which rules and patterns, and what is told of them."""

    settings: Mapping[str, Any]
    now_s: float
    rules: Sequence[Rule]
    patterns: Mapping[str, Pattern]

    @property
    def wanted(self) -> Wanted:
        """Which entries are asked for."""
        units = tuple(dict.fromkeys(map(unit_name, self.settings["units"])))
        return Wanted(PRIORITIES.index(self.settings["priority"]), units)

    def limits(self, rule: Rule | None) -> Limits:
        """When a rule, or (None) a pattern, is bad."""
        count = self.settings["at_least"] if rule is None else self.settings["repeats"] if rule.repeats else 1
        return Limits(min(count, MAX_LIMIT), self.settings["within"], self.settings["quiet_after"])

    def take(self, book: Book, entry: Entry) -> None:
        """Enter one entry into the book."""
        book.read_total += 1
        found = match(entry, self.rules)
        if found is not None:
            rule, subject = found
            self._add(book, rule.name, self.limits(rule), subject, entry)
        wanted = self.wanted
        if entry.priority is not None and entry.priority > wanted.priority:
            return
        if entry.is_kernel and wanted.units:
            return
        if entry.priority is not None and entry.priority <= ERROR:
            book.errors_total += 1
            number = self._bucket(min(entry.at_s, self.now_s))
            book.buckets[number] = book.buckets.get(number, 0) + 1
        for text, pattern in self.patterns.items():
            if pattern.search(entry.message):
                self._add(book, text, self.limits(None), plain(entry.program, MAX_NAME_CHARS), entry)

    def settle(self, book: Book) -> None:
        """Let time pass, and forget what is no longer asked for."""
        for rule in self.rules:
            book.tallies.setdefault(rule.name, Tally()).settle(self.now_s, self.limits(rule))
        for text in self.patterns:
            book.tallies.setdefault(text, Tally()).settle(self.now_s, self.limits(None))
        known = {*(rule.name for rule in self.rules), *self.patterns}
        book.tallies = {name: tally for name, tally in book.tallies.items() if name in known}
        last = self._bucket(self.now_s)  # a later one is of another setting `within`, or of a clock that was set back
        book.buckets = {number: n for number, n in book.buckets.items() if last - _BUCKETS < number <= last}
        if book.gap and self.now_s - min(book.gap["seen_s"], self.now_s) >= self.settings["quiet_after"]:
            book.gap = {}

    def _add(self, book: Book, name: str, limits: Limits, subject: str, entry: Entry) -> None:
        sample = sample_of(entry) if self.settings["sample"] else ""
        book.tallies.setdefault(name, Tally()).add(subject, entry.at_s, self.now_s, limits, sample)

    def _bucket(self, at_s: float) -> int:
        return int(at_s // (self.settings["within"] / _BUCKETS))


def look(source: Source, book: Book, reader: Reader, deadline_s: float, clock: Callable[[], float]) -> bool:
    """Read what is new into the book; return whether there is more than one look takes. Raises CannotMeasure."""
    look_s = LOOK_S if book.looked_s else max(LOOK_S, FIRST_LOOK_SHARE * deadline_s)
    if book.source != source.name:
        since_s = book.looked_s or reader.now_s - reader.settings["quiet_after"]
        book.source, book.cursor = source.name, {"since_s": since_s}
    reader.settle(book)
    began_s = clock()
    more, last_s = True, reader.now_s
    for _ in range(MAX_PAGES):
        page = source.read(book.cursor, reader.wanted, max(0.1, began_s + 0.9 * deadline_s - clock()))
        for entry in page.entries:
            reader.take(book, entry)
            last_s = entry.at_s
        if page.gap is not None:
            since = datetime.fromtimestamp(book.looked_s, UTC).isoformat(timespec="seconds")
            book.gap = {"seen_s": reader.now_s, "source": page.gap.source, "lost": page.gap.lost, "since": since}
        book.cursor, more = page.cursor, page.more
        if not more or clock() - began_s >= look_s:
            break
    book.looked_s = last_s if more else reader.now_s
    return more


def judge(book: Book, reader: Reader, more: bool) -> Iterator[Measurement]:
    """Yield every item as the book has it."""
    yield _reading(book, reader, more)
    yield Measurement(
        _ERRORS, {"entries_total": float(book.errors_total), "recent_errors": float(sum(book.buckets.values()))}
    )
    for rule in reader.rules:
        yield _judged(rule.name, rule.status, rule.code, book.tallies[rule.name])
    for text in reader.patterns:
        yield _judged(plain(text), Status.WARNING, MATCHED, book.tallies[text])


def _reading(book: Book, reader: Reader, more: bool) -> Measurement:
    behind_s = max(0.0, reader.now_s - book.looked_s) if more else 0.0
    metrics = {"entries_total": float(book.read_total), "behind_seconds": behind_s}
    facts: dict[str, Fact] = {"source": book.source}
    problem = None
    if book.gap:
        lost: dict[str, Fact] = {} if book.gap["lost"] is None else {"lost": int(book.gap["lost"])}
        problem = Problem(
            Status.WARNING, GAP, {"log": str(book.gap["source"]), "since": str(book.gap["since"]), **lost}
        )
    elif behind_s >= BEHIND_S:
        problem = Problem(Status.WARNING, BEHIND)
    return Measurement(_LOG, metrics, facts, problem)


def _judged(item: str, status: Status, code: str, tally: Tally) -> Measurement:
    metrics = {"entries_total": float(tally.total), "recent_entries": float(tally.recent)}
    if tally.seen_s is None:
        return Measurement(item, metrics)
    facts: dict[str, Fact] = {}
    if tally.told:
        facts["subjects"] = tally.names()
    if tally.sample:
        facts["sample"] = tally.sample
    return Measurement(item, metrics, problem=Problem(status, code, facts))


def source_here(now_s: float) -> Source | None:
    """Where this machine writes its log; None where there is none. Raises CannotMeasure for want of rights or tools."""
    if psutil.WINDOWS:
        return Source("windows", partial(event_log_windows.read, structured.powershell_rows))
    if event_log_journal.is_there():
        journalctl = find_program("journalctl")
        if journalctl is None:
            raise failed("journalctl", "not found")
        read = partial(event_log_journal.read, event_log_journal.Journal((journalctl,)))
        return Source("journal", read, _told_elsewhere(has_journal=True))
    files = event_log_files.files_here()
    if not files:
        return None
    return Source(
        "files",
        lambda cursor, wanted, _timeout_s: event_log_files.read(files, cursor, wanted, now_s),
        _told_elsewhere(has_journal=False),
    )


def _told_elsewhere(*, has_journal: bool) -> frozenset[str]:
    return frozenset(("segfault",)) if program_crashes_are_kept(has_journal=has_journal) else frozenset()


def measure(context: Context) -> list[Measurement]:
    """Return the items, none where the machine writes no log."""
    now_s = context.now()
    source = source_here(now_s)
    return [] if source is None else measure_source(context, source, now_s)


def measure_source(context: Context, source: Source, now_s: float) -> list[Measurement]:
    """Return the items of one source. What is known goes on in `context.keep`."""
    settings = context.settings
    left_out = source.told_elsewhere.union(settings["ignore_rules"])
    rules = [rule for rule in RULES if rule.name not in left_out and _is_for(rule, source)]
    if "patterns" not in context.memory:  # they remember moves that they have worked out
        context.memory["patterns"] = {text: Pattern(text) for text in settings["patterns"]}
    reader = Reader(settings, now_s, rules, context.memory["patterns"])
    book = book_of(context.keep)
    more = look(source, book, reader, context.deadline_s, time.monotonic)
    context.keep.clear()
    context.keep.update(book.as_json())
    return list(judge(book, reader, more))


def _is_for(rule: Rule, source: Source) -> bool:
    return rule.events is not None if source.name == "windows" else bool(rule.patterns)


def usable() -> str | None:
    """Say why there is nothing to read: macOS keeps its log in a form that only costly programs read."""
    return "the unified log of macOS is not read" if psutil.MACOS else None


def _verify_patterns(texts: Sequence[str]) -> None:
    if len(texts) > MAX_PATTERNS or len(set(texts)) < len(texts):
        raise ValueError(f"at most {MAX_PATTERNS} patterns, each once")
    for text in texts:
        if text in NAMES or text in (_LOG, _ERRORS):
            raise ValueError(f"{text!r} is the name of an item of this check: write it as ({text})")
        Pattern(text)


def _verify_units(units: Sequence[str]) -> None:
    if len(units) > MAX_UNITS:
        raise ValueError(f"at most {MAX_UNITS} units")
    for unit in units:
        try:
            unit_name(unit)
        except SettingError as error:
            raise ValueError(str(error)) from None


def _verify_rules(names: Sequence[str]) -> None:
    for name in names:
        if name not in NAMES:
            raise ValueError(f"there is no rule {name!r}; known: {', '.join(NAMES)}")


CHECK = CheckKind(
    name="event_log",
    measure=measure,
    metrics=(
        Metric("entries_total", "Entries that were read, were errors, or fit the rule or pattern", MetricType.COUNTER),
        Metric("recent_entries", "Entries that fit since the item was last quiet"),
        Metric("recent_errors", "Errors and worse within the time of the setting within"),
        Metric("behind_seconds", "Age of the newest entry that was read while there is more to read"),
    ),
    codes=(*CODES, MATCHED, GAP, BEHIND, CHECK_NEEDS_RIGHTS, CHECK_PROGRAM_FAILED),
    settings=(
        Setting(
            "patterns",
            SettingType.TEXT_LIST,
            "regular expressions for messages; each is an item that is bad when a message fits",
            (),
            verify=_verify_patterns,
        ),
        Setting(
            "units",
            SettingType.TEXT_LIST,
            "units of systemd whose messages count for patterns and errors (Linux); without it those of all",
            (),
            verify=_verify_units,
        ),
        Setting(
            "priority",
            SettingType.TEXT,
            "least severe entries that patterns look at",
            "err",
            choices=PRIORITIES,
        ),
        Setting(
            "at_least",
            SettingType.INTEGER,
            "how many messages of one program have to fit a pattern (up to 20)",
            1,
            minimum=1,
        ),
        Setting(
            "repeats",
            SettingType.INTEGER,
            "how many crashes of one program, or corrected errors of the hardware, are a problem (up to 20)",
            3,
            minimum=1,
        ),
        Setting("within", SettingType.DURATION, "the time in which that many have to come", "1h", minimum=60),
        Setting(
            "quiet_after",
            SettingType.DURATION,
            "time without new entries after which an item is well again",
            "1h",
            minimum=60,
        ),
        Setting("ignore_rules", SettingType.TEXT_LIST, "built-in rules to leave out", (), verify=_verify_rules),
        Setting(
            "sample", SettingType.BOOLEAN, "tell a line of what fits, shortened, keys and passwords struck out", True
        ),
    ),
    thresholds=(Threshold("recent_errors", MANY_ERRORS),),
    every_s=300.0,
    timeout_s=60.0,
    usable=usable,
)
