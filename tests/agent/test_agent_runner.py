"""Checks that hang, crash or lie hurt nobody but themselves."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue

import pytest
from checkkinds import check_of, level, returning
from spools import StillClock

from gengfu_agent.budget import BURST_CPU_S, SHARE, CpuBudget
from gengfu_agent.runner import MAX_THREADS, MAX_WORKING, Runner, RunResult
from gengfu_checks.model import Context, Measurement, Status


class Bench:
    """A runner whose calls are brought in by hand, and a gate at which checks can be held."""

    def __init__(self) -> None:
        self.clock = StillClock()
        self.results: list[RunResult] = []
        self.calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self.runner = Runner(self.results.append, self.calls.put, self.clock)
        self.gate = threading.Event()

    def hang(self, _: Context) -> list[Measurement]:
        self.gate.wait(30)
        return [level(0.1)]

    def deliver(self, results: int) -> None:
        """Bring in calls until so many results are there."""
        while len(self.results) < results:
            self.calls.get(timeout=10)()

    def settle(self) -> None:
        """Bring in what comes within a moment."""
        try:
            while True:
                self.calls.get(timeout=0.2)()
        except Empty:
            pass

    def codes(self) -> list[str]:
        return [result.findings[0].code for result in self.results]


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.gate.set()


def test_a_run_gives_its_findings(bench: Bench) -> None:
    bench.runner.start(check_of(returning(level(0.95))))
    bench.deliver(1)
    (finding,) = bench.results[0].findings
    assert (finding.status, finding.measured_at) == (Status.CRITICAL, bench.clock.wall_ms() / 1000)
    assert bench.runner.next_deadline_s() is None


def test_a_check_sees_its_settings_its_memory_and_the_clocks(bench: Bench) -> None:
    def measure(context: Context) -> Iterator[Measurement]:
        context.memory["runs"] = context.memory.get("runs", 0) + context.settings["step"]
        assert (context.now(), context.monotonic()) == (bench.clock.wall_ms() / 1000, bench.clock.boot_ms() / 1000)
        assert context.deadline_s == 5.0
        yield Measurement("", {"done_total": context.memory["runs"]})

    for expected, step in ((2, 2), (4, 2), (3, 3)):  # new settings, new memory
        bench.runner.start(check_of(measure, settings={"step": step}))
        bench.deliver(len(bench.results) + 1)
        assert bench.results[-1].findings[0].metrics == {"done_total": expected}


def test_hysteresis_holds_from_run_to_run_and_over_a_failure(bench: Bench) -> None:
    values = iter([0.95, None, 0.85])

    def measure(_: Context) -> list[Measurement]:
        value = next(values)
        if value is None:
            raise OSError("gone")
        return [level(value)]

    check = check_of(measure)
    for _ in range(3):
        bench.runner.start(check)
        bench.deliver(len(bench.results) + 1)
    assert [r.findings[0].status for r in bench.results] == [Status.CRITICAL, Status.UNKNOWN, Status.CRITICAL]


def test_a_stuck_check_is_reported_stays_reported_and_comes_back(bench: Bench) -> None:
    check = check_of(bench.hang, timeout_s=10.0)
    bench.runner.start(check)
    began_s = bench.clock.boot_ms() / 1000
    assert bench.runner.next_deadline_s() == began_s + 10
    bench.runner.expire()
    assert bench.results == []
    bench.clock.move(10)
    bench.runner.expire()
    bench.runner.expire()
    assert bench.codes() == ["check.timed_out"]
    assert bench.results[0].findings[0].facts == {"timeout_s": 10.0}
    bench.clock.move(50)
    bench.runner.start(check)
    bench.runner.start(check)
    assert bench.codes()[1:] == ["check.stuck", "check.stuck"]
    assert bench.results[1].findings[0].facts == {"since": "2026-09-21T14:13:20+00:00"}
    assert bench.runner.hanging() == 1
    bench.gate.set()
    bench.settle()
    assert len(bench.results) == 3, "what comes too late is not a result"
    assert bench.runner.hanging() == 0
    bench.runner.start(check)
    bench.deliver(4)
    assert bench.codes()[3] == "ok"


def test_stuck_checks_never_block_others(bench: Bench) -> None:
    for i in range(3 * MAX_WORKING):
        bench.runner.start(check_of(bench.hang, f"stuck{i}", timeout_s=1.0))
    bench.runner.start(check_of(returning(level(0.1)), "healthy"))
    for _ in range(3):
        bench.clock.move(1)
        bench.runner.expire()
    bench.deliver(3 * MAX_WORKING + 1)
    assert bench.results[-1].check.name == "healthy"
    assert bench.codes().count("check.timed_out") == 3 * MAX_WORKING


def test_no_more_checks_work_at_once_than_allowed(bench: Bench) -> None:
    working, most, lock = 0, 0, threading.Lock()

    def measure(_: Context) -> list[Measurement]:
        nonlocal working, most
        with lock:
            working += 1
            most = max(most, working)
        time.sleep(0.005)
        with lock:
            working -= 1
        return [level(0.1)]

    for i in range(50):
        bench.runner.start(check_of(measure, f"check{i}"))
    bench.deliver(50)
    assert most <= MAX_WORKING
    assert {result.check.name for result in bench.results} == {f"check{i}" for i in range(50)}


def test_the_number_of_threads_is_bounded_whatever_hangs(bench: Bench) -> None:
    before = set(threading.enumerate())
    for i in range(2 * MAX_THREADS):
        bench.runner.start(check_of(bench.hang, f"stuck{i}", timeout_s=1.0))
        bench.clock.move(2)
        bench.runner.expire()
    assert len(set(threading.enumerate()) - before) == MAX_THREADS
    bench.runner.start(check_of(bench.hang, f"stuck{2 * MAX_THREADS - 1}"))
    assert bench.codes()[-1] == "check.stuck", "what never got a thread is not silent"
    bench.gate.set()
    bench.settle()
    assert len(set(threading.enumerate()) - before) == MAX_WORKING


@pytest.mark.parametrize(
    "returned",
    [
        42,
        [Measurement("a", None)],  # type: ignore[arg-type]
        [Measurement(7, {}, {7: 7})],  # type: ignore[dict-item,arg-type]
        [Measurement("a", problem="broken")],  # type: ignore[arg-type]
    ],
)
def test_a_check_that_returns_nonsense_is_unknown(bench: Bench, returned: object) -> None:
    bench.runner.start(check_of(lambda _: returned))
    bench.deliver(1)
    assert (bench.results[0].findings[0].status, bench.codes()) == (Status.UNKNOWN, ["check.crashed"])


def test_an_endless_check_is_cut(bench: Bench) -> None:
    def measure(_: Context) -> Iterator[Measurement]:
        number = 0
        while True:
            number += 1
            yield level(0.1, str(number))

    bench.runner.start(check_of(measure))
    bench.deliver(1)
    assert "check.bad_value" in {finding.code for finding in bench.results[0].findings}


def test_errors_that_cannot_even_be_printed_are_unknown(bench: Bench) -> None:
    class Unprintable(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    def measure(_: Context) -> list[Measurement]:
        raise Unprintable

    bench.runner.start(check_of(measure))
    bench.deliver(1)
    assert bench.codes() == ["check.crashed"]


def test_a_hanging_check_does_not_keep_the_process_from_ending() -> None:
    program = """
import sys, time
sys.path.insert(0, "tests/agent")
from checkkinds import check_of
from gengfu_agent.clock import SystemClock
from gengfu_agent.budget import BURST_CPU_S, SHARE, CpuBudget
from gengfu_agent.runner import Runner
runner = Runner(print, lambda call: None, SystemClock())
runner.start(check_of(lambda _: time.sleep(3600)))
print("end")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout == "end\n"


def test_past_the_budget_runs_wait_and_say_when_they_are_due() -> None:
    bench, used_s = Bench(), [0.0]
    now_s = bench.clock.now_boot_ms / 1000
    runner = Runner(bench.results.append, bench.calls.put, bench.clock, budget=CpuBudget(now_s, lambda: used_s[0]))
    bench.runner = runner
    used_s[0] = BURST_CPU_S + 1.0
    runner.start(check_of(returning(level(0.95))))
    bench.settle()
    assert bench.results == []
    assert runner.next_deadline_s() == now_s + 1.0 / SHARE
    bench.clock.move(1.0 / SHARE)
    runner.expire()
    bench.deliver(1)
    assert runner.next_deadline_s() is None
