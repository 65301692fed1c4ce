"""What every end-to-end test has."""

from site_fixture import lasting_site, pytest_runtest_makereport, site

__all__ = ["lasting_site", "pytest_runtest_makereport", "site"]
