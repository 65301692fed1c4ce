"""When a certificate is renewed. Pure; times are seconds since the epoch by the collector's clock."""

from __future__ import annotations

JITTER_SHARE = 0.1
RETRY_SHARE = 0.02
MIN_RETRY_S = 1.0
MAX_RETRY_S = 3_600.0


def due_at_s(not_before_s: float, not_after_s: float, random: float) -> float:
    """Return the moment from which to ask for a new certificate: half of its life, and up to a tenth of it later.

    `random` (0 to 1) is drawn once for a certificate, so that machines set up together spread out.
    """
    return not_before_s + (not_after_s - not_before_s) * (0.5 + JITTER_SHARE * random)


def retry_after_s(not_before_s: float, not_after_s: float) -> float:
    """Return how long to wait for an answer before asking again."""
    return min(max((not_after_s - not_before_s) * RETRY_SHARE, MIN_RETRY_S), MAX_RETRY_S)


def is_over(not_after_s: float, now_s: float) -> bool:
    """Whether a certificate can no longer be shown."""
    return now_s >= not_after_s
