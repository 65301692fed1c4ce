"""How much a counter has grown within a window of time: what a look now and a look a week ago have between them."""

from __future__ import annotations

from typing import Any

MAX_SAMPLES = 20
"""Of one counter. A counter that moves more often is remembered more coarsely."""


def grown(keep: dict[str, Any], key: str, value: float, now_s: float, window_s: float) -> float | None:
    """Growth of a counter within the window, as far as it was watched; None at the first look.

    `keep` is the check's own and holds samples under "growth": `[seconds since the epoch, value]`, one for each change.
    A counter that goes back has begun anew (a restart, another device): what it shows since then is its growth.
    """
    samples: list[list[float]] = keep.setdefault("growth", {}).setdefault(key, [])
    first = not samples
    if first or value != samples[-1][1]:
        if not first and value < samples[-1][1]:
            samples[:] = [[now_s, 0.0]]
        samples.append([now_s, value])
    for sample in samples:
        sample[0] = min(sample[0], now_s)  # the clock was set back
    while len(samples) > 1 and samples[1][0] <= now_s - window_s:
        del samples[0]
    if len(samples) > MAX_SAMPLES:
        del samples[1]
    return None if first else value - samples[0][1]


def forget_others(keep: dict[str, Any], keys: set[str]) -> None:
    """Drop the samples of what is no longer there."""
    samples = keep.setdefault("growth", {})
    for key in [key for key in samples if key not in keys]:
        del samples[key]
