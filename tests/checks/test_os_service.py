"""The services check on recorded answers of systemctl and on scripts that stand in for it.

The recordings come from systemctl 252 (Debian 12), asked about units made for this: see test_os_service_real.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gengfu_checks.errors import CannotMeasure, SettingError
from gengfu_checks.local import os_service
from gengfu_checks.local.os_service import (
    CHECK,
    MAX_NAMES_CHARS,
    System,
    metrics_of,
    parse_list,
    parse_show,
    problem_of,
    unit_name,
)
from gengfu_checks.model import CheckKind, Measurement, Status
from gengfu_checks.threshold import judge

WARNING, CRITICAL = Status.WARNING, Status.CRITICAL


@pytest.fixture
def fake(tmp_path: Path) -> Callable[[str], CheckKind]:
    """`fake("echo x")` is the check with a systemctl of that body, on a machine that runs for 1,000 s."""

    def make(body: str) -> CheckKind:
        script = tmp_path / "systemctl"
        script.write_text(f"#!/bin/sh\n{body}\n")
        script.chmod(0o755)
        system = System(str(script), lambda: 1000.0)
        return replace(CHECK, measure=lambda context: os_service.measure_units(context, system))

    return make


def shown(name: str, **properties: str) -> str:
    usual = {"Names": name, "LoadState": "loaded", "ActiveState": "active", "SubState": "running", "NRestarts": "0"}
    return "\n".join(f"{key}={value}" for key, value in (usual | properties).items())


def problems(items: Mapping[str, Measurement]) -> dict[str, tuple[Status, str]]:
    return {item: (m.problem.status, m.problem.code) for item, m in items.items() if m.problem is not None}


def test_what_a_real_systemd_said_of_units_in_every_state(samples: Path) -> None:
    units = parse_show((samples / "systemctl" / "show-252").read_text())
    found = {unit["Names"]: problem_of(unit) for unit in units}
    assert {name: p and (p.status, p.code, *p.facts.values()) for name, p in found.items()} == {
        "good.service": None,
        "bad.service": (CRITICAL, "os_service.failed", "exit-code"),
        "loop.service": (CRITICAL, "os_service.not_running", "auto-restart"),
        "once.service": None,
        "notready.service": (WARNING, "os_service.not_running", "start"),
        "flaky.service": None,
        "stopped.service": (CRITICAL, "os_service.not_running", "dead"),
        "wrong.service": (CRITICAL, "os_service.not_running", "bad-setting"),
        "masked.service": (CRITICAL, "os_service.not_running", "masked"),
        "nowhere.service": (WARNING, "os_service.not_found"),
        "probe.target": None,
    }


def test_a_job_that_failed_and_is_tried_again_has_not_done_its_work() -> None:
    job = {"LoadState": "loaded", "ActiveState": "activating", "SubState": "auto-restart", "Type": "oneshot"}
    found = problem_of(job | {"Result": "exit-code"})
    assert found is not None
    assert (found.status, found.code) == (CRITICAL, "os_service.not_running")
    assert problem_of(job | {"Result": "success", "SubState": "start"}) is None


def test_metrics_of_a_real_unit(samples: Path) -> None:
    units = {unit["Names"]: unit for unit in parse_show((samples / "systemctl" / "show-252").read_text())}
    assert metrics_of(units["good.service"], 1358.213527 + 60) == {
        "running": 1.0,
        "restarts_total": 0.0,
        "active_seconds": pytest.approx(60.0),
    }
    assert metrics_of(units["flaky.service"], 3000.0)["restarts_total"] == 433.0
    assert metrics_of(units["stopped.service"], 3000.0) == {"running": 0.0, "restarts_total": 0.0}
    assert "restarts_total" not in metrics_of(units["probe.target"], 3000.0)


def test_the_list_of_a_real_systemd(samples: Path) -> None:
    assert parse_list((samples / "systemctl" / "list-units-failed-252").read_text()) == ["bad.service"]


def test_a_list_is_one_of_units_or_none() -> None:
    text = "b.service loaded failed\n\n  a@1.service x\n-.mount loaded failed\n● c.service\n* a@1.service\n"
    assert parse_list(text) == ["-.mount", "a@1.service", "b.service", "c.service"]
    assert parse_list("") == []
    for rubbish in ("--help x", "Usage: systemctl", "{}", "0 loaded units listed.", "\0", ".service"):
        assert parse_list(f"{text}{rubbish}\n") is None


@given(st.text())
def test_no_output_breaks_the_parsers(text: str) -> None:
    parse_list(text)
    for unit in parse_show(text):
        problem_of(unit)
        metrics_of(unit, 0.0)


@given(st.lists(st.dictionaries(st.sampled_from(["Names", "SubState", "X"]), st.text("ab =.", max_size=5), min_size=1)))
def test_blocks_come_back_as_they_were_written(units: list[dict[str, str]]) -> None:
    text = "\n\n".join("\n".join(f"{key}={value}" for key, value in unit.items()) for unit in units)
    assert parse_show(f"{text}\n") == units


@pytest.mark.parametrize(
    ("given_name", "full"),
    [
        ("nginx", "nginx.service"),
        ("nginx.service", "nginx.service"),
        ("getty@tty1", "getty@tty1.service"),
        ("cups.socket", "cups.socket"),
        ("org.example.daemon", "org.example.daemon.service"),
        ("dev-sda1.device", "dev-sda1.device"),
        ("home-my\\x20files.mount", "home-my\\x20files.mount"),
    ],
)
def test_a_unit_without_a_kind_is_a_service(given_name: str, full: str) -> None:
    assert unit_name(given_name) == full


@pytest.mark.parametrize("name", ["", "-H", "--help", "a b", "a\n", "a/b", "a;b", "x" * 256, "ss*", "数据"])
def test_what_cannot_be_a_unit_never_reaches_systemctl(
    bench: Any, fake: Callable[[str], CheckKind], tmp_path: Path, name: str
) -> None:
    kind = fake(f"touch {tmp_path}/called")
    with pytest.raises(SettingError):
        bench(kind, units=["good", name]).run()
    assert not (tmp_path / "called").exists()


def test_the_arguments_are_a_list_and_end_the_options(bench: Any, fake: Callable[[str], CheckKind]) -> None:
    answer = shown("nginx.service", Description="Web server", ActiveEnterTimestampMonotonic="400000000")
    body = f"""
        [ "$1 $2" = "show --no-pager" ] && [ "$4" = "--" ] && [ "$5" = "nginx.service" ] && [ $# = 5 ] || exit 9
        cat <<'END'\n{answer}\nEND"""
    items = bench(fake(body), units=["nginx", "nginx.service"]).run()
    assert problems(items) == {}
    assert items["nginx.service"].facts == {"description": "Web server"}
    assert items["nginx.service"].metrics == {
        "running": 1.0,
        "restarts_total": 0.0,
        "recent_restarts": 0.0,
        "active_seconds": 600.0,
    }


def test_an_alias_is_found_under_the_name_that_was_asked(bench: Any, fake: Callable[[str], CheckKind]) -> None:
    body = f"cat <<'END'\n{shown('ssh.service sshd.service', ActiveState='failed', Result='timeout')}\nEND"
    items = bench(fake(body), units=["sshd"]).run()
    assert problems(items) == {"sshd.service": (CRITICAL, "os_service.failed")}


def test_restarts_between_two_looks_are_counted(bench: Any, fake: Callable[[str], CheckKind], tmp_path: Path) -> None:
    instance = bench(fake(f"cat {tmp_path}/answer"), units=["app"])
    seen = []
    for total in ("7", "9", "12", "0", "0"):
        (tmp_path / "answer").write_text(shown("app.service", NRestarts=total))
        measurement = instance.run()["app.service"]
        finding = judge("os_service", measurement, CHECK.thresholds, None, 0.0)
        seen.append((measurement.metrics["recent_restarts"], finding.code))
    assert seen == [(0, "ok"), (2, "ok"), (3, "os_service.restarting"), (0, "ok"), (0, "ok")]


def test_without_units_all_failed_ones_are_told(bench: Any, fake: Callable[[str], CheckKind]) -> None:
    body = """
        [ "$1 $2" = "list-units --state=failed" ] || exit 9
        echo "b.service loaded failed failed B"; echo "a.mount loaded failed failed A"; echo "user@7.service x" """
    items = bench(fake(body), ignore=["user@*"]).run()
    assert problems(items) == {"": (WARNING, "os_service.failed_units")}
    assert items[""].metrics == {"failed_units": 2.0}
    assert items[""].problem.facts == {"units": "a.mount, b.service"}


def test_no_failed_unit_is_well(bench: Any, fake: Callable[[str], CheckKind]) -> None:
    items = bench(fake("true")).run()
    assert problems(items) == {}
    assert items[""].metrics == {"failed_units": 0.0}


def test_a_thousand_failed_units_are_counted_and_some_are_named(bench: Any, fake: Callable[[str], CheckKind]) -> None:
    items = bench(fake("seq -f 'unit-%04g.service loaded failed' 1000")).run()
    assert items[""].metrics == {"failed_units": 1000.0}
    units = items[""].problem.facts["units"]
    assert units.startswith("unit-0001.service, unit-0002.service")
    assert len(units) <= MAX_NAMES_CHARS


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("exit 1", "ended with exit code 1"),
        ("exec sleep 1000", "did not end within 0.45 s"),
        ("exec yes", "printed more than 1048576 bytes"),
        ("echo rubbish", "said nothing of nginx.service"),
        ("head -c 100000 /dev/urandom", "said nothing of nginx.service"),
        (f"cat <<'END'\n{shown('other.service')}\nEND", "said nothing of nginx.service"),
        ("kill -9 $$", "ended with exit code -9"),
    ],
)
def test_a_systemctl_that_fails_is_unknown_and_never_ok(
    bench: Any, fake: Callable[[str], CheckKind], body: str, reason: str
) -> None:
    timeout_s = 0.5 if "sleep" in body else 60.0
    with pytest.raises(CannotMeasure) as caught:
        bench(replace(fake(body), timeout_s=timeout_s), units=["nginx"]).run()
    assert caught.value.code == "check.program_failed"
    assert caught.value.facts["reason"] == reason


def test_too_many_units_are_refused(bench: Any, fake: Callable[[str], CheckKind]) -> None:
    with pytest.raises(SettingError, match="at most 100"):
        bench(fake("true"), units=[f"u{i}" for i in range(101)]).run()


def test_without_systemd_the_check_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os_service, "SYSTEMD_RUNNING", tmp_path / "absent")
    reason = CHECK.usable()
    assert reason is not None
    assert "systemd does not run" in reason
    monkeypatch.setattr(os_service, "SYSTEMD_RUNNING", tmp_path)
    monkeypatch.setattr(os_service, "find_program", lambda _: None)
    assert CHECK.usable() == "systemctl is not in /usr/bin or /bin"
    monkeypatch.setattr(os_service, "find_program", lambda _: "/usr/bin/systemctl")
    assert CHECK.usable() is None
