"""What every end-to-end test has."""

from site_fixture import pytest_runtest_makereport, site

__all__ = ["pytest_runtest_makereport", "site"]
