"""Keys that need not be remembered one by one: numbers by epoch, kept as ranges. Pure."""

from __future__ import annotations

from bisect import bisect_right

from gengfu_agent.uplink.present import Key


class Answered:
    """What the collector has answered on one stream. Answers come nearly in order, so that few ranges hold them all."""

    def __init__(self) -> None:
        self._ranges: dict[int, list[list[int]]] = {}

    def add(self, key: Key) -> None:
        """Take in a key; twice is once."""
        epoch, seq = key
        ranges = self._ranges.setdefault(epoch, [])
        at = bisect_right(ranges, seq, key=lambda part: part[0])
        before = ranges[at - 1] if at else None
        if before is not None and seq <= before[1]:
            return
        joins_before = before is not None and before[1] == seq - 1
        joins_after = at < len(ranges) and ranges[at][0] == seq + 1
        if joins_before and joins_after:
            ranges[at - 1][1] = ranges.pop(at)[1]
        elif joins_before:
            ranges[at - 1][1] = seq
        elif joins_after:
            ranges[at][0] = seq
        else:
            ranges.insert(at, [seq, seq])

    def __contains__(self, key: Key) -> bool:
        epoch, seq = key
        ranges = self._ranges.get(epoch, [])
        at = bisect_right(ranges, seq, key=lambda part: part[0])
        return at > 0 and seq <= ranges[at - 1][1]

    def __len__(self) -> int:
        """How many ranges there are."""
        return sum(map(len, self._ranges.values()))
