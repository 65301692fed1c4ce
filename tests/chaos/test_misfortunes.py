"""A short run of `make chaos`: P1, P2, P3 and P9's company under random misfortune."""

from __future__ import annotations

from pathlib import Path

import pytest
from chaos import Run, chaos
from deeds import KINDS
from rig import Size


@pytest.mark.timeout(240)
@pytest.mark.parametrize("seed", [1])
def test_nothing_missing_nothing_twice_in_order_one_ticket_for_every_fault(seed: int, tmp_path: Path) -> None:
    """Without clocks, which have tests of their own: faketime makes every look at one ten times as dear."""
    run = Run(seconds=25.0, seed=seed, size=Size(), kinds=[kind for kind in KINDS if kind != "clock"])
    outcome = chaos(run, tmp_path)
    assert outcome.complaints == {}, outcome.figures
    assert outcome.figures["findings_stored"] > 100
    assert sum(outcome.figures["deeds"].values()) > 10
