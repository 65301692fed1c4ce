"""Findings on the wire: a shape for what seldom changes, an array for the numbers that move."""

from __future__ import annotations

import hashlib
import math
import re
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from gengfu_checks.model import (
    CODE_PATTERN,
    METRIC_PATTERN,
    Breach,
    Direction,
    Fact,
    Finding,
    MetricType,
    Status,
)
from gengfu_proto.convert.facts import (
    MAX_ITEM_CHARACTERS,
    decode_fact,
    encode_fact,
    encode_item,
    matching,
)
from gengfu_proto.convert.inventory import Inventory, decode_inventory
from gengfu_proto.errors import LimitExceeded, MalformedMessage
from gengfu_proto.text import clean
from gengfu_proto.v1 import report_pb2

SHAPE_ID_BYTES = 16
SETTINGS_ID_BYTES = 8

MAX_SHAPE_BYTES = 256 * 1024
MAX_BODY_BYTES = 512 * 1024
MAX_FINDINGS = 2_000
MAX_REPORT_FINDINGS = 10_000
"""Of all runs of one report together; `MAX_FINDINGS` is of one run."""
MAX_METRICS = 256
MAX_FACTS = 32
MAX_RUNS = 256
MAX_GAP_RANGES = 10_000
MAX_EVERY_S = 32 * 86400.0

CHECK_NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9_.-]*")

_STATUS_NUMBERS = frozenset(int(status) for status in Status)
_DIRECTIONS = (Direction.ABOVE, Direction.BELOW)
_METRIC_TYPES = (MetricType.GAUGE, MetricType.COUNTER)


@dataclass(frozen=True, slots=True)
class FindingShape:
    """A finding without its numbers; `metrics` are short names, in the order of the values."""

    item: str
    status: Status
    code: str
    facts: Mapping[str, Fact]
    metrics: tuple[str, ...]
    breach: Breach | None


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Shape:
    """A check run without its numbers. Equal shapes have equal ids on every machine."""

    id: bytes
    check: str
    kind: str
    every_s: float
    target: str
    findings: tuple[FindingShape, ...]
    metric_types: Mapping[str, MetricType]
    value_count: int
    settings_id: bytes = b""
    """Another one than before: the check was told to look at something else. Empty where the agent does not say."""
    gone_is_over: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """One run as it came over the wire; `values` are doubles in the order of the shape's metrics."""

    shape_id: bytes
    measured_at_ms: int
    duration_ms: int
    values: array[float]


@dataclass(frozen=True, slots=True)
class EncodedRun:
    """One run ready for a report's body, and the shape that it names."""

    shape_id: bytes
    shape: bytes
    message: report_pb2.CheckRun


@dataclass(frozen=True, slots=True)
class GapRecord:
    """Numbers of an epoch that will never come. Ranges are inclusive, ascending and disjoint."""

    epoch: int
    ranges: tuple[tuple[int, int], ...]
    reason: str
    oldest_ms: int
    newest_ms: int


@dataclass(frozen=True, slots=True)
class Body:
    """A report's body. `kind` is the name of the wire's oneof; runs, gap and inventory are filled for their kinds."""

    kind: str
    runs: tuple[Run, ...] = ()
    gap: GapRecord | None = None
    inventory: Inventory | None = None


def shape_id_of(shape: bytes) -> bytes:
    """Return the id of a serialised shape."""
    return hashlib.sha256(shape).digest()[:SHAPE_ID_BYTES]


def encode_run(
    check: str,
    kind: str,
    every_s: float,
    findings: Sequence[Finding],
    metric_types: Mapping[str, MetricType],
    duration_s: float,
    target: str = "",
    settings_id: bytes = b"",
    gone_is_over: bool = False,
) -> EncodedRun:
    """Return one run of a check as wire values. `measured_at` of the first finding is that of the run."""
    names = list(dict.fromkeys(name for finding in findings for name in finding.metrics))
    index = {name: i for i, name in enumerate(names)}
    shape = report_pb2.Shape(
        check=check,
        kind=kind,
        every_ms=round(every_s * 1000),
        target=target,
        settings_id=settings_id,
        gone_is_over=gone_is_over,
        metric_names=names,
        metric_types=[_METRIC_TYPES.index(metric_types.get(name, MetricType.GAUGE)) for name in names],  # type: ignore[misc]
    )
    values: list[float] = []
    for finding in findings:
        shape.findings.append(_encode_finding(finding, index))
        values.extend(finding.metrics.values())
    data = shape.SerializeToString(deterministic=True)
    measured_at_ms = round(findings[0].measured_at * 1000) if findings else 0
    shape_id = shape_id_of(data)
    message = report_pb2.CheckRun(
        shape_id=shape_id, measured_at_ms=measured_at_ms, duration_ms=round(duration_s * 1000), values=values
    )
    return EncodedRun(shape_id, data, message)


