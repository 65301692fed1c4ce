"""An agent killed again and again while a check reads a growing file: nothing is missed, nothing counts twice."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from fake_collector import FakeCollector
from test_service import agent, until

from gengfu_agent.clock import SystemClock
from gengfu_agent.keep import KEEP_FILE, Keeps
from gengfu_agent.plan import save_plan
from gengfu_agent.service import SPOOL_FILE
from gengfu_agent.spool import Spool
from gengfu_checks.model import Finding
from gengfu_proto.convert.plan import Plan, PlannedCheck, encode_plan
from gengfu_proto.convert.report import decode_body, decode_shape, findings_of

READING_AGENT = """
import sys
from pathlib import Path
from gengfu_checks import registry
from gengfu_checks.model import CheckKind, Measurement, Metric, MetricType

def measure(context):
    keep = context.keep
    with Path(sys.argv[2]).open() as stream:
        stream.seek(keep.get("at", 0))
        lines = stream.read(50)  # some at a time
    whole = lines[: lines.rfind("\\n") + 1]
    keep["at"] = keep.get("at", 0) + len(whole)
    keep["total"] = keep.get("total", 0) + whole.count("\\n")
    yield Measurement("", {"lines_total": keep["total"]}, {"at": keep["at"]})

metrics = (Metric("lines_total", "Lines", MetricType.COUNTER),)
registry._loaded["reading"] = CheckKind("reading", measure, metrics, ())
from gengfu_agent.cli import main
sys.exit(main(["run", "--state", sys.argv[1]]))
"""
LINE = "one line\n"


def reported(state: Path) -> list[Finding]:
    """Every finding of the reading check in the spool, in order."""
    spool = Spool.open(state / SPOOL_FILE, clock=SystemClock())
    try:
        if spool.position().epoch == 0:
            spool.open_epoch(1)
        found = []
        for entry in spool.read(None, 10_000):
            for run in decode_body(entry.body).runs:
                shape = spool.shape(run.shape_id)
                assert shape is not None
                found += [f for f in findings_of(decode_shape(shape), run) if f.check == "reading"]
        return found
    finally:
        spool.close()


async def test_killed_at_any_moment(tmp_path: Path) -> None:
    state, log = tmp_path / "state", tmp_path / "log"
    log.touch()
    async with FakeCollector().running() as collector:
        collector.identity_in(state)
    save_plan(state, encode_plan(Plan((PlannedCheck("reading", "reading", 1.0, 10.0),), 0.2)))
    command = (sys.executable, "-c", READING_AGENT, str(state), str(log))
    written = 0
    for life in range(3):
        before = (state / KEEP_FILE).stat().st_mtime_ns if life else 0
        with agent(state, *command) as process:
            log.write_text(LINE * (written := written + 4))
            await until(
                lambda before=before: (state / KEEP_FILE).exists() and (state / KEEP_FILE).stat().st_mtime_ns > before
            )
            await asyncio.sleep(0.13 * life)
            process.kill()
            process.wait()
    with agent(state, *command) as process:
        await until(lambda: f'"total":{written}' in Keeps(state / KEEP_FILE).get("reading", "reading"))
        process.kill()
        process.wait()
    totals = [finding.metrics["lines_total"] for finding in reported(state)]
    assert totals == sorted(totals)
    assert totals[-1] == written
    assert all(f.facts["at"] == f.metrics["lines_total"] * len(LINE) for f in reported(state))
