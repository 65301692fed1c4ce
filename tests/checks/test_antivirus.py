"""The antivirus check: real processes and files, judgement on vendors' samples.

Windows: the values of productState are those that people found on 10,000 machines (stackoverflow.com/questions/4700897,
neophob.com "WMI query windows SecurityCenter2"); rows of Get-MpComputerStatus hold the values of the example on its
page at Microsoft Learn (windowsserver2022-ps), as JSON would show them. Microsoft Defender on Linux: field names and
values of the table at Microsoft Learn (defender-endpoint/health-status) and of the text output in gist
rtrouton/f51cd48b, built as JSON after the manual. ClamAV: headers built after the manual of the CVD format; nobody here
has a signed database.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gengfu_checks.local import antivirus, antivirus_linux, running_programs, windows_security
from gengfu_checks.local.antivirus import CHECK, XPROTECT
from gengfu_checks.local.antivirus_linux import Agent, built_at, clamav, installed, microsoft_defender
from gengfu_checks.local.antivirus_products import Product, defender, judge, registered, with_details
from gengfu_checks.model import Measurement, Status
from gengfu_checks.settings import resolve_settings
from gengfu_checks.threshold import judge as judge_limits

NOW_S = 1_800_000_000.0
DAY_S = 86400.0


def header(built_s: float | str, magic: str = "ClamAV-VDB") -> bytes:
    shown = int(built_s) if isinstance(built_s, float) else built_s
    text = f"{magic}:10 Mar 2008 10-45 +0000:6191:59084:26:6e6e29dae36b4b7315932c921e568330:zz9irc9i:ccordes:{shown}"
    return text.encode().ljust(512) + b"\x1f\x8b rest of the tarball"


def codes(measured: list[Measurement]) -> dict[str, str]:
    found = {}
    for measurement in measured:
        finding = judge_limits("antivirus", measurement, CHECK.thresholds, None, 0.0)
        found[measurement.item] = finding.code
        assert finding.status in (Status.OK, Status.WARNING, Status.CRITICAL)
    return found


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (266240, ("on", False, False)),
        (266256, ("on", True, False)),
        (262144, ("off", False, False)),
        (393216, ("off", False, False)),
        (393472, ("off", False, True)),
        (397568, ("on", False, True)),
        (397584, ("on", True, True)),
        (270336, ("paused", False, False)),
        (0x63000, ("expired", False, False)),
    ],
)
def test_states_of_security_center(state: int, expected: tuple[str, bool, bool]) -> None:
    found = windows_security.state_of(state), windows_security.is_outdated(state)
    assert (*found, windows_security.is_of_microsoft(state)) == expected


def rows(*products: tuple[Any, Any]) -> list[dict[str, Any]]:
    return [{"displayName": name, "productState": state} for name, state in products]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (rows(("Windows Defender", 397568)), {"": "ok", "Microsoft Defender": "ok"}),
        (rows(("Windows Defender", 393472)), {"": "ok", "Microsoft Defender": "antivirus.off"}),
        (rows(("Windows Defender", 397584)), {"": "ok", "Microsoft Defender": "antivirus.outdated"}),
        (
            rows(("Windows Defender", 393472), ("Symantec Endpoint Protection", 462848)),
            {"": "ok", "Microsoft Defender": "ok", "Symantec Endpoint Protection": "ok"},
        ),
        (
            rows(("Windows Defender", 393472), ("Other", 0x63000)),
            {"": "ok", "Microsoft Defender": "antivirus.off", "Other": "antivirus.off"},
        ),
        (rows(("Other", 0x61000), ("Other", 0x60000)), {"": "ok", "Other": "ok"}),
        (rows((None, 1), ("x", "y"), ("", 397568), ("z", -1)), {"": "antivirus.none"}),
        ([], {"": "antivirus.none"}),
    ],
)
def test_workstations(answer: list[dict[str, Any]], expected: dict[str, str]) -> None:
    assert codes(judge(registered(answer), wanted=True, judged=True)) == expected


def status(**changes: Any) -> list[dict[str, Any]]:
    usual = {
        "AMRunningMode": "Normal",
        "AntivirusEnabled": True,
        "RealTimeProtectionEnabled": True,
        "AntivirusSignatureAge": 1,
        "DefenderSignaturesOutOfDate": False,
    }
    return [usual | changes]


@pytest.mark.parametrize(
    ("answer", "code", "age_s"),
    [
        (status(), "ok", DAY_S),
        (status(AntivirusSignatureAge=8), "antivirus.signatures_old", 8 * DAY_S),
        (status(AntivirusSignatureAge=4294967295), "ok", None),
        (status(AntivirusSignatureAge=65535), "ok", None),
        (status(RealTimeProtectionEnabled=False), "antivirus.off", DAY_S),
        (status(AntivirusEnabled=False, RealTimeProtectionEnabled=False), "antivirus.off", DAY_S),
        (status(AMRunningMode="Passive Mode", RealTimeProtectionEnabled=False), "ok", DAY_S),
        (status(AMRunningMode=None), "ok", DAY_S),
        (status(DefenderSignaturesOutOfDate=True), "antivirus.outdated", DAY_S),
    ],
)
def test_defender_on_windows(answer: list[dict[str, Any]], code: str, age_s: float | None) -> None:
    product = defender(answer)
    assert product is not None
    measured = judge([product], wanted=True, judged=True)
    assert codes(measured)["Microsoft Defender"] == code
    assert measured[1].metrics.get("signature_age_seconds") == age_s


def test_other_answers_are_no_status() -> None:
    assert defender([]) is None
    assert defender([{"AntivirusEnabled": "True", "RealTimeProtectionEnabled": None}]) is None


def test_security_center_learns_the_age_of_defenders_signatures() -> None:
    details = defender(status(AntivirusSignatureAge=40))
    assert details is not None
    found = with_details(registered(rows(("Windows Defender", 397568))), details)
    assert codes(judge(found, wanted=True, judged=True)) == {"": "ok", "Microsoft Defender": "antivirus.signatures_old"}


def test_where_none_is_required_nothing_is_said_of_those_that_are_off() -> None:
    off = [Product("Other", "off")]
    assert codes(judge(off, wanted=False, judged=False)) == {"": "ok", "Other": "ok"}
    told = judge(off, wanted=False, judged=True)
    assert codes(told) == {"": "ok", "Other": "antivirus.off"}
    assert told[1].problem is not None
    assert told[1].problem.facts == {"state": "off"}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (header(1_799_990_000), 1_799_990_000.0),
        (header("1799990000   "), 1_799_990_000.0),
        (header(1_800_003_600), 1_800_003_600.0),
        (header(1_900_000_000), None),  # from the future
        (header(12), None),
        (header("9" * 400), None),
        (header(""), None),
        (header(1_799_990_000, magic="Something"), None),
        (b"ClamAV-VDB:10 Mar 2008", None),
        (b"", None),
    ],
)
def test_the_header_of_a_database(data: bytes, expected: float | None) -> None:
    assert built_at(data, NOW_S) == expected


@given(st.binary(max_size=600))
def test_any_bytes_are_survived(data: bytes) -> None:
    assert built_at(b"ClamAV-VDB:" + data, NOW_S) is None or b":" in data


def test_age_of_clamavs_signatures(tmp_path: Path) -> None:
    assert not clamav(tmp_path, NOW_S, running=True).has_signatures
    (tmp_path / "main.cvd").write_bytes(header(NOW_S - 900 * DAY_S))
    assert clamav(tmp_path, NOW_S, running=True).signature_age_s == 900 * DAY_S
    (tmp_path / "daily.cvd").write_bytes(header(NOW_S - 40 * DAY_S))
    (tmp_path / "daily.cld").write_bytes(header(NOW_S - 2 * DAY_S))
    assert clamav(tmp_path, NOW_S, running=True).signature_age_s == 2 * DAY_S
    (tmp_path / "daily.cld").write_bytes(b"rubbish")
    product = clamav(tmp_path, NOW_S, running=True)
    assert codes(judge([product], wanted=False, judged=True))["ClamAV"] == "antivirus.signatures_old"
    off = clamav(tmp_path, NOW_S, running=False)
    assert codes(judge([off], wanted=False, judged=True))["ClamAV"] == "antivirus.off"
    assert codes(judge([off, Product("Sophos", "on")], wanted=False, judged=True)) == dict.fromkeys(
        ("", "ClamAV", "Sophos"), "ok"
    )


HEALTH = {
    "healthy": True,
    "realTimeProtectionEnabled": {"value": True},
    "passiveModeEnabled": {"value": False},
    "definitionsUpdatedMinutesAgo": "130",
    "definitionsStatus": "upToDate",
}


@pytest.mark.parametrize(
    ("changes", "state", "age_s"),
    [
        ({}, "on", 7800.0),
        ({"realTimeProtectionEnabled": True, "definitionsUpdatedMinutesAgo": 10}, "on", 600.0),
        ({"realTimeProtectionEnabled": False}, "off", 7800.0),
        ({"realTimeProtectionEnabled": False, "passiveModeEnabled": True}, "", 7800.0),
        ({"definitionsUpdatedMinutesAgo": "27712166"}, "on", None),  # seen in the gist: since 1970
        ({"definitionsUpdatedMinutesAgo": "unavailable"}, "on", None),
    ],
)
def test_defender_on_linux(changes: dict[str, Any], state: str, age_s: float | None) -> None:
    product = microsoft_defender(HEALTH | changes)
    assert product is not None
    assert (product.state, product.signature_age_s) == (state, age_s)


@pytest.mark.parametrize("answer", [None, [], {}, {"realTimeProtectionEnabled": "unavailable"}])
def test_no_health_is_no_answer(answer: Any) -> None:
    assert microsoft_defender(answer) is None


@contextlib.contextmanager
def running(program: Path) -> Iterator[None]:
    """A process of this program, a copy of sleep."""
    shutil.copy("/bin/sleep", program)
    process = subprocess.Popen([program, "1000"])
    try:
        # Its arguments are the last of what the kernel shows of a new program.
        while not Path(f"/proc/{process.pid}/cmdline").read_bytes().startswith(bytes(program) + b"\0"):
            time.sleep(0.01)
        yield
    finally:
        process.kill()
        process.wait()


def a_program(folder: Path, name: str, body: str) -> str:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def test_agents_are_found_by_their_files_and_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(antivirus_linux, "find_program", lambda name: None)
    folder = tmp_path / "opt" / "agent"
    folder.mkdir(parents=True)
    by_folder = Agent("By folder", folder, f"{folder}/", ())
    by_name = Agent("By name", folder, "/nowhere/", ("watching-agen",))
    absent = Agent("Absent", tmp_path / "absent", "/nowhere/", ())
    agents = (by_folder, by_name, absent)

    def states() -> dict[str, str]:
        products, errors = installed(NOW_S, 5.0, agents)
        assert errors == []
        return {product.name: product.state for product in products}

    assert states() == {"By folder": "off", "By name": "off"}
    with running(folder / "watching-agent"):
        assert states() == {"By folder": "on", "By name": "on"}
    assert states() == {"By folder": "off", "By name": "off"}


def test_where_processes_of_others_are_hidden_no_product_is_called_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bench: Any
) -> None:
    (tmp_path / "4711").mkdir()
    monkeypatch.setattr(antivirus_linux, "running", lambda: running_programs.running(tmp_path))
    (found,) = found_here(monkeypatch, {"clamd": "/usr/sbin/clamd"}, bench).values()
    assert found.problem is not None
    assert (found.problem.status, found.problem.code) == (Status.UNKNOWN, "check.needs_rights")


def found_here(monkeypatch: pytest.MonkeyPatch, programs: dict[str, str], bench: Any) -> dict[str, Measurement]:
    monkeypatch.setattr(antivirus_linux, "find_program", programs.get)
    monkeypatch.setattr(antivirus_linux, "AGENTS", ())
    instance = bench(CHECK)
    instance.now_s = NOW_S
    found: dict[str, Measurement] = instance.run()
    return found


def test_a_daemon_that_runs_and_one_that_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bench: Any) -> None:
    monkeypatch.setattr(antivirus_linux, "CLAMAV_FOLDER", tmp_path)
    (tmp_path / "daily.cvd").write_bytes(header(NOW_S - 3600))
    programs = {"clamd": str(tmp_path / "clamd")}
    with running(tmp_path / "clamd"):
        found = found_here(monkeypatch, programs, bench)
        assert found["ClamAV"].metrics == {"protecting": 1.0, "signature_age_seconds": 3600.0}
        assert codes(list(found.values())) == {"": "ok", "ClamAV": "ok"}
    assert codes(list(found_here(monkeypatch, programs, bench).values()))["ClamAV"] == "antivirus.off"
    (tmp_path / "daily.cvd").rename(tmp_path / "away")
    assert codes(list(found_here(monkeypatch, programs, bench).values()))["ClamAV"] == "antivirus.no_signatures"
    (tmp_path / "away").rename(tmp_path / "daily.cvd")
    on_demand = found_here(monkeypatch, {"clamscan": "/usr/bin/clamscan"}, bench)
    assert on_demand["ClamAV"].metrics == {"signature_age_seconds": 3600.0}


@pytest.mark.parametrize("body", ["exit 1", "echo rubbish", "echo '{}'", "echo '[1]'", "kill -9 $$"])
def test_an_mdatp_that_fails_leaves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bench: Any, body: str
) -> None:
    monkeypatch.setattr(antivirus_linux, "CLAMAV_FOLDER", tmp_path)
    (tmp_path / "daily.cvd").write_bytes(header(NOW_S - 3600))
    programs = {"mdatp": a_program(tmp_path, "mdatp", body), "clamscan": "/usr/bin/clamscan"}
    found = found_here(monkeypatch, programs, bench)
    assert found["ClamAV"].metrics == {"signature_age_seconds": 3600.0}
    problem = found["Microsoft Defender"].problem
    assert problem is not None
    assert (problem.status, problem.code) == (Status.UNKNOWN, "check.program_failed")


def test_an_mdatp_that_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bench: Any) -> None:
    body = """[ "$*" = "health --output json" ] || exit 9
