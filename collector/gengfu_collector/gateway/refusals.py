"""Why a stream is not let in, for the agent (a drain message), for people (its text) and for metrics (a word)."""

from __future__ import annotations

from gengfu_collector.errors import Overloaded, Refused
from gengfu_collector.gateway.messages import DrainReason
from gengfu_collector.gateway.session import ProtocolError
from gengfu_proto.errors import MessageError

QUARANTINE_RETRY_MS = 600_000
BLOCKED_RETRY_MS = 60_000
OVERLOADED_RETRY_MS = 30_000

_WORDS: dict[type[Exception], str] = {
    ProtocolError: "protocol",
    MessageError: "malformed",
    TimeoutError: "no_hello",
    Overloaded: "limit",
}


class Away(Refused):
    """This agent is sent away, with the reason and when it may ask again."""

    def __init__(self, reason: DrainReason, retry_after_ms: int, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.retry_after_ms = retry_after_ms


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


def word_for(error: Exception) -> str:
    """One of a small fixed set of words."""
    if isinstance(error, Away):
        return error.reason.name.lower()
    return next((word for kind, word in _WORDS.items() if isinstance(error, kind)), "identity")
