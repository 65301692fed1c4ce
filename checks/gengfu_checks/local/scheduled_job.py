"""Scheduled jobs: timers of systemd and tasks of Windows that failed, hang or no longer wait; cron and its mail.

One item for each job, by the name that its scheduler gives it, the item "cron" where accounts have crontabs, and "cron
mail" where root has a mailbox. Jobs of users' own sessions and Microsoft's own tasks are not looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import partial

import psutil

from gengfu_checks.codes import CHECK_NEEDS_RIGHTS, CHECK_PROGRAM_FAILED
from gengfu_checks.local import cron_daemon, cron_mail, scheduled_systemd, scheduled_windows
from gengfu_checks.local.account_judge import listed
from gengfu_checks.local.asked_seldom import asked_seldom
from gengfu_checks.local.programs import failed, find_program
from gengfu_checks.local.scheduled_model import FAILED, NOT_SCHEDULED, RUNS_LONG, Job, measure_job, wanted
from gengfu_checks.model import (
    CheckKind,
    Context,
    Fact,
    Measurement,
    Metric,
    Problem,
    Setting,
    SettingType,
    Status,
    Threshold,
)

CRON_MAIL = "scheduled_job.cron_mail"
CRON_STOPPED = "scheduled_job.cron_stopped"
TOO_MANY = "scheduled_job.too_many"

CRON_ITEM = "cron"
CRON_MAIL_ITEM = "cron mail"
MAX_JOBS = 200
ASK_WINDOWS_AGAIN_S = 3600.0
"""Asking for every task costs seconds of CPU."""


def measure(context: Context) -> Iterator[Measurement]:
    """Yield a measurement for each job; nothing where nothing is scheduled."""
    ignore = context.settings["ignore"]
    if psutil.LINUX:
        of_cron = (*_cron(), *_cron_mail(context))
        yield from (each for each in of_cron if not any(fnmatchcase(each.item, pattern) for pattern in ignore))
    jobs = wanted(_jobs(context), ignore)
    for job in jobs[:MAX_JOBS]:
        yield measure_job(job)
    if len(jobs) > MAX_JOBS:
        yield Measurement(problem=Problem(Status.UNKNOWN, TOO_MANY, {"limit_jobs": MAX_JOBS}))


def _jobs(context: Context) -> list[Job]:
    timeout_s = context.deadline_s * 0.9
    if psutil.WINDOWS:
        ask = partial(scheduled_windows.jobs, timeout_s, context.now())
        return asked_seldom(context, ASK_WINDOWS_AGAIN_S, ask)
    if not psutil.LINUX or not scheduled_systemd.SYSTEMD_RUNNING.is_dir():
        return []
    systemctl = find_program("systemctl")
    if systemctl is None:
        raise failed("systemctl", "not found")
    return scheduled_systemd.jobs(systemctl, timeout_s, told_elsewhere=not context.settings["failed_services"])


def _cron() -> Iterator[Measurement]:
    """A cron that does not run although accounts have jobs for it; nothing fails then, and nothing is done."""
    owners = cron_daemon.owners()
    is_running = cron_daemon.is_running() if owners else None
    if is_running is not None:
        facts: dict[str, Fact] = {"accounts": listed(owners)}
        problem = None if is_running else Problem(Status.WARNING, CRON_STOPPED)
        yield Measurement(CRON_ITEM, {"cron_running": float(is_running)}, facts, problem)


def _cron_mail(context: Context) -> Iterator[Measurement]:
    path = cron_mail.mailbox()
    if path is None:
        return
    try:
        times = cron_mail.read_times(path)
    except PermissionError:
        facts = {"needs": "group mail", "target": str(path)}
        yield Measurement(CRON_MAIL_ITEM, problem=Problem(Status.UNKNOWN, CHECK_NEEDS_RIGHTS, facts))
        return
    except FileNotFoundError:
        return
    yield Measurement(CRON_MAIL_ITEM, cron_mail.metrics_of(times, context.now()), {"mailbox": str(path)})


def usable() -> str | None:
    """Say why there is nothing to ask."""
    return "macOS does not say which scheduled jobs failed" if psutil.MACOS else None


CHECK = CheckKind(
    name="scheduled_job",
    measure=measure,
    metrics=(
        Metric("failed", "1 when the last run of the job failed"),
        Metric("last_run_age_seconds", "Time since the job last ran"),
        Metric("running_seconds", "How long the job has been running, 0 while it does not run"),
        Metric("cron_running", "1 when cron runs, where accounts have crontabs"),
        Metric("cron_mails", "Mails from cron to root within the last day"),
        Metric("cron_mail_age_seconds", "Time since cron last sent a mail to root"),
    ),
    codes=(FAILED, NOT_SCHEDULED, CRON_STOPPED, TOO_MANY, CHECK_NEEDS_RIGHTS, CHECK_PROGRAM_FAILED),
    settings=(
        Setting(
            "ignore",
            SettingType.TEXT_LIST,
            "jobs that do not matter, as globs",
            scheduled_windows.DEFAULT_IGNORE,
        ),
        Setting(
            "failed_services",
            SettingType.BOOLEAN,
            "tell services that a timer started and that failed; false where os_service tells all failed units",
            True,
        ),
    ),
    thresholds=(
        Threshold("running_seconds", RUNS_LONG, warning=86400.0),
        Threshold("cron_mails", CRON_MAIL, warning=20.0),
    ),
    every_s=900.0,
    timeout_s=60.0,
    usable=usable,
    gone_is_over=True,
)
