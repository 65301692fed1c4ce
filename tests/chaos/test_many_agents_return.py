"""P8: the collector restarts under many agents. `returning.py --agents 2000` is the same in earnest."""

from __future__ import annotations

import pytest
from machinery import Site
from returning import PROFILE, restart_under

AGENTS = 200


@pytest.mark.parametrize("ends", ["kill", "stop"])
async def test_all_come_back_after_a_restart_and_nobody_is_taken_for_absent(site: Site, ends: str) -> None:
    collector = site.collector(inspection=PROFILE)
    figures = await restart_under(collector, AGENTS, ends, within_s=100.0)
    assert (figures.tickets, figures.unexplained) == (0, 0)
    assert figures.acknowledged >= AGENTS
