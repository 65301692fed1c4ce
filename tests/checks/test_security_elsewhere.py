"""What the security checks ask of Windows and macOS, and that their answers reach the judgement.

Neither system is here. Stand-ins take the place of PowerShell, the registry and Apple's programs; the answers are built
after the same documentation as in the tests of each check, and only show that the parts fit together.
"""

from __future__ import annotations

import plistlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from gengfu_checks.local import (
    accounts,
    antivirus,
    disk_encryption,
    firewall,
    remote_access,
    session_security,
    windows_security,
)
from gengfu_checks.local.programs import failed
from gengfu_checks.model import CheckKind, Measurement

ANN = "S-1-5-21-1004336348-1177238915-682003330-1001"
WEEK_S = 7 * 86400


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """`windows({"Get-X": rows}, kind="server")` makes this a Windows whose PowerShell has these answers.

    It returns the list of what is asked. A question without an answer fails, as it would there.
    """
    monkeypatch.setattr(psutil, "WINDOWS", True)
    monkeypatch.setattr(psutil, "LINUX", False)

    def make(answers: dict[str, list[dict[str, Any]]], kind: str = "workstation") -> list[str]:
        asked: list[str] = []

        def rows(pipeline: str, timeout_s: float) -> list[dict[str, Any]]:
            assert timeout_s > 0
            asked.append(pipeline)
            for wanted, answer in answers.items():
                if wanted in pipeline:
                    return answer
            raise failed("powershell.exe", "ended with 1")

        for module in (accounts, antivirus, disk_encryption, firewall):
            monkeypatch.setattr(module, "powershell_rows", rows)
        for module in (accounts, antivirus, firewall):
            monkeypatch.setattr(module, "windows_kind", lambda: kind)
        return asked

    return make


def codes(bench: Any, kind: CheckKind, **settings: Any) -> dict[str, str]:
    found: dict[str, Measurement] = bench(kind, **settings).run()
    return {item: m.problem.code if m.problem else "ok" for item, m in found.items()}


PROFILES = [
    {"Name": "Domain", "Enabled": "True", "DefaultInboundAction": "Block"},
    {"Name": "Public", "Enabled": "False", "DefaultInboundAction": "Block"},
]
OTHER_ON = [{"displayName": "Other", "productState": 0x61000}]
DEFENDER_OFF = [{"displayName": "Windows Defender", "productState": 393472}]
DEFENDER_ON = [{"displayName": "Windows Defender", "productState": 397568}]
STATUS = [{"AntivirusEnabled": True, "RealTimeProtectionEnabled": True, "AntivirusSignatureAge": 9}]


def test_firewall_of_windows(bench: Any, windows: Callable[..., list[str]]) -> None:
    asked = windows({"Get-NetFirewallProfile": PROFILES, "FirewallProduct": []})
    assert codes(bench, firewall.CHECK) == {"Domain": "ok", "Public": "firewall.off"}
    assert len(asked) == 2
    windows({"Get-NetFirewallProfile": PROFILES, "FirewallProduct": OTHER_ON})
    assert codes(bench, firewall.CHECK) == {"Domain": "ok", "Public": "ok"}
    asked = windows({"Get-NetFirewallProfile": PROFILES}, "server")  # which knows no other products
    assert codes(bench, firewall.CHECK) == {"Domain": "ok", "Public": "firewall.off"}
    assert len(asked) == 1
    windows({"Get-NetFirewallProfile": []})
    assert codes(bench, firewall.CHECK) == {"": "check.program_failed"}


