"""A report on its way through the intake, and what became of it."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from gengfu_collector.fleet.inventory import Taken
from gengfu_proto.convert.report import Body, Run, Shape


class Outcome(enum.Enum):
    """What became of a report."""

    STORED = "stored"
    DUPLICATE = "duplicate"  # known already, byte for byte: acknowledged again
    REJECTED = "rejected"  # kept as a dead letter
    RENUMBER = "renumber"  # its number belongs to other bytes
    RETRY = "retry"  # could not be stored now; nothing was acknowledged


class RejectionReason(enum.Enum):
    """Why a report became a dead letter; the names are those of the wire's RejectionReason."""

    MALFORMED = "malformed"
    TOO_LARGE = "too_large"
    UNKNOWN_SHAPE = "unknown_shape"
    LIMIT = "limit"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Rejection:
    """A report that cannot be processed, found by the gateway or by the intake itself."""

    reason: RejectionReason
    detail: str


class Receiver(Protocol):
    """The stream that a report came from. Called on the event loop's thread."""

    def finished(self, results: Sequence[Submission]) -> None:
        """These submissions are done; each carries its outcome."""


@dataclass(slots=True)
class Submission:
    """One report as received. `runs` are its runs with their shapes; `rejection` is set when it cannot be processed.

    `late` reports go to history and act on nothing; `present` are the runs that acted: the newest of their checks;
    `inventory` is what became of one.
    """

    receiver: Receiver
    agent_id: int
    epoch: int
    seq: int
    data: bytes
    body: Body
    runs: Sequence[tuple[Shape, Run]]
    new_shapes: Sequence[tuple[bytes, bytes]]
    late: bool
    rejection: Rejection | None = None
    outcome: Outcome = Outcome.RETRY
    present: list[tuple[Shape, Run]] = field(default_factory=list)
    inventory: Taken | None = None
    backlog: bool = False
    received_monotonic_s: float = 0.0
