"""Nonces for machines that must prove to hold a key: each good once, for one agent, for a minute."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

from gengfu_collector.errors import Overloaded

NONCE_BYTES = 32
GOOD_FOR_S = 60.0
MAX_CHALLENGES = 10_000


class Challenges:
    """The nonces that are out, oldest first. Lives on the event loop."""

    def __init__(
        self,
        monotonic_s: Callable[[], float] = time.monotonic,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._monotonic_s = monotonic_s
        self._random_bytes = random_bytes
        self._out: dict[bytes, tuple[str, float]] = {}

    def __len__(self) -> int:
        return len(self._out)

    def give(self, uid: str) -> bytes:
        """A new nonce for whoever says to be this agent; raises Overloaded."""
        now_s = self._monotonic_s()
        self._forget_old(now_s)
        if len(self._out) >= MAX_CHALLENGES:
            raise Overloaded("too many machines ask to be let in again: try again in a minute")
        nonce = self._random_bytes(NONCE_BYTES)
        self._out[nonce] = (uid, now_s + GOOD_FOR_S)
        return nonce

    def take(self, nonce: bytes, uid: str) -> bool:
        """True when this nonce was given to this agent less than a minute ago; it is gone afterwards either way."""
        given_to, until_s = self._out.pop(nonce, ("", 0.0))
        return given_to == uid and self._monotonic_s() < until_s

    def _forget_old(self, now_s: float) -> None:
        while self._out:
            oldest = next(iter(self._out))
            if now_s < self._out[oldest][1]:
                return
            del self._out[oldest]
