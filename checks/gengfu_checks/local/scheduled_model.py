"""A scheduled job, whoever runs it, and what is told of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from gengfu_checks.local.plain_text import plain
from gengfu_checks.model import Fact, Measurement, Problem, Status

FAILED = "scheduled_job.failed"
NOT_SCHEDULED = "scheduled_job.not_scheduled"
RUNS_LONG = "scheduled_job.runs_long"


@dataclass(frozen=True, slots=True)
class Job:
    """A job as its scheduler knows it. `result` is empty when its last run ended well, or when it never ran."""

    name: str
    runs: str = ""
    """What it starts, where that has a name of its own."""
    result: str = ""
    told_elsewhere: bool = False
    """Another check tells how its last run ended."""
    not_scheduled: bool = False
    """It should be waiting for its next run and is not."""
    last_run_age_s: float | None = None
    running_s: float | None = None
    """How long it has been running, where a run has an end."""


def measure_job(job: Job) -> Measurement:
    """The measurement of a job, item is its name."""
    facts: dict[str, Fact] = {"runs": plain(job.runs)} if job.runs else {}
    metrics = {"failed": float(bool(job.result))}
    if job.last_run_age_s is not None:
        metrics["last_run_age_seconds"] = max(0.0, job.last_run_age_s)
    if job.running_s is not None:
        metrics["running_seconds"] = max(0.0, job.running_s)
    problem = None
    if job.result and not job.told_elsewhere:
        problem = Problem(Status.WARNING, FAILED, {"result": plain(job.result)})
    elif job.not_scheduled:
        problem = Problem(Status.WARNING, NOT_SCHEDULED)
    return Measurement(plain(job.name), metrics, facts, problem)


def wanted(jobs: Iterable[Job], ignore: Iterable[str]) -> list[Job]:
    """The jobs that do not fit any of the globs, those with something wrong first."""
    patterns = tuple(ignore)
    kept = [job for job in jobs if not any(fnmatchcase(job.name, pattern) for pattern in patterns)]
    return sorted(kept, key=lambda job: (not (job.result or job.not_scheduled), job.name))
