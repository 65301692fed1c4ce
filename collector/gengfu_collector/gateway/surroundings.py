"""What the stream listener needs from the rest of the collector."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection

from gengfu_collector.gateway.session import Orders
from gengfu_collector.intake.pipeline import Intake


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the listener needs from the rest of the collector."""

    intake: Intake
    orders_for: Callable[[str, Mapping[str, str], str], Orders]
    """By the class, the labels and the name of an asset."""
    renew: Callable[[Connection, int, bytes, int], bytes]
    roots: Callable[[], bytes]
    now_ms: Callable[[], int]
    max_agents: int
    heartbeat_every_s: float = 30.0
    on_opened: Callable[[], object] = lambda: None
    on_refused: Callable[[str], object] = lambda _reason: None
    """Hears of every stream that was turned away or cut, with a word of a small fixed set."""
    on_lost: Callable[[], object] = lambda: None
    """Hears of every stream that ended without goodbye, also when it was gRPC that cut it, which does not say so."""
