"""A real Prometheus finds the targets by service discovery, scrapes them, and sees an agent fall silent."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from live_fleet import HOSTILE, finding, make_agent, make_table, put

from gengfu_collector.intake.live import LiveTable
from gengfu_collector.metrics.own import OwnMetrics, StoreFigures, TicketGroup
from gengfu_collector.metrics.pages import MetricsPages
from gengfu_collector.web.app import build_app
from gengfu_collector.web.server import start_http

CONFIGURATION = """\
global:
  scrape_interval: 300ms
  scrape_timeout: 250ms
scrape_configs:
  - job_name: pieces
    http_sd_configs:
      - url: http://127.0.0.1:{port}/sd/prometheus
        refresh_interval: 300ms
    relabel_configs:
      - source_labels: [__meta_gengfu_label_site]
        target_label: site
  - job_name: whole
    metrics_path: /metrics
    static_configs:
      - targets: ["127.0.0.1:{port}"]
"""
UGLY_NAMES = ["机房 1/a", "100%", "%2F", "a?b#c&d", HOSTILE]
FIGURES = StoreFigures({TicketGroup("open", "critical", "hardware", 1): 3}, {"stored": 10})


@dataclass
class Prometheus:
    client: httpx.AsyncClient

    async def query(self, expression: str) -> list[dict[str, str]]:
        """Labels of the series of an instant query, their value under `value`."""
        response = await self.client.get("/api/v1/query", params={"query": expression})
        response.raise_for_status()
        return [{**row["metric"], "value": row["value"][1]} for row in response.json()["data"]["result"]]

    async def until(self, expression: str, holds: Callable[[Sequence[dict[str, str]]], bool]) -> list[dict[str, str]]:
        rows: list[dict[str, str]] = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(60):
                while not holds(rows := await self.query(expression)):
                    await asyncio.sleep(0.1)
        assert holds(rows), f"{expression}: {rows}"
        return rows


@pytest.fixture
async def collector() -> AsyncIterator[tuple[LiveTable, int]]:
    async def ready() -> Sequence[str]:
        return []

    table = make_table(*(make_agent(i, name, site="hq") for i, name in enumerate(["srv-1", *UGLY_NAMES])))
    own = OwnMetrics(lambda: FIGURES)
    server = await start_http("127.0.0.1", 0, build_app(MetricsPages(table, own), ready), own.http_refused.inc)
    yield table, server.port
    await server.stop()


@pytest.fixture
async def prometheus(
    collector: tuple[LiveTable, int],
    requires_program: Callable[[str, str], str],
    held_port: int,
    tmp_path: Path,
) -> AsyncIterator[Prometheus]:
    program = requires_program("prometheus", "apt-get install prometheus")
    configuration = tmp_path / "prometheus.yml"
    configuration.write_text(CONFIGURATION.format(port=collector[1]), encoding="utf-8")
    with (tmp_path / "prometheus.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            program,
            f"--config.file={configuration}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address=127.0.0.1:{held_port}",
            stdout=log,
            stderr=log,
        )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{held_port}", timeout=10) as client:
            await wait_until_ready(client, process, tmp_path / "prometheus.log")
            yield Prometheus(client)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def wait_until_ready(client: httpx.AsyncClient, process: asyncio.subprocess.Process, log: Path) -> None:
    async with asyncio.timeout(60):
        while True:
            assert process.returncode is None, log.read_text(encoding="utf-8")
            with contextlib.suppress(httpx.TransportError):
                if (await client.get("/-/ready")).status_code == 200:
                    return
            await asyncio.sleep(0.1)


async def test_prometheus_reads_all_of_it_and_sees_an_agent_fall_silent(
    collector: tuple[LiveTable, int], prometheus: Prometheus
) -> None:
    table, port = collector
    for agent in table.agents.values():
        put(agent, "disk", finding("disk", HOSTILE, {"free_bytes": 1e12, "free_ratio": 0.25}))
        put(agent, "memory", finding("memory", "swap", {"in_bytes_total": 7.0}))
    names = {"srv-1", *UGLY_NAMES}
    item = table.agents[0].runs["disk"].shape.findings[0].item

    rows = await prometheus.until('up{job="pieces"}', lambda rows: [row["value"] for row in rows] == ["1"] * 7)
    assert {row["instance"] for row in rows} == {*names, f"127.0.0.1:{port}"}
    assert {row.get("site") for row in rows if row["instance"] in names} == {"hq"}

    for job in ("pieces", "whole"):
        rows = await prometheus.until(f'gengfu_disk_free_bytes{{job="{job}"}}', lambda rows: len(rows) == 6)
        assert {row["asset"] for row in rows} == names
        for row in rows:
            assert (row["item"], row["check"], row["class"]) == (item, "disk", "server")
            assert row["value"] == "1000000000000"
            assert not [label for label in row if label.startswith("exported_")]
        await prometheus.until(f'gengfu_tickets{{job="{job}",state="open"}} == 3', lambda rows: len(rows) == 1)
        await prometheus.until(
            f'rate(gengfu_memory_in_bytes_total{{job="{job}"}}[1m]) == 0', lambda rows: len(rows) == 6
        )

    silent = table.agents[0]
    silent.clear()
    silent.connected = False
    for job in ("pieces", "whole"):
        selector = f'{{job="{job}",asset="srv-1"}}'
        await prometheus.until(f"gengfu_disk_free_bytes{selector}", lambda rows: not rows)
        await prometheus.until(f"gengfu_agent_connected{selector} == 0", lambda rows: len(rows) == 1)
        assert len(await prometheus.query(f'gengfu_disk_free_bytes{{job="{job}"}}')) == 5

    del table.agents[0]
    await prometheus.until('up{job="pieces",instance="srv-1"}', lambda rows: not rows)
    await prometheus.until('gengfu_asset_info{asset="srv-1"}', lambda rows: not rows)
