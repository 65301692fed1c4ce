"""What the parts of the Wi-Fi check tell each other."""

from __future__ import annotations

from dataclasses import dataclass

LEAST_DBM, MOST_DBM = -120.0, 0.0
"""Beyond these a driver says nothing, whatever number it gives (0, -256, 200)."""
MOST_BITS_PER_SECOND = 1e12


@dataclass(frozen=True, slots=True)
class Station:
    """One Wi-Fi link of this machine. None stands for what the system does not tell.

    `access_point` is compared from run to run to count roaming, and told to nobody: it says where a person is.
    """

    link: str
    connected: bool
    signal_dbm: float | None = None
    receive_bits_per_second: float | None = None
    transmit_bits_per_second: float | None = None
    frequency_hertz: float | None = None
    access_point: str = ""


def sound_dbm(value: float) -> float | None:
    """A signal as it is, None for one that cannot be."""
    return value if LEAST_DBM <= value < MOST_DBM else None


def sound_rate(bits_per_second: float) -> float | None:
    """A rate as it is, None for one that cannot be."""
    return bits_per_second if 0 < bits_per_second < MOST_BITS_PER_SECOND else None
