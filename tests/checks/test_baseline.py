"""The terminal standard: what rules make of this machine, of files, and of samples of other systems."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import psutil
import pytest
from fake_winreg import FakeWinreg

from gengfu_checks import guide, software, standards
from gengfu_checks.errors import CannotMeasure, SettingError
from gengfu_checks.local import baseline_probe
from gengfu_checks.local.baseline import CHECK, measure_rules
from gengfu_checks.local.baseline_judge import Result, totals
from gengfu_checks.local.baseline_probe import Probe, parse_launchctl
from gengfu_checks.model import Measurement, Status
from gengfu_checks.settings import resolve_thresholds
from gengfu_checks.software import Software
from gengfu_checks.standards.rules import Rule, Waiver, read_rule
from gengfu_checks.threshold import judge

HEAD = '{"id":"s","title":"T","version":"1"}'
NOW_S = 1_800_000_000.0
DAY_S = 86_400.0


IDS = count()


def rule(kind: str, rule_id: str = "", **keys: object) -> Rule:
    return read_rule({"id": rule_id or f"r{next(IDS)}", "kind": kind, "reason": "why", **keys})


def measured(
    *rules: Rule, system: str = "linux", waivers: tuple[Waiver, ...] = (), now_s: float = NOW_S
) -> list[Result]:
    return measure_rules(rules, waivers, Probe(system, {}), "warning", now_s)


def told(result: Result) -> tuple[str, object, object]:
    if result.problem is None:
        return result.word, None, result.facts["found"]
    return result.word, result.problem.facts.get("expected"), result.problem.facts.get("found")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`installed("dpkg", nano="7.2")` is all that the machine has."""

    def make(source: str, **versions: str) -> None:
        found = [Software(name.replace("_", "-"), version, "", None, source) for name, version in versions.items()]
        monkeypatch.setattr(software, "sources", lambda: (source,))
        monkeypatch.setattr(software, "installed", lambda: iter(found))

    return make


@pytest.mark.parametrize(
    ("kind", "keys", "expected"),
    [
        ("software_required", {"names": ["chrony", "ntp*"]}, ("compliant", None, "chrony 4.3-2")),
        ("software_required", {"names": "CHRONY"}, ("compliant", None, "chrony 4.3-2")),
        ("software_required", {"names": ["nscd"]}, ("deviating", "nscd", "-")),
        ("software_required", {"names": "lib*", "version": "2"}, ("compliant", None, "libx 3.0-1, libx:i386 1.0-1")),
        ("software_required", {"names": "nscd", "version": "2"}, ("deviating", "≥ 2", "-")),
        ("software_forbidden", {"names": ["telnet*"]}, ("compliant", None, "-")),
        ("software_forbidden", {"names": ["libx"]}, ("deviating", "-", "libx 3.0-1, libx:i386 1.0-1")),
        ("software_minimum", {"names": "libx", "version": "2"}, ("deviating", "≥ 2", "libx 3.0-1, libx:i386 1.0-1")),
        (
            "software_minimum",
            {"names": "openssh-client", "version": "9.2"},
            ("deviating", "≥ 9.2", "openssh-client 1:8.4"),
        ),
        (
            "software_minimum",
            {"names": "openssh-client", "version": "1:8.0"},
            ("compliant", None, "openssh-client 1:8.4"),
        ),
        ("software_minimum", {"names": "absent", "version": "1"}, ("compliant", None, "-")),
    ],
)
def test_software(
    kind: str, keys: dict[str, object], expected: tuple[str, object, object], installed: Callable[..., None]
) -> None:
    installed("dpkg", **{"chrony": "4.3-2", "libx": "3.0-1", "libx:i386": "1.0-1", "openssh_client": "1:8.4"})
    assert told(measured(rule(kind, **keys))[0]) == expected


def test_a_deviation_is_told_in_words(installed: Callable[..., None]) -> None:
    installed("dpkg", telnetd="0.17")
    found = measured(rule("software_forbidden", "a", names="telnetd"), rule("software_required", "b", names="nscd"))
    told = [
        guide.summary(problem.code, language, "", problem.facts, {}, None)
        for problem in (result.problem for result in found)
        if problem is not None
        for language in guide.LANGUAGES
    ]
    assert told == [
        "规则 a：telnetd 应为 无，实际为 telnetd 0.17。why",
        "rule a: telnetd: expected none, found telnetd 0.17. why",
        "规则 b：nscd 应为 nscd，实际为 无。why",
        "rule b: nscd: expected nscd, found none. why",
    ]


