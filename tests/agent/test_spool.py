"""The spool as the uplink and the runner see it."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from spools import StillClock, numbers, put, shapes_of

from gengfu_agent.errors import EpochInUse, SpoolError
from gengfu_agent.spool import RecordKind, Spool


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool.db"


def test_a_fresh_spool_is_private_and_empty(path: Path, clock: StillClock) -> None:
    spool = Spool.open(path, clock=clock)
    position = spool.position()
    assert (position.epoch, position.next_seq, position.oldest_seq, position.waiting) == (0, 1, 1, 0)
    assert (spool.session(), spool.salvaged, position.oldest_age_ms) == (b"", None, 0)
    assert {stat.S_IMODE(p.stat().st_mode) for p in path.parent.iterdir()} == {0o600}


def test_records_of_the_unnamed_epoch_cannot_be_sent_and_get_its_name_with_their_numbers(
    path: Path, clock: StillClock
) -> None:
    spool = Spool.open(path, clock=clock)
    for body in (b"one", b"two"):
        put(spool, body)
    assert spool.read(None, 10) == []
    assert spool.latest_by_check() == []
    spool.open_epoch(2**63 + 5)
    assert [(e.epoch, e.seq, e.body) for e in spool.read(None, 10)] == [(2**63 + 5, 1, b"one"), (2**63 + 5, 2, b"two")]
    assert put(spool, b"three").seq == 3


def test_everything_outlives_a_restart(path: Path, clock: StillClock) -> None:
    spool = Spool.open(path, clock=clock)
    spool.open_epoch(7)
    spool.set_session(b"\x00session\xff")
    before = [put(spool, b"%d" % i, RecordKind.CHANGE, ("cpu", "disk"), (b"a", b"b%d" % i)) for i in range(5)]
    spool.close()
    spool = Spool.open(path, clock=clock)
    assert spool.read(None, 10) == before
    assert spool.session() == b"\x00session\xff"
    assert spool.position().next_seq == 6
    assert [spool.shape(i) for i in before[4].shape_ids] == [b"a", b"b4"]


def test_a_record_survives_the_death_of_the_process_at_once(path: Path, clock: StillClock, tmp_path: Path) -> None:
    spool = Spool.open(path, clock=clock)
    spool.open_epoch(7)
    put(spool, b"kept")
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in path.parent.glob("spool.db*"):
        (copy / file.name).write_bytes(file.read_bytes())
    assert [e.body for e in Spool.open(copy / "spool.db", clock=clock).read(None, 10)] == [b"kept"]


def test_reading_goes_on_after_the_last_one(path: Path, clock: StillClock) -> None:
    spool = Spool.open(path, clock=clock)
    spool.open_epoch(7)
    for i in range(5):
        put(spool, b"%d" % i)
    first = spool.read(None, 2)
    assert numbers(first) == [(7, 1), (7, 2)]
    spool.open_epoch(3)
    put(spool, b"new")
    assert numbers(spool.read((7, 2), 10)) == [(7, 3), (7, 4), (7, 5), (3, 1)]
    assert numbers(spool.read((3, 1), 10)) == []


def test_acknowledged_records_leave_and_strange_numbers_do_no_harm(path: Path, clock: StillClock) -> None:
    spool = Spool.open(path, clock=clock)
    spool.open_epoch(7)
    for i in range(10):
        put(spool, b"%d" % i)
    assert spool.acknowledge(7, [(2, 3), (9, 2**64 - 1), (0, 0), (5, 4)]) == 4
    assert spool.acknowledge(7, [(2, 3)]) == 0
    assert spool.acknowledge(8, [(1, 100)]) == 0
    assert numbers(spool.read(None, 20)) == [(7, n) for n in (1, 4, 5, 6, 7, 8)]
    position = spool.position()
    assert (position.oldest_seq, position.next_seq, position.waiting) == (1, 11, 6)


def test_what_is_held_is_told_by_epoch_in_ranges(path: Path, clock: StillClock) -> None:
    spool = Spool.open(path, clock=clock)
    put(spool, b"x")
    assert spool.held() == {}, "the unnamed epoch means nothing to a collector"
    for epoch in (9, 4):
        spool.open_epoch(epoch)
        for i in range(6):
            put(spool, b"%d" % i)
    spool.acknowledge(9, [(2, 3), (7, 7)])
    assert spool.held() == {9: [(1, 1), (4, 6)], 4: [(1, 6)]}


def test_a_new_epoch_starts_at_one_and_old_records_keep_their_numbers(path: Path, clock: StillClock) -> None:
    spool = Spool.open(path, clock=clock)
    spool.open_epoch(7)
    put(spool, b"old")
    spool.open_epoch(9)
    position = spool.position()
    assert (position.epoch, position.next_seq, position.oldest_seq, position.waiting) == (9, 1, 1, 1)
    spool.open_epoch(9)
    assert put(spool, b"new").seq == 1
    assert spool.acknowledge(7, [(1, 1)]) == 1
    for used in (7, 0):
        with pytest.raises(EpochInUse):
            spool.open_epoch(used)
    spool.acknowledge(9, [(1, 1)])
    assert spool.position().epoch == 9


def test_a_number_taken_by_another_body_is_given_up_for_a_new_one(path: Path, clock: StillClock) -> None:
    spool = Spool.open(path, clock=clock)
    spool.open_epoch(7)
    for i in range(3):
        put(spool, b"%d" % i, shapes=(b"s%d" % i,))
    spool.open_epoch(8)
    assert spool.renumber(7, [2, 99, 0, 2**70]) == 1
    assert [(e.epoch, e.seq, e.body) for e in spool.read(None, 10)] == [(7, 1, b"0"), (7, 3, b"2"), (8, 1, b"1")]
    spool.close()
    reopened = Spool.open(path, clock=clock)
    assert reopened.salvaged is None
    assert reopened.shape(next(iter(shapes_of(b"s1")))) == b"s1"


def test_live_state_is_the_newest_record_of_every_check(path: Path, clock: StillClock) -> None:
    spool = Spool.open(path, clock=clock)
    spool.open_epoch(7)
    for checks in (("cpu",), ("disk", "cpu"), ("memory",), ("cpu",), ("memory", "cpu")):
        put(spool, b"x", checks=checks)
    assert numbers(spool.latest_by_check()) == [(7, 2), (7, 5)]
    assert numbers(spool.latest_by_check(scan_limit=1)) == [(7, 5)]


def test_shapes_are_stored_once_and_go_with_their_last_record(path: Path, clock: StillClock) -> None:
    spool = Spool.open(path, clock=clock)
    spool.open_epoch(7)
    for _ in range(50):
        put(spool, b"x", shapes=(b"big" * 10_000,))
    assert spool.position().bytes < 120_000
    ids = [e.shape_ids[0] for e in (put(spool, b"y", shapes=(b"shape %d" % i,)) for i in range(300))]
    spool.acknowledge(7, [(1, 349)])
    assert spool.shape(ids[-1]) == b"shape 299"
    assert spool.shape(ids[0]) is None
    put(spool, b"again", shapes=(b"shape 0",))
    assert spool.shape(ids[0]) == b"shape 0"
    spool.close()
    assert Spool.open(path, clock=clock).salvaged is None


def test_age_is_by_a_clock_that_nobody_can_set(path: Path, clock: StillClock) -> None:
    spool = Spool.open(path, clock=clock)
    entry = put(spool, b"x")
    clock.move(30)
    for jump_years in (10, -20):
        clock.now_wall_ms += jump_years * 365 * 86_400_000
        assert spool.age_ms(entry) == 30_000
    assert spool.position().oldest_age_ms == 30_000


@pytest.mark.parametrize(("wall_jump_s", "expected_age_s"), [(0, 115), (3_600, 3_715), (-10 * 365 * 86_400, 70)])
def test_age_of_an_earlier_boot_is_the_wall_clock_but_never_less_than_is_certain(
    path: Path, clock: StillClock, wall_jump_s: int, expected_age_s: int
) -> None:
    spool = Spool.open(path, clock=clock)
    spool.open_epoch(7)
    entry = put(spool, b"x", measured_at_ms=clock.wall_ms())
    clock.move(10)
    put(spool, b"y")
    spool.close()
    clock.move(45 + 60)
    clock.boot_id, clock.now_boot_ms = "second boot", 60_000
    clock.now_wall_ms += wall_jump_s * 1000
    assert Spool.open(path, clock=clock).age_ms(entry) == expected_age_s * 1000


def test_a_wall_clock_set_ten_years_forward_between_boots_drops_nothing(path: Path, clock: StillClock) -> None:
    spool = Spool.open(path, clock=clock)
    spool.open_epoch(7)
    put(spool, b"x")
    spool.close()
    later = StillClock("second boot", boot_ms=1_000, wall_ms=clock.now_wall_ms + 10 * 365 * 86_400_000)
    spool = Spool.open(path, clock=later)
    put(spool, b"y")
    assert [e.body for e in spool.read(None, 10)] == [b"x", b"y"]


def test_a_closed_spool_says_so_and_leaves_its_file_alone(path: Path, clock: StillClock) -> None:
    spool = Spool.open(path, clock=clock)
    spool.close()
    before = path.read_bytes()
    with pytest.raises(SpoolError, match="closed"):
        put(spool, b"x")
    assert path.read_bytes() == before
    assert not path.with_suffix(".damaged").exists()
