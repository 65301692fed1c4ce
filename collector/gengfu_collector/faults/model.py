"""What the fault engine knows of one subject (one item of one check of one asset), and what it can say."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from gengfu_checks.model import OK_CODE, Status
from gengfu_collector.store.documents import from_text, to_text

NO_DATA = "no-data"


@dataclass(frozen=True, slots=True)
class Rule:
    """When a fault opens and closes.

    `confirm` bad observations in a row open it, `recover` good ones close it. `worst` is the most severe it may get.
    A subject that opened `flap_openings` faults within `flap_window_s` is flapping: it closes only after it has been
    good for `flap_hold_s` without a break. `items` are all that the check can have as planned; None where only a run
    tells.
    """

    confirm: int = 2
    recover: int = 2
    worst: Status = Status.CRITICAL
    flap_openings: int = 3
    flap_window_s: float = 3600.0
    flap_hold_s: float = 900.0
    items: frozenset[str] | None = None

    def plans(self, item: str) -> bool:
        """False for an item that the check has no more as it is planned now."""
        return self.items is None or item in self.items


@dataclass(frozen=True, slots=True)
class OpenFault:
    """The open fault of a subject. `ticket_resolved`: a person resolved its ticket before a measurement agreed."""

    severity: Status
    code: str
    opened_at_ms: int
    ticket_resolved: bool = False


@dataclass(frozen=True, slots=True)
class SubjectState:
    """All that the engine remembers. `status` None means no data. Counters stop at what the rule can ask for.

    `bad` counts warnings and criticals in a row, `worse` criticals in a row, `milder` anything better than critical in
    a row, `good` ok in a row, `same_code` how often the present bad code came in a row.
    """

    status: Status | None = None
    code: str = OK_CODE
    since_ms: int = 0
    bad: int = 0
    worse: int = 0
    milder: int = 0
    good: int = 0
    good_since_ms: int | None = None
    same_code: int = 0
    openings_ms: tuple[int, ...] = ()
    fault: OpenFault | None = None

    @property
    def word(self) -> str:
        """Status as people and JSON write it."""
        return NO_DATA if self.status is None else self.status.word


@dataclass(frozen=True, slots=True)
class Observed:
    """A fresh finding."""

    status: Status
    code: str


class Silent(enum.Enum):
    """Data stopped coming. Never good news."""

    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Ended:
    """An explicit act took the subject out of service, or a person closed the ticket."""

    reason: str


class ByHand(enum.Enum):
    """What a person did to the ticket of an open fault."""

    RESOLVED = "resolved"


Event = Observed | Silent | Ended | ByHand


class EffectKind(enum.Enum):
    """What follows from an event, for spans, faults and tickets."""

    STATUS = "status"
    OPENED = "opened"
    RAISED = "raised"
    LOWERED = "lowered"
    RECODED = "recoded"
    CLOSED = "closed"
    STILL_BAD = "still bad"


@dataclass(frozen=True, slots=True)
class Effect:
    """One consequence. `reason` tells why a fault closed; `flapping` whether the subject flaps as this happens."""

    kind: EffectKind
    severity: Status | None = None
    code: str = ""
    reason: str = ""
    flapping: bool = False


def counters_to_json(state: SubjectState) -> str:
    """Everything but status, code and since, as stored beside them."""
    fault = state.fault
    document: dict[str, object] = {
        "bad": state.bad,
        "worse": state.worse,
        "milder": state.milder,
        "good": state.good,
        "good_since_ms": state.good_since_ms,
        "same_code": state.same_code,
        "openings_ms": state.openings_ms,
    }
    if fault is not None:
        document["fault"] = [int(fault.severity), fault.code, fault.opened_at_ms, fault.ticket_resolved]
    return to_text(document)


def state_from_row(status: str, code: str, since_ms: int, counters: str) -> SubjectState:
    """The state that `counters_to_json` and the columns beside it hold."""
    document = from_text(counters)
    fault = document.pop("fault", None)
    openings = tuple(document.pop("openings_ms"))
    return SubjectState(
        status=None if status == NO_DATA else Status[status.upper()],
        code=code,
        since_ms=since_ms,
        openings_ms=openings,
        fault=OpenFault(Status(fault[0]), *fault[1:]) if fault else None,
        **document,
    )
