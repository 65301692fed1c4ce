"""Targets for Prometheus' HTTP service discovery."""

from __future__ import annotations

import json

import pytest
from live_fleet import HOSTILE, make_agent, make_table

from gengfu_collector.metrics.discovery import address_of, target_groups
from gengfu_collector.metrics.own import OwnMetrics
from gengfu_collector.metrics.pages import MetricsPages


def test_the_collector_comes_first_then_every_asset() -> None:
    agents = [make_agent(1, "srv-1", site="hq", **{"机 房": "一"}), make_agent(2, HOSTILE)]
    groups = json.loads(b"".join(target_groups(agents, "collector:8420")))
    assert groups == [
        {"targets": ["collector:8420"], "labels": {"__metrics_path__": "/metrics/collector"}},
        {
            "targets": ["collector:8420"],
            "labels": {
                "__metrics_path__": "/metrics/asset/srv-1",
                "instance": "srv-1",
                "__meta_gengfu_asset": "srv-1",
                "__meta_gengfu_class": "server",
                "__meta_gengfu_label_site": "hq",
                "__meta_gengfu_label_label_": "一",
            },
        },
        {
            "targets": ["collector:8420"],
            "labels": {
                "__metrics_path__": f"/metrics/asset/{HOSTILE}",
                "instance": HOSTILE,
                "__meta_gengfu_asset": HOSTILE,
                "__meta_gengfu_class": "server",
            },
        },
    ]


def test_an_asset_with_two_agents_is_one_target() -> None:
    pages = MetricsPages(make_table(make_agent(1, "srv-1"), make_agent(2, "srv-1")), OwnMetrics())
    document = pages.targets("127.0.0.1:8420")
    assert document is not None
    assert len(json.loads(b"".join(document.pieces))) == 2


@pytest.mark.parametrize("host", ["collector", "collector:8420", "10.0.0.1:1", "[::1]:65535", "a-b.example", "x"])
def test_addresses(host: str) -> None:
    assert address_of(host) == host


@pytest.mark.parametrize(
    "host",
    [
        "",
        ":80",
        "a:",
        "a:0",
        "a:65536",
        "a b",
        "a/b",
        "user@a",
        "a:80:80",
        "[::1",
        "-a",
        "a\n",
        'a"',
        "机房",
        "a" * 300,
    ],
)
def test_what_is_no_address(host: str) -> None:
    assert address_of(host) is None
    assert MetricsPages(make_table(), OwnMetrics()).targets(host) is None
