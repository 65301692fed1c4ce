"""The check `memory`: what is available, swap, and kills for want of memory."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gengfu_checks.local import memory
from gengfu_checks.model import Measurement, Status
from gengfu_checks.threshold import judge

KIB = 1024


@pytest.fixture
def vmstat(samples: Path) -> str:
    """/proc/vmstat as recorded on a Debian 12 virtual machine with Linux 6.18."""
    return (samples / "proc" / "vmstat-linux-6.18").read_text("ascii")


def test_the_counter_is_read_from_a_real_vmstat(vmstat: str) -> None:
    assert memory.oom_kills(vmstat) == 0
    assert memory.oom_kills(vmstat.replace("\noom_kill 0\n", "\noom_kill 12\n")) == 12


def test_a_kernel_without_the_counter_gives_none(vmstat: str) -> None:
    assert memory.oom_kills(vmstat.replace("\noom_kill 0\n", "\n")) is None
    assert memory.oom_kills("") is None


@given(st.text(st.sampled_from("oom_kill 01x\n-٣"), max_size=60))
def test_rubbish_gives_none_or_a_number(text: str) -> None:
    found = memory.oom_kills(text)
    assert found is None or found >= 0


def reference_fresh(history: list[tuple[float, int]], hold_s: float) -> int:
    """Kills to tell at the end: go back from the last run that saw some, as long as gaps are shorter than the hold."""
    grown = [(now_s, max(0, counter - before)) for (_, before), (now_s, counter) in pairwise(history)]
    seen = [(now_s, kills) for now_s, kills in grown if kills]
    end_s = history[-1][0]
    total = 0
    while seen:
        now_s, kills = seen.pop()
        if now_s != end_s and end_s - now_s >= hold_s:
            break
        total += kills
        end_s = now_s
    return total


@given(
    st.lists(st.tuples(st.integers(1, 20), st.integers(-3, 3)), min_size=1, max_size=12),
    st.integers(0, 30).map(float),
)
def test_kills_are_held_as_the_reference_says(steps: list[tuple[int, int]], hold_s: float) -> None:
    watch: memory.OomWatch | None = None
    history: list[tuple[float, int]] = []
    now_s, counter = 0.0, 5
    for after_s, more in steps:
        now_s, counter = now_s + after_s, max(0, counter + more)
        watch = memory.watch_oom(watch, counter, now_s, f"at {now_s}", hold_s)
        history.append((now_s, counter))
        assert watch.counter == counter
        assert watch.fresh == reference_fresh(history, hold_s)


def test_a_kill_is_told_for_the_hold_and_then_forgotten(
    bench: Callable[..., Any], tmp_path: Path, vmstat: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "vmstat"
    monkeypatch.setattr(memory, "_VMSTAT", file)
    instance = bench(memory.CHECK, oom_hold="10m")

    def oom(kills: int, after_s: float) -> Any:
        file.write_text(vmstat.replace("\noom_kill 0\n", f"\noom_kill {kills}\n"), "ascii")
        instance.later(after_s)
        return instance.run()["oom"]

    assert oom(7, 0).problem is None
    first = oom(9, 60)
    assert (first.problem.status, first.problem.code) == (Status.WARNING, "memory.oom_kill")
    assert first.problem.facts == {"kills": 2, "seen_at": "2027-01-15T08:01:00+00:00"}
    assert first.metrics == {"oom_kills_total": 9.0}
    assert oom(9, 599).problem.facts == first.problem.facts
    assert oom(9, 1).problem is None
    assert oom(0, 60).problem is None


def test_without_the_file_there_is_no_such_item(
    bench: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_VMSTAT", tmp_path / "absent")
    assert "oom" not in bench(memory.CHECK).run()


def test_swap_shows_only_where_there_is_some(bench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    swap = SimpleNamespace(total=4096 * KIB, used=1024 * KIB, sin=10, sout=20)
    monkeypatch.setattr(memory.psutil, "swap_memory", lambda: swap)
    assert bench(memory.CHECK).run()["swap"].metrics == {
        "total_bytes": 4096.0 * KIB,
        "used_bytes": 1024.0 * KIB,
        "used_ratio": 0.25,
        "in_bytes_total": 10.0,
        "out_bytes_total": 20.0,
    }
    swap.total = 0
    assert "swap" not in bench(memory.CHECK).run()


@pytest.mark.skipif(not psutil.LINUX, reason="reads /proc/meminfo to compare")
def test_ram_of_this_machine_is_what_the_kernel_says(bench: Callable[..., Any]) -> None:
    lines = Path("/proc/meminfo").read_text("ascii").splitlines()
    kernel = {name: int(rest.split()[0]) * KIB for name, _, rest in (line.partition(":") for line in lines)}
    ram = bench(memory.CHECK).run()["ram"].metrics
    assert ram["total_bytes"] == kernel["MemTotal"]
    assert ram["available_bytes"] == pytest.approx(kernel["MemAvailable"], rel=0.2)
    assert ram["available_ratio"] == ram["available_bytes"] / ram["total_bytes"]


@pytest.mark.parametrize(
    ("item", "metric", "value", "status", "code"),
    [
        ("ram", "available_ratio", 0.10, Status.OK, "ok"),
        ("ram", "available_ratio", 0.05, Status.WARNING, "memory.low"),
        ("ram", "available_ratio", 0.01, Status.CRITICAL, "memory.low"),
        ("swap", "used_ratio", 1.0, Status.OK, "ok"),
    ],
)
def test_default_limits(item: str, metric: str, value: float, status: Status, code: str) -> None:
    found = judge("memory", Measurement(item, {metric: value}), memory.CHECK.thresholds, None, 0.0)
    assert (found.status, found.code) == (status, code)
