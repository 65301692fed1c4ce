"""Starts one of our programs under observation, as itself or as a mutant.

python chaos_launch.py gengfu_agent.cli:main [MODULE:NAME=NUMBER ...] -- ARGUMENTS

With CHAOS_JOURNAL in the environment, every report that the agent's spool says is on the disk is noted in that file,
one line of JSON each, after it said so: what the agent has taken, seen by a witness. With CHAOS_MUTANTS, defects
of `mutants` are put in (names with commas between): they prove that the oracle sees what it should.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "e2e"))

import with_constants

JOURNAL_VARIABLE = "CHAOS_JOURNAL"
MUTANTS_VARIABLE = "CHAOS_MUTANTS"


def witness(path: str) -> None:
    """Note what the spool takes. A line is whole or missing: the kernel keeps what a killed process has written."""
    from gengfu_agent.spool.entry import Entry, RecordKind
    from gengfu_agent.spool.spool import Spool
    from gengfu_proto.convert.report import decode_body, decode_shape

    journal = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    append: Any = Spool.append

    def observed(
        self: Spool, body: bytes, shapes: Mapping[bytes, bytes], kind: RecordKind, checks: Iterable[str], *rest: Any
    ) -> Entry:
        names = list(checks)
        entry: Entry = append(self, body, shapes, kind, names, *rest)
        known = {shape_id: decode_shape(data) for shape_id, data in shapes.items()}
        numbers = [
            [known[run.shape_id].check, run.values[0]]
            for run in decode_body(body).runs
            if known[run.shape_id].kind == "chaos" and run.values
        ]
        note = {"epoch": entry.epoch, "seq": entry.seq, "held": self.full_error is not None, "numbers": numbers}
        os.write(journal, json.dumps(note).encode() + b"\n")
        return entry

    Spool.append = observed  # type: ignore[method-assign, assignment]


def main() -> None:
    """Put everything in place, then be the program."""
    if journal := os.environ.get(JOURNAL_VARIABLE):
        witness(journal)
    if names := os.environ.get(MUTANTS_VARIABLE):
        import mutants

        for name in names.split(","):
            mutants.ALL[name].apply()
    with_constants.main()


if __name__ == "__main__":
    main()
