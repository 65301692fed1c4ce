"""Running real programs: ended, failed, hanging, chattering, missing, and with more children than they should have."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from gengfu_checks.errors import CannotMeasure
from gengfu_checks.local import programs
from gengfu_checks.local.programs import find_program, run_program


@pytest.fixture
def script(tmp_path: Path) -> Path:
    return tmp_path / "script"


def make(path: Path, body: str) -> str:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def wait_until_gone(pid: int) -> bool:
    """Whether a process has ended within ten seconds (a zombie has)."""
    for _ in range(1000):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False


def in_session(session: int) -> list[int]:
    """The processes of a session."""
    found = []
    for pid in psutil.pids():
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(pid) == session:
                found.append(pid)
    return found


def wait_for(path: Path) -> str:
    """The text of a file that somebody else writes, once it is whole."""
    for _ in range(3000):
        if path.exists() and (text := path.read_text()).endswith("\n"):
            return text.strip()
        time.sleep(0.01)
    raise AssertionError(f"{path} was not written")


def test_output_and_exit_code_come_back(script: Path) -> None:
    output = run_program((make(script, 'echo "$1 $LC_ALL"; echo no >&2; exit 3'), "a b"), 10.0, 1000)
    assert output.stdout == b"a b C\n"
    assert output.exit_code == 3


def test_the_program_gets_no_input_and_no_variables_of_ours(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENGFU_SECRET", "canary")
    output = run_program((make(script, 'cat; echo "[$GENGFU_SECRET]"; pwd'),), 10.0, 1000)
    assert output.stdout == b"[]\n/\n"


def test_a_program_killed_by_a_signal_says_so(script: Path) -> None:
    assert run_program((make(script, "kill -9 $$"),), 10.0, 1000).exit_code == -9


def test_a_hanging_program_is_killed_with_all_that_it_started(script: Path, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    program = make(script, f"sleep 1000 & echo $! > {pid_file}.new; mv {pid_file}.new {pid_file}; wait")
    with pytest.raises(CannotMeasure) as caught:
        run_program((program,), 1.0, 1000)
    assert caught.value.code == "check.program_failed"
    assert caught.value.facts == {"program": program, "reason": "did not end within 1 s"}
    assert wait_until_gone(int(pid_file.read_text()))


def test_a_child_that_keeps_the_output_open_does_not_hold_us(script: Path, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    program = make(script, f"sleep 1000 & echo $! > {pid_file}; exit 0")
    with pytest.raises(CannotMeasure, match=r"check\.program_failed"):
        run_program((program,), 1.0, 1000)
    assert wait_until_gone(int(pid_file.read_text()))


def test_a_program_that_closes_its_output_and_hangs_is_killed(script: Path) -> None:
    with pytest.raises(CannotMeasure) as caught:
        run_program((make(script, "exec >&-; exec sleep 1000"),), 0.5, 1000)
    assert caught.value.facts["reason"] == "did not end within 0.5 s"


def test_too_much_output_ends_the_program(script: Path) -> None:
    with pytest.raises(CannotMeasure) as caught:
        run_program((make(script, "exec yes"),), 60.0, 100_000)
    assert caught.value.facts["reason"] == "printed more than 100000 bytes"


def test_a_program_that_never_stops_talking_is_out_of_time_too(script: Path) -> None:
    with pytest.raises(CannotMeasure) as caught:
        run_program((make(script, "while :; do echo; done"),), 0.3, 10_000_000)
    assert caught.value.facts["reason"] == "did not end within 0.3 s"


def test_output_can_be_cut_instead(script: Path, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    output = run_program((make(script, f"echo $$ >{pid}; while :; do echo 123456789; done"),), 10.0, 25, cut=True)
    assert (output.stdout, output.is_cut) == (b"123456789\n123456789\n12345", True)
    assert wait_until_gone(int(pid.read_text()))
    assert run_program((make(script, "printf 12345"),), 10.0, 5, cut=True).is_cut is False


def test_output_up_to_the_limit_is_whole(script: Path) -> None:
    program = make(script, "head -c 300000 /dev/zero")
    assert len(run_program((program,), 60.0, 300_000).stdout) == 300_000
    with pytest.raises(CannotMeasure):
        run_program((program,), 60.0, 299_999)


def test_a_program_that_cannot_be_started_is_an_answer(tmp_path: Path) -> None:
    with pytest.raises(CannotMeasure) as caught:
        run_program((str(tmp_path / "nothing"),), 10.0, 1000)
    assert caught.value.facts["reason"] == "cannot be started: No such file or directory"


def test_relative_paths_are_a_defect_of_the_caller() -> None:
    with pytest.raises(ValueError, match="not an absolute path"):
        run_program(("sh", "-c", "true"), 10.0, 1000)


def test_no_descriptors_are_left_open(script: Path) -> None:
    program = make(script, "echo x")
    run_program((program,), 10.0, 1000)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        run_program((program,), 10.0, 1000)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_programs_are_found_in_the_order_of_the_folders(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    make(second / "tool", "true")
    assert find_program("tool", (first, second)) == str(second / "tool")
    (first / "tool").write_text("not executable")
    assert find_program("tool", (first, second)) == str(second / "tool")
    make(first / "tool", "true")
    assert find_program("tool", (first, second)) == str(first / "tool")
    assert find_program("absent", (first, second)) is None
    assert find_program("sh") in ("/usr/bin/sh", "/bin/sh")


@pytest.mark.parametrize("name", ["", "../sh", "a/b", "-x", ".", "sh\n", "sh sh"])
def test_only_names_are_looked_for(name: str) -> None:
    with pytest.raises(ValueError, match="not the name"):
        find_program(name)


@pytest.mark.parametrize(
    ("body", "said"), [("sleep 1000", "did not end within 0.5 s"), ("yes", "printed more than 1000 bytes")]
)
def test_bounds_hold_where_pipes_cannot_be_waited_for(
    script: Path, monkeypatch: pytest.MonkeyPatch, body: str, said: str
) -> None:
    """As on Windows, where this cannot run: a thread reads, and the program alone is killed."""
    program = make(script, f"exec {body}")
    monkeypatch.setattr(programs, "psutil", SimpleNamespace(WINDOWS=True))
    with pytest.raises(CannotMeasure) as caught:
        run_program((program,), 0.5, 1000)
    assert caught.value.facts["reason"] == said
    assert run_program((make(script, "echo all; exit 3"),), 20.0, 1000) == programs.Output(3, b"all\n")


def test_a_program_runs_behind_everybody_else(script: Path) -> None:
    assert run_program((make(script, "sleep 0.2; nice"),), 20.0, 1000).stdout == b"19\n"


def test_what_was_found_is_told_and_looked_for_again_when_it_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = find_program("sh")
    assert programs.found_programs()["sh"] == shell
    monkeypatch.setitem(programs._found, "sh", str(tmp_path / "gone"))
    assert find_program("sh") == shell
    find_program("nothing-of-this-name")
    assert "nothing-of-this-name" not in programs.found_programs()


def test_a_program_that_forks_without_end_is_killed_with_all_its_children(script: Path, tmp_path: Path) -> None:
    """Here it would come to an end, at 300. They may all be there by the time of the first look, and none stays."""
    body = "i=0; while [ $i -lt 300 ]; do sleep 1000 & i=$((i+1)); done; wait"
    program = make(script, f"echo $$ >{tmp_path}/session; {body}")
    with pytest.raises(CannotMeasure) as caught:
        run_program((program,), 120.0, 1000)
    assert caught.value.facts == {"program": program, "reason": "started more than 64 processes"}
    assert all(map(wait_until_gone, in_session(int(wait_for(tmp_path / "session")))))


def test_as_many_children_as_allowed_are_nobody_s_business(script: Path) -> None:
    body = f"i=1; while [ $i -lt {programs.MAX_PROCESSES} ]; do sleep 0.6 & i=$((i+1)); done; wait; echo done"
    assert run_program((make(script, body),), 120.0, 1000).stdout == b"done\n"


CHILDREN_IN_GROUPS_OF_THEIR_OWN = """
import os, signal, sys
for _ in range(int(sys.argv[1])):
    if os.fork() == 0:
        os.setpgid(0, 0)
        signal.pause()
