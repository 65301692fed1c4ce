"""A site for each test, and what its programs said where the test fails; a conftest takes both from here."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from machinery import Site, site_in


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
