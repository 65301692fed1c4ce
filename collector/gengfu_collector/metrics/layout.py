"""How runs are written whose shapes differ only in names: everything but names and numbers, prepared once. Pure.

A layout's template holds the lines of all families of a run. Filling it takes a handful of calls for the whole run,
whatever its size: one `%` for labels and numbers, one split into families.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from operator import itemgetter
from typing import Any

from gengfu_checks.model import MetricType, Status
from gengfu_collector.metrics.text import escape_label_value, label_text
from gengfu_proto.convert.report import FindingShape, Shape

MAX_SERIES_A_RUN = 10_000

FINDING_STATUS = "gengfu_finding_status"
FINDING_PROBLEM = "gengfu_finding_problem"
LAST_MEASURED = "gengfu_check_last_measured_timestamp_seconds"

# Label values hold no control characters (see escape_label_value), so this mark cannot be confused.
_FAMILY_END = "\0"

_TO_ESCAPE = frozenset('"\\')

LayoutKey = tuple[Any, ...]


@dataclass(slots=True, eq=False)
class Family:
    """A metric family and what is shown of it: the lines of each run, by the run.

    `kind` and `metric` are empty for families of this module. `users` counts the layouts that write into it.
    """

    name: str
    kind: str = ""
    metric: str = ""
    type: MetricType = MetricType.GAUGE
    users: int = 0
    lines: dict[object, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Of runs whose shapes differ only in names: of the check, its target and its items."""

    key: LayoutKey
    families: tuple[Family, ...]
    """Those of a run, in the order in which `write` gives their lines."""
    _template: str
    _order: Callable[[Sequence[object]], Any]

    def write(self, shape: Shape, values: Sequence[float], measured_at_ms: int, asset_labels: str) -> list[bytes]:
        """The lines of a run, by family. `values` are in the order of the shape."""
        parts = (*_labels(shape, asset_labels), *values, measured_at_ms / 1000)
        text: str = self._template % self._order(parts)
        return text.encode().split(_FAMILY_END.encode())


def layout_key(shape: Shape) -> LayoutKey:
    """Shapes with equal keys have the same layout: names, facts and breaches are no part of it."""
    # Made of plain values alone, which the garbage collector need not follow.
    findings = tuple([(int(part.status), part.code, part.metrics) for part in shape.findings])
    counters = tuple([name for name, kind in shape.metric_types.items() if kind is MetricType.COUNTER])
    return shape.kind, findings, counters


def is_too_large(shape: Shape) -> bool:
    """True when a run of this shape would have more series than one run may have."""
    return shape.value_count + 2 * len(shape.findings) > MAX_SERIES_A_RUN


def build_layout(
    key: LayoutKey,
    shape: Shape,
    measured: Callable[[str, str, MetricType], Family | None],
    built_in: Callable[[str], Family],
) -> Layout:
    """The layout of a shape with this key; of a shape that is too large only when it was measured.

    `measured(kind, metric, type)` gives the family of a metric, or None when it may not be shown; `built_in(name)` one
    of those of this module.
    """
    family_of = cache(lambda name: measured(shape.kind, name, shape.metric_types[name]))
    lines: dict[Family, list[str]] = {}
    # Of labels and numbers among those that `write` has: the labels of findings and of the run, the values, the time.
    places: dict[Family, list[int]] = {}

    def add(family: Family, line: str, *where: int) -> None:
        lines.setdefault(family, []).append(line)
        places.setdefault(family, []).extend(where)

    value_at = len(shape.findings) + 1
    for number, part in enumerate(() if is_too_large(shape) else shape.findings):
        for name in part.metrics:
            family = family_of(name)
            if family is not None:
                add(family, f"{family.name}{{%s}} %r\n", number, value_at)
            value_at += 1
        for name, line in _verdict(part):
            add(built_in(name), line, number)
    run_at, time_at = len(shape.findings), len(shape.findings) + 1 + shape.value_count
    add(built_in(LAST_MEASURED), f"{LAST_MEASURED}{{%s}} %r\n", run_at, time_at)
    return Layout(
        key,
        families=tuple(lines),
        _template=_FAMILY_END.join("".join(part) for part in lines.values()),
        _order=itemgetter(*(place for part in places.values() for place in part)),
    )


def _verdict(part: FindingShape) -> list[tuple[str, str]]:
    lines = [(FINDING_STATUS, f"{FINDING_STATUS}{{%s}} {part.status:d}\n")]
    if part.status is not Status.OK:
        lines.append((FINDING_PROBLEM, f'{FINDING_PROBLEM}{{%s,code="{part.code}"}} 1\n'))
    return lines


def _labels(shape: Shape, asset_labels: str) -> list[str]:
    """The labels of every finding, and at the end those of the run."""
    before = f"{asset_labels},{_label('check', shape.check)}"
    after = f",{_label('target', shape.target)}" if shape.target else ""
    items = [part.item for part in shape.findings]
    if not _is_plain("".join(items)):
        items = [escape_label_value(item) for item in items]
    labels = [f'{before},item="{item}"{after}' if item else f"{before}{after}" for item in items]
    labels.append(f"{before}{after}")
    return labels


@lru_cache(maxsize=1_024)
def _label(name: str, value: str) -> str:
    return label_text({name: value})


def _is_plain(text: str) -> bool:
    """True when nothing in a label's value has to be escaped, as with nearly all items."""
    return text.isascii() and text.isprintable() and _TO_ESCAPE.isdisjoint(text)
