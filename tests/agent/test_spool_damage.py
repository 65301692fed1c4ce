"""A damaged spool never stops an agent: every byte flipped, every offset cut.

The default run takes samples; GENGFU_EXHAUSTIVE=1 takes every offset (an hour or so).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from spools import StillClock, accounted_for, files_of, put

from gengfu_agent.spool import Entry, RecordKind, Spool
from gengfu_agent.spool import spool as spool_module

EXHAUSTIVE = os.environ.get("GENGFU_EXHAUSTIVE") == "1"
OLD_EPOCH, PRESENT_EPOCH, NEXT_EPOCH = 11, 12, 13


class Filled:
    """A spool's files, closed (`clean`) and as a crash leaves them (`crashed`), and what it held."""

    def __init__(self, folder: Path) -> None:
        path = folder / "spool.db"
        spool = Spool.open(path, clock=StillClock(), quota_bytes=160_000)
        spool.open_epoch(OLD_EPOCH)
        for i in range(70):
            kind = RecordKind.CHANGE if i % 5 == 0 else RecordKind.MEASUREMENT
            put(spool, b"old %d " % i * 300, kind, ("cpu", "disk"), (b"cpu" * 100, b"disk %d" % (i % 3)))
        spool.acknowledge(OLD_EPOCH, [(60, 64)])
        spool.open_epoch(PRESENT_EPOCH)
        for i in range(20):
            put(spool, b"new %d " % i * 50, shapes=(b"large" * 2000,))
        spool.acknowledge(PRESENT_EPOCH, [(1, 3)])
        spool.set_session(b"session")
        self.acknowledged = {OLD_EPOCH: set(range(60, 65)), PRESENT_EPOCH: {1, 2, 3}}
        self.entries = {(e.epoch, e.seq): e for e in spool.read(None, 1000) if e.kind is not RecordKind.GAP}
        self.next_seq = {OLD_EPOCH: 71, PRESENT_EPOCH: spool.position().next_seq}
        self.crashed = files_of(path)
        spool.close()
        self.clean = files_of(path)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Filled:
    return Filled(tmp_path_factory.mktemp("filled"))


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: thousands of syncs prove nothing here."""
    memory = Path("/dev/shm")
    if not memory.is_dir():
        yield tmp_path
        return
    with TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


def offsets_of(size: int, samples: int) -> list[int]:
    if EXHAUSTIVE:
        return list(range(size))
    heads = [
        *range(0, 110, 3),
        *range(3300, 4096, 13),
        *range(4096 * 2, 4096 * 2 + 60, 4),
        *range(4096 * 5, 4096 * 5 + 60, 4),
    ]
    return sorted({offset for offset in (*heads, *range(0, size, max(size // samples, 1))) if offset < size})


def lay_down(folder: Path, contents: dict[str, bytes]) -> Path:
    for old in folder.iterdir():
        old.unlink()
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    return folder / "spool.db"


def sent(entries: list[Entry]) -> dict[tuple[int, int], bytes]:
    return {(e.epoch, e.seq): e.body for e in entries if e.kind is not RecordKind.GAP}


def check_mended(path: Path, filled: Filled, where: str) -> bool:
    """Open a damaged spool as an agent would, and go on. Returns whether damage was reported."""
    spool = Spool.open(path, clock=StillClock(), quota_bytes=160_000)
    found = sent(spool.read(None, 1000))
    for number, body in found.items():
        known = filled.entries.get(number)
        assert known is not None or number[1] in filled.acknowledged[number[0]], f"{where}: {number} was invented"
        assert known is None or body == known.body, f"{where}: {number} was changed"
    if spool.salvaged is None:
        assert found.keys() == filled.entries.keys(), f"{where}: records vanished unseen"
        assert spool.position().epoch == PRESENT_EPOCH
        assert spool.session() == b"session"
    else:
        check_salvaged(spool, path, where)
    if spool.position().epoch == 0:
        spool.open_epoch(NEXT_EPOCH)
    alive = put(spool, b"life goes on", shapes=(b"cpu" * 100,))
    assert alive in spool.read(None, 1000), where
    for epoch, next_seq in filled.next_seq.items():
        told = accounted_for(spool, epoch)
        known = told | filled.acknowledged[epoch]
        assert known >= set(range(1, max(told, default=0) + 1)), f"{where}: numbers of {epoch} unaccounted for"
        assert spool.salvaged is None or max(known) < next_seq
    again = spool.read(None, 1000)
    spool.close()
    reopened = Spool.open(path, clock=StillClock(), quota_bytes=160_000)
    assert reopened.salvaged is None, f"{where}: damaged after mending: {reopened.salvaged}"
    assert reopened.read(None, 1000) == again
    reopened.close()
    return spool.salvaged is not None


def check_salvaged(spool: Spool, path: Path, where: str) -> None:
    assert spool.salvaged is not None
    assert spool.salvaged.error
    assert path.with_suffix(".damaged").exists()
    assert spool.position().epoch == 0, "the collector is asked for a new epoch"
    assert spool.session() == b""
    assert {p.name for p in path.parent.iterdir()} <= {
        *("spool.db", "spool.db-wal", "spool.db-shm", "spool.damaged", "spool.damaged-wal")
    }, where
    for entry in spool.read(None, 1000):
        for shape_id in entry.shape_ids:
            assert spool.shape(shape_id) is not None, where


@pytest.mark.timeout(7200 if EXHAUSTIVE else 120)
def test_every_byte_flipped(filled: Filled, tmp_path: Path) -> None:
    data = filled.clean["spool.db"]
    reported = 0
    offsets = offsets_of(len(data), 150)
    for offset in offsets:
        flipped = bytearray(data)
        flipped[offset] ^= 0xFF
        path = lay_down(tmp_path, {"spool.db": bytes(flipped)})
        reported += check_mended(path, filled, f"byte {offset} flipped")
    assert reported > len(offsets) / 4, "half of the file is free"


@pytest.mark.timeout(7200 if EXHAUSTIVE else 120)
def test_single_bits_flipped(filled: Filled, tmp_path: Path) -> None:
    data = filled.clean["spool.db"]
    for offset in offsets_of(len(data), 80):
        flipped = bytearray(data)
        flipped[offset] ^= 1 << offset % 8
        path = lay_down(tmp_path, {"spool.db": bytes(flipped)})
        check_mended(path, filled, f"bit of byte {offset} flipped")


@pytest.mark.timeout(7200 if EXHAUSTIVE else 120)
def test_cut_at_every_offset(filled: Filled, tmp_path: Path) -> None:
    data = filled.clean["spool.db"]
    for offset in offsets_of(len(data), 80):
        path = lay_down(tmp_path, {"spool.db": data[:offset]})
        assert check_mended(path, filled, f"cut at {offset}"), f"cut at {offset}: not reported"


@pytest.mark.timeout(7200 if EXHAUSTIVE else 120)
@pytest.mark.parametrize("what", ["spool.db", "spool.db-wal"])
def test_a_crashed_spool_damaged_on_top(filled: Filled, tmp_path: Path, what: str) -> None:
    """SQLite takes a damaged log for the end of the log: an older state, which the collector recognises as rewound."""
    data = filled.crashed[what]
    for offset in offsets_of(len(data), 60):
        flipped = bytearray(data)
        flipped[offset] ^= 0xFF
        path = lay_down(tmp_path, {**filled.crashed, what: bytes(flipped)})
        spool = Spool.open(path, clock=StillClock(), quota_bytes=160_000)
        for number, body in sent(spool.read(None, 1000)).items():
            known = filled.entries.get(number)
            assert known is None or known.body == body, f"byte {offset} of {what}: {number} was changed"
        position = spool.position()
        assert position.epoch in (0, OLD_EPOCH, PRESENT_EPOCH)
        put(spool, b"life goes on")
        spool.close()


def test_records_keep_their_numbers_when_all_of_them_can_be_saved(filled: Filled, tmp_path: Path) -> None:
    path = lay_down(tmp_path, {"spool.db": b"ruined header" + filled.clean["spool.db"][13:]})
    spool = Spool.open(path, clock=StillClock(), quota_bytes=160_000)
    assert spool.salvaged is not None
    assert spool.salvaged.kept == len(filled.entries) + 1, "and one gap record"
    assert sent(spool.read(None, 1000)) == {number: e.body for number, e in filled.entries.items()}
    assert spool.age_ms(spool.read(None, 1)[0]) == 0


def test_damage_while_running_is_mended_on_the_spot(filled: Filled, tmp_path: Path) -> None:
    path = lay_down(tmp_path, filled.clean)
    spool = Spool.open(path, clock=StillClock())
    for _ in range(200):  # more than SQLite keeps in memory
        put(spool, os.urandom(5000))
    with path.open("r+b") as stream:
        stream.seek(4096)
        stream.write(os.urandom(path.stat().st_size - 4096))
    spool.read(None, 1000)
    assert spool.salvaged is not None
    entry = put(spool, b"x")
    assert (entry.epoch, spool.position().epoch) == (0, 0)
    spool.close()
    assert Spool.open(path, clock=StillClock()).salvaged is None


def test_not_a_spool_at_all(tmp_path: Path) -> None:
    for i, rubbish in enumerate((b"", b"\x00" * 100_000, b"hello" * 10_000, os.urandom(50_000))):
        path = lay_down(tmp_path, {"spool.db": rubbish})
        spool = Spool.open(path, clock=StillClock())
        assert spool.salvaged is not None, i
        assert spool.salvaged.kept == 0
        assert put(spool, b"x").seq == 1
        spool.close()


@pytest.mark.parametrize("steps_done", [1, 2, 3])
def test_a_salvage_that_was_interrupted_is_finished_or_begun_again(
    filled: Filled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps_done: int
) -> None:
    from gengfu_agent.spool import salvage

    class PowerCut(Exception):
        pass

    def cut(*_: object) -> None:
        raise PowerCut

    name = ("_set_aside", "finish")[steps_done - 1] if steps_done < 3 else None
    path = lay_down(tmp_path, {"spool.db": b"ruined header" + filled.clean["spool.db"][13:]})
    with monkeypatch.context() as patch:
        if name:
            patch.setattr(salvage, name, cut)
        else:
            patch.setattr(spool_module, "read_all", cut)
        with pytest.raises(PowerCut):
            Spool.open(path, clock=StillClock(), quota_bytes=160_000)
    spool = Spool.open(path, clock=StillClock(), quota_bytes=160_000)
    assert sent(spool.read(None, 1000)) == {number: e.body for number, e in filled.entries.items()}
