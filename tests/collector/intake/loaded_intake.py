"""A collector's intake under load, to be killed: `loaded_intake.py DATA [URL]` prints what it acknowledged, for ever.

Every line is `AGENT SEQ`, written after the acknowledgement. Items break and recover all the time.
"""

from __future__ import annotations

import sys
from pathlib import Path

from intake_rig import Rig, run, submission

from gengfu_checks.model import Status
from gengfu_collector.intake.submission import Outcome
from gengfu_collector.store.database import open_database
from gengfu_collector.store.schema import ledger

AGENTS = 4


def main(data: str, url: str | None = None) -> None:
    rig = Rig(open_database(Path(data), url))
    known = {row["agent_id"]: row["high_water"] for row in rig.rows(ledger)}
    agents = sorted(known) or [rig.enrol(f"pc-{n}") for n in range(AGENTS)]
    following = {agent_id: known.get(agent_id, 0) + 1 for agent_id in agents}
    for agent_id in agents:
        rig.hello(agent_id, epoch=1, next_seq=following[agent_id])
    while True:
        batch = []
        for agent_id in agents:
            seq = following[agent_id]
            following[agent_id] += 1
            status = Status.CRITICAL if (seq + agent_id) % 3 else Status.OK
            batch.append(submission(agent_id, seq, run("disk", status, f"/{seq % 2}"), run("cpu", status)))
        outcomes = rig.send(*batch)
        for report, outcome in zip(batch, outcomes, strict=True):
            if outcome in (Outcome.STORED, Outcome.DUPLICATE):
                print(report.agent_id, report.seq, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
