"""Putting runs together into reports: what changed goes at once, the rest waits for company. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from gengfu_agent.runner import RunResult
from gengfu_agent.spool import RecordKind
from gengfu_checks.model import Status
from gengfu_proto.convert.report import (
    MAX_BODY_BYTES,
    MAX_REPORT_FINDINGS,
    MAX_RUNS,
    EncodedRun,
    encode_findings_body,
    encode_run,
)

MAX_BATCH_BYTES = MAX_BODY_BYTES
"""Of runs and their shapes; well below what one message may hold."""

_RUN_OVERHEAD_BYTES = 64

_Signature = frozenset[tuple[str, Status, str]]


@dataclass(frozen=True, slots=True)
class Batch:
    """A report ready for the spool. `shapes` are all that the body names, by id.

    `left` is what its checks (name, kind) keep, to be stored once the report is in the spool.
    """

    body: bytes
    shapes: dict[bytes, bytes]
    kind: RecordKind
    checks: tuple[str, ...]
    measured_at_ms: int
    left: dict[tuple[str, str], str] = field(default_factory=dict)


@dataclass(slots=True)
class _Pending:
    runs: list[EncodedRun] = field(default_factory=list)
    left: dict[tuple[str, str], str] = field(default_factory=dict)
    checks: list[str] = field(default_factory=list)
    size_bytes: int = 0
    findings: int = 0
    changed: bool = False
    since_s: float = 0.0


class Batcher:
    """Gathers runs. `flush_after_s` is how long a run that changed nothing may wait. Times are of a monotonic clock."""

    def __init__(self, flush_after_s: float = 5.0) -> None:
        self.flush_after_s = flush_after_s
        self._pending = _Pending()
        self._signatures: dict[str, _Signature] = {}

    def add(self, result: RunResult, now_s: float) -> Iterator[Batch]:
        """Take a run; yield what is to be kept now: all that waits, if this run is its check's first or changes it."""
        run = _encode(result)
        size_bytes = len(run.shape) + 8 * len(run.message.values) + _RUN_OVERHEAD_BYTES
        pending = self._pending
        if pending.runs and (
            pending.size_bytes + size_bytes > MAX_BATCH_BYTES
            or pending.findings + len(result.findings) > MAX_REPORT_FINDINGS
            or len(pending.runs) == MAX_RUNS
        ):
            yield from self.flush()
            pending = self._pending
        if not pending.runs:
            pending.since_s = now_s
        pending.runs.append(run)
        pending.checks.append(result.check.name)
        if result.left is not None:
            pending.left[result.check.name, result.check.kind.name] = result.left
        pending.size_bytes += size_bytes
        pending.findings += len(result.findings)
        if self._is_change(result):
            pending.changed = True
            yield from self.flush()

    def due(self, now_s: float) -> Iterator[Batch]:
        """Yield what has waited long enough."""
        at_s = self.next_flush_s()
        if at_s is not None and now_s >= at_s:
            yield from self.flush()

    def next_flush_s(self) -> float | None:
        """When `due` has something; None while nothing waits."""
        return self._pending.since_s + self.flush_after_s if self._pending.runs else None

    def flush(self) -> Iterator[Batch]:
        """Yield all that waits."""
        pending, self._pending = self._pending, _Pending()
        if pending.runs:
            yield Batch(
                body=encode_findings_body(pending.runs),
                shapes={run.shape_id: run.shape for run in pending.runs},
                kind=RecordKind.CHANGE if pending.changed else RecordKind.MEASUREMENT,
                checks=tuple(dict.fromkeys(pending.checks)),
                measured_at_ms=max(run.message.measured_at_ms for run in pending.runs),
                left=pending.left,
            )

    def forget(self, names: set[str]) -> None:
        """Keep what is remembered of these checks only."""
        self._signatures = {name: known for name, known in self._signatures.items() if name in names}

    def _is_change(self, result: RunResult) -> bool:
        signature = frozenset((finding.item, finding.status, finding.code) for finding in result.findings)
        before = self._signatures.get(result.check.name)
        self._signatures[result.check.name] = signature
        return signature != before


def _encode(result: RunResult) -> EncodedRun:
    check = result.check
    types = {metric.name: metric.type for metric in check.kind.metrics}
    return encode_run(
        check.name,
        check.kind.name,
        check.every_s,
        result.findings,
        types,
        result.duration_s,
        check.target,
        check.settings_id,
        check.kind.gone_is_over,
    )
