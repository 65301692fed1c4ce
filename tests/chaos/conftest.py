"""The machinery of the end-to-end tests serves here too, and what stands for one side where the other is tested."""

from __future__ import annotations

import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
sys.path += [str(TESTS / part) for part in ("e2e", "agent", "collector")]

from site_fixture import pytest_runtest_makereport, site  # noqa: E402

__all__ = ["pytest_runtest_makereport", "site"]
