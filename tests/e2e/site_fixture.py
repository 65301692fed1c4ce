"""A site for each test or each file, and what its programs said where a test fails; a conftest takes them from here."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from machinery import Site, site_in


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with site_in(tmp_path) as made:
        yield made
    made.assert_no_defects()


@pytest.fixture(scope="module")
def lasting_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """For tests of one file that leave each other alone."""
    with site_in(tmp_path_factory.mktemp("lasting")) as made:
        yield made
    made.assert_no_defects()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        sites = [value for value in getattr(item, "funcargs", {}).values() if isinstance(value, Site)]
        report.sections += [("programs", made.told()) for made in sites]
    return report
