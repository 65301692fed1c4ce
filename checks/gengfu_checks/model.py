"""The words that every check speaks.

A check *measures* and returns `Measurement`s; thresholds *judge* them (`threshold`); the result is a `Finding`.
Facts and metrics go on, prose does not: texts for people are made from the code by `guide`.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Fact = str | int | float | bool
SettingValue = str | int | float | bool | tuple[str, ...]

CODE_PATTERN = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)?")
METRIC_PATTERN = re.compile(r"[a-z][a-z0-9_]*")

OK_CODE = "ok"

MAX_KEEP_BYTES = 128 * 1024
"""How much a check may keep from run to run, as JSON in UTF-8."""


class Status(enum.IntEnum):
    """Status of a finding; the numbers are the exit codes of monitoring plugins."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3

    @property
    def word(self) -> str:
        """Lower-case name, as in JSON and tables."""
        return self.name.lower()

    @property
    def badness(self) -> int:
        """Order of urgency: ok, unknown, warning, critical."""
        return _BADNESS[self]


_BADNESS = {Status.OK: 0, Status.UNKNOWN: 1, Status.WARNING: 2, Status.CRITICAL: 3}


class MetricType(enum.Enum):
    """Prometheus type of a metric."""

    GAUGE = "gauge"
    COUNTER = "counter"


class Direction(enum.Enum):
    """Which side of a threshold is bad."""

    ABOVE = "above"
    BELOW = "below"


class SettingType(enum.Enum):
    """Type of a setting in a profile or on the command line.

    DURATION values are written `90`, `"90s"`, `"15m"`, `"24h"`, `"7d"` and reach the check as seconds (float).
    """

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    DURATION = "duration"
    TEXT_LIST = "list of texts"


@dataclass(frozen=True, slots=True)
class Problem:
    """What a check itself found wrong, without any threshold."""

    status: Status
    code: str
    facts: Mapping[str, Fact] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Measurement:
    """One item as a check saw it.

    `item` names what was looked at within the check (a mount point; "" for the only one), unique in a run.
    `metrics` maps short metric names (declared by the check, base units) to finite values that may move with every run.
    `facts` hold what is worth telling and stays put: a value that moves with every run is a metric, not a fact.
    `problem` is set when the check knows that something is wrong without a threshold.
    `unjudged` names metrics that no threshold may judge this time (a ratio of a disk with ample room left).
    """

    item: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, Fact] = field(default_factory=dict)
    problem: Problem | None = None
    unjudged: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Breach:
    """The limit that made a finding bad: which metric, which limit, on which side."""

    metric: str
    limit: float
    direction: Direction


@dataclass(frozen=True, slots=True)
class Finding:
    """A judged measurement: what goes to tables, JSON, the wire and tickets."""

    check: str
    item: str
    status: Status
    code: str
    facts: Mapping[str, Fact]
    metrics: Mapping[str, float]
    measured_at: float
    """Seconds since the epoch by the clock of the machine that measured."""
    breach: Breach | None = None


@dataclass(frozen=True, slots=True)
class InventoryEntry:
    """One thing that a machine has: hardware, its system, a program.

    `key` names the thing itself, not its place in a list, so that it stays what it is from look to look
    (`disk/serial/S3Z9NB0K`). `facts` say what is known of it: sizes in `_bytes`, serial numbers as written.
    """

    key: str
    category: str
    facts: Mapping[str, Fact] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class UnreadCategory:
    """A category of the inventory that could not be looked at as a whole, and why: guide code and its facts."""

    category: str
    code: str
    facts: Mapping[str, Fact] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Metric:
    """A declared metric of a check, exported as `gengfu_<kind>_<name>`."""

    name: str
    help: str
    type: MetricType = MetricType.GAUGE


@dataclass(frozen=True, slots=True)
class Threshold:
    """Limits for one metric. `warning` and `critical` are inclusive; None switches that level off.

    `hysteresis` is how far a value must come back from the limit before the level is left (same unit as the metric).
    `items` overrides limits for single items by exact name or by a glob (`/mnt/*`); the first that fits wins.
    """

    metric: str
    code: str
    direction: Direction = Direction.ABOVE
    warning: float | None = None
    critical: float | None = None
    hysteresis: float = 0.0
    items: Mapping[str, ItemLimits] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ItemLimits:
    """Limits of one item that stand in for those of its threshold."""

    warning: float | None = None
    critical: float | None = None


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting that a check takes, with its default. `required` settings have no default.

    `verify` raises ValueError for a value that has the type and still cannot be used. It runs on the collector as well,
    so it must not ask anything of the machine.
    """

    name: str
    type: SettingType
    help: str
    default: SettingValue | None = None
    required: bool = False
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    verify: Callable[[Any], object] | None = None


@dataclass(slots=True)
class Context:
    """What a check gets for one run.

    `memory` belongs to this check instance and lives as long as the agent process: keep counters of the last run here.
    `keep` outlives the process: what JSON can hold (no tuples, no sets), at most MAX_KEEP_BYTES of it. A run gets what
    the last run that had a result left, and what a run leaves counts together with its findings or not at all. It stays
    when settings change and begins empty on the command line: a check must do with any of it missing.
    `now` is wall-clock seconds, `monotonic` a clock that also counts suspended time where the platform has one.
    `deadline_s` is what is left for the whole run; a check that may hang on one item bounds that item itself.
    """

    settings: Mapping[str, Any]
    memory: dict[str, Any]
    now: Callable[[], float]
    monotonic: Callable[[], float]
    deadline_s: float
    keep: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CheckKind:
    """Everything that the outside needs to know of a check, in one value.

    `measure(context)` returns measurements or raises `errors.CheckError`; anything else that escapes is a defect, which
    the runner turns into `unknown`. `usable()` says why the check cannot run on this machine, or None when it can.
    `codes` lists every code that the check itself raises; codes of `thresholds` come on top. With `gone_is_over` an
    item that a run does not name any more is gone, and what was wrong with it is over: a print queue removed, a share
    unmounted. Without it silence about an item never ends its fault: a disk that broke may be one that is not seen.
    """

    name: str
    measure: Callable[[Context], Iterable[Measurement]]
    metrics: tuple[Metric, ...]
    codes: tuple[str, ...]
    settings: tuple[Setting, ...] = ()
    thresholds: tuple[Threshold, ...] = ()
    every_s: float = 60.0
    timeout_s: float = 10.0
    usable: Callable[[], str | None] = lambda: None
    gone_is_over: bool = False

    @property
    def all_codes(self) -> tuple[str, ...]:
        """Codes that a finding of this check can carry, thresholds included, without doubles."""
        return tuple(dict.fromkeys((*self.codes, *(t.code for t in self.thresholds))))
