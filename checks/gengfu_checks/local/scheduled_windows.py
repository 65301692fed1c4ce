"""Tasks of the Windows task scheduler outside Microsoft's own folder.

Source: Get-ScheduledTask and Get-ScheduledTaskInfo (Microsoft Learn, module ScheduledTasks); results after "Task
Scheduler error and success constants".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gengfu_checks.local.scheduled_model import Job
from gengfu_checks.local.structured import powershell_rows
from gengfu_checks.local.utc_time import utc_s

PIPELINE = (
    r"Get-ScheduledTask|Where-Object{$_.TaskPath -notlike '\Microsoft\*' -and $_.State -ne 'Disabled'}|"
    "ForEach-Object{$i=$_|Get-ScheduledTaskInfo -ErrorAction SilentlyContinue;"
    "[pscustomobject]@{Path=$_.TaskPath;Name=$_.TaskName;State=[int]$_.State;Result=$i.LastTaskResult;"
    "Ran=if($i.LastRunTime){$i.LastRunTime.ToUniversalTime().ToString('s')+'Z'}}}"
)
MAX_TASKS = 1000
FORGET_AFTER_S = 40 * 86400.0
"""A task that last ran longer ago does not run regularly; how it ended is old news."""
DEFAULT_IGNORE = (
    r"\GoogleUpdate*", r"\GoogleSystem\*", r"\MicrosoftEdgeUpdate*", r"\OneDrive *", r"\Adobe *", r"\Mozilla\*",
    r"\User_Feed_Synchronization*", r"\CCleaner*", r"\Optimize Push Notification Data File*",
)  # fmt: skip

_RUNNING = 4
_SUCCESS = 0x00041300
_LAST_SUCCESS = 0x00041325
# The request was refused (its conditions do not hold), it runs already, it is disabled.
_NO_FAILURE = frozenset((0, 0x800710E0, 0x8004131F, 0x80041326))


def jobs(timeout_s: float, now_s: float) -> list[Job]:
    """Every task as a job; raises CannotMeasure."""
    return jobs_of(powershell_rows(PIPELINE, timeout_s), now_s)


def jobs_of(rows: Sequence[Mapping[str, Any]], now_s: float) -> list[Job]:
    """The jobs in the rows of the pipeline; rows without a name are left out."""
    found = {}
    for row in rows[:MAX_TASKS]:
        if not isinstance(row.get("Name"), str):
            continue
        name = f"{row.get('Path') or chr(92)}{row['Name']}"
        ran_at = utc_s(row.get("Ran"))
        age_s = None if ran_at is None else now_s - ran_at
        result = failure_of(row.get("Result"))
        is_news = age_s is not None and age_s < FORGET_AFTER_S and row.get("State") != _RUNNING
        found[name] = Job(name, result=result if is_news else "", last_run_age_s=age_s)
    return list(found.values())


def failure_of(result: object) -> str:
    """The last result of a task as hexadecimal digits, or "" for one that is no failure."""
    if isinstance(result, bool) or not isinstance(result, int):
        return ""
    code = result & 0xFFFFFFFF
    if code in _NO_FAILURE or _SUCCESS <= code <= _LAST_SUCCESS:
        return ""
    return f"0x{code:08X}"