def encode_findings_body(runs: Iterable[EncodedRun]) -> bytes:
    """Return the body of a findings report."""
    body = report_pb2.ReportBody(findings=report_pb2.Findings(runs=[run.message for run in runs]))
    return body.SerializeToString()


def encode_gap_body(gap: GapRecord) -> bytes:
    """Return the body of a gap report; `reason` is the short name of a GapReason, like "quota"."""
    message = report_pb2.Gap(
        ranges=[report_pb2.SeqRange(first=first, last=last) for first, last in gap.ranges],
        epoch=gap.epoch,
        reason=report_pb2.GapReason.Value(f"GAP_REASON_{gap.reason.upper()}"),
        oldest_ms=gap.oldest_ms,
        newest_ms=gap.newest_ms,
    )
    return report_pb2.ReportBody(gap=message).SerializeToString()


def decode_body(data: bytes) -> Body:
    """Return what a report holds; raises MalformedMessage or LimitExceeded."""
    if len(data) > MAX_BODY_BYTES:
        raise LimitExceeded(f"report body of {len(data)} bytes, at most {MAX_BODY_BYTES} are allowed")
    try:
        message = report_pb2.ReportBody.FromString(data)
    except DecodeError as error:
        raise MalformedMessage(f"not a report body: {error}") from None
    kind = message.WhichOneof("kind")
    if kind is None:
        raise MalformedMessage("report of a kind that this version does not know")
    if kind == "findings":
        return Body(kind, runs=_decode_runs(message.findings.runs))
    if kind == "gap":
        return Body(kind, gap=_decode_gap(message.gap))
    if kind == "inventory":
        return Body(kind, inventory=decode_inventory(message.inventory))
    if kind == "patrol_record":
        return Body(kind, runs=_decode_runs(message.patrol_record.runs))
    return Body(kind)


def decode_shape(data: bytes) -> Shape:
    """Return a shape with clean texts and checked names; raises MalformedMessage or LimitExceeded."""
    if len(data) > MAX_SHAPE_BYTES:
        raise LimitExceeded(f"shape of {len(data)} bytes, at most {MAX_SHAPE_BYTES} are allowed")
    try:
        message = report_pb2.Shape.FromString(data)
    except DecodeError as error:
        raise MalformedMessage(f"not a shape: {error}") from None
    if len(message.findings) > MAX_FINDINGS or len(message.metric_names) > MAX_METRICS:
        raise LimitExceeded(
            f"shape with {len(message.findings)} findings and {len(message.metric_names)} metric names, "
            f"at most {MAX_FINDINGS} and {MAX_METRICS} are allowed"
        )
    names = [matching(METRIC_PATTERN, name, "metric name") for name in message.metric_names]
    if len(message.metric_types) != len(names):
        raise MalformedMessage("a shape has one type for every metric name")
    findings = tuple(_decode_finding(finding, names) for finding in message.findings)
    if len({finding.item for finding in findings}) != len(findings):
        raise MalformedMessage("a shape names one item twice")
    return Shape(
        id=shape_id_of(data),
        check=matching(CHECK_NAME_PATTERN, message.check, "check name"),
        kind=matching(METRIC_PATTERN, message.kind, "check kind"),
        every_s=min(message.every_ms / 1000, MAX_EVERY_S),
        target=clean(message.target, MAX_ITEM_CHARACTERS, "target"),
        findings=findings,
        metric_types={
            name: MetricType.COUNTER if number == report_pb2.METRIC_TYPE_COUNTER else MetricType.GAUGE
            for name, number in zip(names, message.metric_types, strict=True)
        },
        value_count=sum(len(finding.metrics) for finding in findings),
        settings_id=message.settings_id[:SETTINGS_ID_BYTES],
        gone_is_over=message.gone_is_over,
    )


