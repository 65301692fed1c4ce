"""The check of the operating system's release.

The os-release texts follow os-release(5) with the values that the distributions ship; that of Debian 12 is what the
root of a `debootstrap bookworm` holds. The values of the Windows registry are built after Microsoft Learn, "Windows
11 release information" and "CurrentVersion"; none is a recording.
"""

from __future__ import annotations

import csv
import json
import platform
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from gengfu_checks.local import os_release
from gengfu_checks.local.os_release import (
    CHECK,
    Release,
    Support,
    judge,
    linux_release,
    load_table,
    mac_release,
    windows_release,
)
from gengfu_checks.model import Status
from gengfu_checks.threshold import judge as judge_finding

DAY_S = 86400.0
SUPPORT = Support(date(2028, 6, 30), date(2033, 6, 30))
DEBIAN = Release("debian", "12", "Debian GNU/Linux 12 (bookworm)")


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("fields", "system", "version"),
    [
        ({"ID": "debian", "VERSION_ID": "12", "PRETTY_NAME": "Debian GNU/Linux 12 (bookworm)"}, "debian", "12"),
        ({"ID": "debian", "PRETTY_NAME": "Debian GNU/Linux trixie/sid"}, "debian", ""),
        ({"ID": "ubuntu", "VERSION_ID": "22.04"}, "ubuntu", "22.04"),
        ({"ID": "rhel", "VERSION_ID": "9.4"}, "rhel", "9"),
        ({"ID": "rocky", "VERSION_ID": "8.10"}, "rocky", "8"),
        ({"ID": "centos", "VERSION_ID": "8", "NAME": "CentOS Linux"}, "centos", "8"),
        ({"ID": "centos", "VERSION_ID": "9", "NAME": "CentOS Stream"}, "centos-stream", "9"),
        ({"ID": "openEuler", "VERSION_ID": "22.03", "VERSION": "22.03 (LTS-SP4)"}, "openEuler", "22.03-lts-sp4"),
        ({"ID": "openEuler", "VERSION_ID": "24.03", "VERSION": "24.03 (LTS)"}, "openEuler", "24.03-lts"),
        ({"ID": "openEuler", "VERSION_ID": "25.09", "VERSION": "25.09"}, "openEuler", "25.09"),
        ({"ID": "kylin", "VERSION_ID": "V10", "VERSION": "V10 (Lance)"}, "kylin", "V10"),
        ({}, "linux", ""),
    ],
)
def test_linux(fields: dict[str, str], system: str, version: str) -> None:
    release = linux_release(fields)
    assert (release.system, release.version) == (system, version)
    assert release.name


@pytest.mark.parametrize(
    ("build", "edition", "kind", "system", "ends"),
    [
        ("19045", "Professional", "Client", "windows-pro", date(2025, 10, 14)),
        ("26200", "Core", "Client", "windows-pro", date(2027, 10, 12)),
        ("22631", "Enterprise", "Client", "windows-enterprise", date(2026, 11, 10)),
        ("22631", "Education", "Client", "windows-enterprise", date(2026, 11, 10)),
        ("22631", "ProfessionalEducation", "Client", "windows-pro", date(2025, 11, 11)),
        ("19044", "EnterpriseS", "Client", "windows-ltsc", date(2027, 1, 12)),
        ("19044", "IoTEnterpriseS", "Client", "windows-ltsc-iot", date(2032, 1, 13)),
        ("17763", "ServerStandard", "Server", "windows-server", date(2029, 1, 9)),
        ("20348", "ServerDatacenter", "Server Core", "windows-server", date(2031, 10, 14)),
        ("99999", "Professional", "Client", "windows-pro", None),
        ("", "", "", "windows-pro", None),
    ],
)
def test_windows(build: str, edition: str, kind: str, system: str, ends: date | None) -> None:
    release = windows_release({"CurrentBuildNumber": build, "EditionID": edition, "InstallationType": kind})
    assert release.system == system
    support = load_table()[system].get(release.version)
    assert (support.ends if support else None) == ends


def test_windows_11_calls_itself_10() -> None:
    fields = {"ProductName": "Windows 10 Pro", "DisplayVersion": "25H2", "CurrentBuildNumber": "26200"}
    assert windows_release(fields).name == "Windows 11 Pro 25H2 (26200)"
    assert windows_release(fields | {"CurrentBuildNumber": "19045"}).name == "Windows 10 Pro 25H2 (19045)"


def test_macos() -> None:
    assert mac_release("10.15.7").version == "10.15"
    assert mac_release("13.7.8").version == "13"
    assert load_table()["macos"].get(mac_release("26.3.1").version) is None


def test_the_last_day_still_counts() -> None:
    assert judge(DEBIAN, SUPPORT, False, at("2028-06-30T23:59:59")).problem is None
    over = judge(DEBIAN, SUPPORT, False, at("2028-07-01T00:00:00"))
    assert over.problem is not None
    assert (over.problem.status, over.problem.code) == (Status.WARNING, "os_release.ended")
    assert over.facts == {"release": DEBIAN.name, "ends": "2028-06-30"}
    assert over.metrics == {"support_left_seconds": 0.0}