def test_software_of_windows_is_compared_by_numbers(installed: Callable[..., None]) -> None:
    installed("registry", **{"7-Zip 24.08 (x64)": "24.08", "Tool": ""})
    new, old = (rule("software_minimum", names="7-zip*", version=version) for version in ("24.7", "24.09"))
    without = rule("software_minimum", names="tool", version="1")
    found = measured(new, old, without, system="windows")
    assert [result.word for result in found] == ["compliant", "deviating", "unknown"]
    assert found[2].problem is not None
    assert found[2].problem.facts == {"reason": "Tool - cannot be compared with version 1", "rule": without.id}


def test_without_a_list_of_software_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(software, "sources", lambda: ())
    (result,) = measured(rule("software_forbidden", names="x"))
    assert result.problem is not None
    assert (result.word, result.problem.code) == ("unknown", "check.not_usable")
    assert "本机没有软件清单" in guide.summary(result.problem.code, "zh", "", result.problem.facts, {}, None)


def test_this_machines_software(requires_program: Callable[[str, str], str]) -> None:
    requires_program("dpkg", "apt-get install dpkg")
    found = measured(
        rule("software_required", names="dpkg", version="1.10"),
        rule("software_minimum", names="dpkg", version="99"),
        rule("software_forbidden", names="no-such-package-*"),
    )
    assert [result.word for result in found] == ["compliant", "deviating", "compliant"]


@pytest.mark.parametrize(
    ("text", "keys", "expected"),
    [
        ("Port 22\nX no\n", {"key": "x", "equals": "NO"}, ("compliant", None, "no")),
        ("X yes\n", {"key": "X", "equals": ["no", "maybe"]}, ("deviating", "no | maybe", "yes")),
        ("X yes\n", {"key": "X", "equals": True}, ("compliant", None, "yes")),
        ("X 0\n", {"key": "X", "equals": False}, ("compliant", None, "0")),
        ("X 90\n", {"key": "X", "at_most": 90}, ("compliant", None, "90")),
        ("X 99999\n", {"key": "X", "at_least": 1, "at_most": 90}, ("deviating", "≥ 1, ≤ 90", "99999")),
        ("X soon\n", {"key": "X", "at_most": 90}, ("deviating", "≤ 90", "soon")),
        ("X 2.0\n", {"key": "X", "equals": 2}, ("compliant", None, "2.0")),
        ("", {"key": "X", "equals": "no"}, ("deviating", "no", "-")),
        ("", {"key": "X", "equals": "no", "default": "no"}, ("compliant", None, "- (no)")),
        ("", {"key": "X", "equals": "no", "default": "yes"}, ("deviating", "no", "- (yes)")),
        ('{"a": {"X": true}}', {"key": "a.X", "format": "json", "equals": True}, ("compliant", None, "true")),
        ("{broken", {"key": "X", "format": "json", "equals": True}, ("unknown", None, None)),
        ("[a]\nX=1\n[b]\nX=2\n", {"key": "X", "format": "ini", "section": "b", "equals": 2}, ("compliant", None, "2")),
        ("bind_password=abc\n", {"key": "bind_password", "equals": ""}, ("deviating", '""', "***")),
        ("PermitEmptyPasswords yes\n", {"key": "PermitEmptyPasswords", "equals": "no"}, ("deviating", "no", "yes")),
    ],
)
def test_settings_in_files(
    text: str, keys: dict[str, object], expected: tuple[str, object, object], tmp_path: Path
) -> None:
    file = tmp_path / "a.conf"
    file.write_text(text)
    assert told(measured(rule("file_setting", file=str(file), **keys))[0]) == expected


