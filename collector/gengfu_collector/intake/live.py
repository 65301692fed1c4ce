"""The present, in memory: the last run of every check of every agent. What /metrics shows; nothing here is stored.

Changed on the event loop's thread only, after the commit of what it shows.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field

from gengfu_proto.convert.report import Shape


@dataclass(slots=True)
class LiveRun:
    """The last run of one check. `version` grows with every change of this agent's runs (see LiveAgent.version)."""

    shape: Shape
    values: array[float]
    measured_at_ms: int
    received_monotonic_s: float
    version: int


@dataclass(slots=True)
class LiveAgent:
    """One agent as it is now; `runs` by check name. Agents whose checks fell silent lose their runs."""

    agent_id: int
    uid: str
    asset: str
    asset_class: str
    labels: Mapping[str, str]
    version: int = 0
    connected: bool = False
    runs: dict[str, LiveRun] = field(default_factory=dict)

    def put(self, shape: Shape, values: array[float], measured_at_ms: int, now_s: float) -> None:
        """Show a newer run of a check."""
        self.version += 1
        self.runs[shape.check] = LiveRun(shape, values, measured_at_ms, now_s, self.version)

    def drop_silent(self, now_s: float, grace_s: float) -> list[str]:
        """Forget runs that are overdue (three periods and the grace); return the names of their checks."""
        silent = [
            name
            for name, run in self.runs.items()
            if now_s - run.received_monotonic_s > 3 * run.shape.every_s + grace_s
        ]
        for name in silent:
            del self.runs[name]
            self.version += 1
        return silent

    def clear(self) -> None:
        """Forget every run: the agent itself is silent."""
        self.runs.clear()
        self.version += 1


@dataclass(slots=True)
class LiveTable:
    """Every agent of every active asset, by agent id."""

    agents: dict[int, LiveAgent] = field(default_factory=dict)

    def arrive(self, agent_id: int, uid: str, asset: str, asset_class: str, labels: Mapping[str, str]) -> None:
        """This agent has a stream."""
        shown = self.agents.get(agent_id)
        if shown is None or shown.asset != asset:
            shown = self.agents[agent_id] = LiveAgent(agent_id, uid, asset, asset_class, labels)
        shown.asset_class, shown.labels = asset_class, labels
        shown.connected = True
        shown.version += 1

    def leave(self, agent_id: int) -> None:
        """This agent has no stream any more; what it said last is still shown for a while."""
        shown = self.agents.get(agent_id)
        if shown is not None:
            shown.connected = False
            shown.version += 1