def test_what_was_paid_for_counts_where_it_is_sold() -> None:
    now_s = at("2030-01-01T00:00:00")
    assert judge(DEBIAN, SUPPORT, True, now_s).problem is None
    assert judge(DEBIAN, SUPPORT, True, now_s).facts["ends"] == "2033-06-30"
    assert judge(DEBIAN, Support(date(2028, 6, 30), None), True, now_s).problem is not None


@pytest.mark.parametrize(("days", "code"), [(91, "ok"), (89, "os_release.ends_soon"), (-1, "os_release.ended")])
def test_the_end_is_told_in_time(days: float, code: str) -> None:
    measurement = judge(DEBIAN, SUPPORT, False, at("2028-07-01T00:00:00") - days * DAY_S)
    assert judge_finding("os_release", measurement, CHECK.thresholds, None, 0.0).code == code


def test_an_unknown_release_claims_nothing(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os_release, "read_release", lambda: Release("uos", "20", "UOS 20\n"))
    found = bench(CHECK).run()[""]
    assert (found.problem, found.metrics, set(found.facts)) == (None, {}, {"release"})
    monkeypatch.setattr(os_release, "read_release", lambda: None)
    assert bench(CHECK).run() == {}


def test_a_system_that_does_not_say_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> dict[str, str]:
        raise FileNotFoundError("/etc/os-release")

    monkeypatch.setattr(platform, "freedesktop_os_release", absent)
    assert os_release.read_release() is None


def test_names_from_outside_are_cleaned_and_bounded() -> None:
    name = linux_release({"ID": "x", "PRETTY_NAME": "evil\u202e\x1b[2J" + "x" * 10_000}).name
    assert name.isprintable()
    assert len(name) <= 120


def test_this_machine(bench: Any) -> None:
    found = bench(CHECK).run()[""]
    assert found.facts["release"]
    if "Debian" in str(found.facts["release"]):
        assert found.metrics["support_left_seconds"] > 0
        assert "ends" in found.facts


LOOK = """
import json, time
from gengfu_checks.local.os_release import CHECK
from gengfu_checks.model import Context
[found] = CHECK.measure(Context({"extended_support": False}, {}, time.time, time.monotonic, 10.0))
print(json.dumps([found.problem.code if found.problem else "ok", dict(found.facts)]))
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            'PRETTY_NAME="Debian GNU/Linux 10 (buster)"\nVERSION_ID="10"\nID=debian\n',
            ["os_release.ended", {"release": "Debian GNU/Linux 10 (buster)", "ends": "2024-06-30"}],
        ),
        (
            'ID="kylin"\nVERSION_ID="V10"\nPRETTY_NAME="Kylin Linux Advanced Server V10 (Lance)"\n',
            ["ok", {"release": "Kylin Linux Advanced Server V10 (Lance)"}],
        ),
    ],
)
def test_another_release_in_a_mount_namespace(unshare: str, tmp_path: Path, text: str, expected: list[object]) -> None:
    """The file that says what runs is covered by another one, and the whole check is run on it."""
    (tmp_path / "os-release").write_text(text)
    script = 'mount --bind "$1" "$(readlink -f /etc/os-release)" && exec "$2" -c "$3"'
    argv = [unshare, "--mount", "sh", "-c", script, "sh", str(tmp_path / "os-release"), sys.executable, LOOK]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == expected


def test_the_table_is_sound() -> None:
    table = load_table()
    assert {"debian", "ubuntu", "rhel", "rocky", "almalinux", "centos", "openEuler", "windows-pro"} <= set(table)
    for system, releases in table.items():
        for version, support in releases.items():
            assert date(2010, 1, 1) < support.ends < date(2040, 1, 1), (system, version)
            assert support.extended is None or support.extended > support.ends, (system, version)
            if system.startswith("windows-") and version != "25398":  # the annual channel counts months
                assert support.ends.weekday() == 1, f"{system} {version}: updates end on a Tuesday"


@pytest.mark.parametrize(
    ("system", "ends", "extended"), [("debian", "eol-lts", "eol-elts"), ("ubuntu", "eol-server", "eol-esm")]
)
def test_debians_own_table_says_the_same(system: str, ends: str, extended: str) -> None:
    """Debian keeps these dates in its package distro-info-data."""
    path = Path(f"/usr/share/distro-info/{system}.csv")
    if not path.exists():
        pytest.skip("apt-get install distro-info-data")
    with path.open(encoding="utf-8") as stream:
        rows = {row["version"].removesuffix(" LTS"): row for row in csv.DictReader(stream) if row["version"]}
    for version, support in load_table()[system].items():
        row = rows[version]
        told = row[ends] or row["eol"]
        assert support.ends == date.fromisoformat(told), version
        if support.extended is not None:
            assert support.extended == date.fromisoformat(row[extended]), version


def test_what_windows_is_asked_for_is_declared() -> None:
    assert os_release.read_windows() == {}, "only Windows has a registry"


def test_extended_support_is_a_setting(bench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os_release, "read_release", lambda: Release("windows-pro", "19045", "Windows 10"))
    late = {"now_s": at("2026-11-21T00:00:00")}
    plain, paid = bench(CHECK), bench(CHECK, extended_support=True)
    plain.now_s = paid.now_s = late["now_s"]
    assert plain.run()[""].problem.code == "os_release.ended"
    assert paid.run()[""].problem is None
