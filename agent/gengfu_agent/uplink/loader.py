"""Records out of the spool, as messages ready to send. Every function here waits for the disk: call it in a thread."""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass

from gengfu_agent.spool import Entry, Position, Spool
from gengfu_agent.uplink.present import Key
from gengfu_proto.v1 import report_pb2, stream_pb2

MAX_HELD_RANGES = 1_000


@dataclass(frozen=True, slots=True)
class Loaded:
    """A record and what must go with it; `shapes` are those of its shapes that the stream has not seen, by id."""

    key: Key
    entry: Entry
    age_ms: int
    shapes: dict[bytes, bytes]

    @property
    def shapes_bytes(self) -> int:
        """Size of the shapes that go with it."""
        return sum(map(len, self.shapes.values()))


def load(spool: Spool, key: Key, seen: Set[bytes]) -> Loaded | None:
    """Return the record of this key, or None when the spool has it no more."""
    found = spool.read((key[0], key[1] - 1), 1)
    return _loaded(spool, found[0], seen) if found and key_of(found[0]) == key else None


def load_after(
    spool: Spool, after: Key | None, newest: Key, skip: Callable[[Key], bool], seen: Set[bytes], limit: int
) -> tuple[list[Loaded], Key | None]:
    """Return records of the next `limit` between `after` and `newest` that are not to be skipped, and how far the spool
    was read: `after` itself at the end."""
    found = [entry for entry in spool.read(after, limit) if key_of(entry) <= newest]
    loaded = [_loaded(spool, entry, seen) for entry in found if not skip(key_of(entry))]
    return loaded, key_of(found[-1]) if found else after


def report_of(loaded: Loaded, live: bool, seen: Set[bytes]) -> report_pb2.Report:
    """Return the message, with the shapes that have not been seen meanwhile."""
    return report_pb2.Report(
        epoch=loaded.entry.epoch,
        seq=loaded.entry.seq,
        body=loaded.entry.body,
        lane=report_pb2.LANE_LIVE if live else report_pb2.LANE_BACKLOG,
        age_ms=loaded.age_ms,
        shapes=[shape for shape_id, shape in loaded.shapes.items() if shape_id not in seen],
    )


def hello_of(spool: Spool, hello: stream_pb2.Hello) -> stream_pb2.Hello:
    """Return a Hello with everything about the spool filled in."""
    filled = stream_pb2.Hello()
    filled.CopyFrom(hello)
    # The position first: what is appended between the two calls is held, but lies behind next_seq.
    position = spool.position()
    filled.session = spool.session()
    filled.epoch = position.epoch
    filled.next_seq = position.next_seq
    filled.oldest_seq = position.oldest_seq
    filled.waiting = position.waiting
    for epoch, ranges in spool.held().items():
        shown = ranges if len(ranges) <= MAX_HELD_RANGES else _folded(ranges)
        filled.held.add(epoch=epoch, ranges=[report_pb2.SeqRange(first=first, last=last) for first, last in shown])
    return filled


def newest_of(position: Position) -> Key:
    """Return the key of the last record appended."""
    return position.epoch, position.next_seq - 1


def key_of(entry: Entry) -> Key:
    """Return the key of a record."""
    return entry.epoch, entry.seq


def _folded(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """As many ranges as Hello may have, the last one covering the rest."""
    kept = ranges[: MAX_HELD_RANGES - 1]
    return [*kept, (ranges[len(kept)][0], ranges[-1][1])]


def _loaded(spool: Spool, entry: Entry, seen: Set[bytes]) -> Loaded:
    wanted = [shape_id for shape_id in entry.shape_ids if shape_id not in seen]
    found = {shape_id: spool.shape(shape_id) for shape_id in wanted}
    shapes = {shape_id: shape for shape_id, shape in found.items() if shape is not None}
    return Loaded(key_of(entry), entry, spool.age_ms(entry), shapes)
