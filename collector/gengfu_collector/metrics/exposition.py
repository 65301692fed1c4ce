"""Findings and measurements of every asset as metric families, from the live table.

What was written for a run is kept until the run changes, so a page costs little more than joining it. The event loop
is never held for long: bringing pages up to date pauses every few milliseconds. All of this happens on the loop's
thread, which is the only one that changes the live table.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from gengfu_checks.model import MetricType
from gengfu_collector.intake.live import LiveAgent, LiveRun, LiveTable
from gengfu_collector.logs import sparing_logger
from gengfu_collector.metrics.kinds import KnownKinds
from gengfu_collector.metrics.layout import (
    FINDING_PROBLEM,
    FINDING_STATUS,
    LAST_MEASURED,
    Family,
    Layout,
    LayoutKey,
    build_layout,
    is_too_large,
    layout_key,
)
from gengfu_collector.metrics.own import LabelledCounter
from gengfu_collector.metrics.text import FamilyText, FamilyType, label_name, label_text, sample
from gengfu_proto.convert.report import Shape

_hidden_log = sparing_logger(__name__)

SLICE_S = 0.005
MAX_ASSET_LABELS = 32

AGENT_CONNECTED = "gengfu_agent_connected"
ASSET_INFO = "gengfu_asset_info"

BUILT_IN: Mapping[str, str] = {
    FINDING_STATUS: "Status of a finding: 0 ok, 1 warning, 2 critical, 3 unknown",
    FINDING_PROBLEM: "1 for every finding that is not ok, with the code that says why",
    LAST_MEASURED: "Time of the last run of a check, by the clock of the machine that measured",
    AGENT_CONNECTED: "1 when the asset's agent has a stream to the collector, 0 when not",
    ASSET_INFO: "Labels of an asset; the value is always 1",
}


@dataclass(slots=True, eq=False)
class _ShownRun:
    shape_id: bytes
    layout: Layout
    version: int = -1


@dataclass(slots=True, eq=False)
class _ShownAgent:
    """What is kept of an agent; void as soon as anything of `identity` changes."""

    agent: LiveAgent
    identity: tuple[str, str, dict[str, str]]
    labels: str
    info: bytes
    version: int = -1
    runs: dict[str, _ShownRun] = field(default_factory=dict)


class Exposition:
    """Keeps the written lines of a live table. `reserved` are names that no measured metric may take."""

    def __init__(self, table: LiveTable, reserved: Collection[str], hidden: LabelledCounter, kinds: KnownKinds) -> None:
        self._table = table
        self._reserved = frozenset({*reserved, *BUILT_IN})
        self._hidden = hidden
        self._kinds = kinds
        self._agents: dict[int, _ShownAgent] = {}
        self._families: dict[str, Family] = {}
        self._layouts: dict[LayoutKey, tuple[Layout, int]] = {}
        self._changing = asyncio.Lock()

    async def everything(self) -> list[FamilyText]:
        """The families of all assets."""
        async with self._changing:
            owners = asset_owners(self._table.agents.values())
            pace = _Pace()
            await self._forget_all_but({agent.agent_id for agent in owners.values()}, pace)
            for agent in owners.values():
                await self._refresh(agent, pace)
                await pace.rest()
            families = [(family, list(family.lines.values())) for family in self._families.values()]
            agents = list(self._agents.values())
        return [*await self._described(families, pace), *_agent_families(agents)]

    async def of_asset(self, name: str) -> list[FamilyText] | None:
        """The families of one asset; None when there is no such asset."""
        async with self._changing:
            agent = asset_owners(a for a in self._table.agents.values() if a.asset == name).get(name)
            if agent is None:
                return None
            pace = _Pace()
            if len(self._agents) > len(self._table.agents):
                await self._forget_all_but(self._table.agents.keys(), pace)
            shown = await self._refresh(agent, pace)
            lines: dict[Family, list[bytes]] = {}
            for run in shown.runs.values():
                for family in run.layout.families:
                    lines.setdefault(family, []).append(family.lines[run])
        return [*await self._described(list(lines.items()), pace), *_agent_families([shown])]

    async def _refresh(self, agent: LiveAgent, pace: _Pace) -> _ShownAgent:
        shown = self._shown(agent)
        if shown.version == agent.version:
            return shown
        version, runs = agent.version, dict(agent.runs)
        for check in shown.runs.keys() - runs.keys():
            self._forget_run(shown, check)
        for check, run in runs.items():
            self._show_run(shown, check, run)
            await pace.rest()
        shown.version = version
        return shown

    def _shown(self, agent: LiveAgent) -> _ShownAgent:
        identity = (agent.asset, agent.asset_class, dict(agent.labels))
        shown = self._agents.get(agent.agent_id)
        if shown is not None and shown.agent is agent and shown.identity == identity:
            return shown
        if shown is not None:
            self._forget_agent(agent.agent_id)
        labels = label_text({"asset": agent.asset, "class": agent.asset_class})
        info = sample(ASSET_INFO, label_text(info_labels(agent)), 1)
        shown = self._agents[agent.agent_id] = _ShownAgent(agent, identity, labels, info)
        return shown

    def _show_run(self, shown: _ShownAgent, check: str, run: LiveRun) -> None:
        kept = shown.runs.get(check)
        if kept is not None and kept.version == run.version:
            return
        if kept is None or kept.shape_id != run.shape.id:
            layout = self._take_layout(run.shape)
            if kept is not None:
                self._forget_run(shown, check)
            kept = shown.runs[check] = _ShownRun(run.shape.id, layout)
        lines = kept.layout.write(run.shape, run.values, run.measured_at_ms, shown.labels)
        for family, text in zip(kept.layout.families, lines, strict=True):
            family.lines[kept] = text
        kept.version = run.version

    def _take_layout(self, shape: Shape) -> Layout:
        key = layout_key(shape)
        layout, users = self._layouts.get(key, (None, 0))
        if layout is None:
            if is_too_large(shape):
                self._hide("too_many_series", shape.kind)
            layout = build_layout(key, shape, self._measured_family, self._family)
            for family in layout.families:
                family.users += 1
        self._layouts[key] = (layout, users + 1)
        return layout

    def _hide(self, reason: str, kind: str) -> None:
        self._hidden.inc(reason)
        _hidden_log.warning("metrics of a check are not shown", reason=reason, kind=kind)

    def _give_back_layout(self, layout: Layout) -> None:
        _layout, users = self._layouts[layout.key]
        if users > 1:
            self._layouts[layout.key] = (layout, users - 1)
            return
        del self._layouts[layout.key]
        for family in layout.families:
            family.users -= 1
            if not family.users:
                del self._families[family.name]

    def _measured_family(self, kind: str, metric: str, reported: MetricType) -> Family | None:
        name = f"gengfu_{kind}_{metric}"
        if name in self._reserved or name.removesuffix("_total") in self._reserved:
            self._hide("reserved_name", kind)
            return None
        return self._family(name, kind, metric, reported)

    def _family(self, name: str, kind: str = "", metric: str = "", reported: MetricType = MetricType.GAUGE) -> Family:
        family = self._families.get(name)
        if family is None:
            family = self._families[name] = Family(name, kind, metric, reported)
        return family

    def _forget_run(self, shown: _ShownAgent, check: str) -> None:
        run = shown.runs.pop(check)
        for family in run.layout.families:
            del family.lines[run]
        self._give_back_layout(run.layout)

    def _forget_agent(self, agent_id: int) -> None:
        shown = self._agents.pop(agent_id)
        for check in list(shown.runs):
            self._forget_run(shown, check)

    async def _forget_all_but(self, agent_ids: Collection[int], pace: _Pace) -> None:
        for agent_id in self._agents.keys() - agent_ids:
            self._forget_agent(agent_id)
            await pace.rest()

    async def _described(self, families: Collection[tuple[Family, list[bytes]]], pace: _Pace) -> list[FamilyText]:
        unloaded = self._kinds.unloaded(family.kind for family, _lines in families)
        if unloaded:
            await asyncio.to_thread(self._kinds.load, unloaded)
        described = []
        for family, lines in families:
            await pace.rest()
            described.append(self._describe(family, lines))
        await pace.rest()
        return described

    def _describe(self, family: Family, lines: list[bytes]) -> FamilyText:
        if not family.kind:
            return FamilyText(family.name, FamilyType.GAUGE, BUILT_IN[family.name], lines)
        kind, help_text = self._kinds.describe(family.kind, family.metric, family.type)
        if kind is FamilyType.COUNTER and any(b"} -" in chunk for chunk in lines):
            # Strict readers refuse a whole page for one negative counter, which any agent could send.
            kind = FamilyType.UNKNOWN
        return FamilyText(family.name, kind, help_text, lines)


class _Pace:
    """Lets the event loop do other work whenever a slice of time is used up."""

    def __init__(self) -> None:
        self._end_s = time.perf_counter() + SLICE_S

    async def rest(self) -> None:
        if time.perf_counter() >= self._end_s:
            await asyncio.sleep(0)
            self._end_s = time.perf_counter() + SLICE_S


def asset_owners(agents: Iterable[LiveAgent]) -> dict[str, LiveAgent]:
    """The agent that speaks for each asset. Of several it is one that is connected, and of these the youngest."""
    owners: dict[str, LiveAgent] = {}
    for agent in agents:
        rival = owners.get(agent.asset)
        if rival is None or (agent.connected, agent.agent_id) > (rival.connected, rival.agent_id):
            owners[agent.asset] = agent
    return owners


def info_labels(agent: LiveAgent) -> dict[str, str]:
    """Labels of an asset's info series. Names that would be there twice get `_` at their end."""
    labels = {"asset": agent.asset, "class": agent.asset_class}
    for text, value in sorted(agent.labels.items())[:MAX_ASSET_LABELS]:
        name = label_name(text)
        while name in labels:
            name += "_"
        labels[name] = value
    return labels


def _agent_families(agents: Collection[_ShownAgent]) -> list[FamilyText]:
    connected = [sample(AGENT_CONNECTED, shown.labels, int(shown.agent.connected)) for shown in agents]
    info = [shown.info for shown in agents]
    return [
        FamilyText(AGENT_CONNECTED, FamilyType.GAUGE, BUILT_IN[AGENT_CONNECTED], connected),
        FamilyText(ASSET_INFO, FamilyType.INFO, BUILT_IN[ASSET_INFO], info),
    ]
