"""What is replaced goes at once. The collector lets the garbage collector run seldom, as that stops everything else."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any, cast

import pytest

from gengfu_collector.fleet.inspection import load_inspection
from gengfu_collector.intake.work import Memory, UnitOfWork


class Record:
    """Stands for an agent's record."""


@pytest.fixture(autouse=True)
def no_collection() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def test_an_inspection_that_was_used() -> None:
    inspection = load_inspection(None)
    inspection.for_asset("server", {"site": "hq"}, "srv-1")
    gone = weakref.ref(inspection)
    del inspection
    assert gone() is None


@pytest.mark.parametrize("undone", [False, True])
def test_a_transaction_that_forgot_an_agent(undone: bool) -> None:
    memory, record = Memory(), cast(Any, Record())
    memory.agents[1] = record
    work = UnitOfWork(cast(Any, None), memory, now_ms=0)
    work.forget(1)
    assert 1 not in memory.agents
    if undone:
        work.undo()
        assert memory.agents.pop(1) is record
    gone = weakref.ref(work), weakref.ref(record)
    del work, record
    assert [reference() for reference in gone] == [None, None]