def findings_of(shape: Shape, run: Run) -> list[Finding]:
    """Return the findings of a run; raises MalformedMessage when shape and values do not belong together."""
    if len(run.values) != shape.value_count:
        raise MalformedMessage(f"{len(run.values)} values for a shape of {shape.value_count}")
    findings = []
    position = 0
    for part in shape.findings:
        values = run.values[position : position + len(part.metrics)]
        position += len(part.metrics)
        metrics = dict(zip(part.metrics, values, strict=True))
        at = run.measured_at_ms / 1000
        findings.append(Finding(shape.check, part.item, part.status, part.code, part.facts, metrics, at, part.breach))
    return findings


def _encode_finding(finding: Finding, index: Mapping[str, int]) -> report_pb2.FindingShape:
    message = report_pb2.FindingShape(
        item=encode_item(finding.item),
        status=int(finding.status),  # type: ignore[arg-type]
        code=finding.code,
        facts=[encode_fact(name, value) for name, value in finding.facts.items()],
        metrics=[index[name] for name in finding.metrics],
    )
    if finding.breach is not None:
        message.breach.metric = finding.breach.metric
        message.breach.limit = finding.breach.limit
        message.breach.direction = _DIRECTIONS.index(finding.breach.direction)  # type: ignore[assignment]
    return message


def _decode_runs(messages: Sequence[report_pb2.CheckRun]) -> tuple[Run, ...]:
    if len(messages) > MAX_RUNS:
        raise LimitExceeded(f"{len(messages)} runs in one report, at most {MAX_RUNS} are allowed")
    runs = []
    for message in messages:
        values = array("d", message.values)
        # A sum is finite only if every part is; adding up is the fastest look at all of them.
        if not math.isfinite(sum(values)) and not all(map(math.isfinite, values)):
            raise MalformedMessage("a value is not a finite number")
        if len(message.shape_id) != SHAPE_ID_BYTES:
            raise MalformedMessage(f"shape id of {len(message.shape_id)} bytes, not {SHAPE_ID_BYTES}")
        runs.append(Run(message.shape_id, message.measured_at_ms, message.duration_ms, values))
    return tuple(runs)


def _decode_gap(message: report_pb2.Gap) -> GapRecord:
    if len(message.ranges) > MAX_GAP_RANGES:
        raise LimitExceeded(f"gap of {len(message.ranges)} ranges, at most {MAX_GAP_RANGES} are allowed")
    ranges = tuple((part.first, part.last) for part in message.ranges)
    previous = 0
    for first, last in ranges:
        if not previous < first <= last:
            raise MalformedMessage("ranges of a gap are ascending, disjoint and start at 1")
        previous = last
    if message.reason not in report_pb2.GapReason.values():
        reason = "unspecified"
    else:
        reason = report_pb2.GapReason.Name(message.reason).removeprefix("GAP_REASON_").lower()
    return GapRecord(message.epoch, ranges, reason, message.oldest_ms, message.newest_ms)


def _decode_finding(message: report_pb2.FindingShape, names: Sequence[str]) -> FindingShape:
    if len(message.facts) > MAX_FACTS:
        raise LimitExceeded(f"finding with {len(message.facts)} facts, at most {MAX_FACTS} are allowed")
    if message.status not in _STATUS_NUMBERS:
        raise MalformedMessage(f"status {message.status} is not one of ok, warning, critical, unknown")
    if any(i >= len(names) for i in message.metrics) or len(set(message.metrics)) != len(message.metrics):
        raise MalformedMessage("a finding refers to a metric that the shape does not name, or to one twice")
    breach = None
    if message.HasField("breach"):
        metric = matching(METRIC_PATTERN, message.breach.metric, "metric name")
        direction = _DIRECTIONS[1 if message.breach.direction == report_pb2.DIRECTION_BELOW else 0]
        if not math.isfinite(message.breach.limit):
            raise MalformedMessage("a limit is not a finite number")
        breach = Breach(metric, message.breach.limit, direction)
    return FindingShape(
        item=clean(message.item, MAX_ITEM_CHARACTERS, "item"),
        status=Status(message.status),
        code=matching(CODE_PATTERN, message.code, "code"),
        facts={matching(METRIC_PATTERN, fact.name, "fact name"): decode_fact(fact) for fact in message.facts},
        metrics=tuple(names[i] for i in message.metrics),
        breach=breach,
    )
