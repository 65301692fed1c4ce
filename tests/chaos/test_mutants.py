"""Defects put in on purpose: the oracle sees each of them, and sees what it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from chaos import Run, chaos
from deeds import COLLECTOR, Deed
from rig import Size

SMALL = Size(agents=1, steady=1, toggle=4, fault=1)
KILLED = [Deed(at_s, "kill", COLLECTOR, 0.0) for at_s in (2.0, 6.0, 10.0)]


def often(kind: str, lasts_s: float) -> list[Deed]:
    """Three times the same on the agent's network."""
    return [Deed(at_s, kind, "agent-0", lasts_s) for at_s in (1.5, 5.0, 8.5)]


@pytest.mark.parametrize(
    ("mutants", "deeds", "seen_as"),
    [
        (["acknowledge_before_commit"], KILLED, "missing"),
        (["high_water_apart"], KILLED, "unexplained"),
        (["commit_without_sync"], [Deed(6.0, "power", COLLECTOR, 0.0)], "missing"),
        (["spool_without_sync"], [Deed(2.0, "freeze", COLLECTOR, 6.0), Deed(6.0, "power", "agent-0", 0.0)], "missing"),
        (["drop_on_reconnect"], often("half_open", 0.5), "missing"),
        (["number_anew_on_reconnect"], often("one_way", 1.5), "twice"),
        (["believe_everything_at_once"], often("slow", 0.5), "tickets"),
        (["any_order", "newest_first"], often("cut", 3.0), "order"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) and isinstance(value[0], str) else "",
)
def test_the_oracle_sees(mutants: list[str], deeds: list[Deed], seen_as: str, tmp_path: Path) -> None:
    kinds = {deed.kind for deed in deeds}
    run = Run(seconds=12.0, seed=0, size=SMALL, kinds=kinds, deeds=deeds, mutants=mutants, settle_within_s=8.0)
    outcome = chaos(run, tmp_path)
    if "power" in kinds and not any(name.startswith("power") for name in outcome.figures["deeds"]):
        pytest.skip("no rights to mount, or no loop devices: no disk can lose its power")
    assert seen_as in outcome.complaints, outcome.figures


def test_an_agent_that_sends_the_newest_first_harms_nothing(tmp_path: Path) -> None:
    """The collector knows the order. So of the two mutants above it is the other one that is seen."""
    run = Run(seconds=12.0, seed=0, size=SMALL, kinds=(), deeds=often("cut", 3.0), mutants=["newest_first"])
    outcome = chaos(run, tmp_path)
    assert outcome.complaints == {}, outcome.figures
