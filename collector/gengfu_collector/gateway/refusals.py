"""Why a stream is not let in, for the agent (a drain message), for people (its text) and for metrics (a word)."""

from __future__ import annotations

from sqlalchemy.exc import SQLAlchemyError

from gengfu_collector.errors import Overloaded, Refused
from gengfu_collector.gateway.messages import DrainReason
from gengfu_collector.gateway.session import ProtocolError
from gengfu_proto.errors import MessageError

QUARANTINE_RETRY_MS = 600_000
BLOCKED_RETRY_MS = 60_000
OVERLOADED_RETRY_MS = 30_000
STORE_RETRY_MS = 10_000
STOPPED_RETRY_MS = 2_000
MAX_STOPPED_RETRY_MS = 30_000
HANDSHAKE_PACE_MS = 7  # an agent: handshakes leave a collector time for everything else
RETURN_PACE_MS = 14  # an agent; nobody knows yet when the collector will be there, so that some of the span is lost
MAX_RETURN_MS = 45_000

_WORDS: dict[type[Exception], str] = {
    ProtocolError: "protocol",
    MessageError: "malformed",
    TimeoutError: "no_hello",
    Overloaded: "limit",
    SQLAlchemyError: "store",
}


class Away(Refused):
    """This agent is sent away, with the reason and when it may ask again."""

    def __init__(self, reason: DrainReason, retry_after_ms: int, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.retry_after_ms = retry_after_ms


def after_stop_ms(agents: int) -> int:
    """When agents may ask again after a stop: the more there are, the longer they may take to be back."""
    return min(max(STOPPED_RETRY_MS, agents * HANDSHAKE_PACE_MS), MAX_STOPPED_RETRY_MS)


def after_loss_ms(agents: int) -> int:
    """The span over which so many agents come back after a crash: wide enough that handshakes do not fill a core."""
    return min(agents * RETURN_PACE_MS, MAX_RETURN_MS)


def quarantined(host: str) -> Away:
    """For a copy of an agent whose identity is held by this host."""
    remedy = "give this machine an identity of its own: gengfu-agent enrol --as-new"
    return Away(DrainReason.QUARANTINED, QUARANTINE_RETRY_MS, f"{host} holds it; {remedy}")


def away_for(state: str) -> Away:
    """For an agent that is not active."""
    if state == "quarantined":
        return Away(DrainReason.QUARANTINED, QUARANTINE_RETRY_MS, "two machines use this identity")
    return Away(DrainReason.BLOCKED, BLOCKED_RETRY_MS, f"the agent is {state}")


def unknown() -> Away:
    """For an agent with a good certificate that is not in the store."""
    return Away(DrainReason.BLOCKED, BLOCKED_RETRY_MS, "this collector does not know the agent; enrol it again")


def as_away(error: Exception) -> Away | None:
    """What an agent is told of this error in a drain message; None for one that cannot read such a message."""
    if isinstance(error, Overloaded):
        return Away(DrainReason.REBALANCE, OVERLOADED_RETRY_MS, str(error))
    if isinstance(error, SQLAlchemyError):
        # The writer has logged it.
        return Away(DrainReason.REBALANCE, STORE_RETRY_MS, "the collector cannot use its store at present")
    return error if isinstance(error, Away) else None


def word_for(error: Exception) -> str:
    """One of a small fixed set of words."""
    if isinstance(error, Away):
        return error.reason.name.lower()
    return next((word for kind, word in _WORDS.items() if isinstance(error, kind)), "identity")
