"""The judgement of scheduled jobs.

The rows of Windows are built after Microsoft Learn (Get-ScheduledTaskInfo; "Task Scheduler error and success
constants"), with results that public notes show; they are no recording. The mailbox is written after mbox(5) and the
heads that Debian's cron writes. What systemd says is recorded by test_scheduled_job_real.py's machine.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gengfu_checks.errors import CannotMeasure
from gengfu_checks.local import cron_daemon, cron_mail, scheduled_job, scheduled_systemd
from gengfu_checks.local.cron_mail import cron_mail_times, metrics_of, read_times
from gengfu_checks.local.os_service import parse_show
from gengfu_checks.local.running_programs import Processes
from gengfu_checks.local.scheduled_job import CHECK
from gengfu_checks.local.scheduled_model import Job, measure_job, wanted
from gengfu_checks.local.scheduled_systemd import is_scheduled, jobs_of
from gengfu_checks.local.scheduled_windows import DEFAULT_IGNORE, PIPELINE, failure_of
from gengfu_checks.local.scheduled_windows import jobs_of as windows_jobs_of
from gengfu_checks.local.utc_time import utc_s
from gengfu_checks.model import Measurement
from gengfu_checks.threshold import judge

NOW_S = utc_s("2026-11-21T12:00:00Z") or 0.0


def code(measurement: Measurement) -> str:
    return judge("scheduled_job", measurement, CHECK.thresholds, None, NOW_S).code


@pytest.fixture(autouse=True)
def nothing_scheduled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(scheduled_systemd, "SYSTEMD_RUNNING", tmp_path / "absent")
    monkeypatch.setattr(cron_mail, "MAILBOXES", (tmp_path / "mail",))
    monkeypatch.setattr(scheduled_job.cron_daemon, "owners", lambda: cron_daemon_owners((tmp_path / "crontabs",)))
    monkeypatch.setattr(scheduled_job.cron_mail, "mailbox", lambda: cron_mail_box(tmp_path / "mail"))


cron_daemon_owners = cron_daemon.owners


def cron_mail_box(path: Path) -> Path | None:
    return path if path.exists() else None


def test_a_systemctl_that_says_nothing_of_a_timer_has_not_answered(tmp_path: Path) -> None:
    systemctl = tmp_path / "systemctl"
    answer = "echo a.timer loaded active waiting; echo b.timer loaded active waiting"
    systemctl.write_text(f'#!/bin/sh\n[ "$2" = list-units ] && {{ {answer}; exit; }}\necho Names=a.timer\n')
    systemctl.chmod(0o755)
    with pytest.raises(CannotMeasure) as caught:
        scheduled_systemd.jobs(str(systemctl), 60.0, told_elsewhere=False)
    assert caught.value.facts["reason"] == "said nothing of b.timer"


@pytest.mark.parametrize(
    ("job", "expected"),
    [
        (Job("a"), "ok"),
        (Job("a", result="exit-code"), "scheduled_job.failed"),
        (Job("a", result="exit-code", told_elsewhere=True), "ok"),
        (Job("a", not_scheduled=True), "scheduled_job.not_scheduled"),
        (Job("a", running_s=3600.0), "ok"),
        (Job("a", running_s=86401.0), "scheduled_job.runs_long"),
    ],
)
def test_what_is_told_of_a_job(job: Job, expected: str) -> None:
    assert code(measure_job(job)) == expected


def test_jobs_with_something_wrong_come_first_and_ignored_ones_never() -> None:
    jobs = [Job("b"), Job("c", result="x"), Job("a"), Job("z-off", not_scheduled=True), Job("noise", result="x")]
    assert [job.name for job in wanted(jobs, ["noi*"])] == ["c", "z-off", "a", "b"]


@pytest.mark.parametrize(
    ("result", "told"),
    [
        (0, ""),
        (267008, ""),  # SCHED_S_TASK_READY
        (267009, ""),  # SCHED_S_TASK_RUNNING
        (267011, ""),  # SCHED_S_TASK_HAS_NOT_RUN
        (267014, ""),  # SCHED_S_TASK_TERMINATED
        (0x41325, ""),  # SCHED_S_TASK_QUEUED
        (0x800710E0, ""),
        (-2147020576, ""),  # the same as a signed number
        (1, "0x00000001"),
        (2147942402, "0x80070002"),
        (-2147024894, "0x80070002"),
        (3221225786, "0xC000013A"),
        (0x8004130F, "0x8004130F"),  # SCHED_E_ACCOUNT_INFORMATION_NOT_SET
        (None, ""),
        ("1", ""),
        (True, ""),
    ],
)
def test_results_of_windows_tasks(result: object, told: str) -> None:
    assert failure_of(result) == told


def test_windows_tasks() -> None:
    rows = [
        {"Path": "\\", "Name": "Backup", "State": 3, "Result": 2147942402, "Ran": "2026-11-21T01:00:00Z"},
        {"Path": "\\Erp\\", "Name": "Nightly", "State": 3, "Result": 0, "Ran": "2026-11-21T02:00:00Z"},
        {"Path": "\\", "Name": "Once", "State": 3, "Result": 1, "Ran": "2024-01-01T00:00:00Z"},
        {"Path": "\\", "Name": "Never", "State": 3, "Result": 267011, "Ran": "1999-11-30T00:00:00Z"},
        {"Path": "\\", "Name": "Busy", "State": 4, "Result": 1, "Ran": "2026-11-21T11:00:00Z"},
        {"Path": "\\", "Name": "GoogleUpdateTaskMachineUA", "State": 3, "Result": 1, "Ran": "2026-11-21T11:00:00Z"},
        {"Path": None, "Name": None},
    ]
    jobs = wanted(windows_jobs_of(rows, NOW_S), DEFAULT_IGNORE)
    assert [(job.name, job.result) for job in jobs] == [
        ("\\Backup", "0x80070002"),
        ("\\Busy", ""),
        ("\\Erp\\Nightly", ""),
        ("\\Never", ""),
        ("\\Once", ""),
    ]
    assert jobs[0].last_run_age_s == 11 * 3600.0
    assert next(job for job in jobs if job.name == "\\Never").last_run_age_s is None


def test_the_windows_pipeline_is_one_constant() -> None:
    assert PIPELINE.count("(") == PIPELINE.count(")")
    assert PIPELINE.count("{") == PIPELINE.count("}")


def test_what_a_real_systemd_said_of_timers(samples: Path) -> None:
    """Recorded from systemd 252 (Debian 12), booted by test_scheduled_job_real.py."""
    timers = parse_show((samples / "systemctl/show-timers-252").read_text())
    services = parse_show((samples / "systemctl/show-timed-services-252").read_text())
    known = {unit["Names"]: unit for unit in services}
    jobs = {job.name: job for job in jobs_of(timers, known, 1e9, told_elsewhere=False)}
    assert {name: code(measure_job(job)) for name, job in jobs.items()} == {
        "bad.timer": "scheduled_job.failed",
        "cond.timer": "ok",
        "good.timer": "ok",
        "long.timer": "scheduled_job.runs_long",
        "off.timer": "scheduled_job.not_scheduled",
        "wrong.timer": "scheduled_job.not_scheduled",
    }


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"ActiveState": "inactive"}, False),
        ({"ActiveState": "inactive", "UnitFileState": "disabled"}, True),
        ({"ActiveState": "inactive", "UnitFileState": "static"}, True),
        ({"ActiveState": "inactive", "ConditionResult": "no"}, False),
        ({"ActiveState": "inactive", "ConditionResult": "no", "ConditionTimestampMonotonic": "5"}, True),
        ({"ActiveState": "failed", "UnitFileState": "static"}, False),
    ],
)
def test_timers_that_wait_or_need_not(changes: dict[str, str], expected: bool) -> None:
    timer = {"ActiveState": "active", "UnitFileState": "enabled", "ConditionTimestampMonotonic": "0"}
    assert is_scheduled(timer | changes) is expected


@given(st.lists(st.dictionaries(st.sampled_from(["Names", "Unit", "LoadState", "ActiveState"]), st.text(max_size=9))))
def test_no_answer_breaks_the_judgement(units: list[dict[str, str]]) -> None:
    known = {unit.get("Names", ""): unit for unit in units}
    for job in jobs_of([unit | {"LoadState": "loaded"} for unit in units], known, 5.0, told_elsewhere=False):
        measure_job(job)


def mail(at: float, subject: str, body: str = "") -> str:
    return f"From root@host {time.asctime(time.localtime(at))}\nTo: root\nSubject: {subject}\n\n{body}\n\n"


CRON = "Cron <root@host> /usr/local/bin/job"


def test_only_mail_of_cron_is_counted(tmp_path: Path) -> None:
    text = mail(NOW_S - 3 * 86400, CRON) + mail(NOW_S - 3600, CRON) + mail(NOW_S - 60, "Invoice")
    text += mail(NOW_S - 30, "Report", f"Subject: {CRON}\n\nFrom here on nothing\nSubject: {CRON}")
    assert metrics_of(cron_mail_times(text.encode()), NOW_S) == {
        "cron_mails": 1.0,
        "cron_mail_age_seconds": pytest.approx(3600.0, abs=1),
    }


def test_a_job_that_keeps_failing_is_told_and_its_output_is_not(bench: Any, tmp_path: Path) -> None:
    secret = "password is hunter2"
    (tmp_path / "mail").write_text("".join(mail(NOW_S - 60 * index, CRON, secret) for index in range(30)))
    instance = bench(CHECK)
    instance.now_s = NOW_S
    found = instance.run()["cron mail"]
    assert code(found) == "scheduled_job.cron_mail"
    assert found.metrics["cron_mails"] == 30.0
    assert "hunter2" not in repr(found)
    assert "/usr/local/bin/job" not in repr(found)


def test_a_few_mails_a_day_are_no_problem(bench: Any, tmp_path: Path) -> None:
    (tmp_path / "mail").write_text("".join(mail(NOW_S - 60 * index, CRON) for index in range(5)))
    instance = bench(CHECK)
    instance.now_s = NOW_S
    assert code(instance.run()["cron mail"]) == "ok"


def test_of_a_large_mailbox_the_end_is_read(tmp_path: Path) -> None:
    box = tmp_path / "mail"
    with box.open("w") as stream:
        stream.write(mail(NOW_S - 9, CRON, "x" * cron_mail.TAIL_BYTES))
        stream.write(mail(NOW_S - 5, CRON))
    assert read_times(box) == [NOW_S - 5]
    box.write_bytes(b"x" * (cron_mail.TAIL_BYTES + 1))
    assert read_times(box) == []


@given(st.binary(max_size=200))
def test_no_mailbox_breaks_the_reader(text: bytes) -> None:
    assert metrics_of(cron_mail_times(b"From a\n" + text), NOW_S)["cron_mails"] >= 0


def test_a_mailbox_that_may_not_be_read_is_said(bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mail").touch()

    def denied(path: Path) -> list[float]:
        raise PermissionError(13, "denied", str(path))

    monkeypatch.setattr(cron_mail, "read_times", denied)
    assert code(bench(CHECK).run()["cron mail"]) == "check.needs_rights"


def test_a_cron_that_does_not_run_though_accounts_have_jobs(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed: dict[str, str] = {}
    monkeypatch.setattr(cron_daemon, "find_program", installed.get)
    monkeypatch.setattr(cron_daemon, "running", lambda: Processes(frozenset(("systemd", "bash"))))
    crontabs = tmp_path / "crontabs"
    crontabs.mkdir()
    (crontabs / "ann").write_text("# m h dom mon dow command\nMAILTO=ann@example.org\n\n PATH = /usr/bin\n")
    (crontabs / "tmp.x1").write_text("* * * * * true\n")
    (crontabs / "eve").write_text("what is this\n* * not enough\n\x00\xff 1 2 3 4 5 6\n")
    installed["cron"] = "/usr/sbin/cron"
    assert bench(CHECK).run() == {}, "no account has a job"
    (crontabs / "bob").write_text("# backup\n0 3 * * * /usr/local/bin/backup --to=/srv\n")
    (crontabs / "root").write_text("@daily A=1 /usr/local/bin/clean\n")
    (crontabs / "zoe").write_text("-*/15 1-5,7 * Jan-Mar mon /usr/bin/true\n")
    found = bench(CHECK).run()["cron"]
    assert code(found) == "scheduled_job.cron_stopped"
    assert found.facts == {"accounts": "bob, root, zoe"}
    assert bench(CHECK, ignore=["cron"]).run() == {}
    monkeypatch.setattr(cron_daemon, "running", lambda: Processes(frozenset(("systemd", "crond"))))
    assert code(bench(CHECK).run()["cron"]) == "ok"
    installed.clear()
    assert bench(CHECK).run() == {}, "whoever has no cron has something else, or nobody knows"
    if os.geteuid() == 0:
        crontabs.chmod(0o700)
        os.seteuid(65534)
        try:
            assert cron_daemon_owners((crontabs,)) == []
        finally:
            os.seteuid(0)


def test_nothing_scheduled_is_silence(bench: Any) -> None:
    assert bench(CHECK).run() == {}
    assert CHECK.usable() is None


def test_too_many_jobs_are_said(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    many = [Job(f"{index}.timer") for index in range(scheduled_job.MAX_JOBS + 1)]
    monkeypatch.setattr(scheduled_job, "_jobs", lambda _: many)
    found = bench(CHECK).run()
    assert code(found[""]) == "scheduled_job.too_many"
    assert len(found) == scheduled_job.MAX_JOBS + 1
