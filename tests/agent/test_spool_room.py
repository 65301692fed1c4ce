"""What the spool drops when it must, and that every number stays accounted for."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spools import WALL_MS, StillClock, accounted_for, gaps_in, numbers_in, put

from gengfu_agent.errors import SpoolFull
from gengfu_agent.spool import RecordKind, Spool
from gengfu_agent.spool.held import MAX_RECORDS
from gengfu_agent.spool.ranges import missing_in, ranges_of

DAY_S = 86_400


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool.db"


@contextmanager
def full_disk(room_bytes: int = 0) -> Iterator[None]:
    """No file can be written beyond `room_bytes`: the kernel itself refuses."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def kinds_in_turn(i: int) -> RecordKind:
    return RecordKind.PATROL if i % 25 == 0 else RecordKind.CHANGE if i % 10 == 0 else RecordKind.MEASUREMENT


@pytest.mark.parametrize("quota_bytes", [0, 60_000, 100_000, 200_000, 400_000, 10_000_000])
def test_over_quota_the_oldest_plain_measurements_go_first(path: Path, quota_bytes: int) -> None:
    spool = Spool.open(path, clock=StillClock(), quota_bytes=quota_bytes)
    kinds = {}
    for i in range(1, 401):
        kind = kinds_in_turn(i)
        entry = put(spool, bytes(1000), kind, measured_at_ms=WALL_MS + i)
        kinds[entry.seq] = kind
        assert spool.position().bytes <= max(quota_bytes, 60_000)
    spool.open_epoch(7)
    entries = spool.read(None, 1000)
    kept = {e.seq for e in entries if e.kind is not RecordKind.GAP}
    assert accounted_for(spool, 7) == set(range(1, spool.position().next_seq))
    assert numbers_in(gaps_in(entries), 7).isdisjoint(kept)
    for kind in (RecordKind.MEASUREMENT, RecordKind.CHANGE, RecordKind.PATROL):
        of_kind = {seq for seq, k in kinds.items() if k is kind}
        assert kept & of_kind == set(sorted(of_kind)[len(of_kind) - len(kept & of_kind) :]), "oldest first"
        if of_kind - kept:
            assert all(kinds[seq] >= kind for seq in kept), "and only then more important ones"
    assert spool.dropped_total == 400 - len(kept)
    for gap in gaps_in(entries):
        assert gap.reason == "quota"
        assert WALL_MS < gap.oldest_ms <= gap.newest_ms <= WALL_MS + 400


def test_a_wide_quota_drops_nothing_and_tells_no_gap(path: Path) -> None:
    spool = Spool.open(path, clock=StillClock())
    spool.open_epoch(7)
    for _ in range(100):
        put(spool, bytes(5000))
    assert len(spool.read(None, 1000)) == 100
    assert spool.dropped_total == 0


def test_seven_days_offline_are_kept_and_the_eighth_pushes_out_the_first(path: Path) -> None:
    clock = StillClock()
    spool = Spool.open(path, clock=clock)
    for i in range(8 * 144):
        put(spool, bytes(500), kinds_in_turn(i), measured_at_ms=clock.wall_ms())
        clock.move(600)
        if i == 7 * 144 - 1:
            assert spool.dropped_total == 0
    spool.open_epoch(7)
    entries = spool.read(None, 10_000)
    (gap,) = gaps_in(entries)
    assert gap.reason == "age"
    assert gap.ranges == ((1, spool.dropped_total),)
    assert abs(spool.dropped_total - 144) <= 1
    assert gap.oldest_ms == WALL_MS
    assert max(spool.age_ms(e) for e in entries) <= 7 * DAY_S * 1000 + 600_000
    assert accounted_for(spool, 7) == set(range(1, spool.position().next_seq))


def test_losses_of_many_days_become_one_gap_record_and_later_ones_another(path: Path) -> None:
    spool = Spool.open(path, clock=StillClock(), quota_bytes=80_000)
    spool.open_epoch(7)
    for _ in range(300):
        put(spool, bytes(1000))
    first = gaps_in(spool.read(None, 1000))
    assert len(first) == 1
    for _ in range(300):
        put(spool, bytes(1000))
    second = gaps_in(spool.read(None, 1000))
    assert second[0] == first[0], "what may have been sent does not change"
    assert len(second) == 2
    assert accounted_for(spool, 7) == set(range(1, spool.position().next_seq))


def test_gap_records_do_not_fill_the_spool_of_a_collector_that_never_acknowledges(path: Path) -> None:
    spool = Spool.open(path, clock=StillClock(), quota_bytes=80_000)
    spool.open_epoch(7)
    for _ in range(1_500):
        put(spool, bytes(1000))
        spool.read(None, 1)
    assert len(gaps_in(spool.read(None, 1000))) == 64
    spool.acknowledge(7, [(1, 2**40)])
    assert len(gaps_in(spool.read(None, 1000))) == 1


