"""The check of the operating system's release.

The os-release values are those that people post of their machines, shortened to the fields read; that of Debian 12 is
what the root of a `debootstrap bookworm` holds. The values of the Windows registry are built after Microsoft Learn,
"Windows 11 release information" and "CurrentVersion"; none is a recording.
"""

from __future__ import annotations

import csv
import json
import platform
import subprocess
import sys
import tomllib
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
    ends_of_texts,
    judge,
    linux_release,
    load_table,
    mac_release,
    windows_release,
)
from gengfu_checks.local.os_release_file import os_release_fields
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
        ({"ID": "openEuler", "VERSION_ID": "22.03", "VERSION": "22.03 (LTS-SP4)"}, "openeuler", "22.03-lts-sp4"),
        ({"ID": "openEuler", "VERSION_ID": "22.03", "VERSION": "22.03 LTS"}, "openeuler", "22.03-lts"),
        ({"ID": "openEuler", "VERSION_ID": "25.09", "VERSION": "25.09"}, "openeuler", "25.09"),
        ({"ID": "anolis", "VERSION_ID": "8.10", "VERSION": "8.10"}, "anolis", "8"),
        ({"ID": "opencloudos", "VERSION_ID": "9.0", "VERSION": "9.0"}, "opencloudos", "9"),
        ({"ID": "ol", "VERSION_ID": "9.4", "VERSION": "9.4"}, "ol", "9"),
        ({"ID": "sles", "VERSION_ID": "12.5", "VERSION": "12-SP5"}, "sles", "12.5"),
        ({"ID": "opensuse-leap", "VERSION_ID": "15.6", "VERSION": "15.6"}, "opensuse-leap", "15.6"),
        ({"ID": "kylin", "VERSION_ID": "V10", "VERSION": "V10 (Lance)"}, "kylin", "v10-lance"),
        ({"ID": "kylin", "VERSION_ID": "v10", "VERSION": "银河麒麟桌面操作系统V10 (SP1)"}, "kylin", "v10-sp1"),
        ({"ID": "uos", "VERSION_ID": "20", "VERSION": "20"}, "uos", "20"),
        ({"ID": "Deepin", "VERSION_ID": "23"}, "deepin", "23"),
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
        ("26200", "Enterprise", "Client", "windows-enterprise", date(2028, 10, 10)),
        ("17763", "EnterpriseG", "Client", "windows-enterprise-g", None),
        ("26100", "EnterpriseSEval", "Client", "windows-ltsc", date(2029, 10, 9)),
        ("26100", "IoTEnterpriseS", "Client", "windows-ltsc-iot", date(2034, 10, 10)),
        ("26100", "ServerStandard", "Server", "windows-server", date(2034, 11, 14)),
        ("14393", "ServerDatacenterNano", "Nano Server", "windows-server", date(2027, 1, 12)),
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
    support = load_table().get(system, {}).get(release.version)
    assert (support.ends if support else None) == ends


def test_windows_11_calls_itself_10() -> None:
    fields = {"ProductName": "Windows 10 Pro", "DisplayVersion": "25H2", "CurrentBuildNumber": "26200"}
    assert windows_release(fields).name == "Windows 11 Pro 25H2 (26200)"
    assert windows_release(fields | {"CurrentBuildNumber": "19045"}).name == "Windows 10 Pro 25H2 (19045)"


def test_macos() -> None:
    assert mac_release("10.15.7").version == "10.15"
    assert mac_release("13.7.8").version == "13"
    assert mac_release("26.3.1").version not in load_table()["macos"]


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


@pytest.mark.parametrize("release", [Release("uos", "20", "UOS 20\n"), Release("macos", "26", "macOS 26.3"), None])
def test_an_unknown_release_is_not_ok(bench: Any, monkeypatch: pytest.MonkeyPatch, release: Release | None) -> None:
    """None: a system without an os-release file."""
    if release is not None:
        monkeypatch.setattr(os_release, "read_release", lambda: release)
    else:
        monkeypatch.setattr(os_release, "os_release_fields", dict)
    found = bench(CHECK).run()[""]
    assert (found.problem.status, found.problem.code) == (Status.UNKNOWN, "os_release.no_date")
    assert (found.metrics, set(found.facts)) == ({}, {"release", "key"})
    assert not os_release.has_ended(at("2099-01-01"))


