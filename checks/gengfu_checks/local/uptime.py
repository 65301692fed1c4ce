"""Uptime, and whether the machine waits for a restart.

A restart is pending when Debian's mark says so, when a newer kernel of the same flavour is installed than the one that
runs, or when `needs-restarting` (RHEL family) says so. Where none of these can be asked, nothing is claimed.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from gengfu_checks.errors import CannotMeasure
from gengfu_checks.local.programs import find_program, run_program
from gengfu_checks.model import CheckKind, Context, Fact, Measurement, Metric, Problem, Status, Threshold

MAX_PACKAGES = 8
MAX_PACKAGE_CHARS = 60
MAX_OUTPUT_BYTES = 65536
ASK_AGAIN_S = 6 * 3600.0
NEEDS_RESTARTING_TIMEOUT_S = 40.0

_PROC_UPTIME = Path("/proc/uptime")
_MARKS = (Path("/run/reboot-required"), Path("/var/run/reboot-required"))
_BOOT = Path("/boot")
_NEEDS_RESTARTING = "needs-restarting"
_KERNEL_IMAGE = "vmlinuz-"
_RELEASE = re.compile(r"(\d{1,9}(?:[.-]\d{1,9}){0,9})(.*)")


@dataclass(frozen=True, slots=True)
class Reboot:
    """Whether a restart is pending: None where it cannot be known. `facts` says why, or why not known."""

    pending: bool | None
    facts: Mapping[str, Fact]


def uptime_s(proc_uptime: str) -> float:
    """Seconds since boot from the text of /proc/uptime."""
    return float(proc_uptime.split(maxsplit=1)[0])


def newest_kernel(running: str, installed: Iterable[str]) -> str:
    """The newest installed release of the flavour that runs; `running` itself when none is newer.

    Releases are compared by their leading numbers; the rest (`-amd64`, `.el9_4.x86_64`) is the flavour.
    """
    newest, flavour = _release(running)
    name = running
    for candidate in installed:
        version, candidate_flavour = _release(candidate)
        if candidate_flavour == flavour and version > newest:
            newest, name = version, candidate
    return name


def packages_of(mark: str) -> str:
    """The packages in the text of reboot-required.pkgs: sorted, without doubles, a few by name and the rest counted."""
    names = sorted({line.strip()[:MAX_PACKAGE_CHARS] for line in mark.splitlines() if line.strip()})
    shown = ", ".join(names[:MAX_PACKAGES])
    return shown if len(names) <= MAX_PACKAGES else f"{shown} (+{len(names) - MAX_PACKAGES})"


def judge_needs_restarting(exit_code: int, output: str) -> Reboot:
    """What `needs-restarting -r` said. It also exits with 1 when it fails, so the text decides.

    No restart: "Reboot should not be necessary." (dnf), "Reboot is probably not necessary." (yum-utils).
    """
    if exit_code == 0 and "not necessary" in output.replace("not be ", "not "):
        return Reboot(False, {})
    if exit_code == 1 and "Reboot is required" in output:
        names = (line.lstrip()[2:] for line in output.splitlines() if line.lstrip().startswith("* "))
        return Reboot(True, {"packages": packages_of("\n".join(names))})
    return Reboot(None, {"not_known": f"{_NEEDS_RESTARTING} ended with {exit_code}"})


def running_kernel() -> str:
    """Release of the kernel that runs."""
    return os.uname().release


def measure(context: Context) -> list[Measurement]:
    """Return the one item."""
    metrics = {"uptime_seconds": _uptime_s(context)}
    reboot = _reboot(context)
    if reboot.pending is None:
        return [Measurement("", metrics, reboot.facts)]
    metrics["reboot_pending"] = float(reboot.pending)
    problem = Problem(Status.WARNING, "uptime.reboot_pending", reboot.facts) if reboot.pending else None
    return [Measurement("", metrics, problem=problem)]


def _uptime_s(context: Context) -> float:
    if psutil.LINUX:
        return uptime_s(_PROC_UPTIME.read_text("ascii"))
    return max(0.0, context.now() - psutil.boot_time())


def _reboot(context: Context) -> Reboot:
    if not psutil.LINUX:
        return Reboot(None, {})
    marked = _marked(_MARKS)
    if marked is not None:
        return marked
    kernel = _kernel(running_kernel(), _BOOT)
    return kernel if kernel.pending else _asked(context, kernel)


def _marked(marks: Iterable[Path]) -> Reboot | None:
    for mark in marks:
        if mark.exists():
            try:
                with mark.with_name(mark.name + ".pkgs").open("rb") as stream:
                    listed = stream.read(MAX_OUTPUT_BYTES).decode("utf-8", "replace")
            except FileNotFoundError:
                return Reboot(True, {})
            return Reboot(True, {"packages": packages_of(listed)})
    return None


def _kernel(running: str, boot: Path) -> Reboot:
    installed = [path.name.removeprefix(_KERNEL_IMAGE) for path in boot.glob(_KERNEL_IMAGE + "*")]
    if running not in installed:  # a container, or a kernel that is not this system's own
        return Reboot(None, {})
    newest = newest_kernel(running, installed)
    return Reboot(True, {"kernel": running, "newer_kernel": newest}) if newest != running else Reboot(False, {})


def _asked(context: Context, kernel: Reboot) -> Reboot:
    """Ask `needs-restarting`, seldom: it costs a second of CPU. Without it the kernel's answer stands."""
    program = find_program(_NEEDS_RESTARTING)
    if program is None:
        return kernel
    asked_s: float = context.memory.get("asked_s", -math.inf)
    if context.monotonic() - asked_s >= ASK_AGAIN_S:
        context.memory["asked_s"] = context.monotonic()
        context.memory["answer"] = _ask(program, min(NEEDS_RESTARTING_TIMEOUT_S, context.deadline_s * 0.8))
    answer: Reboot = context.memory["answer"]
    return answer


def _ask(program: str, timeout_s: float) -> Reboot:
    try:
        output = run_program([program, "-r"], timeout_s, MAX_OUTPUT_BYTES)
    except CannotMeasure as error:
        return Reboot(None, {"not_known": f"{program} {error.facts.get('reason', '')}"})
    return judge_needs_restarting(output.exit_code, output.stdout.decode("utf-8", "replace"))


def _release(name: str) -> tuple[tuple[int, ...], str]:
    match = _RELEASE.fullmatch(name)
    if match is None:
        return (), name
    return tuple(int(part) for part in re.split("[.-]", match[1])), match[2]


CHECK = CheckKind(
    name="uptime",
    measure=measure,
    metrics=(
        Metric("uptime_seconds", "Time since the machine was started"),
        Metric("reboot_pending", "1 when installed updates wait for a restart, 0 when not"),
    ),
    codes=("uptime.reboot_pending",),
    thresholds=(Threshold("uptime_seconds", "uptime.too_long"),),
    every_s=300.0,
    timeout_s=60.0,
)
