"""kill -9 in the middle of load, again and again: what was acknowledged is there, and everything agrees."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from intake_rig import Rig, rig_on

from gengfu_collector.store.database import open_database
from gengfu_collector.store.documents import from_text
from gengfu_collector.store.schema import fault, ledger, outbox, report, subject, ticket, ticket_event

KILLS = 3
ACKNOWLEDGED_BEFORE_A_KILL = 60


def load_and_kill(data: Path, url: str | None, after: int) -> set[tuple[int, int]]:
    """Let an intake run until it has acknowledged so many reports, kill it, return (agent, seq) of all of them."""
    here = Path(__file__).parent
    process = subprocess.Popen(
        [sys.executable, str(here / "loaded_intake.py"), str(data), *([url] if url else [])],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(here.parent), os.environ.get("PYTHONPATH", "")])},
    )
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(after)]
    process.kill()
    lines += process.stdout.readlines()
    process.wait()
    process.stdout.close()
    whole = [line.split() for line in lines if line.endswith("\n")]
    assert len(whole) >= after
    return {(int(agent), int(seq)) for agent, seq in whole}


def check_that_everything_agrees(rig: Rig, acknowledged: set[tuple[int, int]]) -> None:
    stored = [(row["agent_id"], row["seq"]) for row in rig.rows(report)]
    assert len(stored) == len(set(stored))
    assert acknowledged <= set(stored)
    assert rig.unexplained() == 0
    assert sum(row["stored"] for row in rig.rows(ledger)) == len(stored)
    subjects, faults, tickets = rig.rows(subject), rig.rows(fault), rig.rows(ticket)
    broken = {row["id"] for row in subjects if "fault" in from_text(row["counters"])}
    open_faults = {row["subject_id"] for row in faults if row["state"] == "open"}
    unresolved = {row["subject_id"] for row in tickets if row["state"] == "open"}
    assert broken == open_faults == unresolved
    assert len([row for row in faults if row["state"] == "open"]) == len(open_faults)
    assert {row["ticket_id"] for row in faults} == {row["id"] for row in tickets}
    assert sorted(row["number"] for row in tickets) == [f"GF-2027-{n:06d}" for n in range(1, len(tickets) + 1)]
    told = [(row["ticket_id"], row["kind"]) for row in rig.rows(ticket_event)]
    assert told == [(row["ticket_id"], row["kind"]) for row in rig.rows(outbox)]
    opened = [kind for _, kind in told if kind in ("opened", "reopened")]
    assert len(opened) == len(faults)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_kill_nine_under_load(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url: str | None = None
    if kind == "postgresql":
        database = request.getfixturevalue("postgres_database")
        url = database.engine.url.render_as_string(hide_password=False)
    opened: Callable[[], Any] = lambda: open_database(tmp_path, url)  # noqa: E731
    acknowledged: set[tuple[int, int]] = set()
    for kill in range(KILLS):
        acknowledged |= load_and_kill(tmp_path, url, random.Random(kill).randint(20, ACKNOWLEDGED_BEFORE_A_KILL))
        database = opened()
        with rig_on(database) as rig:
            check_that_everything_agrees(rig, acknowledged)
        database.close()
