"""How runs of one shape are written: everything but the numbers and the asset, prepared once. Pure.

A template holds the lines of all families of a run. Filling it takes a handful of calls for the whole run, whatever
its size: `%` for the numbers, one replacement for the asset's labels, one split into families.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from operator import itemgetter
from typing import Any

from gengfu_checks.model import MetricType, Status
from gengfu_collector.metrics.text import label_text
from gengfu_proto.convert.report import FindingShape, Shape

MAX_SERIES_A_RUN = 10_000

FINDING_STATUS = "gengfu_finding_status"
FINDING_PROBLEM = "gengfu_finding_problem"
LAST_MEASURED = "gengfu_check_last_measured_timestamp_seconds"

# Label values hold no control characters (see escape_label_value), so these marks cannot be confused.
_FAMILY_END = "\0"
_ASSET = "\1"

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
    """`families` are those of a run, in the order in which `write` gives their lines."""

    key: LayoutKey
    families: tuple[Family, ...]
    _template: str
    _order: Callable[[Sequence[float]], Any]

    def write(self, values: Sequence[float], measured_at_ms: int, asset_labels: str) -> list[bytes]:
        """The lines of a run, by family. `values` are in the order of the shape."""
        text: str = self._template % self._order((*values, measured_at_ms / 1000))
        lines = text.replace(_ASSET, asset_labels).replace(".0\n", "\n")
        return lines.encode().split(_FAMILY_END.encode())


def layout_key(shape: Shape) -> LayoutKey:
    """Shapes with equal keys have equal layouts: facts and breaches are not shown."""
    # Made of plain values alone, which the garbage collector need not follow.
    findings = tuple((part.item, int(part.status), part.code, part.metrics) for part in shape.findings)
    counters = tuple(name for name, kind in shape.metric_types.items() if kind is MetricType.COUNTER)
    return shape.check, shape.kind, shape.target, findings, counters


def is_too_large(shape: Shape) -> bool:
    """True when a run of this shape would have more series than one run may have."""
    return shape.value_count + 2 * len(shape.findings) > MAX_SERIES_A_RUN


def build_layout(
    key: LayoutKey,
    shape: Shape,
    measured: Callable[[str, str, MetricType], Family | None],
    built_in: Callable[[str], Family],
) -> Layout:
    """The layout of a shape and its key; of a shape that is too large only when it was measured.

    `measured(kind, metric, type)` gives the family of a metric, or None when it may not be shown; `built_in(name)` one
    of those of this module.
    """
    family_of = cache(lambda name: measured(shape.kind, name, shape.metric_types[name]))
    lines: dict[Family, list[str]] = {}
    positions: dict[Family, list[int]] = {}
    position = 0
    for part in () if is_too_large(shape) else shape.findings:
        labels = _labels(shape, part.item)
        for name in part.metrics:
            family = family_of(name)
            if family is not None:
                lines.setdefault(family, []).append(f"{family.name}{{{labels}}} %r\n")
                positions.setdefault(family, []).append(position)
            position += 1
        for name, line in _verdict(part, labels):
            lines.setdefault(built_in(name), []).append(line)
    last = built_in(LAST_MEASURED)
    lines[last] = [f"{LAST_MEASURED}{{{_labels(shape)}}} %r\n"]
    positions[last] = [shape.value_count]
    return Layout(
        key=key,
        families=tuple(lines),
        _template=_FAMILY_END.join("".join(part) for part in lines.values()),
        _order=itemgetter(*(position for family in lines for position in positions.get(family, ()))),
    )


def _verdict(part: FindingShape, labels: str) -> list[tuple[str, str]]:
    lines = [(FINDING_STATUS, f"{FINDING_STATUS}{{{labels}}} {part.status:d}\n")]
    if part.status is not Status.OK:
        lines.append((FINDING_PROBLEM, f'{FINDING_PROBLEM}{{{labels},code="{part.code}"}} 1\n'))
    return lines


def _labels(shape: Shape, item: str = "") -> str:
    text = label_text({"check": shape.check, "item": item, "target": shape.target})
    return f"{_ASSET},{text}".replace("%", "%%")
