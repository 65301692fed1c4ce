"""Updates: what is pending and for how long, how old the lists are, and whether an update was interrupted.

One item, "". A single pending update is no problem; one for security that has waited for weeks is, and so are lists
that nobody refreshes. Asking costs a second or two of CPU, so the answer is kept until something was installed or
fetched, for a day at most. Where the keeper of the software cannot be asked, nothing is claimed.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import psutil

from gengfu_checks.codes import CHECK_PROGRAM_FAILED
from gengfu_checks.local import os_release, updates_apt, updates_desktop, updates_rpm
from gengfu_checks.local.asked_seldom import asked_seldom
from gengfu_checks.local.programs import failed, find_program
from gengfu_checks.local.updates_state import INTERRUPTED, NO_LISTS, State, judge
from gengfu_checks.model import CheckKind, Context, Measurement, Metric, Threshold
from gengfu_checks.software import keeps_dpkg

SECURITY_WAITS = "updates.security_waits"
WAIT = "updates.wait"
LISTS_OLD = "updates.lists_old"
ARCHIVE_OLD = "updates.archive_old"

DPKG_STATUS = Path("/var/lib/dpkg/status")
ASK_AGAIN_S = 24 * 3600.0

_DAY_S = 86400.0


def measure(context: Context) -> list[Measurement]:
    """Return the one item, or nothing where no known program keeps the software."""
    timeout_s = context.deadline_s * 0.9
    if psutil.WINDOWS:
        state = asked_seldom(context, ASK_AGAIN_S, lambda: updates_desktop.collect_windows(timeout_s))
    elif psutil.MACOS:
        state = updates_desktop.collect_mac()
    elif keeps_dpkg(DPKG_STATUS):
        program = find_program("apt-get")
        if program is None:
            raise failed("apt-get", "not found")
        return [measure_apt(context, updates_apt.Apt(program))]
    else:
        rpm = updates_rpm.find()
        if rpm is None:
            return []
        return [measure_rpm(context, rpm)]
    return [judge(state, context.keep, context.now())]


def measure_apt(context: Context, apt: updates_apt.Apt) -> Measurement:
    """Measure a system of dpkg and apt."""
    timeout_s = context.deadline_s * 0.9

    def ask() -> State:
        return updates_apt.collect(apt, timeout_s, context.now())

    state = asked_seldom(context, ASK_AGAIN_S, ask, updates_apt.fingerprint(apt))
    measurement = judge(state, context.keep, context.now())
    if os_release.has_ended(context.now()):  # its archive stands still for ever, and os_release tells why
        return replace(measurement, unjudged=frozenset(("archive_age_seconds",)))
    return measurement


def measure_rpm(context: Context, rpm: updates_rpm.Rpm) -> Measurement:
    """Measure a system of rpm and dnf."""
    timeout_s = context.deadline_s * 0.9

    def ask() -> State:
        return updates_rpm.collect(rpm, timeout_s)

    state = asked_seldom(context, ASK_AGAIN_S, ask, updates_rpm.fingerprint(rpm))
    return judge(state, context.keep, context.now())


def usable() -> str | None:
    """Say why nothing can be asked: Linux without apt, dnf and yum."""
    if not psutil.LINUX or keeps_dpkg(DPKG_STATUS) or updates_rpm.find() is not None:
        return None
    return "neither apt nor dnf or yum keeps the software of this machine"


CHECK = CheckKind(
    name="updates",
    measure=measure,
    metrics=(
        Metric("pending_updates", "Updates that are not installed"),
        Metric("pending_security_updates", "Security updates that are not installed"),
        Metric("waiting_seconds", "How long the oldest pending update has been waiting, 0 without any"),
        Metric(
            "security_waiting_seconds", "How long the oldest pending security update has been waiting, 0 without any"
        ),
        Metric("lists_age_seconds", "Time since the lists of available updates were last refreshed"),
        Metric("archive_age_seconds", "Time since the archive or mirror made the newest of the lists"),
        Metric("last_update_age_seconds", "Time since a package was last installed or updated"),
        Metric("held_packages", "Installed packages that are held back on purpose"),
    ),
    codes=(INTERRUPTED, NO_LISTS, CHECK_PROGRAM_FAILED),
    thresholds=(
        Threshold("security_waiting_seconds", SECURITY_WAITS, warning=30 * _DAY_S),
        Threshold("lists_age_seconds", LISTS_OLD, warning=14 * _DAY_S),
        Threshold("archive_age_seconds", ARCHIVE_OLD, warning=45 * _DAY_S),
        Threshold("waiting_seconds", WAIT, warning=120 * _DAY_S),
    ),
    every_s=3600.0,
    timeout_s=240.0,
    usable=usable,
)
