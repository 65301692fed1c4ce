"""What the pages show of the live table, against a slow and obvious reference."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from live_fleet import (
    HOSTILE,
    Sample,
    finding,
    make_agent,
    make_table,
    parse,
    parse_samples,
    put,
    rich_table,
    shape_and_values,
)

from gengfu_checks.model import MetricType, Status
from gengfu_collector.intake.live import LiveAgent, LiveTable
from gengfu_collector.metrics import exposition as exposition_module
from gengfu_collector.metrics.exposition import Exposition
from gengfu_collector.metrics.kinds import KnownKinds
from gengfu_collector.metrics.layout import MAX_SERIES_A_RUN, Layout
from gengfu_collector.metrics.own import LabelledCounter, OwnMetrics
from gengfu_collector.metrics.pages import MetricsPages
from gengfu_collector.metrics.text import Format, page
from gengfu_proto.convert.report import Run, findings_of

KINDS = KnownKinds()
FORMATS = pytest.mark.parametrize("form", list(Format))


def new_exposition(table: LiveTable, reserved: frozenset[str] = frozenset()) -> tuple[Exposition, LabelledCounter]:
    hidden = LabelledCounter("hidden_total", "", "reason")
    return Exposition(table, reserved, hidden, KINDS), hidden


async def text_of(exposition: Exposition, form: Format = Format.CLASSIC) -> str:
    return b"".join(page(await exposition.everything(), form)).decode()


async def asset_text(exposition: Exposition, name: str, form: Format = Format.CLASSIC) -> str:
    families = await exposition.of_asset(name)
    assert families is not None
    return b"".join(page(families, form)).decode()


def reference(agents: list[LiveAgent]) -> list[Sample]:
    """Every sample that the agents should have, written down one by one."""
    samples: list[Sample] = []

    def add(name: str, value: float, labels: Mapping[str, str]) -> None:
        samples.append((name, tuple(sorted((key, text) for key, text in labels.items() if text)), value))

    for agent in agents:
        asset = {"asset": agent.asset, "class": agent.asset_class}
        add("gengfu_agent_connected", float(agent.connected), asset)
        add("gengfu_asset_info", 1.0, {**asset, **agent.labels})
        for check, run in agent.runs.items():
            common = {**asset, "check": check, "target": run.shape.target}
            add("gengfu_check_last_measured_timestamp_seconds", run.measured_at_ms / 1000, common)
            wire_run = Run(run.shape.id, run.measured_at_ms, 0, run.values)
            for part in findings_of(run.shape, wire_run):
                labels = {**common, "item": part.item}
                add("gengfu_finding_status", float(part.status), labels)
                if part.status is not Status.OK:
                    add("gengfu_finding_problem", 1.0, {**labels, "code": part.code})
                for metric, value in part.metrics.items():
                    add(f"gengfu_{run.shape.kind}_{metric}", value, labels)
    return sorted(samples)


@FORMATS
async def test_hostile_strings_come_back_from_a_parser_as_they_were(form: Format) -> None:
    table = rich_table()
    table.agents[1].labels = {"site": 'a"b\\c'}
    exposition, _hidden = new_exposition(table)
    assert parse_samples(await text_of(exposition, form), form) == reference(list(table.agents.values()))


NAMES = st.sampled_from(["", "/", "a", HOSTILE, 'x"', "\\n", "\\", "%r", "终端", "}\u2028"])
METRICS = st.dictionaries(
    st.sampled_from(["free_bytes", "free_ratio", "reads", "reads_total", "reads_created", "errors_total"]),
    st.floats(allow_nan=False, allow_infinity=False),
)
FINDINGS = st.lists(
    st.tuples(NAMES, METRICS, st.sampled_from(Status), st.sampled_from(["ok", "disk.full"])),
    max_size=4,
    unique_by=lambda part: part[0],
).map(lambda parts: [finding("x", item, metrics, status, code) for item, metrics, status, code in parts])

PUT = st.tuples(
    st.just("put"),
    st.integers(1, 3),
    st.sampled_from(["disk", "disk.2", "odd"]),
    st.sampled_from(["disk", "odd", "x"]),
    FINDINGS,
    st.sampled_from(["", "10.0.0.1", HOSTILE]),
)
OTHER = st.tuples(
    st.sampled_from(["clear", "silence", "remove", "replace", "rename", "relabel", "disconnect"]), st.integers(1, 3)
)


def fresh_agent(agent_id: int) -> LiveAgent:
    return make_agent(agent_id, f"srv-{agent_id}", site="hq")


def change(table: LiveTable, action: str, agent_id: int, *more: object) -> None:
    agent = table.agents.get(agent_id)
    if agent is None or action == "replace":
        agent = table.agents[agent_id] = fresh_agent(agent_id)
    if action == "put":
        check, kind, findings, target = more
        assert isinstance(check, str)
        assert isinstance(kind, str)
        assert isinstance(findings, list)
        assert isinstance(target, str)
        put(agent, check, *findings, kind=kind, target=target, measured_at_ms=agent.version * 1001)
    elif action == "clear":
        agent.clear()
    elif action == "silence":
        agent.drop_silent(1e9, 0)
    elif action == "remove":
        del table.agents[agent_id]
    elif action == "rename":
        agent.asset = f'{agent.asset} "new"'
    elif action == "relabel":
        agent.labels = {**agent.labels, f"label_{len(agent.labels)}": HOSTILE}
    elif action == "disconnect":
        agent.connected = not agent.connected


@given(st.lists(st.lists(st.one_of(PUT, PUT, OTHER), max_size=4), max_size=5), st.sampled_from(Format))
def test_pages_equal_the_reference_whatever_happened_between_them(
    rounds: list[list[tuple[str, int]]], form: Format
) -> None:
    async def run() -> None:
        table = LiveTable()
        exposition, _hidden = new_exposition(table)
        for actions in rounds:
            for action in actions:
                change(table, *action)
            agents = list(table.agents.values())
            assert parse_samples(await text_of(exposition, form), form) == reference(agents)
            for agent in agents:
                assert parse_samples(await asset_text(exposition, agent.asset, form), form) == reference([agent])
        table.agents.clear()
        await exposition.everything()
        assert (exposition._agents, exposition._families, exposition._layouts) == ({}, {}, {})

    asyncio.run(run())


async def test_a_page_as_it_is() -> None:
    agent = make_agent(1, "srv-1", site="hq")
    metrics = {"available_bytes": 5e9, "available_ratio": 0.25, "in_bytes_total": 3.0}
    put(agent, "memory", finding("memory", "ram", metrics, Status.WARNING, "memory.low"), target="a 1.0")
    exposition, _hidden = new_exposition(make_table(agent))
    run = 'asset="srv-1",class="server",check="memory"'
    ram = f'{run},item="ram",target="a 1.0"'
    samples = [line for line in (await text_of(exposition)).splitlines() if not line.startswith("#")]
    assert samples == [
        'gengfu_agent_connected{asset="srv-1",class="server"} 1',
        'gengfu_asset_info{asset="srv-1",class="server",site="hq"} 1',
        f'gengfu_check_last_measured_timestamp_seconds{{{run},target="a 1.0"}} 1700000000.25',
        f'gengfu_finding_problem{{{ram},code="memory.low"}} 1',
        f"gengfu_finding_status{{{ram}}} 1",
        f"gengfu_memory_available_bytes{{{ram}}} 5000000000.0",
        f"gengfu_memory_available_ratio{{{ram}}} 0.25",
        f"gengfu_memory_in_bytes_total{{{ram}}} 3.0",
    ]


async def test_only_what_changed_is_written_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    table = rich_table()
    exposition, _hidden = new_exposition(table)
    await exposition.everything()
    written = []
    original = Layout.write

    def write(layout: Layout, *arguments: object) -> list[bytes]:
        written.append(layout.key[0])
        return original(layout, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Layout, "write", write)
    await exposition.everything()
    assert written == []
    put(table.agents[2], "ping", finding("ping", "", {"rtt_seconds": 0.5}), target="10.0.0.1")
    assert "gengfu_ping_rtt_seconds" in await text_of(exposition)
    assert written == ["ping"]


async def test_agents_with_equal_shapes_share_a_layout() -> None:
    agents = [make_agent(i, f"srv-{i}") for i in range(3)]
    for agent in agents:
        put(agent, "disk", finding("disk", "/", {"free_ratio": agent.agent_id / 10}))
    exposition, _hidden = new_exposition(make_table(*agents))
    await exposition.everything()
    assert len(exposition._layouts) == 1


async def test_a_status_that_changes_under_the_same_code_is_shown() -> None:
    agent = make_agent(1, "srv-1")
    exposition, _hidden = new_exposition(make_table(agent))
    for status in (Status.WARNING, Status.CRITICAL, Status.WARNING):
        put(agent, "disk", finding("disk", "/", {}, status, "disk.nearly_full"))
        assert parse_samples(await text_of(exposition), Format.CLASSIC) == reference([agent])


async def test_a_silent_agent_keeps_no_measurement_but_says_that_it_is_not_connected() -> None:
    agent = make_agent(1, "srv-1")
    put(agent, "disk", finding("disk", "/", {"free_ratio": 0.5}))
    exposition, _hidden = new_exposition(make_table(agent))
    assert "gengfu_disk_free_ratio{" in await text_of(exposition)
    agent.clear()
    agent.connected = False
    for text in (await text_of(exposition), await asset_text(exposition, "srv-1")):
        assert "gengfu_disk" not in text
        assert "gengfu_finding" not in text
        assert 'gengfu_agent_connected{asset="srv-1",class="server"} 0\n' in text


async def test_of_two_agents_of_one_asset_only_one_speaks() -> None:
    old, new = make_agent(1, "srv-1"), make_agent(2, "srv-1")
    for agent, value in ((old, 1.0), (new, 2.0)):
        put(agent, "disk", finding("disk", "/", {"free_bytes": value}))
    exposition, _hidden = new_exposition(make_table(old, new))
    assert parse_samples(await text_of(exposition), Format.CLASSIC) == reference([new])
    new.connected = False
    assert parse_samples(await text_of(exposition), Format.CLASSIC) == reference([old])
    assert parse_samples(await asset_text(exposition, "srv-1"), Format.CLASSIC) == reference([old])


async def test_there_is_no_page_of_an_unknown_asset() -> None:
    exposition, _hidden = new_exposition(rich_table())
    assert await exposition.of_asset("nobody") is None


async def test_asset_pages_alone_keep_nothing_of_agents_that_are_gone() -> None:
    table = rich_table()
    exposition, _hidden = new_exposition(table)
    await exposition.everything()
    del table.agents[1]
    await exposition.of_asset(HOSTILE)
    assert exposition._agents.keys() == {2}


async def test_a_measured_metric_cannot_take_a_name_of_the_collector() -> None:
    agent = make_agent(1, "srv-1")
    put(agent, "collector", finding("collector", "", {"loop_lag_seconds_count": 1.0, "good": 2.0}))
    put(agent, "finding", finding("finding", "", {"status": 7.0}))
    exposition, hidden = new_exposition(make_table(agent), frozenset({"gengfu_collector_loop_lag_seconds_count"}))
    text = await text_of(exposition)
    assert "loop_lag" not in text
    assert 'gengfu_collector_good{asset="srv-1",class="server",check="collector"} 2.0\n' in text
    assert text.count('gengfu_finding_status{asset="srv-1",class="server",check="finding"}') == 1
    assert hidden.values == {("reserved_name",): 2}


async def test_a_run_of_too_many_series_shows_only_when_it_was_measured() -> None:
    agent = make_agent(1, "srv-1")
    metrics = {f"m{i}": 1.0 for i in range(250)}
    findings = [finding("odd", str(i), metrics) for i in range(MAX_SERIES_A_RUN // 250)]
    put(agent, "odd", *findings)
    exposition, hidden = new_exposition(make_table(agent))
    text = await text_of(exposition)
    assert "gengfu_odd_m1" not in text
    assert 'gengfu_check_last_measured_timestamp_seconds{asset="srv-1",class="server",check="odd"}' in text
    assert hidden.values == {("too_many_series",): 1}


async def test_type_and_help_come_from_the_catalogue_and_not_from_an_agent() -> None:
    agent = make_agent(1, "srv-1")
    metrics = {"available_bytes": 1.0, "in_bytes_total": 2.0, "invented": 3.0}
    lies = {"available_bytes": MetricType.COUNTER, "in_bytes_total": MetricType.GAUGE, "invented": MetricType.COUNTER}
    shape, values = shape_and_values("memory", [finding("memory", "ram", metrics)], types=lies)
    agent.put(shape, values, 0, 0.0)
    exposition, _hidden = new_exposition(make_table(agent))
    families = parse(await text_of(exposition), Format.CLASSIC)
    assert families["gengfu_memory_available_bytes"] == ("gauge", "Memory that programs can get without swapping")
    assert families["gengfu_memory_in_bytes"][0] == "counter"
    assert families["gengfu_memory_invented"] == ("unknown", "Measured by checks of kind memory")


async def test_a_check_that_cannot_be_imported_here_is_shown_without_its_help(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str) -> None:
        raise RuntimeError("a third party's module does what it likes")

    monkeypatch.setattr("gengfu_checks.registry.load", load)
    agent = make_agent(1, "srv-1")
    put(agent, "memory", finding("memory", "ram", {"available_bytes": 1.0}))
    exposition = Exposition(make_table(agent), (), LabelledCounter("hidden_total", "", "reason"), KnownKinds())
    families = parse(await text_of(exposition), Format.CLASSIC)
    assert families["gengfu_memory_available_bytes"] == ("gauge", "Measured by checks of kind memory")


async def test_labels_of_assets_are_made_fit_and_never_collide() -> None:
    labels = {"site": "hq", "a-b": "1", "a.b": "2", "class": "mine", "机房": "一", "__name__": "n", "9": "x", "e": ""}
    shown = await shown_labels(make_agent(1, "srv-1", **labels))
    expected = {"asset": "srv-1", "class": "server", "class_": "mine", "site": "hq", "a_b": "1", "a_b_": "2"}
    assert expected.items() <= shown.items()
    assert {shown[name] for name in shown if name.startswith(("label_", "name"))} == {"一", "x", "n"}
    assert len(await shown_labels(make_agent(1, "srv-1", **{f"z{i:02}": "v" for i in range(40)}))) == 34


async def shown_labels(agent: LiveAgent) -> dict[str, str]:
    exposition, _hidden = new_exposition(make_table(agent))
    samples = parse_samples(await text_of(exposition), Format.CLASSIC)
    return next(dict(labels) for name, labels, _value in samples if name == "gengfu_asset_info")


async def test_pages_prepared_at_once_do_not_disturb_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exposition_module, "SLICE_S", 0.0)
    agents = [make_agent(i, f"srv-{i}") for i in range(5)]
    exposition, _hidden = new_exposition(make_table(*agents))
    tasks = []
    for tick in range(60):
        for agent in agents:
            agent.asset = f"srv-{agent.agent_id}-{tick // 2}"
            for check in ("disk", "disk.2", "disk.3"):
                put(agent, check, finding("disk", "/" * (tick % 3 + 1), {"free_bytes": float(tick)}), kind="disk")
        tasks.append(asyncio.create_task(text_of(exposition)))
        await asyncio.sleep(0)
    for text in await asyncio.gather(*tasks):
        lines = [line.rpartition(" ")[0] for line in text.splitlines()]
        assert len(set(lines)) == len(lines)
    assert parse_samples(await text_of(exposition), Format.CLASSIC) == reference(agents)


async def test_preparing_a_page_lets_others_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exposition_module, "SLICE_S", 0.0)
    agents = [make_agent(i, f"srv-{i}") for i in range(50)]
    for agent in agents:
        put(agent, "disk", finding("disk", "/", {"free_bytes": 1.0}))
    exposition, _hidden = new_exposition(make_table(*agents))
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    await exposition.everything()
    counting.cancel()
    assert turns >= 50


async def test_the_whole_page_holds_the_collector_and_every_asset() -> None:
    pages = MetricsPages(rich_table(), OwnMetrics())
    document = await pages.everything("application/openmetrics-text")
    assert document.content_type == Format.OPENMETRICS.value
    text = b"".join(document.pieces).decode()
    names = {name for name, _labels, _value in parse_samples(text, Format.OPENMETRICS)}
    assert {"gengfu_disk_free_bytes", "gengfu_collector_reports_received_total", "process_open_fds"} <= names
    own = b"".join((await pages.collector("")).pieces).decode()
    assert "gengfu_disk" not in own
    assert "gengfu_tickets" in own
