"""Timers of systemd and the services that they start, asked through `systemctl` (systemctl(1), systemd.timer(5))."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from gengfu_checks.local.os_service import listed, parse_list, shown
from gengfu_checks.local.programs import failed, run_program
from gengfu_checks.local.scheduled_model import Job

SYSTEMD_RUNNING = Path("/run/systemd/system")
MAX_TIMERS = 300
MAX_OUTPUT_BYTES = 2 * 1024 * 1024

_TIMER = (
    "Names", "LoadState", "ActiveState", "UnitFileState", "Unit", "Result", "ConditionResult",
    "ConditionTimestampMonotonic",
)  # fmt: skip
_SERVICE = (
    "Names", "ActiveState", "SubState", "Type", "Result", "ExecMainExitTimestampMonotonic",
    "InactiveExitTimestampMonotonic",
)  # fmt: skip
_ENABLED = frozenset(("enabled", "enabled-runtime"))


def jobs(systemctl: str, timeout_s: float, *, told_elsewhere: bool) -> list[Job]:
    """Every timer as a job; raises CannotMeasure. `told_elsewhere`: another check tells services that failed."""
    deadline = time.monotonic() + timeout_s

    def ask(*words: str) -> str:
        output = run_program((systemctl, "--no-pager", *words), deadline - time.monotonic(), MAX_OUTPUT_BYTES)
        if output.exit_code != 0:
            raise failed(systemctl, f"{words[0]} ended with exit code {output.exit_code}")
        return output.stdout.decode("utf-8", "replace")

    units = listed(systemctl, ask("list-units", "--type=timer", "--all", "--plain", "--full", "--no-legend"))
    names = [name for name in units if name.endswith(".timer")][:MAX_TIMERS]
    if not names:
        return []
    known = shown(systemctl, names, ask("show", f"--property={','.join(_TIMER)}", "--", *names))
    timers = [known[name] for name in names]
    services = sorted({timer["Unit"] for timer in timers if _is_unit(timer.get("Unit", ""))})
    told = ask("show", f"--property={','.join(_SERVICE)}", "--", *services) if services else ""
    return jobs_of(timers, shown(systemctl, services, told), time.monotonic(), told_elsewhere=told_elsewhere)


def jobs_of(
    timers: Sequence[Mapping[str, str]],
    services: Mapping[str, Mapping[str, str]],
    monotonic_s: float,
    *,
    told_elsewhere: bool,
) -> list[Job]:
    """The jobs that timers and their services, by name, tell; timers that are masked or missing are left out."""
    found = []
    for timer in timers:
        name = next(iter(timer.get("Names", "").split()), "")
        if not name or timer.get("LoadState") != "loaded":
            continue
        service = services.get(timer.get("Unit", ""), {})
        result = service.get("Result", "failed") if service.get("ActiveState") == "failed" else ""
        found.append(
            Job(
                name,
                timer.get("Unit", ""),
                result,
                told_elsewhere,
                not_scheduled=not is_scheduled(timer),
                last_run_age_s=_since_s(service, "ExecMainExitTimestampMonotonic", monotonic_s),
                running_s=_running_s(service, monotonic_s),
            )
        )
    return found


def is_scheduled(timer: Mapping[str, str]) -> bool:
    """Whether a timer waits for its time, or has good reason not to: not enabled, or its conditions do not hold."""
    if timer.get("ActiveState") == "failed":
        return False
    if timer.get("ActiveState") != "inactive" or timer.get("UnitFileState") not in _ENABLED:
        return True
    was_tried = timer.get("ConditionTimestampMonotonic", "0") != "0"
    return was_tried and timer.get("ConditionResult") == "no"


def _running_s(service: Mapping[str, str], monotonic_s: float) -> float | None:
    """A service of type oneshot is activating while it works; others may run for ever on purpose."""
    if service.get("Type") != "oneshot":
        return None
    if service.get("ActiveState") != "activating" or service.get("SubState", "").startswith("auto-restart"):
        return 0.0
    return _since_s(service, "InactiveExitTimestampMonotonic", monotonic_s)


def _since_s(unit: Mapping[str, str], property_name: str, monotonic_s: float) -> float | None:
    text = unit.get(property_name, "")
    if not (text.isascii() and text.isdecimal()) or len(text) > 18 or int(text) == 0:
        return None
    return max(0.0, monotonic_s - int(text) / 1e6)


def _is_unit(name: str) -> bool:
    return parse_list(name) == [name]
