"""The machinery of the end-to-end tests serves here too, and what stands for one side where the other is tested."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent.parent
sys.path += [str(TESTS / part) for part in ("e2e", "agent", "collector")]

from machinery import Site, site_in  # noqa: E402


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with site_in(tmp_path) as made:
        yield made


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    made = getattr(item, "funcargs", {}).get("site")
    if report.failed and isinstance(made, Site):
        report.sections.append(("programs", made.told()))
    return report
