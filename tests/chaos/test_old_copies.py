"""P3: old copies of an agent's spool and of the collector's database are put back under load, one after the other."""

from __future__ import annotations

from pathlib import Path

import pytest
from chaos import Run, chaos
from deeds import COLLECTOR, Deed
from rig import Size

AGENT = "agent-0"
COPIED = [Deed(1.5, "copy", AGENT, 0.0), Deed(1.7, "copy", COLLECTOR, 0.0)]
# The agent goes on under numbers of the old copy before it hears that they are taken.
AGENT_PUT_BACK = [Deed(4.0, "cut", AGENT, 2.5), Deed(4.1, "restore", AGENT, 0.0)]
COLLECTOR_PUT_BACK = [Deed(7.5, "restore", COLLECTOR, 0.3)]
COLLECTOR_PUT_BACK_FIRST = [Deed(2.5, "restore", COLLECTOR, 0.0)]
# What has to change its number is copied before it does, and delivered from that copy once more.
AGENT_PUT_BACK_TWICE = [
    Deed(4.5, "cut", AGENT, 4.0),
    Deed(4.6, "restore", AGENT, 0.0),
    Deed(8.0, "copy", AGENT, 0.0),
    Deed(11.0, "restore", AGENT, 0.0),
]


@pytest.mark.parametrize(
    ("deeds", "seconds"),
    [
        ([*COPIED, *AGENT_PUT_BACK, *COLLECTOR_PUT_BACK], 10.0),
        ([*COPIED, *COLLECTOR_PUT_BACK_FIRST, *AGENT_PUT_BACK_TWICE], 13.0),
    ],
    ids=["agent, then collector", "collector, then agent twice"],
)
def test_after_old_copies_nothing_is_missing_twice_or_out_of_order(
    deeds: list[Deed], seconds: float, tmp_path: Path
) -> None:
    run = Run(seconds=seconds, seed=0, size=Size(agents=1, steady=1, toggle=3, fault=1), kinds=(), deeds=deeds)
    outcome = chaos(run, tmp_path)
    assert outcome.complaints == {}, outcome.figures
    assert sum(outcome.figures["deeds"].values()) == len(deeds)
    assert outcome.figures["findings_stored"] > 20