def test_the_file_is_read_whatever_is_in_it(tmp_path: Path) -> None:
    """The encoding of GBK stands for those makers who write one; the quoting is that of os-release(5)."""
    name = "银河麒麟".encode("gbk")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").write_bytes(
        b'PRETTY_NAME="' + name + b'"\n#x\n\xff\x00=1\nID=\'kylin\'\nA="a \\"b\\" \\$"\n'
    )
    (tmp_path / "usr/lib").mkdir(parents=True)
    (tmp_path / "usr/lib/os-release").write_text("ID=other\nVERSION_ID=V10\n")
    fields = os_release_fields(tmp_path)
    assert fields.pop("PRETTY_NAME") == name.decode("utf-8", "replace")
    assert fields == {"ID": "kylin", "A": 'a "b" $', "VERSION_ID": "V10"}
    assert os_release_fields(tmp_path / "nowhere") == {}


def test_this_machine_is_read_as_the_standard_library_reads_it() -> None:
    read = os_release_fields()
    assert {name: read.get(name) for name in platform.freedesktop_os_release() if name in read} == {
        name: value for name, value in platform.freedesktop_os_release().items() if name in read
    }
    assert {"ID", "PRETTY_NAME"} <= read.keys()


def test_a_day_of_somebodys_own(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key is the one that the finding of an unknown release shows; days count before those of the table."""
    kylin = linux_release({"ID": "kylin", "VERSION_ID": "V10", "VERSION": "V10 (Lance)"})
    told = ["kylin  V10-Lance 2026-11-20", "debian 12 2029-01-01"]
    for release, end, code in ((kylin, "2026-11-20", "os_release.ended"), (DEBIAN, "2029-01-01", None)):
        monkeypatch.setattr(os_release, "read_release", lambda release=release: release)
        check = bench(CHECK, support_ends=told)
        check.now_s = at("2026-11-21")
        found = check.run()[""]
        assert (found.facts["ends"], found.problem and found.problem.code) == (end, code)


@pytest.mark.parametrize("text", ["", "2030-12-31", "kylin v10-lance", "kylin v10-lance 2030-13-01", "kylin2030-12-31"])
def test_a_day_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not like|isoformat|month"):
        ends_of_texts([text])


def test_names_from_outside_are_cleaned_and_bounded() -> None:
    name = linux_release({"ID": "x", "PRETTY_NAME": "evil\u202e\x1b[2J" + "x" * 10_000}).name
    assert name.isprintable()
    assert len(name) <= 120
    key = linux_release({"ID": "\x1b[2J" * 100, "VERSION_ID": "9" * 1000}).key
    assert key.isprintable()
    assert len(key) <= 120


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
[found] = CHECK.measure(Context({"extended_support": False, "support_ends": ()}, {}, time.time, time.monotonic, 10.0))
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
            'ID="kylin"\nVERSION_ID="V10"\nVERSION="V10 (Lance)"\nPRETTY_NAME="Kylin Server V10 (Lance)"\n',
            ["os_release.no_date", {"release": "Kylin Server V10 (Lance)", "key": "kylin v10-lance"}],
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
    assert {"debian", "ubuntu", "rhel", "rocky", "almalinux", "centos", "openeuler", "windows-pro"} <= set(table)
    for system, releases in table.items():
        for version, support in releases.items():
            assert date(2010, 1, 1) < support.ends < date(2040, 1, 1), (system, version)
            assert support.extended is None or support.extended > support.ends, (system, version)
            if system.startswith("windows-") and version != "25398":  # the annual channel counts months
                assert support.ends.weekday() == 1, f"{system} {version}: updates end on a Tuesday"


def test_every_day_of_the_table_has_a_source() -> None:
    tables = tomllib.loads(os_release.TABLE.read_text("utf-8"))
    sources, used = tables.pop("sources"), set()
    for system, table in tables.items():
        assert table.pop("page").startswith("https://"), system
        versions = {}
        for kind, by_source in table.items():
            assert all(isinstance(dates, dict) for dates in by_source.values()), f"{system}: a day without source"
            days = [day for dates in by_source.values() for day in dates.items()]
            versions[kind] = {version for version, _ in days}
            assert len(versions[kind]) == len(days), f"{system}: a release with two sources"
            assert all(type(day) is date for _, day in days), system
            used |= set(by_source)
        assert versions.pop("extended", set()) <= versions.pop("ends"), system
        assert not versions, system
    assert used == set(sources)
    assert all(set(source) == {"what", "as_of", "maker"} for source in sources.values())


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
