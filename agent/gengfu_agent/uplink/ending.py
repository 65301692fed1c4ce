"""How a stream ends, and how that is told."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from gengfu_proto.text import clean, shorten
from gengfu_proto.v1 import stream_pb2

MAX_DETAIL_CHARACTERS = 4_096
SHOWN_DETAIL_CHARACTERS = 200


class End(enum.Enum):
    """Why a stream is over."""

    LOST = "lost"
    """It failed, fell silent, or was ended by the collector without a word."""
    REFUSED = "refused"
    """The collector keeps this agent out."""
    DRAINED = "drained"
    """The collector asked to leave and come back."""
    RENEWED = "renewed"
    """To show the new certificate."""
    RENUMBERED = "renumbered"
    """The spool had to begin a new numbering, which the collector must name."""
    FULL = "full"
    """The stream has brought as many shapes as one may."""
    SUSPENDED = "suspended"
    """The machine was asleep: whatever is open is worth nothing."""
    STOPPED = "stopped"
    """The agent ends."""


GOODBYES = {
    End.DRAINED: stream_pb2.GOODBYE_REASON_RECONNECT,
    End.RENEWED: stream_pb2.GOODBYE_REASON_RECONNECT,
    End.RENUMBERED: stream_pb2.GOODBYE_REASON_RECONNECT,
    End.FULL: stream_pb2.GOODBYE_REASON_RECONNECT,
    End.STOPPED: stream_pb2.GOODBYE_REASON_STOPPED,
}
"""Ends that this side announces, with what it says."""

AT_ONCE = frozenset({End.RENEWED, End.RENUMBERED, End.FULL, End.SUSPENDED})
"""Ends after which the agent comes back without waiting."""

_KEPT_OUT = frozenset({stream_pb2.DRAIN_REASON_BLOCKED, stream_pb2.DRAIN_REASON_QUARANTINED})

_DRAIN_WORDS = {
    stream_pb2.DRAIN_REASON_SHUTDOWN: "the collector stops",
    stream_pb2.DRAIN_REASON_REBALANCE: "the collector asks this agent to come back",
    stream_pb2.DRAIN_REASON_BLOCKED: "the collector has blocked this agent",
    stream_pb2.DRAIN_REASON_QUARANTINED: "two machines use this identity",
    stream_pb2.DRAIN_REASON_REPLACED: "another stream with this identity took over",
    stream_pb2.DRAIN_REASON_PROTOCOL: "the collector says that this agent broke the protocol",
}


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a stream is over, for people, and after how long the collector wishes to see the agent again (0: no wish)."""

    end: End
    reason: str
    hint_s: float = 0.0


def ending_of_drain(drain: stream_pb2.Drain) -> Ending:
    """Return what a drain message means."""
    words = _DRAIN_WORDS.get(drain.reason, "the collector sends this agent away")
    detail = shorten(
        clean(drain.detail[:MAX_DETAIL_CHARACTERS], MAX_DETAIL_CHARACTERS, "detail"), SHOWN_DETAIL_CHARACTERS
    )
    end = End.REFUSED if drain.reason in _KEPT_OUT else End.DRAINED
    return Ending(end, f"{words}: {detail}" if detail else words, drain.retry_after_ms / 1000)