def test_antivirus_of_windows(bench: Any, windows: Callable[..., list[str]]) -> None:
    windows({"AntiVirusProduct": DEFENDER_ON, "Get-MpComputerStatus": STATUS})
    found = bench(antivirus.CHECK).run()["Microsoft Defender"]
    assert found.metrics == {"protecting": 1.0, "signature_age_seconds": 9 * 86400.0}
    asked = windows({"AntiVirusProduct": DEFENDER_OFF + OTHER_ON})
    assert codes(bench, antivirus.CHECK) == {"": "ok", "Microsoft Defender": "ok", "Other": "ok"}
    assert len(asked) == 1  # Defender has nothing to say while another product is on
    windows({"AntiVirusProduct": []})
    assert codes(bench, antivirus.CHECK) == {"": "antivirus.none"}
    assert codes(bench, antivirus.CHECK, required="never") == {"": "ok"}
    asked = windows({"Get-MpComputerStatus": STATUS}, "server")
    assert codes(bench, antivirus.CHECK) == {"": "ok", "Microsoft Defender": "ok"}
    assert len(asked) == 1
    for answers in ({}, {"Get-MpComputerStatus": [{"AntivirusEnabled": None}]}):
        windows(answers, "server")
        assert codes(bench, antivirus.CHECK) == {"": "check.program_failed"}


def test_disk_encryption_of_windows(
    bench: Any, windows: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    partitions = [SimpleNamespace(device="C:\\", opts="rw,fixed"), SimpleNamespace(device="E:\\", opts="rw,removable")]
    monkeypatch.setattr(psutil, "disk_partitions", lambda: partitions)
    monkeypatch.setattr(psutil, "sensors_battery", lambda: SimpleNamespace(percent=90), raising=False)
    volume = {"VolumeType": "Data", "VolumeStatus": "FullyDecrypted", "ProtectionStatus": "Off"}
    windows({"Get-BitLockerVolume": [{"MountPoint": "C:"} | volume, {"MountPoint": "E:"} | volume]})
    assert codes(bench, disk_encryption.CHECK) == {"C:": "disk_encryption.off"}
    monkeypatch.setattr(psutil, "sensors_battery", lambda: None, raising=False)
    assert codes(bench, disk_encryption.CHECK) == {"C:": "ok"}
    windows({})
    for administrator, code in ((True, "check.program_failed"), (False, "check.needs_rights")):
        monkeypatch.setattr(disk_encryption, "is_administrator", lambda administrator=administrator: administrator)
        assert codes(bench, disk_encryption.CHECK) == {"": code}


def test_accounts_of_windows_are_asked_seldom(bench: Any, windows: Callable[..., list[str]]) -> None:
    guest = {"Name": "Guest", "Enabled": True, "SID": ANN.replace("1001", "501")}
    asked = windows({"Get-LocalUser": [guest], "S-1-5-32-544": [{"Name": "PC7\\ann"}]})
    instance = bench(accounts.CHECK, administrators=["bob"])
    expected = {"administrators": "accounts.unexpected_administrator", "guest": "accounts.guest"}
    for _ in range(3):
        found = {item: m.problem.code for item, m in instance.run().items() if m.problem}
        assert found == expected
        instance.later(3600)
    assert len(asked) == 2
    instance.later(WEEK_S)
    instance.run()
    assert len(asked) == 4
    windows({"Get-LocalUser": []})
    assert codes(bench, accounts.CHECK) == {"": "check.program_failed"}


def test_a_domain_controller_has_no_accounts_of_its_own(windows: Callable[..., list[str]]) -> None:
    windows({}, "domain_controller")
    assert accounts.usable() == "a domain controller has no accounts of its own"
    windows({}, "server")
    assert accounts.usable() == "PowerShell is not on this machine"


def test_the_registry(bench: Any, monkeypatch: pytest.MonkeyPatch, windows: Callable[..., list[str]]) -> None:
    windows({})
    values = {
        "fDenyTSConnections": 0,
        "UserAuthentication": 0,
        "AutoAdminLogon": "1",
        "DefaultUserName": "ann",
        "ScreenSaveActive": "1",
        "ScreenSaverIsSecure": "0",
    }

    def read(hive: str, key: str, name: str, view: str = "") -> Any:
        if name not in values or "Policies" in key:
            raise FileNotFoundError(name)
        return values[name]

    monkeypatch.setattr(windows_security.windows_registry, "read_value", read)
    monkeypatch.setattr(
        session_security.windows_registry, "subkeys", lambda *_: iter([".DEFAULT", ANN, f"{ANN}_Classes"])
    )
    monkeypatch.setattr(remote_access, "open_ports", lambda: frozenset((3389,)))
    monkeypatch.setenv("PROGRAMDATA", "/nonexistent")
    assert codes(bench, remote_access.CHECK)["rdp"] == "remote_access.rdp_without_nla"
    assert codes(bench, session_security.CHECK, lock_within="15m") == {
        "autologin": "session_security.autologin",
        "screen_lock": "session_security.lock_off",
    }

    def refuse(*arguments: str) -> Any:
        raise PermissionError(5, "Access is denied")

    monkeypatch.setattr(windows_security.windows_registry, "read_value", refuse)
    assert codes(bench, remote_access.CHECK)["rdp"] == "check.needs_rights"
    assert set(codes(bench, session_security.CHECK).values()) == {"check.needs_rights"}


@pytest.fixture
def mac(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str, bytes], str]:
    """`mac("fdesetup", b"...")` makes this a macOS with a program that prints this; returns its path."""
    monkeypatch.setattr(psutil, "MACOS", True)
    monkeypatch.setattr(psutil, "LINUX", False)

    def make(name: str, printed: bytes) -> str:
        (tmp_path / f"{name}.out").write_bytes(printed)
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\ncat {tmp_path}/{name}.out\n")
        path.chmod(0o755)
        for module in (accounts, disk_encryption):
            monkeypatch.setattr(module, "find_program", lambda wanted: str(path) if wanted == name else None)
        monkeypatch.setattr(firewall, "SOCKETFILTERFW", str(path))
        return str(path)

    return make


