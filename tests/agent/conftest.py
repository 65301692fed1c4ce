"""What every test of the agent relies on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from fake_collector import FakeCollector
from held_ports import held_ports

from gengfu_agent.spool import Spool


@pytest.fixture(autouse=True)
def close_spools(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close every spool that a test leaves open, as a process that ends would."""
    opened: list[Spool] = []
    begin = Spool.__init__

    def remember(spool: Spool, *arguments: Any) -> None:
        begin(spool, *arguments)
        opened.append(spool)

    monkeypatch.setattr(Spool, "__init__", remember)
    yield
    for spool in opened:
        spool.close()


@pytest.fixture
async def collector() -> AsyncIterator[FakeCollector]:
    """A collector that runs; a test may stop it, and start it again on the same ports."""
    fake = FakeCollector()
    with held_ports(2) as (fake.enrol_port, fake.stream_port):
        async with fake.running():
            yield fake
