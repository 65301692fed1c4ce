"""Energy settings that keep the processor slow: for machines that are meant to work, not to save.

Linux: governor, energy preference and frequency limit of /sys/devices/system/cpu/cpufreq ("CPU Performance Scaling" of
the kernel's admin guide). Windows: the active power scheme by powercfg. A machine without a choice is not looked at.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import psutil

from gengfu_checks.local.programs import failed, run_program
from gengfu_checks.local.sysfs import SYS, entries, read_integer, read_text
from gengfu_checks.model import CheckKind, Context, Direction, Fact, Measurement, Metric, Problem, Status, Threshold

SAVING = "power_plan.saving"
LIMITED = "power_plan.limited"

MAX_POLICIES = 1024
MAX_OUTPUT_BYTES = 4096
SAVER_SCHEME = "a1841308-3541-4fab-bc81-f71556f20b4a"
"""GUID_MAX_POWER_SAVINGS, "Power saver", the same on every Windows."""

_GUID = re.compile(rb"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}")
# With these drivers `powersave` is the usual governor and follows the load; the preference says how.
_ACTIVE_DRIVERS = frozenset(("intel_pstate", "amd-pstate-epp", "amd_pstate_epp"))


@dataclass(frozen=True, slots=True)
class Policy:
    """How the frequency of some cores is chosen."""

    driver: str
    governor: str
    preference: str
    limit_ratio: float | None

    @property
    def is_slow(self) -> bool:
        """Whether the cores stay slow under load: fixed at their lowest frequency, or preferring energy above all."""
        if self.driver in _ACTIVE_DRIVERS:
            return self.governor == "powersave" and self.preference == "power"
        return self.governor == "powersave"


def measure_linux(cpufreq: Path) -> list[Measurement]:
    """The one item, of the worst policy; none in virtual machines, which mostly have no say in it."""
    policies = [_policy(folder) for folder in entries(cpufreq, "policy")[:MAX_POLICIES]]
    policies = [policy for policy in policies if policy.governor]
    if not policies:
        return []
    shown = next((policy for policy in policies if policy.is_slow), policies[0])
    ratios = [policy.limit_ratio for policy in policies if policy.limit_ratio is not None]
    facts: dict[str, Fact] = {"setting": "/".join(part for part in (shown.governor, shown.preference) if part)}
    if shown.driver:
        facts["driver"] = shown.driver
    metrics = {"frequency_limit_ratio": min(ratios)} if ratios else {}
    return [Measurement("", metrics, facts, Problem(Status.WARNING, SAVING) if shown.is_slow else None)]


def _policy(folder: Path) -> Policy:
    most, least = read_integer(folder / "cpuinfo_max_freq"), read_integer(folder / "scaling_max_freq")
    return Policy(
        driver=read_text(folder / "scaling_driver") or "",
        governor=read_text(folder / "scaling_governor") or "",
        preference=read_text(folder / "energy_performance_preference") or "",
        limit_ratio=min(1.0, least / most) if most and least and most > 0 and least > 0 else None,
    )


def windows_measurement(answer: bytes) -> Measurement | None:
    """Judge an answer of `powercfg /getactivescheme`: its words are translated, its GUID is not."""
    match = _GUID.search(answer)
    if match is None:
        return None
    scheme = match[0].decode("ascii").lower()
    problem = Problem(Status.WARNING, SAVING) if scheme == SAVER_SCHEME else None
    return Measurement(facts={"setting": scheme}, problem=problem)


def _measure_windows(context: Context) -> list[Measurement]:
    program = str(Path(os.environ.get("SYSTEMROOT", r"C:\Windows")) / "System32/powercfg.exe")
    output = run_program((program, "/getactivescheme"), context.deadline_s * 0.9, MAX_OUTPUT_BYTES)
    measured = windows_measurement(output.stdout)
    if measured is None:
        raise failed(program, "named no active scheme")
    return [measured]


def measure(context: Context) -> list[Measurement]:
    """Measure the energy settings of this machine."""
    if psutil.WINDOWS:
        return _measure_windows(context)
    return measure_linux(SYS / "devices/system/cpu/cpufreq") if psutil.LINUX else []


CHECK = CheckKind(
    name="power_plan",
    measure=measure,
    metrics=(Metric("frequency_limit_ratio", "Highest frequency allowed against the highest that the processor has"),),
    codes=(SAVING,),
    thresholds=(Threshold("frequency_limit_ratio", LIMITED, Direction.BELOW, warning=0.5),),
    every_s=3600.0,
    timeout_s=20.0,
)
