"""Asking things that may never answer (a dead network share) without waiting for ever and without piling up."""

from __future__ import annotations

import enum
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

T = TypeVar("T")


class Hung(enum.Enum):
    """The answer of what did not answer."""

    HUNG = "hung"


HUNG: Final = Hung.HUNG


@dataclass(slots=True)
class Question(Generic[T]):
    """One question and the thread that waits for its answer, which is put into `answers`."""

    thread: threading.Thread
    answers: list[T | OSError]


def ask_all(
    jobs: Mapping[str, Callable[[], T]], pending: dict[str, Question[T]], within_s: float
) -> dict[str, T | OSError | Hung]:
    """Run every job in a daemon thread of its own and return what it gave within the time: a value, OSError or HUNG.

    `pending` is kept by the caller from call to call: a job whose thread of an earlier call still hangs is HUNG at
    once and gets no second thread. An answer that comes after its call is thrown away.
    """
    for key in [key for key, question in pending.items() if not question.thread.is_alive()]:
        del pending[key]
    asked = {key: _ask(key, job) for key, job in jobs.items() if key not in pending}
    deadline = time.monotonic() + within_s
    answers: dict[str, T | OSError | Hung] = {}
    for key in jobs:
        question = asked.get(key)
        if question is None:
            answers[key] = HUNG
            continue
        question.thread.join(max(0.0, deadline - time.monotonic()))
        if question.answers:
            answers[key] = question.answers[0]
        elif question.thread.is_alive():
            pending[key] = question
            answers[key] = HUNG
        else:
            raise RuntimeError(f"the job for {key!r} ended without an answer")
    return answers


def _ask(key: str, job: Callable[[], T]) -> Question[T]:
    answers: list[T | OSError] = []

    def run() -> None:
        try:
            answers.append(job())
        except OSError as error:
            answers.append(error)

    thread = threading.Thread(target=run, name=f"ask {key[:40]}", daemon=True)
    thread.start()
    return Question(thread, answers)
