"""What other tests have built serves here too: real processes, a fake collector, an agent's uplink, machines' keys."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent.parent
sys.path += [str(TESTS / part) for part in ("e2e", "agent", "proto", "collector", "collector/gateway", "fuzz")]

from machinery import Site, site_in  # noqa: E402


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A folder and the processes of one test; nothing is left behind."""
    with site_in(tmp_path) as made:
        yield made
