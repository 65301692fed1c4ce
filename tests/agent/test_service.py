"""The agent as a real process: it streams, works without a collector, ends when told to, and stays small."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fake_collector import FakeCollector

from gengfu_agent.clock import SystemClock
from gengfu_agent.plan import load_plan, save_plan
from gengfu_agent.service import SPOOL_FILE
from gengfu_agent.spool import Spool
from gengfu_agent.status import Status, read_status
from gengfu_proto.convert.plan import Plan, PlannedCheck, encode_plan
from gengfu_proto.convert.report import decode_body, decode_shape
from gengfu_proto.v1 import plan_pb2, report_pb2, stream_pb2

PLAN = encode_plan(
    Plan((PlannedCheck("uptime", "uptime", 1.0, 10.0), PlannedCheck("oddity", "no_such_check", 1.0, 5.0)))
)
STUCK_AGENT = """
import sys, time
from pathlib import Path
from gengfu_checks import registry
from gengfu_checks.model import CheckKind

def measure(context):
    Path(sys.argv[1], "stuck").touch()
    time.sleep(3600)

registry._loaded["stuck"] = CheckKind("stuck", measure, (), ("check.failed",))
from gengfu_agent.cli import main
sys.exit(main(["run", "--state", sys.argv[1]]))
"""


@contextmanager
def agent(state: Path, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    """A running agent, killed at the end if it still runs. Its log is in the folder above its state."""
    log = (state.parent / "agent.log").open("wb")
    arguments = command or (sys.executable, "-m", "gengfu_agent", "run", "--state", str(state))
    with log, subprocess.Popen(arguments, stderr=log, stdin=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


async def told_to_end(process: subprocess.Popen[bytes], number: signal.Signals = signal.SIGTERM) -> int:
    process.send_signal(number)
    return await asyncio.to_thread(process.wait, 20)


async def until(condition: object, timeout_s: float = 30.0) -> None:
    assert callable(condition)
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.02)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


async def test_it_streams_what_the_plan_asks_for_and_says_goodbye(collector: FakeCollector, state: Path) -> None:
    collector.identity_in(state)
    with agent(state) as process:
        conversation = await collector.conversation(1)
        hello = conversation.hello
        assert (hello.agent_version, hello.plan_version) == ("0.1.0", "")
        assert "cpu" in hello.kinds
        assert hello.boot_id
        conversation.send(plan=plan_pb2.Plan.FromString(PLAN))
        await collector.until(lambda: {"agent", "uptime", "oddity"} <= checks_in(conversation.reports))
        (applied,) = conversation.of_kind("plan_applied")
        assert isinstance(applied, stream_pb2.PlanApplied)
        assert [(check.name, check.reason) for check in applied.refused] == [("oddity", "check.not_usable")]
        plan = load_plan(state)
        assert plan is not None
        assert plan.version == applied.version
        await until(lambda: said(state).connection == "streaming" and said(state).plan_version == applied.version)
        assert said(state).checks == 2
        assert [(one["name"], one["code"]) for one in said(state).refused] == [("oddity", "check.not_usable")]
        assert said(state).last_acknowledged_at is not None
        libraries = Path(f"/proc/{process.pid}/maps").read_text()
        assert "cygrpc" in libraries
        for unwanted in ("cryptography", "libssl", "libcrypto"):
            assert unwanted not in libraries
        assert await told_to_end(process) == 0
    assert conversation.of_kind("goodbye") == [stream_pb2.Goodbye(reason=stream_pb2.GOODBYE_REASON_STOPPED)]
    events = [json.loads(line)["event"] for line in (state.parent / "agent.log").read_text().splitlines()]
    assert events == ["agent_started", "uplink_streaming", "plan_taken", "agent_stopped"]
    assert said(state).connection == "stopped"


async def test_without_a_collector_it_works_from_the_kept_plan(collector: FakeCollector, state: Path) -> None:
    collector.identity_in(state)
    await collector.stop()
    save_plan(state, PLAN)
    with agent(state) as process:
        await until(lambda: read_status(state) and said(state).spool_reports >= 2)
        assert said(state).last_acknowledged_at is None
        assert await told_to_end(process, signal.SIGINT) == 0
    spool = Spool.open(state / SPOOL_FILE, clock=SystemClock())
    waiting = spool.position().waiting
    spool.close()
    await collector.start()
    with agent(state) as process:
        conversation = await collector.conversation(1)
        await collector.until(lambda: {report.seq for report in conversation.reports} > set(range(1, waiting + 1)))
        assert {"uptime", "oddity"} <= checks_in(conversation.reports)
        await told_to_end(process)


async def test_a_stuck_check_does_not_keep_it_from_ending(state: Path) -> None:
    FakeCollector().identity_in(state)
    save_plan(state, encode_plan(Plan((PlannedCheck("stuck", "stuck", 1.0, 3600.0),))))
    with agent(state, sys.executable, "-c", STUCK_AGENT, str(state)) as process:
        await until((state / "stuck").exists)
        assert await told_to_end(process) == 0


async def test_a_killed_agent_goes_on_where_it_was(collector: FakeCollector, state: Path) -> None:
    collector.acknowledge_at_once = False
    collector.identity_in(state)
    with agent(state) as process:
        first = await collector.conversation(1)
        await collector.until(lambda: first.reports)
        process.kill()
        process.wait()
    collector.acknowledge_at_once = True
    with agent(state):
        second = await collector.conversation(2)
        await collector.until(lambda: len(second.reports) > len(first.reports))
        again = {report.seq: report.body for report in second.reports}
        assert all(again[report.seq] == report.body for report in first.reports)
        assert second.hello.session == collector.session
        assert second.hello.instance != first.hello.instance


def test_a_machine_that_is_not_enrolled_is_told_what_to_do(state: Path) -> None:
    with agent(state) as process:
        assert process.wait(30) == 2
    (line,) = (state.parent / "agent.log").read_text().splitlines()
    assert "gengfu-agent enrol --collector HOST:PORT --token TOKEN" in line


def test_a_damaged_identity_is_told_at_the_start(state: Path) -> None:
    FakeCollector().identity_in(state)
    (state / "credentials.json").write_text("{}")
    with agent(state) as process:
        assert process.wait(30) == 2
    (line,) = (state.parent / "agent.log").read_text().splitlines()
    assert "credentials.json" in line


async def test_two_agents_do_not_share_a_folder(state: Path) -> None:
    FakeCollector().identity_in(state)
    with agent(state) as first:
        await until(lambda: read_status(state))
        second = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-m", "gengfu_agent", "run", "--state", str(state)], capture_output=True
        )
        assert second.returncode == 2
        assert b"already runs" in second.stderr
        await told_to_end(first)


async def test_a_kept_plan_that_is_none_is_logged_and_replaced(collector: FakeCollector, state: Path) -> None:
    collector.identity_in(state)
    (state / "plan.bin").write_bytes(os.urandom(100))
    with agent(state) as process:
        conversation = await collector.conversation(1)
        assert conversation.hello.plan_version == ""
        conversation.send(plan=plan_pb2.Plan(version="x", checks=[plan_pb2.PlannedCheck(name="NOT A NAME")]))
        await collector.until(lambda: len(conversation.of_kind("plan_applied")) == 1)
        conversation.send(plan=plan_pb2.Plan.FromString(PLAN))
        await collector.until(lambda: len(conversation.of_kind("plan_applied")) == 2)
        bad, good = conversation.of_kind("plan_applied")
        assert isinstance(bad, stream_pb2.PlanApplied)
        assert isinstance(good, stream_pb2.PlanApplied)
        assert (bad.version, len(bad.refused)) == ("", 1)
        assert good.version
        await told_to_end(process)
    assert load_plan(state) is not None


def said(state: Path) -> Status:
    status = read_status(state)
    assert status is not None
    return status


def checks_in(reports: list[report_pb2.Report]) -> set[str]:
    """Names of the checks whose runs came, from the shapes that came with them."""
    for report in reports:
        assert decode_body(report.body).kind == "findings"
    return {decode_shape(shape).check for report in reports for shape in report.shapes}