with open(sys.argv[2], "w") as file:
    file.write(f"{os.getpid()}\\n")
print("x" * 2000, flush=True)
signal.pause()
"""


@pytest.mark.parametrize(("children", "said"), [(300, "started more than 64"), (3, "printed more than 1000 bytes")])
def test_children_in_process_groups_of_their_own_are_counted_and_killed(
    tmp_path: Path, children: int, said: str
) -> None:
    """Of many it is seen that they are counted, of a few that they are found and killed."""
    session = tmp_path / "session"
    argv = (sys.executable, "-S", "-c", CHILDREN_IN_GROUPS_OF_THEIR_OWN, str(children), str(session))
    with pytest.raises(CannotMeasure) as caught:
        run_program(argv, 120.0, 1000 if children == 3 else 1_000_000)
    assert str(caught.value.facts["reason"]).startswith(said)
    assert children == 300 or all(map(wait_until_gone, in_session(int(wait_for(session)))))


def test_nothing_of_its_session_outlives_a_program_that_has_ended(script: Path) -> None:
    output = run_program((make(script, "sleep 1000 >/dev/null & echo $!"),), 60.0, 1000)
    assert wait_until_gone(int(output.stdout))


def test_children_that_leave_the_session_are_not_killed_and_hold_nobody_up(script: Path, tmp_path: Path) -> None:
    """So daemons are made, on purpose or not. What bounds their number is the unit or container of the agent."""
    pid_file = tmp_path / "pid"
    daemon = f"setsid sh -c 'echo $$ >{pid_file}; exec sleep 1000' >/dev/null &"
    run_program((make(script, f"{daemon}\nwhile ! [ -s {pid_file} ]; do sleep 0.01; done"),), 120.0, 1000)
    pid = int(wait_for(pid_file))
    assert os.getsid(pid) == pid
    os.kill(pid, signal.SIGKILL)


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Path]:
    """A pipe: programs that read from it wait until somebody writes."""
    path = tmp_path / "gate"
    os.mkfifo(path)
    opened = os.open(path, os.O_RDWR)
    yield path
    os.close(opened)


def test_so_many_programs_run_at_one_time_and_no_more(script: Path, tmp_path: Path, gate: Path) -> None:
    program = make(script, f"echo $$ >{tmp_path}/pid-$1; read word <{gate}; echo through")

    def wait_at_the_gate(number: int) -> None:
        ended.append(run_program((program, str(number)), 120.0, 1000).stdout)

    ended: list[bytes] = []
    threads = [threading.Thread(target=wait_at_the_gate, args=(number,)) for number in range(programs.MAX_AT_ONCE)]
    for thread in threads:
        thread.start()
    for number in range(programs.MAX_AT_ONCE):
        wait_for(tmp_path / f"pid-{number}")
    with pytest.raises(CannotMeasure) as caught:
        run_program(("/bin/true",), 0.2, 1000)
    assert caught.value.facts["reason"] == "did not start within 0.2 s: 8 other programs were running"
    gate.write_text("go\n" * programs.MAX_AT_ONCE)
    for thread in threads:
        thread.join()
    assert ended == [b"through\n"] * programs.MAX_AT_ONCE
    assert run_program(("/bin/true",), 60.0, 1000).exit_code == 0


def test_a_program_that_cannot_be_killed_keeps_its_place_until_it_is_gone(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that became another user, as an agent that is not root meets it."""

    def not_permitted(_group: int, _signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr(programs, "_runs", programs._Runs(1))
    monkeypatch.setattr(programs, "_REAP_S", 0.01)
    program = make(script, f"echo $$ >{tmp_path}/pid; head -c 2000 /dev/zero; exec sleep 1000")
    with monkeypatch.context() as patch:
        patch.setattr(os, "killpg", not_permitted)
        with pytest.raises(CannotMeasure, match=r"check\.program_failed"):
            run_program((program,), 120.0, 1000)
    with pytest.raises(CannotMeasure) as caught:
        run_program(("/bin/true",), 0.1, 1000)
    assert str(caught.value.facts["reason"]).startswith("did not start")
    pid = int(wait_for(tmp_path / "pid"))
    os.kill(pid, signal.SIGKILL)
    assert wait_until_gone(pid)
    assert run_program(("/bin/true",), 60.0, 1000).exit_code == 0


RUNS_AND_ENDS = """
import sys, threading, time
from pathlib import Path
from gengfu_checks.local.programs import run_program
from gengfu_checks.errors import CannotMeasure

def run():
    while True:
        try:
            run_program((sys.argv[1],), 1000.0, 1000)
        except CannotMeasure:
            pass

threading.Thread(target=run, daemon=True).start()
while not Path(sys.argv[2]).exists():
    time.sleep(0.01)
"""


@pytest.mark.parametrize("error", [IndexError, FileNotFoundError])
def test_programs_run_where_proc_is_hidden(
    script: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    """Then nobody counts their children; the group is killed as ever."""

    def hidden() -> list[int]:
        raise error

    monkeypatch.setattr(psutil, "pids", hidden)
    output = run_program((make(script, "sleep 1000 >/dev/null & echo $!"),), 60.0, 1000)
    assert wait_until_gone(int(output.stdout))


def test_nothing_is_started_any_more_when_the_agent_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "_runs", programs._Runs(1))
    programs._runs.end_all()
    for _ in range(2):
        with pytest.raises(CannotMeasure) as caught:
            run_program(("/bin/true",), 120.0, 1000)
        assert caught.value.facts["reason"] == "was not started: the agent ends"


def test_no_program_outlives_an_agent_that_ends(script: Path, tmp_path: Path) -> None:
    program = make(script, f"echo $$ >>{tmp_path}/pids; touch {tmp_path}/runs; exec sleep 1000")
    subprocess.run([sys.executable, "-c", RUNS_AND_ENDS, program, str(tmp_path / "runs")], check=True, timeout=60)
    assert all(wait_until_gone(int(pid)) for pid in (tmp_path / "pids").read_text().split())
