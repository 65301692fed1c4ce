"""The software that is installed: judgement on samples, dpkg on this machine for real."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_winreg import FakeWinreg
from hypothesis import given
from hypothesis import strategies as st

from gengfu_checks import software
from gengfu_checks.inventory import programs
from gengfu_checks.inventory.collected import Collected
from gengfu_checks.local import windows_registry
from gengfu_checks.software import Software, of_bundle, of_uninstall_key, parse_dpkg, parse_rpm

# Built after deb822(5) and the states in dpkg-query(1); the shapes are those of Debian 12's own status file.
DPKG = b"""\
Package: dpkg
Essential: yes
Status: install ok installed
Maintainer: Dpkg Developers <debian-dpkg@lists.debian.org>
Architecture: amd64
Version: 1.21.22
Description: Debian package management system
 This package provides the low-level infrastructure.
 Version: 9.9 of a continuation line is none

Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.36-9+deb12u10

Package: libc6
Status: hold ok installed
Architecture: i386
Version: 2.36-9+deb12u10

Package: nano
Status: deinstall ok config-files
Architecture: amd64
Version: 7.2-1

Package: cups
Status: install ok half-configured
Architecture: amd64
Version: 2.4.2-3

Package: tzdata
Status: install ok installed
Architecture: all
Version: 2025b-0

