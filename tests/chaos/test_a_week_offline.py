"""P4: an agent without its collector for seven simulated days, with room for part of it, and then all of it delivered.

A real spool and a real intake; between them only the order of sending that the agent's outbox keeps.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from intake_rig import Receiver, Rig, rig_on, run
from spools import WALL_MS, StillClock, gaps_in

from gengfu_agent.spool import Entry, RecordKind, Spool
from gengfu_checks.model import Status
from gengfu_collector.intake.submission import Outcome, Submission
from gengfu_collector.store.database import open_database
from gengfu_collector.store.schema import gap, report
from gengfu_proto.convert.report import decode_body, decode_shape, encode_findings_body

EVERY_S = 600
A_DAY = 86_400 // EVERY_S
QUOTA_BYTES = 120_000
EPOCH = 1


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """In memory where there is such a folder: a week's worth of syncs proves nothing here."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as made:
        yield Path(made)


@pytest.fixture
def rig(folder: Path) -> Iterator[Rig]:
    (folder / "collector").mkdir()
    database = open_database(folder / "collector")
    with rig_on(database) as made:
        yield made
    database.close()


def kind_of(number: int) -> RecordKind:
    """Every hour something changes, once a day a round is walked."""
    return (
        RecordKind.PATROL if number % A_DAY == 0 else RecordKind.CHANGE if number % 6 == 0 else RecordKind.MEASUREMENT
    )


def live_a_week(spool: Spool, clock: StillClock) -> dict[int, RecordKind]:
    """Let a week pass; return what was appended, by its number. The machine starts anew every day."""
    kinds = {}
    for number in range(1, 7 * A_DAY + 1):
        found = run("disk", Status.CRITICAL if number % 12 == 0 else Status.OK, value=number)
        body = encode_findings_body([found])
        entry = spool.append(body, {found.shape_id: found.shape}, kind_of(number), ("disk",), clock.wall_ms())
        kinds[entry.seq] = kind_of(number)
        clock.move(EVERY_S)
        if number % A_DAY == 0:
            clock.boot_id, clock.now_boot_ms = f"boot {number}", 60_000
    return kinds


def deliver(rig: Rig, agent_id: int, entries: list[Entry], spool: Spool) -> None:
    """Everything that waits, as backlog, acknowledged as the collector says."""
    for entry in entries:
        body = decode_body(entry.body)
        shapes = {shape_id: spool.shape(shape_id) or b"" for shape_id in entry.shape_ids}
        sent = Submission(
            receiver=Receiver(),
            agent_id=agent_id,
            epoch=entry.epoch,
            seq=entry.seq,
            data=entry.body,
            body=body,
            runs=tuple((decode_shape(shapes[part.shape_id]), part) for part in body.runs),
            new_shapes=list(shapes.items()),
            late=True,
            rejection=None,
        )
        assert rig.send(sent) == [Outcome.STORED]
        spool.acknowledge(entry.epoch, [(entry.seq, entry.seq)])


@pytest.mark.parametrize("quota_bytes", [QUOTA_BYTES, 64 * 1024 * 1024], ids=["small quota", "room for all"])
def test_seven_days_offline_keep_what_matters_and_account_for_the_rest(
    folder: Path, rig: Rig, quota_bytes: int
) -> None:
    clock = StillClock(wall_ms=WALL_MS)
    spool = Spool.open(folder / "spool.db", clock=clock, quota_bytes=quota_bytes)
    agent_id = rig.enrol()
    rig.hello(agent_id)
    spool.open_epoch(EPOCH)
    kinds = live_a_week(spool, clock)
    assert spool.position().bytes <= quota_bytes
    entries = spool.read(None, 10_000)
    kept = {entry.seq for entry in entries if entry.kind is not RecordKind.GAP}
    lost = set(kinds) - kept

    assert bool(lost) is (quota_bytes == QUOTA_BYTES)
    assert {kinds[seq] for seq in lost} <= {RecordKind.MEASUREMENT}, "changes and rounds outlive measurements"
    measured = sorted(seq for seq, kind in kinds.items() if kind is RecordKind.MEASUREMENT)
    assert sorted(lost) == measured[: len(lost)], "the oldest go first"
    assert {record.reason for record in gaps_in(entries)} <= {"quota"}
    spool.close()

    spool = Spool.open(folder / "spool.db", clock=clock, quota_bytes=quota_bytes)
    rig.hello(agent_id, EPOCH, spool.position().next_seq, {EPOCH: tuple(spool.held()[EPOCH])})
    deliver(rig, agent_id, spool.read(None, 10_000), spool)
    assert spool.position().waiting == 0
    spool.close()
    assert rig.unexplained() == 0
    assert {row["seq"] for row in rig.rows(report)} >= kept
    missing = {seq for row in rig.rows(gap) for seq in range(row["first_seq"], row["last_seq"] + 1)}
    assert missing == lost
    assert rig.tickets() == [], "a week of old news opens nothing"
