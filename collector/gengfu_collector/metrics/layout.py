"""How runs of one shape are written: everything but the numbers and the asset, prepared once. Pure.

Shapes that differ only in names have one form; a layout is a form with the names put in. Its template holds the lines
of all families of a run. Filling it takes a handful of calls for the whole run, whatever its size: `%` for the numbers,
one replacement for the asset's labels, one split into families.
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

# Label values hold no control characters (see escape_label_value), so these marks cannot be confused.
_FAMILY_END = "\0"
_ASSET = "\1"
_NAMES = "\2"

_TO_ESCAPE = frozenset('"\\%')

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


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Form:
    """What layouts have in common whose shapes differ only in names: of the check, its target and its items."""

    families: tuple[Family, ...]
    order: Callable[[Sequence[float]], Any]
    _pieces: Sequence[str]
    _names: Callable[[Sequence[str]], Any]

    def key(self, shape: Shape) -> LayoutKey:
        """Shapes of this form with equal keys have equal layouts: facts and breaches are not shown."""
        return shape.check, shape.target, self, *[part.item for part in shape.findings]

    def layout(self, key: LayoutKey, shape: Shape) -> Layout:
        """The layout of a shape with this form, and its key."""
        pieces = [*self._pieces]
        # One name more than are used, so that there are always several.
        pieces[1::2] = self._names(_labels(shape))[1:]
        return Layout(key, self, "".join(pieces))


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Of the runs of one shape."""

    key: LayoutKey
    _form: Form
    _template: str

    @property
    def families(self) -> tuple[Family, ...]:
        """Those of a run, in the order in which `write` gives their lines."""
        return self._form.families

    def write(self, values: Sequence[float], measured_at_ms: int, asset_labels: str) -> list[bytes]:
        """The lines of a run, by family. `values` are in the order of the shape."""
        text: str = self._template % self._form.order((*values, measured_at_ms / 1000))
        return text.replace(_ASSET, asset_labels).encode().split(_FAMILY_END.encode())


def form_key(shape: Shape) -> LayoutKey:
    """Shapes with equal keys have the same form."""
    # Made of plain values alone, which the garbage collector need not follow.
    findings = tuple([(int(part.status), part.code, part.metrics) for part in shape.findings])
    counters = tuple([name for name, kind in shape.metric_types.items() if kind is MetricType.COUNTER])
    return shape.kind, findings, counters


def is_too_large(shape: Shape) -> bool:
    """True when a run of this shape would have more series than one run may have."""
    return shape.value_count + 2 * len(shape.findings) > MAX_SERIES_A_RUN


def build_form(
    shape: Shape,
    measured: Callable[[str, str, MetricType], Family | None],
    built_in: Callable[[str], Family],
) -> Form:
    """The form of a shape; of a shape that is too large only when it was measured.

    `measured(kind, metric, type)` gives the family of a metric, or None when it may not be shown; `built_in(name)` one
    of those of this module.
    """
    family_of = cache(lambda name: measured(shape.kind, name, shape.metric_types[name]))
    lines: dict[Family, list[str]] = {}
    positions: dict[Family, list[int]] = {}
    position = 0
    for number, part in enumerate(() if is_too_large(shape) else shape.findings):
        labels = f"{_NAMES}{number}{_NAMES}"
        for name in part.metrics:
            family = family_of(name)
            if family is not None:
                lines.setdefault(family, []).append(f"{family.name}{{{labels}}} %r\n")
                positions.setdefault(family, []).append(position)
            position += 1
        for name, line in _verdict(part, labels):
            lines.setdefault(built_in(name), []).append(line)
    last = built_in(LAST_MEASURED)
    lines[last] = [f"{LAST_MEASURED}{{{_NAMES}{len(shape.findings)}{_NAMES}}} %r\n"]
    positions[last] = [shape.value_count]
    pieces = _FAMILY_END.join("".join(part) for part in lines.values()).split(_NAMES)
    return Form(
        families=tuple(lines),
        order=itemgetter(*(position for family in lines for position in positions.get(family, ()))),
        _pieces=pieces,
        _names=itemgetter(0, *map(int, pieces[1::2])),
    )


def _verdict(part: FindingShape, labels: str) -> list[tuple[str, str]]:
    lines = [(FINDING_STATUS, f"{FINDING_STATUS}{{{labels}}} {part.status:d}\n")]
    if part.status is not Status.OK:
        lines.append((FINDING_PROBLEM, f'{FINDING_PROBLEM}{{{labels},code="{part.code}"}} 1\n'))
    return lines


@lru_cache(maxsize=1_024)
def _before(check: str) -> str:
    return f"{_ASSET},{label_text({'check': check})}".replace("%", "%%")


def _labels(shape: Shape) -> list[str]:
    """The labels of every finding, and at the end those of the run."""
    before = _before(shape.check)
    after = f",{label_text({'target': shape.target})}".replace("%", "%%") if shape.target else ""
    items = [part.item for part in shape.findings]
    if not _is_plain("".join(items)):
        items = [escape_label_value(item).replace("%", "%%") for item in items]
    return [*[f'{before},item="{item}"{after}' if item else f"{before}{after}" for item in items], f"{before}{after}"]


def _is_plain(text: str) -> bool:
    """True when nothing in a label's value has to be escaped, as with nearly all items."""
    return text.isascii() and text.isprintable() and _TO_ESCAPE.isdisjoint(text)
