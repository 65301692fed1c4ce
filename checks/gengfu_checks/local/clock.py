"""Clock: whether something keeps it right, and how far off the kernel takes it to be (Linux).

The kernel knows what its time service (chrony, ntpd, systemd-timesyncd, a hypervisor's tool) told it; asking needs no
rights. chronyd tells it nothing without the directive `rtcsync` (chrony.conf(5)), so before a clock is called unkept
chronyc(1) is asked. A clock that nobody keeps is a warning after a grace, never more: how wrong it is cannot be seen
from inside.
"""

from __future__ import annotations

import errno
import math
from dataclasses import dataclass

import psutil

from gengfu_checks.codes import CHECK_NEEDS_RIGHTS
from gengfu_checks.errors import CannotMeasure
from gengfu_checks.local.programs import find_program, run_program
from gengfu_checks.model import (
    CheckKind,
    Context,
    Measurement,
    Metric,
    Problem,
    Setting,
    SettingType,
    Status,
    Threshold,
)

CHRONYC_TIMEOUT_S = 3.0
MAX_OUTPUT_BYTES = 4096
CHRONY_STALE_S = 3 * 3600.0
"""chronyd polls every 17 minutes or oftener; one that last heard of its source longer ago has lost it."""
_CHRONY_FIELDS = 14
_CHRONY_OWN_CLOCK = "7F7F0101"
"""The reference of a server that passes on its own clock, whatever that says (`local` in chrony.conf)."""
_KEPT_LEAPS = ("Normal", "Insert second", "Delete second")

# From linux/timex.h.
_STA_UNSYNC = 0x0040
_STA_NANO = 0x2000
_TIME_ERROR = 5


@dataclass(frozen=True, slots=True)
class KernelClock:
    """The fields of `struct timex` that count, as the kernel gives them; `state` is what the call returned."""

    state: int
    status: int
    offset: int
    """Nanoseconds with STA_NANO in `status`, else microseconds."""
    max_error_us: int
    estimated_error_us: int


def synchronised(clock: KernelClock) -> bool:
    """True while a time service keeps the clock."""
    return clock.state != _TIME_ERROR and not clock.status & _STA_UNSYNC


def clock_metrics(clock: KernelClock) -> dict[str, float]:
    """Metrics of a reading, in seconds."""
    unit_s = 1e-9 if clock.status & _STA_NANO else 1e-6
    return {
        "synchronised": float(synchronised(clock)),
        "offset_seconds": abs(clock.offset) * unit_s,
        "estimated_error_seconds": clock.estimated_error_us * 1e-6,
        "max_error_seconds": clock.max_error_us * 1e-6,
    }


def measure(context: Context) -> list[Measurement]:
    """Return the one item. Until a synchronised clock has been seen, the grace counts from the machine's start."""
    clock = read_kernel_clock()
    now_s = context.monotonic()
    if synchronised(clock):
        context.memory["synchronised_s"] = now_s
        return [Measurement("", clock_metrics(clock))]
    since_s = context.memory.get("synchronised_s", 0.0)
    if now_s - since_s < context.settings["grace"]:
        return [Measurement("", clock_metrics(clock))]
    offset_s = chrony_offset_s(_asked_chrony(), context.now())
    if offset_s is not None:
        return [Measurement("", {"synchronised": 1.0, "offset_seconds": abs(offset_s)})]
    return [Measurement("", clock_metrics(clock), problem=Problem(Status.WARNING, "clock.unsynchronised"))]


def chrony_offset_s(tracking: str, now_s: float) -> float | None:
    """How far off chronyd takes the clock to be, by `chronyc -c -n tracking`; None when it does not keep it."""
    fields = tracking.strip().split(",")
    if len(fields) != _CHRONY_FIELDS or fields[0] == _CHRONY_OWN_CLOCK or fields[-1] not in _KEPT_LEAPS:
        return None
    try:
        heard_at_s, offset_s = float(fields[3]), float(fields[4])
    except ValueError:
        return None
    is_sound = math.isfinite(offset_s) and now_s - heard_at_s < CHRONY_STALE_S
    return offset_s if is_sound else None


def _asked_chrony() -> str:
    """What chronyc prints; nothing where there is none, or no chronyd behind it."""
    chronyc = find_program("chronyc")
    if chronyc is None:
        return ""
    try:
        output = run_program([chronyc, "-c", "-n", "tracking"], CHRONYC_TIMEOUT_S, MAX_OUTPUT_BYTES)
    except CannotMeasure:  # what the kernel says stands
        return ""
    return output.stdout.decode("ascii", "replace") if output.exit_code == 0 else ""


def read_kernel_clock() -> KernelClock:
    """Ask the kernel by adjtimex(2) with modes 0, which changes nothing."""
    import ctypes

    class Timex(ctypes.Structure):
        _fields_ = (
            ("modes", ctypes.c_uint),
            ("offset", ctypes.c_long),
            ("freq", ctypes.c_long),
            ("maxerror", ctypes.c_long),
            ("esterror", ctypes.c_long),
            ("status", ctypes.c_int),
            ("rest", ctypes.c_long * 32),
        )

    timex = Timex()
    state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    if state < 0:
        raise _refused(ctypes.get_errno())
    return KernelClock(state, timex.status, timex.offset, timex.maxerror, timex.esterror)


def _refused(error: int) -> CannotMeasure:
    if error == errno.EPERM:  # a sandbox: the kernel itself lets everybody ask
        return CannotMeasure(CHECK_NEEDS_RIGHTS, {"needs": "CAP_SYS_TIME", "target": "adjtimex"})
    return CannotMeasure("clock.unreadable", {"error": errno.errorcode.get(error, str(error))})


def usable() -> str | None:
    """Linux on 64 bit: elsewhere the structure differs."""
    import sys

    if not psutil.LINUX:
        return "only Linux tells whether its clock is kept"
    return None if sys.maxsize > 2**32 else "not supported on 32-bit systems"


CHECK = CheckKind(
    name="clock",
    measure=measure,
    metrics=(
        Metric("synchronised", "1 while a time service keeps the clock, 0 when none does"),
        Metric("offset_seconds", "Offset that the kernel is still correcting, without its sign"),
        Metric("estimated_error_seconds", "Error of the clock as its time service estimates it"),
        Metric("max_error_seconds", "Upper bound of the clock's error; grows while nothing synchronises it"),
    ),
    codes=("clock.unsynchronised", "clock.unreadable", CHECK_NEEDS_RIGHTS),
    settings=(
        Setting(
            "grace",
            SettingType.DURATION,
            "how long the clock may be unsynchronised, also after a start, before it is a problem",
            default="15m",
        ),
    ),
    thresholds=(Threshold("offset_seconds", "clock.offset_high", warning=0.1, hysteresis=0.05),),
    usable=usable,
)
