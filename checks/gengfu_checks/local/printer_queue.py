"""Print queues: stopped or rejecting queues, jobs that wait too long, a spooler that does not run.

Items are queues, and "" for the spooler. Titles of jobs and names of users are never read. Queues that only lead to a
print server are that server's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psutil

from gengfu_checks.codes import CHECK_NEEDS_RIGHTS, CHECK_PROGRAM_FAILED
from gengfu_checks.local.plain_text import plain
from gengfu_checks.local.printer_queue_cups import read_spooler as read_cups
from gengfu_checks.local.printer_queue_model import Queue, Spooler
from gengfu_checks.local.printer_queue_windows import read_spooler as read_windows
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

STOPPED = "printer_queue.stopped"
REJECTING = "printer_queue.rejecting"
STUCK = "printer_queue.stuck"
SPOOLER_DOWN = "printer_queue.spooler_down"
TOO_MANY_QUEUES = "printer_queue.too_many_queues"

MAX_QUEUES = 300
MAX_REASONS = 5


def measure_queues(context: Context, read_spooler: Callable[[float], Spooler | None]) -> Iterator[Measurement]:
    """Yield one measurement for the spooler and one for each queue; nothing where there is nothing to print with."""
    spooler = read_spooler(context.deadline_s * 0.4)
    if spooler is None:
        return
    if not spooler.running:
        yield Measurement(metrics={"spooler_running": 0.0}, problem=Problem(Status.CRITICAL, SPOOLER_DOWN))
        return
    yield from _measurements(context, spooler)


def _measurements(context: Context, spooler: Spooler) -> Iterator[Measurement]:
    queues = sorted(spooler.queues, key=lambda queue: queue.name)
    many = Problem(Status.UNKNOWN, TOO_MANY_QUEUES, {"limit_queues": MAX_QUEUES}) if len(queues) > MAX_QUEUES else None
    yield Measurement(metrics={"spooler_running": 1.0, "queues": float(len(queues))}, problem=many)
    for queue in {plain(queue.name): queue for queue in queues[:MAX_QUEUES] if queue.name}.values():
        yield _measurement(queue, context)


def _measurement(queue: Queue, context: Context) -> Measurement:
    since = queue.waiting_since
    metrics = {
        "jobs": float(queue.jobs),
        "oldest_job_seconds": 0.0 if since is None else max(0.0, context.now() - since),
        "stopped": float(queue.stopped),
        "accepting": float(queue.accepting),
    }
    facts: dict[str, Fact] = {}
    if queue.reasons:
        facts["reason"] = ", ".join(plain(reason, 60) for reason in queue.reasons[:MAX_REASONS])
    return Measurement(plain(queue.name), metrics, facts, _problem(queue, context))


def _problem(queue: Queue, context: Context) -> Problem | None:
    if not queue.jobs and not context.settings["without_jobs"]:
        return None
    if queue.stopped:
        return Problem(Status.WARNING, STOPPED)
    return None if queue.accepting else Problem(Status.WARNING, REJECTING)


def measure(context: Context) -> Iterator[Measurement]:
    """Measure the queues of this machine."""
    return measure_queues(context, read_windows if psutil.WINDOWS else read_cups)


CHECK = CheckKind(
    name="printer_queue",
    measure=measure,
    metrics=(
        Metric("spooler_running", "1 when the print service answers"),
        Metric("queues", "Print queues of this machine"),
        Metric("jobs", "Jobs in the queue, held ones included"),
        Metric("oldest_job_seconds", "Age of the oldest job that is neither done nor held, 0 when none waits"),
        Metric("stopped", "1 when the queue is paused or stopped"),
        Metric("accepting", "1 when the queue takes jobs"),
    ),
    codes=(STOPPED, REJECTING, SPOOLER_DOWN, TOO_MANY_QUEUES, CHECK_NEEDS_RIGHTS, CHECK_PROGRAM_FAILED),
    settings=(
        Setting(
            "without_jobs",
            SettingType.BOOLEAN,
            "report stopped and rejecting queues in which no job waits, too",
            True,
        ),
    ),
    thresholds=(Threshold("oldest_job_seconds", STUCK, warning=3600.0),),
    every_s=300.0,
    timeout_s=60.0,
    gone_is_over=True,
)