def test_what_was_dropped_before_a_restart_is_told_after_it(path: Path) -> None:
    spool = Spool.open(path, clock=StillClock(), quota_bytes=80_000)
    for _ in range(200):
        put(spool, bytes(1000))
    spool.close()
    spool = Spool.open(path, clock=StillClock(), quota_bytes=80_000)
    assert spool.salvaged is None
    spool.open_epoch(7)
    assert accounted_for(spool, 7) == set(range(1, spool.position().next_seq))


def test_room_is_given_back_after_an_outage(path: Path) -> None:
    spool = Spool.open(path, clock=StillClock())
    spool.open_epoch(7)
    for _ in range(300):
        put(spool, bytes(40_000))
    grown = path.stat().st_size + Path(f"{path}-wal").stat().st_size
    for seq in range(1, 301):
        spool.acknowledge(7, [(seq, seq)])
    assert spool.position().bytes < 100_000
    spool.close()
    assert path.stat().st_size < grown / 4


def test_on_a_full_disk_reports_are_held_sent_from_memory_and_written_when_there_is_room(path: Path) -> None:
    spool = Spool.open(path, clock=StillClock())
    spool.open_epoch(7)
    put(spool, b"committed")
    with full_disk():
        entries = [put(spool, b"held %d" % i, shapes=(b"new shape",), checks=("disk",)) for i in range(5)]
        assert spool.full_error is not None
        assert [e.seq for e in entries] == [2, 3, 4, 5, 6]
        assert [e.body for e in spool.read((7, 1), 3)] == [b"held 0", b"held 1", b"held 2"]
        assert spool.shape(entries[0].shape_ids[0]) == b"new shape"
        assert [e.seq for e in spool.latest_by_check()] == [1, 6]
        assert spool.acknowledge(7, [(1, 3)]) == 2
        position = spool.position()
        assert (position.waiting, position.next_seq) == (4, 7)
        assert spool.held() == {7: [(1, 1), (4, 6)]}
    assert spool.full_error is not None
    put(spool, b"after")
    assert spool.full_error is None
    after = [b"held 2", b"held 3", b"held 4", b"after"]
    assert [e.body for e in spool.read(None, 10)] == after, "what was acknowledged meanwhile is gone, too"
    spool.close()
    spool = Spool.open(path, clock=StillClock())
    assert spool.salvaged is None
    assert [e.body for e in spool.read(None, 10)] == after


def test_a_disk_that_stays_full_loses_only_what_memory_cannot_hold_and_says_which(path: Path) -> None:
    spool = Spool.open(path, clock=StillClock())
    spool.open_epoch(7)
    put(spool, b"committed")
    with full_disk():
        for i in range(MAX_RECORDS + 50):
            put(spool, b"x", RecordKind.CHANGE if i == 0 else RecordKind.MEASUREMENT)
        assert spool.dropped_total == 50
    put(spool, b"after")
    entries = spool.read(None, 10_000)
    (gap,) = gaps_in(entries)
    assert (gap.reason, gap.ranges) == ("not_kept", ((3, 52),))
    assert accounted_for(spool, 7) == set(range(1, spool.position().next_seq))


@pytest.mark.parametrize("room_bytes", range(60_000, 110_000, 3_000))
def test_a_disk_that_fills_up_in_the_middle_of_a_write_keeps_what_was_committed(path: Path, room_bytes: int) -> None:
    clock = StillClock()
    spool = Spool.open(path, clock=clock)
    spool.open_epoch(7)
    with full_disk(room_bytes):
        for i in range(40):
            put(spool, bytes([i]) * 3000)
        assert spool.full_error is not None
        with pytest.raises(SpoolFull):
            spool.open_epoch(8)
    put(spool, b"last")
    spool.close()
    bodies = [e.body for e in Spool.open(path, clock=clock).read(None, 100)]
    assert bodies == [*(bytes([i]) * 3000 for i in range(40)), b"last"]


def test_a_folder_that_cannot_be_used_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(SpoolFull, match="cannot be opened"):
        Spool.open(tmp_path / "missing" / "spool.db", clock=StillClock())


@given(st.sets(st.integers(1, 60)), st.integers(0, 70))
def test_arithmetic_of_ranges(present: set[int], last: int) -> None:
    for ranges, numbers in (
        (missing_in(last, sorted(present)), set(range(1, last + 1)) - present),
        (ranges_of(sorted(present)), present),
    ):
        assert {n for first, last in ranges for n in range(first, last + 1)} == numbers
        assert all(one[1] + 1 < other[0] for one, other in pairwise(ranges))
