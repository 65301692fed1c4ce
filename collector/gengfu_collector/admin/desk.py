"""What operations work with: the store, and the running collector's parts where one runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from gengfu_collector.fleet.inspection import Inspection
from gengfu_collector.gateway.authority import Authority
from gengfu_collector.gateway.messages import DrainReason
from gengfu_collector.intake.pipeline import Intake
from gengfu_collector.store.database import Database


async def _no_orders() -> int:
    return 0


@dataclass(frozen=True, slots=True)
class Desk:
    """The truth and the levers. Without a running collector nobody is connected and the levers do nothing.

    `reload` reads the inspection folder anew (raises ConfigurationError, then nothing has changed), `give_orders` sends
    changed plans to connected agents and returns how many got one, `tell_roots` the roots that they should trust, and
    `ask_inventory` asks one (by row id) for its whole inventory; False when it is not connected, Refused when its own
    file forbids that.
    """

    database: Database
    intake: Intake
    authority: Authority
    now_ms: Callable[[], int]
    inspection: Callable[[], Inspection]
    connected: Callable[[], frozenset[str]] = frozenset
    end_stream: Callable[[int, DrainReason, int, str], None] = lambda *_: None
    reload: Callable[[], None] = lambda: None
    give_orders: Callable[[], Awaitable[int]] = field(default=_no_orders)
    tell_roots: Callable[[], int] = lambda: 0
    ask_inventory: Callable[[int], bool] = lambda _: False
    running: bool = False
