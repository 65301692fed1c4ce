"""The agent's certificate over the years: renewed in time, recovered when it is over, by the collector's clock."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable

from gengfu_agent import enrolment, keys
from gengfu_agent.clock import Clock
from gengfu_agent.errors import BrokenProtocol, IdentityError, KeysUnavailable
from gengfu_agent.identity import Credentials, Identity
from gengfu_agent.uplink import renewal

MIN_ROOTS_INTERVAL_MS = 10_000
MAX_ROOTS_BYTES = 64 * 1024

_PEM_BODY = re.compile(rb"-----BEGIN CERTIFICATE-----([^-]+)-----END CERTIFICATE-----")
_log = logging.getLogger(__name__)


class CertificateKeeper:
    """Knows when the certificate is due and over, and changes it. Lives on the event loop; files and keys in threads.

    The collector's clock is known from what it said last and the time since then by a clock that cannot be set; as
    long as it has said nothing, this machine's own is taken.
    """

    def __init__(self, identity: Identity, clock: Clock, random: Callable[[], float]) -> None:
        self._identity = identity
        self._clock = clock
        self._random = random
        self._collector_ahead_of_boot_ms: int | None = None
        self._credentials: Credentials | None = None
        self._due_at_s = 0.0
        self._ask_after_ms = 0
        self._asked_with: bytes | None = None
        self._told_unasked = False
        self._roots_after_ms = 0

    async def load(self) -> Credentials:
        """Return what to show now; raises IdentityDamaged."""
        credentials = await asyncio.to_thread(self._identity.credentials)
        if credentials != self._credentials:
            self._take(credentials)
        return credentials

    def collector_says(self, wall_ms: int) -> None:
        """The collector's clock shows this now."""
        self._collector_ahead_of_boot_ms = wall_ms - self._clock.boot_ms()

    @property
    def not_after_s(self) -> float:
        """The end of the present certificate, 0 before one is loaded."""
        return self._credentials.not_after_s if self._credentials else 0.0

    def is_over(self) -> bool:
        """Whether the certificate can no longer be shown."""
        return self._credentials is not None and renewal.is_over(self._credentials.not_after_s, self._now_s())

    def is_due(self) -> bool:
        """Whether to ask for a new certificate now."""
        return self._credentials is not None and self._now_s() >= self._due_at_s and self._may_ask()

    async def request_der(self) -> bytes | None:
        """Return a request for a new certificate, with a new key that is kept; None when none can be made now."""
        assert self._credentials is not None
        pause_s = renewal.retry_after_s(self._credentials.not_before_s, self._credentials.not_after_s)
        self._ask_after_ms = self._clock.boot_ms() + round(pause_s * 1000)
        self._told_unasked = False
        try:
            self._asked_with = await asyncio.to_thread(self._identity.pending_key, keys.new_key)
            return await asyncio.to_thread(keys.certificate_request_der, self._asked_with)
        except (IdentityError, OSError) as error:
            _log.error("renewal_failed", extra={"reason": str(error)})
            return None

    async def adopt(self, certificate_pem: bytes) -> bool:
        """Store the certificate that was asked for; False when it was not, or is not what it should be."""
        key, self._asked_with = self._asked_with, None
        if key is None:
            if not self._told_unasked:  # a collector may send them without end
                _log.warning("certificate_not_asked_for")
            self._told_unasked = True
            return False
        try:
            roots = await asyncio.to_thread(self._identity.roots_pem)
            adopt = enrolment.adopt_certificate
            self._take(await asyncio.to_thread(adopt, self._identity, certificate_pem, key, roots))
        except (BrokenProtocol, IdentityError, OSError) as error:
            _log.error("renewal_failed", extra={"reason": str(error)})
            return False
        _log.info("certificate_renewed", extra={"not_after_s": round(self.not_after_s)})
        return True

    async def adopt_roots(self, roots_pem: bytes) -> None:
        """Trust these roots from the next connection on, if they are sound and go on from the present ones."""
        now_ms = self._clock.boot_ms()
        try:
            present = await asyncio.to_thread(self._identity.roots_pem)
            if roots_pem == present or now_ms < self._roots_after_ms or len(roots_pem) > MAX_ROOTS_BYTES:
                return
            self._roots_after_ms = now_ms + MIN_ROOTS_INTERVAL_MS
            if not _bodies(roots_pem) & _bodies(present):
                _log.error("roots_refused", extra={"reason": "none of them is trusted so far"})
                return
            count = await asyncio.to_thread(keys.check_roots, roots_pem)
            await asyncio.to_thread(self._identity.store_roots, roots_pem)
        except (KeysUnavailable, IdentityError, OSError) as error:
            _log.error("roots_refused", extra={"reason": str(error)})
            return
        _log.info("roots_replaced", extra={"roots": count})

    async def ask_collector(self) -> None:
        """Ask the enrolment listener for clock and roots; raises UplinkError or IdentityError."""
        authority = await enrolment.ask_authority(self._identity, self._clock)
        self.collector_says(round(authority.wall_clock_s * 1000))
        await self.adopt_roots(authority.roots_pem)

    async def recover(self) -> None:
        """Get a new certificate by the binding key; raises UplinkError, IdentityError or OSError."""
        self._take(await enrolment.recover(self._identity, self._clock))
        _log.info("certificate_recovered", extra={"not_after_s": round(self.not_after_s)})

    def _take(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._due_at_s = renewal.due_at_s(credentials.not_before_s, credentials.not_after_s, self._random())
        self._ask_after_ms = 0

    def _may_ask(self) -> bool:
        return self._clock.boot_ms() >= self._ask_after_ms

    def _now_s(self) -> float:
        if self._collector_ahead_of_boot_ms is None:
            return self._clock.wall_ms() / 1000
        return (self._clock.boot_ms() + self._collector_ahead_of_boot_ms) / 1000


def _bodies(roots_pem: bytes) -> set[bytes]:
    return {b"".join(found[1].split()) for found in _PEM_BODY.finditer(roots_pem)}
