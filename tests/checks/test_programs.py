"""Running real programs: ended, failed, hanging, chattering, missing."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

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
