"""The check `clock`: what the kernel's state means, and that this kernel can be asked."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gengfu_checks.errors import CannotMeasure
from gengfu_checks.local import clock
from gengfu_checks.local.clock import KernelClock, clock_metrics, synchronised
from gengfu_checks.model import Measurement, Status
from gengfu_checks.threshold import judge

# Readings of adjtimex(2) as strace prints them: on this project's build machine, which nobody synchronises, and on a
# machine with ntpd, quoted in a public bug report (moby #33126).
NOBODYS = KernelClock(state=5, status=0x0040, offset=0, max_error_us=16_000_000, estimated_error_us=16_000_000)
KEPT = KernelClock(state=0, status=0x2001, offset=-79_766, max_error_us=821_262, estimated_error_us=1_774)


@pytest.fixture(autouse=True)
def no_chrony(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever keeps the clock of the machine that runs the tests."""
    monkeypatch.setattr(clock, "find_program", lambda _name: None)


def test_what_real_readings_mean() -> None:
    assert not synchronised(NOBODYS)
    assert clock_metrics(NOBODYS)["max_error_seconds"] == 16.0
    assert synchronised(KEPT)
    assert clock_metrics(KEPT) == pytest.approx(
        {
            "synchronised": 1.0,
            "offset_seconds": 79_766e-9,
            "estimated_error_seconds": 1_774e-6,
            "max_error_seconds": 821_262e-6,
        }
    )


def test_without_the_nano_flag_offsets_are_microseconds() -> None:
    metrics = clock_metrics(KernelClock(0, 0x0001, 250_000, 0, 0))
    assert metrics["offset_seconds"] == pytest.approx(0.25)


@pytest.mark.parametrize("reading", [KernelClock(5, 0, 0, 0, 0), KernelClock(0, 0x0041, 0, 0, 0)])
def test_either_sign_of_the_kernel_means_unsynchronised(reading: KernelClock) -> None:
    assert not synchronised(reading)


def run_with(monkeypatch: pytest.MonkeyPatch, instance: Any, reading: KernelClock) -> Measurement:
    """One run on a machine whose kernel says this."""
    monkeypatch.setattr(clock, "read_kernel_clock", lambda: reading)
    measurement: Measurement = instance.run()[""]
    return measurement


def test_a_machine_just_started_has_its_grace(bench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    instance = bench(clock.CHECK, grace="15m")
    instance.monotonic_s = 60.0
    assert run_with(monkeypatch, instance, NOBODYS).problem is None
    instance.later(14 * 60)
    problem = run_with(monkeypatch, instance, NOBODYS).problem
    assert problem is not None
    assert (problem.status, problem.code) == (Status.WARNING, "clock.unsynchronised")


def test_the_grace_starts_anew_when_synchronisation_is_lost(
    bench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = bench(clock.CHECK, grace=100)
    assert run_with(monkeypatch, instance, KEPT).problem is None
    instance.later(99)
    assert run_with(monkeypatch, instance, NOBODYS).problem is None
    instance.later(1)
    assert run_with(monkeypatch, instance, NOBODYS).problem is not None
    assert run_with(monkeypatch, instance, KEPT).problem is None


# `chronyc -c -n tracking` of chrony 4.3 (Debian 12) in a network namespace, chronyd -x, without rtcsync: following a
# server, serving its own clock, without any source. The kernel said what NOBODYS says all the while.
FOLLOWS = (
    "7F000001,127.0.0.1,4,1795316734.877184795,-0.000001437,0.000000038,0.000001672,0.023,0.002,0.086,"
    "0.000005258,0.000000384,1.0,Normal\n"
)
OWN = (
    "7F7F0101,,8,1795316720.125187729,"
    "0.000000000,0.000000000,0.000000000,0.000,0.000,0.000,0.000000000,0.000000000,0.0,Normal\n"
)
NONE = (
    "00000000,,0,0.000000000,"
    "0.000000000,0.000000000,0.000000000,0.000,0.000,0.000,1.000000000,1.000000000,0.0,Not synchronised\n"
)
HEARD_AT_S = 1795316734.9


@pytest.mark.parametrize(
    ("body", "later_s", "is_kept"),
    [
        (f"printf %s '{FOLLOWS}'", 60, True),
        (f"printf %s '{FOLLOWS}'", 4 * 3600, False),
        (f"printf %s '{OWN}'", 60, False),
        (f"printf %s '{NONE}'", 60, False),
        ("echo 506 Cannot talk to daemon; exit 1", 60, False),
        ("echo rubbish", 60, False),
        ("exec yes", 60, False),
    ],
)
def test_a_chronyd_that_tells_the_kernel_nothing_is_asked(
    bench: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    body: str,
    later_s: float,
    is_kept: bool,
) -> None:
    chronyc = tmp_path / "chronyc"
    chronyc.write_text(f"#!/bin/sh\n{body}\n")
    chronyc.chmod(0o755)
    monkeypatch.setattr(clock, "find_program", {"chronyc": str(chronyc)}.get)
    instance = bench(clock.CHECK)
    instance.now_s = HEARD_AT_S + later_s
    measurement = run_with(monkeypatch, instance, NOBODYS)
    assert (measurement.problem is None) is is_kept
    assert measurement.metrics["synchronised"] == float(is_kept)
    if is_kept:
        assert measurement.metrics["offset_seconds"] == pytest.approx(1.437e-6)


def test_a_clock_that_nobody_keeps_is_never_critical() -> None:
    metrics = clock_metrics(NOBODYS)
    assert judge("clock", Measurement("", metrics), clock.CHECK.thresholds, None, 0.0).status is Status.OK
    far = Measurement("", {**metrics, "offset_seconds": 0.4})
    found = judge("clock", far, clock.CHECK.thresholds, None, 0.0)
    assert (found.status, found.code) == (Status.WARNING, "clock.offset_high")


@pytest.mark.skipif(clock.usable() is not None, reason="this system does not tell")
def test_this_kernel_answers_and_nothing_is_changed(bench: Callable[..., Any]) -> None:
    first, second = clock.read_kernel_clock(), clock.read_kernel_clock()
    assert first.status == second.status
    assert 0 <= first.state <= 5
    assert 0 <= first.max_error_us <= 16_000_000
    assert 0 <= first.estimated_error_us <= 16_000_000
    metrics = bench(clock.CHECK).run()[""].metrics
    assert metrics["synchronised"] == float(synchronised(first))


@pytest.mark.parametrize(
    ("error", "code", "facts"),
    [
        (errno.EPERM, "check.needs_rights", {"needs": "CAP_SYS_TIME", "target": "adjtimex"}),
        (errno.ENOSYS, "clock.unreadable", {"error": "ENOSYS"}),
        (9999, "clock.unreadable", {"error": "9999"}),
    ],
)
def test_a_sandbox_that_forbids_asking_is_named(error: int, code: str, facts: dict[str, str]) -> None:
    refusal = clock._refused(error)
    assert isinstance(refusal, CannotMeasure)
    assert (refusal.code, refusal.facts) == (code, facts)
    assert code in clock.CHECK.codes