def test_several_files_count_in_their_order(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    for name, text in (
        ("main", "X main"),
        ("d/20.conf", "X b"),
        ("d/10.conf", "Y a"),
        ("d/30.conf", "X c"),
        ("d/.x", "X z"),
    ):
        (tmp_path / name).write_text(text)
    files = [str(tmp_path / "d/*.conf"), str(tmp_path / "main"), str(tmp_path / "none/*"), str(tmp_path / "none")]
    first, last = (rule("file_setting", file=files, key="X", first=yes, equals="?") for yes in (True, False))
    assert [told(result)[2] for result in measured(first, last)] == ["b", "main"]


def test_what_not_everybody_may_read_is_judged_and_not_told(tmp_path: Path) -> None:
    file = tmp_path / "shadow"
    file.write_text("root $y$secret\n")
    file.chmod(0o640)
    (result,) = measured(rule("file_setting", file=str(file), key="root", equals="x"))
    assert told(result) == ("deviating", "x", "***")
    (kept,) = measured(rule("file_setting", file=str(file), key="root", equals="$y$secret"))
    assert told(kept) == ("compliant", None, "***")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become nobody, who may not read")
@pytest.mark.parametrize("kind", ["file_setting", "file_present", "folder"])
def test_without_the_right_to_read_a_rule_is_unknown(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    folder.mkdir()
    file = folder / "a.conf"
    file.write_text("X 1\n")
    (file if kind == "file_setting" else folder).chmod(0o600)
    asked = {
        "file_setting": rule("file_setting", file=str(file), key="X", equals=1),
        "file_present": rule("file_present", path=str(file)),
        "folder": rule("file_setting", file=str(folder / "*.conf"), key="X", equals=1),
    }[kind]
    os.seteuid(65534)
    try:
        (result,) = measured(asked)
    finally:
        os.seteuid(0)
    assert result.problem is not None
    assert (result.problem.status, result.problem.code) == (Status.UNKNOWN, "check.needs_rights")
    assert str(folder) in str(result.problem.facts["target"])


def test_files(tmp_path: Path) -> None:
    file = tmp_path / "agreed.pdf"
    file.write_bytes(b"agreed")
    digest = hashlib.sha256(b"agreed").hexdigest()
    found = measured(
        rule("file_present", path=str(file)),
        rule("file_present", path=str(file), sha256=digest.upper()),
        rule("file_present", path=str(file), sha256="0" * 64),
        rule("file_present", path=str(tmp_path / "none")),
        rule("file_absent", path=str(tmp_path / "none")),
        rule("file_absent", path=str(file)),
        rule("file_absent", path=str(file / "below")),
    )
    assert [result.word for result in found] == [
        "compliant", "compliant", "deviating", "deviating", "compliant", "deviating", "compliant",
    ]  # fmt: skip
    assert told(found[2])[1:] == (f"sha256 {'0' * 64}", f"sha256 {digest}")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no such pipes")
def test_what_is_no_file_never_has_the_hash_and_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    found = measured(*(rule("file_present", path=str(path), sha256="0" * 64) for path in (tmp_path / "pipe", tmp_path)))
    assert [told(result) for result in found] == [("deviating", f"sha256 {'0' * 64}", "sha256 -")] * 2


def test_a_file_is_hashed_again_only_when_it_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, hashes = tmp_path / "a", dict[tuple[object, ...], str]()
    file.write_bytes(b"one")
    asked = rule("file_present", path=str(file), sha256=hashlib.sha256(b"one").hexdigest())
    probe = Probe("linux", hashes)
    assert [measure_rules([asked], (), probe, "info", NOW_S)[0].word for _ in range(2)] == ["compliant"] * 2
    assert len(hashes) == 1
    file.write_bytes(b"other")
    assert measure_rules([asked], (), probe, "info", NOW_S)[0].word == "deviating"
    monkeypatch.setattr(baseline_probe, "MAX_HASHED_BYTES", 4)
    assert measure_rules([asked], (), probe, "info", NOW_S)[0].word == "unknown"


def test_a_rule_applies_only_on_its_systems_and_beside_what_it_is_about(tmp_path: Path) -> None:
    elsewhere = rule("file_absent", path=str(tmp_path), on=["macos"])
    without = rule("file_absent", path=str(tmp_path), if_exists=str(tmp_path / "none"))
    beside = rule("file_absent", path=str(tmp_path), if_exists=str(tmp_path))
    found = measured(elsewhere, without, beside)
    assert [result.word for result in found] == ["not_applicable", "deviating"]
    assert found[0].problem is not None
    assert (found[0].problem.status, found[0].problem.facts["what"]) == (Status.OK, str(tmp_path / "none"))
    assert totals(found) == {
        "compliant_rules": 0, "deviating_rules": 1, "excepted_rules": 0, "unknown_rules": 0, "compliance_ratio": 0,
    }  # fmt: skip
    assert measured(rule("registry_value", key="HKLM\\X", name="", equals=1)) == []


def test_kernel_settings_of_this_machine() -> None:
    real = Path("/proc/sys/kernel/randomize_va_space").read_text().strip()
    found = measured(
        rule("sysctl", key="kernel.randomize_va_space", equals=int(real)),
        rule("sysctl", key="kernel/randomize_va_space", equals=int(real) + 1),
        rule("sysctl", key="kernel.no_such_thing", equals=1),
        rule("sysctl", key="net.ipv4.ip_local_port_range", equals="1"),
    )
    assert [told(result)[::2] for result in found[:3]] == [
        ("compliant", real), ("deviating", real), ("deviating", "-"),
    ]  # fmt: skip
    assert "\t" not in str(told(found[3])[2])


def test_a_kernel_setting_that_is_for_root_alone_is_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baseline_probe, "PROC_SYS", tmp_path)
    (tmp_path / "secret").write_text("abc\n")
    (tmp_path / "secret").chmod(0o600)
    assert told(measured(rule("sysctl", key="secret", equals="x"))[0]) == ("deviating", "x", "***")
    monkeypatch.setattr(baseline_probe, "PROC_SYS", tmp_path / "hidden")
    assert measured(rule("sysctl", key="secret", equals="x"))[0].word == "unknown"


# https://learn.microsoft.com/windows-server/storage/file-server/troubleshoot/detect-enable-and-disable-smbv1-v2-v3
# names key and values; the machine that has them is made up.
REGISTRY: dict[tuple[str, str], dict[str, object]] = {
    ("HKLM", r"SYSTEM\CurrentControlSet\Services\LanmanServer\Parameters"): {
        "SMB1": 1,
        "Multi": ["a", "b"],
        "Raw": b"\1",
    },
    ("HKLM", r"SOFTWARE\Winlogon"): {"AutoAdminLogon": "0", "DefaultPassword": "hunter2"},
}


@pytest.mark.parametrize(
    ("key", "name", "keys", "expected"),
    [
        (r"SYSTEM\CurrentControlSet\Services\LanmanServer\Parameters", "SMB1", {"equals": 0}, ("deviating", "0", "1")),
        (
            r"SYSTEM\CurrentControlSet\Services\LanmanServer\Parameters",
            "Multi",
            {"equals": "a, b"},
            ("compliant", None, "a, b"),
        ),
        (
            r"SYSTEM\CurrentControlSet\Services\LanmanServer\Parameters",
            "Raw",
            {"equals": "01"},
            ("compliant", None, "01"),
        ),
        (r"SOFTWARE\Winlogon", "AutoAdminLogon", {"equals": 0, "default": 0}, ("compliant", None, "0")),
        (r"SOFTWARE\Winlogon", "None", {"equals": 0, "default": 0}, ("compliant", None, "- (0)")),
        (r"SOFTWARE\Nowhere", "None", {"equals": 0}, ("deviating", "0", "-")),
        (r"SOFTWARE\Winlogon", "DefaultPassword", {"equals": ""}, ("deviating", '""', "***")),
    ],
)
def test_registry_values(
    key: str, name: str, keys: dict[str, object], expected: tuple[str, object, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "winreg", FakeWinreg(REGISTRY))
    asked = rule("registry_value", key=f"HKLM\\{key}", name=name, **keys)
    assert told(measured(asked, system="windows")[0]) == expected


def test_services_of_systemd(tmp_path: Path, samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer is a recording of systemctl 252, see test_os_service.py; a script gives it."""
    script = tmp_path / "systemctl"
    script.write_text(f'#!/bin/sh\ncat "{samples / "systemctl" / "show-252"}"\n')
    script.chmod(0o755)
    monkeypatch.setattr(baseline_probe, "SYSTEMD_RUNNING", tmp_path)
    monkeypatch.setattr(baseline_probe, "find_program", lambda _: str(script))
    found = measured(
        rule("service_running", names=["nowhere", "good"]),
        rule("service_running", names=["bad", "nowhere", "Windows Name"]),
        rule("service_stopped", names=["nowhere", "stopped"]),
        rule("service_stopped", names=["flaky"]),
    )
    assert [told(result) for result in found] == [
        ("compliant", None, "good active"),
        ("deviating", "running", "bad failed"),
        ("compliant", None, "stopped inactive"),
        ("deviating", "-", "flaky active"),
    ]
    script.write_text("#!/bin/sh\nexit 1\n")
    (result,) = measured(rule("service_running", names="good"))
    assert result.problem is not None
    assert (result.word, result.problem.code) == ("unknown", "check.program_failed")


def test_without_systemd_services_are_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baseline_probe, "SYSTEMD_RUNNING", tmp_path / "none")
    assert [r.word for r in measured(rule("service_stopped", names="x"), rule("file_absent", path="/none"))] == [
        "unknown", "compliant",
    ]  # fmt: skip


def test_services_of_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """psutil's documented call, with a stand-in."""

    class Service:
        def __init__(self, name: str) -> None:
            if name == "TlntSvr":
                raise psutil.NoSuchProcess(0, name)
            if name == "Secret":
                raise psutil.AccessDenied(0, name)
            self.name = name

        def status(self) -> str:
            return {"MpsSvc": "running"}.get(self.name, "stopped")

    monkeypatch.setattr(psutil, "win_service_get", Service, raising=False)
    found = measured(
        rule("service_running", names="MpsSvc"),
        rule("service_stopped", names=["TlntSvr", "RemoteRegistry"]),
        rule("service_running", names="RemoteRegistry"),
        system="windows",
    )
    assert [told(r) for r in found] == [
        ("compliant", None, "MpsSvc running"),
        ("compliant", None, "RemoteRegistry stopped"),
        ("deviating", "running", "RemoteRegistry stopped"),
    ]
    (result,) = measured(rule("service_running", names="Secret"), system="windows")
    assert result.problem is not None
    assert result.problem.code == "check.needs_rights"


# Built after launchctl(1): process id or -, last exit status, label.
LAUNCHCTL = "PID\tStatus\tLabel\n312\t0\tcom.apple.syslogd\n-\t0\tcom.apple.ftpd\n-\t-9\tcom.example.killed\nrubbish\n"


def test_services_of_macos() -> None:
    states, running = parse_launchctl(LAUNCHCTL)
    assert states == {"com.apple.syslogd": "running", "com.apple.ftpd": "stopped", "com.example.killed": "stopped"}
    assert running == {"com.apple.syslogd"}
    assert parse_launchctl("") == ({}, frozenset())


def test_settings_of_macos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A property list built after defaults(1), given by a script."""
    script, preferences = tmp_path / "defaults", tmp_path / "loginwindow.plist"
    preferences.touch(0o644)
    body = "<key>GuestEnabled</key><true/><key>Retries</key><integer>3</integer><key>List</key><array/>"
    script.write_text(f"#!/bin/sh\necho '<plist version=\"1.0\"><dict>{body}</dict></plist>'\n")
    script.chmod(0o755)
    monkeypatch.setattr(baseline_probe, "find_program", lambda _: str(script))

    def asked(key: str, **keys: object) -> Rule:
        return rule("macos_default", domain=str(preferences.with_suffix("")), key=key, **keys)

    found = measured(
        asked("GuestEnabled", equals=False, default=False),
        asked("autoLoginUser", equals="", default=""),
        asked("Retries", at_most=5),
        asked("List", equals="x"),
        system="macos",
    )
    assert [told(r)[::2] for r in found] == [
        ("deviating", "true"), ("compliant", "- ()"), ("compliant", "3"), ("deviating", "-"),
    ]  # fmt: skip
    preferences.chmod(0o600)
    (hidden,) = measured(asked("Retries", at_most=1), system="macos")
    assert told(hidden) == ("deviating", "≤ 1", "***")


def texts_of(*rules: Rule) -> list[str]:
    return [HEAD, *(one.text for one in rules)]


def test_items_counts_and_ratio(bench: Callable[..., Any], tmp_path: Path) -> None:
    here, none, broken = str(tmp_path), str(tmp_path / "none"), tmp_path / "broken.json"
    broken.write_text("{")
    rules = texts_of(
        rule("file_absent", "kept", path=none, weight=3),
        rule("file_absent", "broken", path=here, weight=1, severity="critical"),
        rule("file_absent", "noted", path=here, weight=2),
        rule("file_absent", "excepted", path=here, weight=4),
        rule("file_setting", "unseen", file=str(broken), key="X", format="json", equals=1, default=1, weight=1),
        rule("file_present", "missing", path=none, weight=1),
    )
    waiver = Waiver(("exc*",), "2027-01-31", NOW_S + DAY_S, "Li Lei", "until the new ERP").text()
    instance = bench(CHECK, rules=rules, exceptions=[waiver])
    instance.now_s = NOW_S
    items: dict[str, Measurement] = instance.run()
    assert list(items) == ["s", "s/kept", "s/broken", "s/noted", "s/excepted", "s/unseen", "s/missing"]
    assert items["s"].metrics == {
        "compliant_rules": 1.0,
        "deviating_rules": 3.0,
        "excepted_rules": 1.0,
        "unknown_rules": 1.0,
        "compliance_ratio": pytest.approx((3 + 4) / 11),
    }
    findings = {item: judge("baseline", m, (), None, NOW_S) for item, m in items.items()}
    assert {item.partition("/")[2]: (f.status, f.code) for item, f in findings.items()} == {
        "": (Status.OK, "ok"),
        "kept": (Status.OK, "ok"),
        "broken": (Status.CRITICAL, "baseline.deviation"),
        "noted": (Status.OK, "baseline.deviation"),
        "excepted": (Status.OK, "baseline.excepted"),
        "unseen": (Status.UNKNOWN, "check.not_usable"),
        "missing": (Status.OK, "baseline.deviation"),
    }
    excepted = findings["s/excepted"].facts
    assert (excepted["owner"], excepted["excepted_until"]) == ("Li Lei", "2027-01-31")
    instance.later(DAY_S)
    assert judge("baseline", instance.run()["s/excepted"], (), None, NOW_S).code == "baseline.deviation"


def test_a_limit_for_the_ratio_is_one_ticket_a_machine(bench: Callable[..., Any], tmp_path: Path) -> None:
    rules = texts_of(rule("file_absent", path=str(tmp_path)), rule("file_absent", path=str(tmp_path / "none")))
    total = bench(CHECK, rules=rules).run()["s"]
    assert judge("baseline", total, CHECK.thresholds, None, NOW_S).code == "ok"
    limits = resolve_thresholds(CHECK, {"compliance_ratio": {"warning": 0.9, "critical": 0.4}})
    finding = judge("baseline", total, limits, None, NOW_S)
    assert (finding.status, finding.code) == (Status.WARNING, "baseline.low_compliance")
    line = guide.summary(finding.code, "zh", "s", finding.facts, finding.metrics, 0.9, metric="compliance_ratio")
    assert line == "s：合规率 50%，阈值 90%，不符合 1 条，例外 0 条，无法检查 0 条"


def test_unknown_counts_neither_way(bench: Callable[..., Any], tmp_path: Path) -> None:
    broken = tmp_path / "a.json"
    broken.write_text("{")
    unseen = rule("file_setting", "unseen", file=str(broken), key="X", format="json", equals=1, weight=50)
    items = bench(CHECK, rules=texts_of(unseen, rule("file_absent", "kept", path=str(tmp_path / "none")))).run()
    assert items["s"].metrics["compliance_ratio"] == 1.0
    assert items["s"].metrics["unknown_rules"] == 1.0
    alone = bench(CHECK, rules=texts_of(unseen)).run()["s"].metrics
    assert "compliance_ratio" not in alone


def test_the_severity_of_the_check_holds_for_rules_without_one(bench: Callable[..., Any], tmp_path: Path) -> None:
    rules = texts_of(
        rule("file_absent", "own", path=str(tmp_path), severity="info"), rule("file_absent", "none", path=str(tmp_path))
    )
    items = bench(CHECK, rules=rules, severity="critical").run()
    assert [m.problem and m.problem.status for m in items.values()] == [None, Status.OK, Status.CRITICAL]


def test_a_reason_is_shown_in_the_readers_language(bench: Callable[..., Any], tmp_path: Path) -> None:
    asked = rule("file_absent", path=str(tmp_path), reason={"zh": "不应存在", "en": "should not be there"})
    problem = bench(CHECK, rules=texts_of(asked)).run()[f"s/{asked.id}"].problem
    shown = [guide.summary(problem.code, language, "", problem.facts, {}, None) for language in ("zh", "en")]
    assert "不应存在" in shown[0]
    assert "should" not in shown[0]
    assert shown[1].endswith(". should not be there")


def test_a_standard_of_a_file_and_what_is_wrong_with_one(bench: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    head = '[standard]\nid = "own"\ntitle = "Own"\n'
    file.write_text(f'{head}[[rule]]\nid = "a"\nkind = "file_absent"\npath = "/none"\nreason = "why"\n')
    assert list(bench(CHECK, standard=str(file)).run()) == ["own", "own/a"]
    for text, message in (
        (f'{head}[[rule]]\nid = "a"\nkind = "file_absnt"\n', "own.toml:4: kind: 'file_absnt' is not one of"),
        (head, "a standard has 1 to 300 rules, not 0"),
        ("[standard", "is not TOML"),
        ("[profile]", "it has no .standard."),
        ("standard = 7\nrule = 3", "it has no .standard."),
        (f"{head}[[rule]]\n[[rule]]\n", "own.toml:4: kind is missing"),
    ):
        file.write_text(text)
        with pytest.raises(SettingError, match=message):
            bench(CHECK, standard=str(file)).run()
    with pytest.raises(SettingError, match=r"cannot be read: No such file"):
        bench(CHECK, standard=str(tmp_path / "none.toml")).run()
    with pytest.raises(SettingError, match=r"there is no standard 'nonsense'; known here: office-terminal, server"):
        bench(CHECK, standard="nonsense").run()


@pytest.mark.parametrize(
    ("rule_id", "texts", "expected"),
    [
        # Sections and keys as in the files that come with LightDM and GDM.
        ("no-automatic-login-lightdm", ["", "[Seat:*]\n#autologin-user=\n"], "compliant"),
        ("no-automatic-login-lightdm", ["[Seat:*]\nautologin-user=li\n", "[LightDM]\n"], "deviating"),
        ("no-automatic-login-lightdm", ["[Seat:*]\nautologin-user=li\n", "[Seat:*]\nautologin-user=\n"], "compliant"),
        ("no-automatic-login-gdm", ["[daemon]\nAutomaticLoginEnable=True\nAutomaticLogin=li\n"], "deviating"),
        ("no-automatic-login-gdm", ["[daemon]\n# AutomaticLoginEnable=True\n"], "compliant"),
        ("strong-password-hash", ["ENCRYPT_METHOD SM3\n"], "compliant"),
        ("strong-password-hash", ["ENCRYPT_METHOD MD5\n"], "deviating"),
    ],
)
def test_rules_about_files_of_the_office_terminal(
    rule_id: str, texts: list[str], expected: str, tmp_path: Path
) -> None:
    """The rule as it stands, its files being others."""
    for number, text in enumerate(texts):
        (tmp_path / f"{number}.conf").write_text(text)
    (found,) = (one for one in standards.load("office-terminal").rules if one.id == rule_id)
    files = [str(tmp_path / f"{number}.conf") for number in range(len(texts))]
    moved = read_rule({**json.loads(found.text), "file": files, "if_exists": files[0]})
    assert [result.word for result in measured(moved)] == [expected]


@pytest.mark.parametrize("name", standards.built_in_ids())
def test_the_standards_that_come_with_gengfu(name: str, bench: Callable[..., Any]) -> None:
    standard = standards.load(name)
    assert standard.id == name
    assert all(one.severity is None for one in standard.rules)
    for system in ("linux", "windows"):
        assert len([one for one in standard.rules if system in one.systems]) >= 8
    for one in standard.rules:
        assert one.reason.zh != one.reason.en
        assert len(one.reason.en) <= 120
    assert sum(len(text.encode()) for text in standard.texts()) < 16 * 1024
    items = bench(CHECK, standard=name).run()
    assert {m.problem.status for m in items.values() if m.problem} <= {Status.OK, Status.UNKNOWN}
    assert bench(CHECK, rules=list(standard.texts())).run() == items


def test_rpm_that_fails_makes_its_rules_unknown_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> Any:
        raise CannotMeasure("check.program_failed", {"program": "rpm", "reason": "ended with 1"})

    monkeypatch.setattr(software, "sources", lambda: ("rpm",))
    monkeypatch.setattr(software, "installed", fails)
    found = measured(rule("software_required", names="x"), rule("file_absent", path="/none"))
    assert [result.word for result in found] == ["unknown", "compliant"]


def test_a_result_travels_as_json(bench: Callable[..., Any]) -> None:
    for measurement in bench(CHECK).run().values():
        json.dumps([measurement.facts, measurement.problem and dict(measurement.problem.facts)])
