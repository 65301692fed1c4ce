"""Whoever dies, whenever: what `append` returned is there afterwards, and nothing else."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

from spools import StillClock

from gengfu_agent.spool import Spool

WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from spools import StillClock, put
from gengfu_agent.spool import RecordKind, Spool
spool = Spool.open(Path(sys.argv[1]), clock=StillClock(), quota_bytes=150_000)
assert spool.salvaged is None
if spool.position().epoch == 0:
    spool.open_epoch(7)
while True:
    number = spool.position().next_seq
    entry = put(spool, b"%d" % number * 300, RecordKind(number % 2))
    print(entry.seq, flush=True)
    if number % 10 == 0:
        print("acknowledged", spool.acknowledge(7, [(number - 9, number - 5)]), flush=True)
"""


def test_killed_at_any_moment_nothing_is_lost_or_invented(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    chance = random.Random(7)
    appended: set[int] = set()
    for _ in range(6):
        arguments = [sys.executable, "-c", WRITER, str(path), str(Path(__file__).parent)]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            for _ in range(chance.randrange(20, 200)):
                line = child.stdout.readline()
                assert line, "the writer ended by itself"
            child.kill()
            rest = child.stdout.read()
        told = [int(word) for word in (line + rest).split() if word.isdigit()]
        spool = Spool.open(path, clock=StillClock(), quota_bytes=150_000)
        assert spool.salvaged is None
        entries = spool.read(None, 10_000)
        assert [int(e.body[: len(str(e.seq))]) for e in entries if e.kind < 2] == [e.seq for e in entries if e.kind < 2]
        assert spool.position().next_seq > max(told, default=0)
        appended |= {e.seq for e in entries}
        spool.close()
    assert len(appended) > 100