echo '{"realTimeProtectionEnabled":{"value":true},"definitionsUpdatedMinutesAgo":"5"}'"""
    found = found_here(monkeypatch, {"mdatp": a_program(tmp_path, "mdatp", body)}, bench)
    assert found["Microsoft Defender"].metrics == {"protecting": 1.0, "signature_age_seconds": 300.0}


def test_linux_without_antivirus_is_no_problem_unless_it_is_required(
    monkeypatch: pytest.MonkeyPatch, bench: Any
) -> None:
    assert codes(list(found_here(monkeypatch, {}, bench).values())) == {"": "ok"}
    instance = bench(CHECK, required="always")
    assert codes(list(instance.run().values())) == {"": "antivirus.none"}
    assert resolve_settings(CHECK, {})["required"] == "windows"


def test_xprotect_comes_seldom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plist = tmp_path / "Info.plist"
    plist.write_text("")
    monkeypatch.setattr(antivirus, "XPROTECT_PLISTS", (plist, tmp_path / "absent"))
    for days, code in ((40, "ok"), (91, "antivirus.signatures_old")):
        found = antivirus._mac(plist.stat().st_mtime + days * DAY_S)
        assert codes(judge(found, wanted=False, judged=True))[XPROTECT] == code
    monkeypatch.setattr(antivirus, "XPROTECT_PLISTS", ())
    assert antivirus._mac(NOW_S) == []
