"""P1 and P5: the power fails on either side. What was acknowledged, and what waits in a spool, is on the device."""

from __future__ import annotations

from pathlib import Path

import pytest
from chaos import Run, chaos
from deeds import COLLECTOR, Deed
from rig import Size

AGENT = "agent-0"
ON_THE_COLLECTOR = [Deed(at_s, "power", COLLECTOR, 0.2) for at_s in (2.5, 8.5)]
# Reports wait in the spool when its power fails.
ON_THE_AGENT = [Deed(4.5, "cut", AGENT, 3.0), Deed(6.5, "power", AGENT, 0.2)]


def test_a_loss_of_power_loses_nothing_that_was_acknowledged_or_taken(tmp_path: Path) -> None:
    deeds = sorted([*ON_THE_COLLECTOR, *ON_THE_AGENT], key=lambda deed: deed.at_s)
    run = Run(seconds=11.0, seed=0, size=Size(agents=1, fault=1), kinds={"power"}, deeds=deeds)
    outcome = chaos(run, tmp_path)
    if "power agent" not in outcome.figures["deeds"]:
        pytest.skip("no rights to mount, or no loop devices: no disk can lose its power")
    assert outcome.complaints == {}, outcome.figures
    assert outcome.figures["deeds"]["power collector"] == 2
    assert outcome.figures["findings_stored"] > 20
