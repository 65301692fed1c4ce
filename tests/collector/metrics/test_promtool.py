"""What Prometheus' own tool has to say of the pages."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest
from live_fleet import finding, make_agent, make_table, put, rich_table

from gengfu_checks import registry
from gengfu_collector.intake.live import LiveTable
from gengfu_collector.metrics.own import OwnMetrics, StoreFigures, TicketGroup
from gengfu_collector.metrics.pages import MetricsPages

FIGURES = StoreFigures({TicketGroup("open", "critical", "hardware", 1): 3}, {"stored": 10, "rejected": 0})


@pytest.fixture
def promtool(requires_program: Callable[[str, str], str]) -> str:
    return requires_program("promtool", "apt-get install prometheus")


async def complaints(promtool: str, table: LiveTable) -> str:
    """What promtool says of a page with everything; empty when it is content."""
    own = OwnMetrics(lambda: FIGURES)
    own.reports_rejected.inc("malformed")
    document = await MetricsPages(table, own).everything("")
    text = b"".join(document.pieces)
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, check=False, timeout=60)
    return (done.stdout + done.stderr).decode() or ("" if done.returncode == 0 else f"exit code {done.returncode}")


async def test_promtool_is_content_with_a_rich_page(promtool: str) -> None:
    assert await complaints(promtool, rich_table()) == ""


async def test_promtool_is_content_with_every_metric_of_every_check(promtool: str) -> None:
    agent = make_agent(1, "srv-1")
    for name in registry.BUILT_IN:
        metrics = {metric.name: 1.0 for metric in registry.load(name).metrics}
        put(agent, name, finding(name, "", metrics))
    assert await complaints(promtool, make_table(agent)) == ""


async def test_promtool_would_complain(promtool: str) -> None:
    agent = make_agent(1, "srv-1")
    put(agent, "odd", finding("odd", "", {"some_count": 1.0}))
    assert "gengfu_odd_some_count" in await complaints(promtool, make_table(agent))