Status: install ok installed
Version: 1
"""


def test_packages_of_dpkg_are_those_that_are_there() -> None:
    times = {"libc6:amd64": 10.0, "libc6:i386": 20.0, "tzdata": 30.0}
    found = list(parse_dpkg(DPKG.splitlines(keepends=True), times.get))
    assert [(s.name, s.version, s.installed_at_s) for s in found] == [
        ("dpkg", "1.21.22", None),
        ("libc6", "2.36-9+deb12u10", 10.0),
        ("libc6:i386", "2.36-9+deb12u10", 20.0),
        ("cups", "2.4.2-3", None),
        ("tzdata", "2025b-0", 30.0),
    ]
    assert found[0].publisher == "Dpkg Developers <debian-dpkg@lists.debian.org>"
    assert {s.source for s in found} == {"dpkg"}


def test_hostile_names_are_shown_escaped_and_cut() -> None:
    text = b"Package: a\xff\x1b[31m\nStatus: install ok installed\nVersion: " + b"9" * 5000 + b"\n"
    (found,) = parse_dpkg([*text.splitlines(keepends=True)], lambda _: None)
    assert found.name == r"a\xff\x1b[31m"
    assert len(found.version) <= software.MAX_VERSION_CHARS


def test_this_machine_has_what_dpkg_query_says(requires_program: Callable[[str, str], str]) -> None:
    requires_program("dpkg-query", "apt-get install dpkg")
    said = subprocess.run(
        ["dpkg-query", "-W", "-f", "${db:Status-Status} ${Package} ${Version}\n"], check=True, capture_output=True
    )
    rows = (line.split(" ", 1) for line in said.stdout.decode().splitlines())
    expected = sorted(row[1] for row in rows if row[0] == "installed")
    found = [s for s in software.installed() if s.source == "dpkg"]
    assert sorted(f"{s.name.partition(':')[0]} {s.version}" for s in found) == expected
    assert all(s.installed_at_s is not None for s in found)


@pytest.mark.parametrize("content", [None, b"", b"\0" * 5000])
def test_a_lost_status_of_dpkg_is_no_machine_without_software(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    status = tmp_path / "status"
    if content is not None:
        status.write_bytes(content)
    monkeypatch.setattr(software, "DPKG_STATUS", status)
    monkeypatch.setattr(software, "RPM_DATABASES", ())
    assert list(software.installed()) == []
    (tmp_path / "info").mkdir()
    (tmp_path / "info/tar.list").touch()
    found = Collected()
    programs.software(found)
    assert found.unread["software"].code == "check.program_failed"


SPEC = """\
Name: gengfu-probe
Version: 1.2
Release: 3
Epoch: 4
Summary: made for a test
License: none
Vendor: A vendor; with "signs"
BuildArch: noarch
%description
Made for a test.
%files
"""


def test_what_rpm_itself_says_of_a_package(requires_program: Callable[[str, str], str], tmp_path: Path) -> None:
    rpm = requires_program("rpm", "apt-get install rpm")
    build = requires_program("rpmbuild", "apt-get install rpm")
    spec, database = tmp_path / "probe.spec", str(tmp_path / "db")
    spec.write_text(SPEC)
    quiet = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([build, "-bb", "--define", f"_topdir {tmp_path}", str(spec)], **quiet)  # type: ignore[call-overload]
    (package,) = tmp_path.glob("RPMS/**/*.rpm")
    subprocess.run([rpm, "--dbpath", database, "-i", "--nodeps", str(package)], **quiet)  # type: ignore[call-overload]
    command = [rpm, "--dbpath", database, "-qa", "--queryformat", software._RPM_FORMAT]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    (found,) = parse_rpm(said)
    assert (found.name, found.version, found.publisher) == ("gengfu-probe", "4:1.2-3", 'A vendor; with "signs"')
    assert found.installed_at_s is not None
    assert abs(found.installed_at_s - time.time()) < 3600


def test_rpm_lines() -> None:
    # Built after the manual of rpm's query format; the packages are those of a Rocky Linux 9.
    text = (
        "bash\t5.1.8-9.el9\tRocky Enterprise Software Foundation\t1715000000\n"
        "openssl\t1:3.0.7-27.el9\t(none)\tsoon\n"
        "gpg-pubkey\t350d275d-6279464b\t(none)\t1715000001\n"
        "\n"
        "broken line\n"
    )
    assert list(parse_rpm(text)) == [
        Software("bash", "5.1.8-9.el9", "Rocky Enterprise Software Foundation", 1715000000.0, "rpm"),
        Software("openssl", "1:3.0.7-27.el9", "", None, "rpm"),
    ]


@given(st.lists(st.one_of(st.binary(max_size=40), st.sampled_from([*DPKG.splitlines(), b""])).map(lambda b: b + b"\n")))
def test_no_status_file_breaks_the_reader(lines: list[bytes]) -> None:
    for found in parse_dpkg(lines, lambda _: None):
        assert found.name.isprintable()
        assert 1 <= len(found.name) <= software.MAX_NAME_CHARS
    for found in parse_rpm(b"\t".join(lines).decode("utf-8", "surrogateescape")):
        assert found.version.isprintable()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (
            {"DisplayName": "7-Zip 24.08 (x64)", "DisplayVersion": "24.08", "Publisher": "Igor Pavlov"},
            Software("7-Zip 24.08 (x64)", "24.08", "Igor Pavlov", None, "registry"),
        ),
        (
            {"DisplayName": " Tool ", "InstallDate": "20240501", "DisplayVersion": 7},
            Software("Tool", "", "", 1714521600.0, "registry"),
        ),
        ({"DisplayName": "Tool", "InstallDate": "20230231"}, Software("Tool", "", "", None, "registry")),
        ({"DisplayName": "Part", "SystemComponent": 1}, None),
        ({"DisplayName": "KB5031356", "ParentKeyName": "OperatingSystem"}, None),
        ({"DisplayVersion": "1.0"}, None),
        ({"DisplayName": ["not", "a", "text"]}, None),
    ],
)  # the names are those of Microsoft's page on the Uninstall key; the values are made up
def test_uninstall_keys(values: dict[str, windows_registry.Value], expected: Software | None) -> None:
    assert of_uninstall_key(values) == expected


UNINSTALL = r"SOFTWARE\Microsoft\Windows\CurrentVersion\Uninstall"


def test_the_registry_is_read_in_both_views_and_for_users(monkeypatch: pytest.MonkeyPatch) -> None:
    keys: dict[tuple[str, str], dict[str, object]] = {
        ("HKLM", UNINSTALL): {},
        ("HKLM", rf"{UNINSTALL}\a"): {"DisplayName": "Sixty-four", "DisplayVersion": "1.2.3"},
        ("HKLM", rf"{UNINSTALL}\part"): {"DisplayName": "Part", "SystemComponent": 1},
        ("HKLM32", UNINSTALL): {},
        ("HKLM32", rf"{UNINSTALL}\b"): {"DisplayName": "Thirty-two"},
        ("HKU", ""): {},
        ("HKU", "S-1-5-21-1"): {},
        ("HKU", "S-1-5-21-1_Classes"): {},
        ("HKU", rf"S-1-5-21-1\{UNINSTALL}"): {},
        ("HKU", rf"S-1-5-21-1\{UNINSTALL}\c"): {"DisplayName": "A user's own"},
    }
    monkeypatch.setitem(__import__("sys").modules, "winreg", FakeWinreg(keys))
    monkeypatch.setattr(software, "sources", lambda: ("registry",))
    assert [(s.name, s.version) for s in software.installed()] == [
        ("Sixty-four", "1.2.3"),
        ("Thirty-two", ""),
        ("A user's own", ""),
    ]


def test_application_bundles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Property lists built after Apple's page on the Info.plist keys.
    for place, text in (
        ("Safari Maker.app", "<key>CFBundleName</key><string>Maker</string>"),
        ("Utilities/Tool.app", "<key>CFBundleShortVersionString</key><string>3.1</string>"),
        ("Broken.app", None),
    ):
        contents = tmp_path / place / "Contents"
        contents.mkdir(parents=True)
        if text is not None:
            (contents / "Info.plist").write_text(
                f'<?xml version="1.0"?><plist version="1.0"><dict>{text}</dict></plist>'
            )
    monkeypatch.setattr(software, "APPLICATIONS", tmp_path)
    monkeypatch.setattr(software, "sources", lambda: ("applications",))
    assert [(s.name, s.version) for s in software.installed()] == [("Broken", ""), ("Maker", ""), ("Tool", "3.1")]
    assert of_bundle("X", ["no", "dictionary"]) == Software("X", "", "", None, "applications")
