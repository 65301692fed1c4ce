"""What there is to scrape, for Prometheus' HTTP service discovery: a page for each asset, and one for the collector."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from itertools import chain

from gengfu_collector.intake.live import LiveAgent
from gengfu_collector.metrics.text import label_name

_ADDRESS = re.compile(
    r"(?:[a-zA-Z0-9]([a-zA-Z0-9.-]{0,251}[a-zA-Z0-9])?|\[[0-9a-fA-F:.]{2,45}\])(?::(?P<port>\d{1,5}))?"
)


def address_of(host_header: str) -> str | None:
    """The address under which the asker reached us, fit to be scraped; None when the header names none."""
    match = _ADDRESS.fullmatch(host_header)
    if match is None or int(match["port"] or 1) not in range(1, 65536):
        return None
    return host_header


def target_groups(agents: Iterable[LiveAgent], address: str) -> Iterator[bytes]:
    """A JSON list of target groups in pieces: first the collector itself, then every asset.

    Prometheus renames a label of a sample that its target has too, so an asset's target does not carry the labels
    `asset` and `class`; they are there as meta labels. `instance` tells the targets apart. The path is not quoted:
    Prometheus does that.
    """
    groups = chain([_group(address, {"__metrics_path__": "/metrics/collector"})], (_asset(a, address) for a in agents))
    for position, group in enumerate(groups):
        yield b",\n" if position else b"[\n"
        yield json.dumps(group, ensure_ascii=False).encode("utf-8", "replace")
    yield b"\n]\n"


def _asset(agent: LiveAgent, address: str) -> dict[str, object]:
    labels = {f"__meta_gengfu_label_{label_name(name)}": value for name, value in sorted(agent.labels.items())}
    fixed = {
        "__metrics_path__": f"/metrics/asset/{agent.asset}",
        "instance": agent.asset,
        "__meta_gengfu_asset": agent.asset,
        "__meta_gengfu_class": agent.asset_class,
    }
    return _group(address, labels | fixed)


def _group(address: str, labels: dict[str, str]) -> dict[str, object]:
    return {"targets": [address], "labels": labels}
