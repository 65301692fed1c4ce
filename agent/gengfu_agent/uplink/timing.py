"""How long the uplink waits for what. Seconds, if the name says nothing else."""

from __future__ import annotations

from dataclasses import dataclass

from gengfu_agent.uplink.present import DEFAULT_FRESH_MS
from gengfu_proto.limits import HEARTBEATS_TO_SILENCE, SILENCE_GRACE_S


@dataclass(frozen=True, slots=True)
class Timing:
    """Tests pass smaller ones."""

    greet_s: float = 20.0
    """From dialling to Welcome."""
    send_s: float = 30.0
    """For one message, when the collector takes nothing."""
    tick_s: float = 5.0
    """How often the stream looks after itself."""
    suspend_s: float = 10.0
    """So much more time than the loop knows of: the machine was asleep."""
    flush_s: float = 0.5
    """At the end: for live records that are not on their way yet."""
    settle_s: float = 1.0
    """At the end: for acknowledgements of what is on its way."""
    fresh_ms: int = DEFAULT_FRESH_MS
    min_heartbeat_s: float = 1.0
    max_heartbeat_s: float = 300.0
    default_heartbeat_s: float = 30.0
    silence_grace_s: float = SILENCE_GRACE_S

    def was_asleep(self, passed_s: float, passed_with_sleep_s: float) -> bool:
        """Whether the machine was suspended, from two clocks of which only one counts that time."""
        return passed_with_sleep_s - passed_s > self.suspend_s

    def heartbeat_s(self, wished_ms: int) -> float:
        """Return the interval for what a Welcome wishes, within reason."""
        if wished_ms <= 0:
            return self.default_heartbeat_s
        return min(max(wished_ms / 1000, self.min_heartbeat_s), self.max_heartbeat_s)

    def silence_s(self, heartbeat_s: float) -> float:
        """Return after how much silence the collector's end is taken for dead."""
        return HEARTBEATS_TO_SILENCE * heartbeat_s + self.silence_grace_s
