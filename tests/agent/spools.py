"""What the tests of the spool share: clocks that stand still, and filled spools."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from gengfu_agent.spool import Entry, RecordKind, Spool
from gengfu_proto.convert.report import GapRecord, decode_body, shape_id_of

WALL_MS = 1_790_000_000_000


class StillClock:
    """A clock that moves when told."""

    def __init__(self, boot_id: str = "first boot", boot_ms: int = 5_000_000, wall_ms: int = WALL_MS) -> None:
        self.boot_id = boot_id
        self.now_boot_ms = boot_ms
        self.now_wall_ms = wall_ms

    def wall_ms(self) -> int:
        return self.now_wall_ms

    def boot_ms(self) -> int:
        return self.now_boot_ms

    def move(self, seconds: float) -> None:
        self.now_boot_ms += round(seconds * 1000)
        self.now_wall_ms += round(seconds * 1000)


def shapes_of(*contents: bytes) -> dict[bytes, bytes]:
    return {shape_id_of(content): content for content in contents}


def put(
    spool: Spool,
    body: bytes,
    kind: RecordKind = RecordKind.MEASUREMENT,
    checks: Iterable[str] = ("cpu",),
    shapes: Iterable[bytes] = (b"shape of cpu",),
    measured_at_ms: int = WALL_MS,
) -> Entry:
    return spool.append(body, shapes_of(*shapes), kind, tuple(checks), measured_at_ms)


def numbers(entries: Iterable[Entry]) -> list[tuple[int, int]]:
    return [(entry.epoch, entry.seq) for entry in entries]


def gaps_in(entries: Iterable[Entry]) -> list[GapRecord]:
    return [gap for e in entries if e.kind is RecordKind.GAP and (gap := decode_body(e.body).gap) is not None]


def numbers_in(gaps: Iterable[GapRecord], epoch: int) -> set[int]:
    return {n for gap in gaps if gap.epoch == epoch for first, last in gap.ranges for n in range(first, last + 1)}


def accounted_for(spool: Spool, epoch: int, acknowledged: Iterable[int] = ()) -> set[int]:
    """Numbers of an epoch that are waiting, told in a waiting gap, or acknowledged before."""
    entries = spool.read(None, 1_000_000)
    held = {e.seq for e in entries if e.epoch == epoch}
    return held | numbers_in(gaps_in(entries), epoch) | set(acknowledged)


def files_of(path: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in path.parent.glob(f"{path.name}*") if not p.name.endswith("-shm")}
