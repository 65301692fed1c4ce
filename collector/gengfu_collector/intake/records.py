"""What the intake remembers of each agent between reports, so that a repeated finding costs no look at the database.

Changed on the writer's thread only, and only through `UnitOfWork.set`, which can take every change back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gengfu_collector.faults.model import Rule, SubjectState
from gengfu_collector.intake.ledger import Ledger
from gengfu_collector.tickets.lifecycle import TicketRef

NOT_ORDERED = (0, 0)


@dataclass(slots=True)
class SubjectRecord:
    """One item of one check of an asset."""

    id: int
    asset_id: int
    check: str
    item: str
    state: SubjectState
    fault_id: int | None = None
    ticket: TicketRef | None = None
    settings_id: bytes = b""
    """What the check was told when it named this item; empty when it fell silent about it under the same settings."""


@dataclass(slots=True)
class CheckRecord:
    """One check of an asset. `order` is (epoch, seq) of the last report that acted.

    `settled` says that another run of the same shape changes nothing.
    """

    subjects: dict[str, SubjectRecord] = field(default_factory=dict)
    shape_id: bytes = b""
    settled: bool = False
    order: tuple[int, int] = NOT_ORDERED


@dataclass(slots=True)
class AgentRecord:
    """One agent with its asset. `rules` are those of the plan that it was given last, by check name."""

    id: int
    uid: str
    state: str
    asset_id: int
    asset: str
    asset_class: str
    labels: Mapping[str, str]
    epoch: int
    machine_id: str
    session: bytes
    ledgers: dict[int, Ledger]
    checks: dict[str, CheckRecord]
    rules: Mapping[str, Rule] = field(default_factory=dict)
    order_at_load: tuple[int, int] = NOT_ORDERED
    asked: int = 0
    """How many of its reports were asked for under another number and have not come yet; see `redelivery`."""
