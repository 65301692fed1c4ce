"""What other tests have built serves here too: real processes, a fake collector, an agent's uplink, machines' keys."""

from __future__ import annotations

import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
sys.path += [str(TESTS / part) for part in ("e2e", "agent", "proto", "collector", "collector/gateway", "fuzz")]

from site_fixture import lasting_site, pytest_runtest_makereport, site  # noqa: E402

__all__ = ["lasting_site", "pytest_runtest_makereport", "site"]