def test_macos(bench: Any, mac: Callable[[str, bytes], str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mac("socketfilterfw", b"Firewall is disabled. (State = 0)\n")
    assert codes(bench, firewall.CHECK) == {"": "firewall.off"}
    mac("socketfilterfw", b"rubbish")
    assert codes(bench, firewall.CHECK) == {"": "check.program_failed"}
    mac("fdesetup", b"FileVault is Off.\n")
    assert codes(bench, disk_encryption.CHECK, required="always") == {"FileVault": "disk_encryption.off"}
    mac("fdesetup", b"Error: who are you\n")
    assert codes(bench, disk_encryption.CHECK) == {"": "check.program_failed"}
    mac("other", b"")
    assert codes(bench, disk_encryption.CHECK) == {"": "check.program_failed"}
    window = tmp_path / "com.apple.loginwindow.plist"
    monkeypatch.setattr(accounts, "LOGIN_WINDOW", window)
    monkeypatch.setattr(session_security, "LOGIN_WINDOW", window)
    monkeypatch.setattr(session_security, "MANAGED_SCREENSAVER", tmp_path / "absent")
    mac("dscl", plistlib.dumps({"dsAttrTypeStandard:GroupMembership": ["root", "ann"]}))
    assert codes(bench, accounts.CHECK) == {"administrators": "ok", "guest": "ok"}
    assert codes(bench, session_security.CHECK) == {"autologin": "ok"}
    window.write_bytes(plistlib.dumps({"GuestEnabled": True, "autoLoginUser": "ann"}, fmt=plistlib.FMT_BINARY))
    assert codes(bench, accounts.CHECK) == {"administrators": "ok", "guest": "accounts.guest"}
    assert codes(bench, session_security.CHECK) == {"autologin": "session_security.autologin"}
    window.write_bytes(b"rubbish")
    assert codes(bench, session_security.CHECK)["autologin"] == "check.program_failed"


def test_this_is_no_windows() -> None:
    assert windows_security.windows_kind() == ""
    assert windows_security.is_administrator() is False
