"""What the parts of the check of print queues tell each other."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Queue:
    """One print queue. `reasons` are keywords of RFC 8011 (CUPS) or names of Windows' status bits."""

    name: str
    stopped: bool
    accepting: bool = True
    reasons: tuple[str, ...] = ()
    jobs: int = 0
    waiting_since: float | None = None
    """When the oldest job was handed in that is neither done nor held on purpose; seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Spooler:
    """The print service of a machine that has queues."""

    running: bool
    queues: tuple[Queue, ...]
