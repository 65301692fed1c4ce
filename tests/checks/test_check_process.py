"""The check `process`, with real processes started for the purpose."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gengfu_checks.errors import CannotMeasure, SettingError
from gengfu_checks.local import process
from gengfu_checks.local.process import Seen, account, asks_for, count_problem, process_metrics
from gengfu_checks.model import Status

pytestmark = pytest.mark.skipif(not psutil.LINUX, reason="starts Linux programs")

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def marker() -> str:
    """A word that no other process on the machine has."""
    return f"gf{uuid.uuid4().hex[:10]}"


@pytest.fixture
def start() -> Iterator[Start]:
    """`start(program, argument, ...)` runs a program until the test ends and returns once it is running it."""
    with contextlib.ExitStack() as stack:

        def run(*argv: str, **options: Any) -> subprocess.Popen[bytes]:
            running = subprocess.Popen(argv, **options)
            stack.callback(running.wait)
            stack.callback(running.kill)
            return running

        yield run


SLEEP_IN_PYTHON = "import sys, time; print('up', flush=True); time.sleep(120)"


@pytest.fixture
def start_marked(start: Start, marker: str) -> Callable[..., subprocess.Popen[bytes]]:
    """`start_marked()` runs a Python that sleeps and has the marker among its arguments."""

    def run(*arguments: str, code: str = SLEEP_IN_PYTHON, **options: Any) -> subprocess.Popen[bytes]:
        running = start(sys.executable, "-c", code, *(arguments or (marker,)), stdout=subprocess.PIPE, **options)
        assert running.stdout is not None
        with running.stdout:
            assert running.stdout.readline() == b"up\n"
        return running

    return run


def test_nothing_that_fits_is_missing(bench: Callable[..., Any], marker: str) -> None:
    found = bench(process.CHECK, pattern=marker).run()[""]
    assert (found.problem.status, found.problem.code) == (Status.CRITICAL, "process.missing")
    assert found.problem.facts == {"pattern": marker, "at_least": 1}
    assert found.metrics["processes"] == 0
    assert "age_seconds" not in found.metrics


def test_running_processes_are_counted_with_what_they_use(
    bench: Callable[..., Any], marker: str, start_marked: Start
) -> None:
    instance = bench(process.CHECK, pattern=f"{marker}$", at_least=2)
    running = [start_marked(), start_marked()]
    instance.now_s = time.time()
    found = instance.run()[""]
    assert found.problem is None
    assert found.facts == {"pattern": f"{marker}$"}
    metrics = found.metrics
    assert (metrics["processes"], metrics["threads"]) == (2, 2)
    assert metrics["memory_bytes"] == pytest.approx(
        sum(psutil.Process(one.pid).memory_info().rss for one in running), rel=0.2
    )
    assert metrics["open_files"] >= 6
    assert metrics["age_seconds"] >= metrics["youngest_age_seconds"] >= 0
    running[0].kill()
    running[0].wait()
    assert instance.run()[""].problem.code == "process.missing"


def test_more_than_wanted_is_a_warning(bench: Callable[..., Any], marker: str, start_marked: Start) -> None:
    start_marked(), start_marked()
    problem = bench(process.CHECK, pattern=marker, at_most=1).run()[""].problem
    assert (problem.status, problem.code) == (Status.WARNING, "process.too_many")
    assert problem.facts == {"pattern": marker, "at_most": 1}


def test_none_wanted_and_none_there_is_fine(bench: Callable[..., Any], marker: str) -> None:
    assert bench(process.CHECK, pattern=marker, at_least=0, at_most=0).run()[""].problem is None


def test_where_the_pattern_is_searched(
    bench: Callable[..., Any], marker: str, start: Start, start_marked: Start, tmp_path: Path
) -> None:
    named = tmp_path / marker
    named.symlink_to(str(shutil.which("sleep")))
    by_name = start(str(named), "120")
    while psutil.Process(by_name.pid).name() != marker:
        time.sleep(0.001)
    start_marked(marker, "--", "two words")

    def count(pattern: str, match: str) -> float:
        counted: float = bench(process.CHECK, pattern=pattern, match=match).run()[""].metrics["processes"]
        return counted

    assert count(f"^{marker}$", "name") == 1
    assert count(marker, "name") == 1
    assert count(marker, "command_line") == 2
    assert count(marker, "any") == 2
    assert count(f"{marker} -- two words$", "any") == 1
    assert count(f"(?i){marker.upper()} 120", "command_line") == 1


def test_a_zombie_does_not_count(bench: Callable[..., Any], marker: str, start_marked: Start, tmp_path: Path) -> None:
    named = tmp_path / marker
    named.symlink_to(str(shutil.which("true")))
    code = (
        "import os, sys, time\n"
        "pid = os.posix_spawn(sys.argv[1], [sys.argv[1]], {})\n"
        "os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)\n"
        "print('up', flush=True)\n"
        "time.sleep(120)\n"
    )
    parent = start_marked(str(named), code=code)
    (child,) = psutil.Process(parent.pid).children()
    assert (child.name(), child.status()) == (marker, psutil.STATUS_ZOMBIE)
    found = bench(process.CHECK, pattern=marker, match="name").run()[""]
    assert found.metrics["processes"] == 0
    assert found.problem.code == "process.missing"


def test_the_asking_process_does_not_count_itself(marker: str) -> None:
    code = (
        "import os, sys, time\n"
        "from gengfu_checks.local.process import CHECK\n"
        "from gengfu_checks.model import Context\n"
        "from gengfu_checks.settings import resolve_settings\n"
        "settings = resolve_settings(CHECK, {'pattern': os.environ['PATTERN']})\n"
        "context = Context(settings, {}, time.time, time.monotonic, 10.0)\n"
        "print(int(CHECK.measure(context)[0].metrics['processes']))\n"
    )
    having_it = [sys.executable, "-c", code, marker]
    asking = [sys.executable, "-c", code, "gengfu-agent", "check", "process", "--set", f"pattern={marker}"]
    through_a_shell = ["/bin/sh", "-c", '"$@"; exit $?', "sh", *asking]
    environment = {**os.environ, "PATTERN": marker}
    for argv in (having_it, asking, through_a_shell):
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True, env=environment)
        assert done.stdout == "0\n"


@pytest.mark.parametrize(
    ("command", "same"),
    [
        ("sudo gengfu-agent check process --set pattern=erp", True),
        ("/usr/bin/python3 -m gengfu_agent check process --set pattern=erp --json", True),
        ("gengfu-agent check process --set pattern=crm", False),
        ("/opt/erp/server --pattern=erp", False),
    ],
)
def test_which_command_lines_ask_the_same(command: str, same: bool) -> None:
    assert asks_for(command, "erp") is same


def test_only_the_users_processes_count(bench: Callable[..., Any], marker: str, start_marked: Start) -> None:
    start_marked()
    own = psutil.Process().username()
    assert bench(process.CHECK, pattern=marker, user=own).run()[""].metrics["processes"] == 1
    assert bench(process.CHECK, pattern=marker, user=str(os.geteuid())).run()[""].metrics["processes"] == 1
    other = bench(process.CHECK, pattern=marker, user="65534").run()[""]
    assert other.metrics["processes"] == 0
    assert other.problem.facts == {"pattern": marker, "at_least": 1, "user": "65534"}
    with pytest.raises(CannotMeasure) as caught:
        bench(process.CHECK, pattern=marker, user="nobody-of-that-name").run()
    assert (caught.value.code, caught.value.facts) == ("process.unknown_user", {"user": "nobody-of-that-name"})


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"pattern": "(("}, "pattern"),
        ({"pattern": ""}, "pattern"),
        ({"pattern": "x" * 300}, "pattern"),
        ({"pattern": "x", "at_least": 3, "at_most": 2}, "at_most"),
        ({"pattern": "x", "match": "path"}, "match"),
        ({}, "pattern"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    bench: Callable[..., Any], settings: dict[str, object], key: str
) -> None:
    with pytest.raises(SettingError) as caught:
        bench(process.CHECK, **settings).run()
    assert caught.value.key == key


def test_a_hostile_pattern_meets_a_hostile_process(bench: Callable[..., Any], marker: str, start_marked: Start) -> None:
    """With a backtracking engine this would not end in a lifetime."""
    start_marked(marker + "a" * 5000 + "b")
    found = bench(process.CHECK, pattern=f"{marker}(a|aa)+(a+)+c").run()[""]
    assert found.metrics["processes"] == 0


def test_a_run_that_takes_too_long_gives_up(bench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    context = bench(process.CHECK, pattern="x").context()
    clock = iter(range(0, 10_000, 3))
    context.monotonic = lambda: float(next(clock))
    with pytest.raises(CannotMeasure) as caught:
        process.CHECK.measure(context)
    assert (caught.value.code, caught.value.facts) == ("check.timed_out", {"timeout_s": 10.0})


def test_where_others_are_hidden_too_few_is_unknown(
    bench: Callable[..., Any], marker: str, start_marked: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_INIT", tmp_path / "hidden")
    with pytest.raises(CannotMeasure) as caught:
        bench(process.CHECK, pattern=marker).run()
    assert caught.value.code == "check.needs_rights"
    start_marked()
    assert bench(process.CHECK, pattern=marker).run()[""].problem is None


def test_cpu_time_goes_on_when_a_process_ends(bench: Callable[..., Any], marker: str, start_marked: Start) -> None:
    busy = "import sys, time\nwhile time.process_time() < 0.2: pass\nprint('up', flush=True)\ntime.sleep(120)\n"
    instance = bench(process.CHECK, pattern=marker, at_least=0)
    worker = start_marked(code=busy)
    first = instance.run()[""].metrics
    assert first["cpu_seconds_total"] >= 0.15
    assert "cpu_used_ratio" not in first
    worker.kill()
    worker.wait()
    instance.later(60)
    second = instance.run()[""].metrics
    assert second["cpu_seconds_total"] == first["cpu_seconds_total"]
    assert second["cpu_used_ratio"] == 0.0
    start_marked(code=busy)
    instance.later(60)
    third = instance.run()[""].metrics
    assert third["cpu_seconds_total"] >= second["cpu_seconds_total"] + 0.15
    used_s = third["cpu_seconds_total"] - second["cpu_seconds_total"]
    assert third["cpu_used_ratio"] == pytest.approx(used_s / 60 / (psutil.cpu_count() or 1))


def seen(pid: int, cpu_s: float, **other: Any) -> Seen:
    """A process of which only this is of interest."""
    fields = {"started_at": 100.0, "memory_bytes": 1, "threads": 1, "open_files": 1}
    return Seen(pid=pid, cpu_s=cpu_s, **{**fields, **other})


RUNS = st.lists(st.dictionaries(st.integers(1, 5), st.integers(0, 3), max_size=5), min_size=1, max_size=10)


@given(RUNS)
def test_the_account_is_the_sum_of_all_that_was_ever_used(runs: list[dict[int, int]]) -> None:
    """Each run says how much every living process has used since the last; a number used again is another process."""
    last, used, generation, total = None, {}, dict.fromkeys(range(1, 6), 0), 0
    for at, run in enumerate(runs):
        for pid in list(used):
            if pid not in run:
                del used[pid]
                generation[pid] += 1
        for pid, more in run.items():
            used[pid] = used.get(pid, 0) + more
            total += more
        living = [seen(pid, float(used[pid]), started_at=float(generation[pid])) for pid in run]
        last = account(last, living, float(at))
        assert last.total_s == total


def test_what_cannot_be_read_of_one_is_not_told_of_all() -> None:
    both = [seen(1, 1.0, open_files=None), seen(2, 1.0, started_at=40.0, memory_bytes=5)]
    assert process_metrics(both, now=160.0) == {
        "processes": 2.0,
        "memory_bytes": 6.0,
        "threads": 2.0,
        "age_seconds": 120.0,
        "youngest_age_seconds": 60.0,
    }


@given(st.integers(0, 9), st.integers(0, 9), st.one_of(st.none(), st.integers(0, 9)))
def test_the_count_is_judged_by_both_limits(count: int, at_least: int, at_most: int | None) -> None:
    problem = count_problem(count, at_least, at_most, {})
    expected = (
        "process.missing" if count < at_least else "process.too_many" if at_most is not None and count > at_most else ""
    )
    assert (problem.code if problem else "") == expected


def test_a_process_that_vanishes_is_passed_over(
    bench: Callable[..., Any], marker: str, start_marked: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    doomed, stays = start_marked(), start_marked()
    really_fits = process._fits

    def fits_and_dies(one: psutil.Process, *rest: Any) -> bool:
        fits = really_fits(one, *rest)
        if one.pid == doomed.pid:
            os.kill(doomed.pid, signal.SIGKILL)
            doomed.wait()
        return fits

    monkeypatch.setattr(process, "_fits", fits_and_dies)
    assert bench(process.CHECK, pattern=marker).run()[""].metrics["processes"] == 1
    assert stays.poll() is None
