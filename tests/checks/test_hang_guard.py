"""Asking what may hang: the answers come, the rest is told, nothing piles up."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from gengfu_checks.local.hang_guard import HUNG, ask_all


def test_answers_and_errors_come_back() -> None:
    error = OSError(5, "Input/output error")

    def fail() -> int:
        raise error

    pending: dict[str, Any] = {}
    assert ask_all({"a": lambda: 1, "b": fail}, pending, within_s=10.0) == {"a": 1, "b": error}
    assert pending == {}


def test_what_hangs_is_told_and_gets_no_second_thread_until_it_ends() -> None:
    gate = threading.Event()
    started: list[int] = []

    def hang() -> str:
        started.append(1)
        gate.wait()
        return "late"

    pending: dict[str, Any] = {}
    jobs = {"bad": hang, "good": lambda: "here"}
    assert ask_all(jobs, pending, within_s=0.05) == {"bad": HUNG, "good": "here"}
    assert ask_all(jobs, pending, within_s=10.0) == {"bad": HUNG, "good": "here"}
    assert len(started) == 1

    gate.set()
    pending["bad"].thread.join(10)
    assert ask_all(jobs, pending, within_s=10.0) == {"bad": "late", "good": "here"}
    assert len(started) == 2
    assert pending == {}


def test_many_that_hang_share_one_wait() -> None:
    gate = threading.Event()
    pending: dict[str, Any] = {}
    answers = ask_all({str(i): gate.wait for i in range(50)}, pending, within_s=0.05)
    assert set(answers.values()) == {HUNG}
    gate.set()
    for question in pending.values():
        question.thread.join(10)


def test_a_thread_that_hangs_does_not_hold_up_the_end_of_the_process() -> None:
    gate = threading.Event()
    pending: dict[str, Any] = {}
    ask_all({"x": gate.wait}, pending, within_s=0.01)
    assert pending["x"].thread.daemon
    gate.set()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_defect_in_a_job_is_not_taken_for_an_answer() -> None:
    def broken() -> int:
        raise ZeroDivisionError

    with pytest.raises(RuntimeError, match="without an answer"):
        ask_all({"x": broken}, {}, within_s=10.0)
