"""The two text formats that Prometheus reads: classic 0.0.4 and OpenMetrics 1.0. Pure.

Both write samples alike; they differ in what stands above a family and at the end of a page.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

PIECE_BYTES = 256 * 1024
MAX_LABEL_NAME_CHARACTERS = 64

_REPLACEMENT = "\ufffd"
_VALUE_ESCAPES = (
    dict.fromkeys([*range(0x20), 0x7F, *range(0xD800, 0xE000)], _REPLACEMENT)
    | dict.fromkeys(range(0x80, 0xA0), _REPLACEMENT)
    | {ord("\\"): r"\\", ord('"'): r"\"", ord("\n"): r"\n"}
)
_NOT_IN_LABEL_NAMES = re.compile(r"[^a-zA-Z0-9_]")


class Format(enum.Enum):
    """A text format; the value is its content type."""

    CLASSIC = "text/plain; version=0.0.4; charset=utf-8"
    OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


class FamilyType(enum.Enum):
    """Type of a metric family; the value is its word in OpenMetrics."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"
    INFO = "info"
    UNKNOWN = "unknown"


_CLASSIC_WORDS = {FamilyType.INFO: "gauge", FamilyType.UNKNOWN: "untyped"}

# What OpenMetrics takes off the name of a family of this type.
_SUFFIXES = {FamilyType.COUNTER: "_total", FamilyType.INFO: "_info"}

_SAMPLE_SUFFIXES = {
    FamilyType.COUNTER: ("_total", "_created"),
    FamilyType.HISTOGRAM: ("_bucket", "_count", "_sum", "_created"),
    FamilyType.INFO: ("_info",),
}


@dataclass(frozen=True, slots=True)
class FamilyText:
    """A metric family of one page. `name` is that of classic text, where counters end in `_total`.

    `lines` are chunks of whole sample lines in UTF-8, each ending in a newline.
    """

    name: str
    type: FamilyType
    help: str
    lines: Sequence[bytes]

    @property
    def base(self) -> str:
        """The name in OpenMetrics."""
        return self.name.removesuffix(_SUFFIXES.get(self.type, ""))

    @property
    def occupied(self) -> frozenset[str]:
        """Every name that no other family may have beside this one."""
        return frozenset(
            {self.name, self.base, *(self.base + suffix for suffix in _SAMPLE_SUFFIXES.get(self.type, ()))}
        )


def page(families: Iterable[FamilyText], form: Format) -> Iterator[bytes]:
    """A page in pieces: the families in order of their names, each of which must be there once only."""
    ordered = sorted(families, key=lambda family: family.name)
    if form is Format.OPENMETRICS:
        ordered = without_clashes(ordered)
    chunks = chain.from_iterable(chain((_header(family, form),), family.lines) for family in ordered)
    return join(chain(chunks, (b"# EOF\n",)) if form is Format.OPENMETRICS else chunks)


def without_clashes(families: Sequence[FamilyText]) -> list[FamilyText]:
    """The families with such types that none needs a name of another in OpenMetrics.

    There a counter `x_total` has the name `x`, which in classic text may be that of a gauge beside it.
    """
    taken = {family.name for family in families}
    kept = []
    for family in families:
        more = family.occupied - {family.name}
        if more & taken:
            kept.append(replace(family, type=FamilyType.UNKNOWN))
        else:
            kept.append(family)
            taken |= more
    return kept


def join(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of a size that is good to send."""
    part: list[bytes] = []
    size = 0
    for chunk in chunks:
        part.append(chunk)
        size += len(chunk)
        if size >= PIECE_BYTES:
            yield b"".join(part)
            part, size = [], 0
    if part:
        yield b"".join(part)


def escape_label_value(value: str) -> str:
    """The value as it stands between quotes. Control characters and halves of pairs become U+FFFD."""
    return value.translate(_VALUE_ESCAPES)


def label_text(labels: Mapping[str, str]) -> str:
    """The labels as they stand between braces, without those that are empty, which to Prometheus are none."""
    return ",".join(f'{name}="{escape_label_value(value)}"' for name, value in labels.items() if value)


def label_name(text: str) -> str:
    """A label name made from any text: what Prometheus does not allow becomes `_`; never reserved, never empty."""
    name = _NOT_IN_LABEL_NAMES.sub("_", text[:MAX_LABEL_NAME_CHARACTERS]).lstrip("_")
    return name if name[:1].isalpha() else f"label_{name}"


def number(value: float) -> str:
    """The shortest text that reads back as this finite number; whole numbers without a point."""
    return repr(value).removesuffix(".0")


def sample(name: str, labels: str, value: float) -> bytes:
    """One line. `labels` are those of `label_text`."""
    braces = f"{{{labels}}}" if labels else ""
    return f"{name}{braces} {number(value)}\n".encode()


def _header(family: FamilyText, form: Format) -> bytes:
    help_text = family.help.replace("\\", r"\\").replace("\n", r"\n")
    if form is Format.CLASSIC:
        name, word = family.name, _CLASSIC_WORDS.get(family.type, family.type.value)
    else:
        name, word = family.base, family.type.value
        help_text = help_text.replace('"', r"\"")
    return f"# HELP {name} {help_text}\n# TYPE {name} {word}\n".encode()
