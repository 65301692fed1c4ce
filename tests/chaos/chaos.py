"""`make chaos`: agents and a collector under random misfortune, and an account of everything afterwards.

    python tests/chaos/chaos.py [--seconds 300] [--seed N] [--agents 3] [--json FILE]

A seed repeats the same misfortunes at the same times. Exit code 1 when the oracle has something to complain of.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "e2e"))

from books import open_tickets, read_journal, read_spool, read_store, told_in_store
from deeds import COLLECTOR, KINDS, PAUSE_S, Deed, draw
from machinery import until
from mutants import ALL
from oracle import FAULT, Oracle, Source
from rig import Rig, Size, explained, rig_in
from verdict import Evidence, complaints

LOOK_EVERY_S = 0.05
SETTLE_EVERY_S = 0.5
SETTLE_WITHIN_S = 90.0
MAX_SEED = 1_000_000


@dataclass(frozen=True, slots=True)
class Run:
    """What to do: `deeds`, or without any those drawn with `kinds` and `pause_s`. `mutants` are defects to put in.

    `keep` leaves the files of all sides in the folder, also those from small disks of their own.
    """

    seconds: float
    seed: int
    size: Size = field(default_factory=Size)
    kinds: Collection[str] = tuple(KINDS)
    pause_s: float = PAUSE_S
    deeds: Sequence[Deed] = ()
    mutants: Collection[str] = ()
    settle_within_s: float = SETTLE_WITHIN_S
    keep: bool = False
    told: Callable[[str], None] = lambda _line: None


@dataclass(slots=True)
class Outcome:
    """What came of it. `complaints` by kind, empty when all is well."""

    complaints: dict[str, list[str]]
    figures: dict[str, Any] = field(default_factory=dict)


class Episodes:
    """Every fault check breaks once, until its ticket is open, and heals then."""

    def __init__(self, rig: Rig, oracle: Oracle, run: Run) -> None:
        self._rig = rig
        self._oracle = oracle
        sources = [Source(name, f"{FAULT}-{n}") for name in rig.agents for n in range(run.size.fault)]
        share_s = run.seconds / (len(sources) + 1)
        self._begins_s = {source: share_s * number for number, source in enumerate(sources)}
        self._since_s: dict[Source, float] = {}
        self._healing: set[Source] = set()
        self._over: dict[Source, float] = {}
        self._restored = 0

    @property
    def induced(self) -> set[Source]:
        """Every fault that was induced."""
        return set(self._since_s)

    @property
    def over(self) -> bool:
        """Whether each that began is resolved."""
        return self._over.keys() == self._since_s.keys()

    def look(self, now_s: float) -> None:
        """Induce and heal as the time and the collector's tickets say."""
        for source, begins_s in self._begins_s.items():
            if begins_s <= now_s and source not in self._since_s:
                self._since_s[source] = now_s
                self._oracle.induce(source)
        self._begin_again_after_restore()
        found = open_tickets(self._rig.members[COLLECTOR].database)
        for asset, check, state in found or ():
            source = Source(self._rig.names.get(asset, ""), check)
            if state == "open" and source in self._since_s and source not in self._healing:
                self._healing.add(source)
                self._oracle.heal(source)
            elif state == "resolved" and source in self._healing:
                self._over.setdefault(source, time.monotonic())

    def _begin_again_after_restore(self) -> None:
        """What an old copy may not know of happens again, so that its ticket is expected whatever the copy holds."""
        if self._rig.restored_store == self._restored:
            return
        self._restored = self._rig.restored_store
        taken_at_s = self._rig.members[COLLECTOR].copies[-1][1]
        for source in self._since_s:
            if self._over.get(source, float("inf")) > taken_at_s:
                self._over.pop(source, None)
                self._healing.discard(source)
                self._oracle.induce(source)


def chaos(run: Run, folder: Path) -> Outcome:
    """Do it in an empty folder."""
    oracle = Oracle(folder / "oracle")
    oracle.start()
    try:
        with rig_in(folder, oracle.socket_path, run.size, run.kinds, run.mutants) as rig:
            outcome = _play(run, rig, oracle)
            if run.keep:
                rig.keep_disks()
            return outcome
    finally:
        oracle.stop()


def _play(run: Run, rig: Rig, oracle: Oracle) -> Outcome:
    episodes = Episodes(rig, oracle, run)
    began_s = time.monotonic()
    _misfortunes(run, rig, episodes)
    settled = _settle(run, rig, oracle, episodes)
    took_s = time.monotonic() - began_s
    for agent in rig.agents.values():
        agent.stop()
    verified = rig.collector.json_whatever("ledger", "verify")
    rig.collector.stop()
    store = read_store(rig.members[COLLECTOR].database, rig.names)
    evidence = Evidence(
        issued=oracle.issued(),
        journal=[note for name in rig.agents for note in read_journal(rig.journal(name), name)],
        spools={name: read_spool(rig.members[name].database, name) for name in rig.agents},
        store=store,
        unexplained=verified["unexplained"],
        induced=episodes.induced,
        excuses=rig.excuses,
    )
    found = complaints(evidence)
    if settled:
        found["rest"] = [settled]
    issued = sum(map(len, evidence.issued.values()))
    taken = {told for note in evidence.journal if not note.held for told in note.told}
    figures = {
        "seed": run.seed,
        "seconds": round(took_s, 1),
        "agents": run.size.agents,
        "deeds": dict(sorted(rig.done.items())),
        "ended_by_themselves": {name: count for name, count in rig.ended_by_itself.items() if count},
        "starts": {name: member.program.started for name, member in rig.members.items()},
        "findings_told": issued,
        "findings_taken": len(taken),
        "findings_stored": len({found_run.told for found_run in store.runs}),
        "findings_excused": len(rig.excuses.told - {found_run.told for found_run in store.runs}),
        "reports": len(store.numbers),
        "gaps": len(store.gaps),
        "faults_induced": len(episodes.induced),
        "tickets": len(store.tickets),
        "unexplained": verified["unexplained"],
        "complaints": found,
    }
    return Outcome(found, figures)


def _misfortunes(run: Run, rig: Rig, episodes: Episodes) -> None:
    deeds = list(run.deeds or draw(run.seed, run.seconds, list(rig.agents), run.kinds, run.pause_s))
    ends: list[tuple[float, Deed]] = []
    began_s = time.monotonic()
    while (now_s := time.monotonic() - began_s) < run.seconds:
        for end in [end for end in ends if end[0] <= now_s]:
            ends.remove(end)
            rig.end(end[1])
        while deeds and deeds[0].at_s <= now_s:
            deed = deeds.pop(0)
            if rig.begin(deed):
                run.told(str(deed))
                ends.append((now_s + deed.lasts_s, deed))
        rig.tend()
        episodes.look(now_s)
        time.sleep(LOOK_EVERY_S)
    for _, deed in ends:
        rig.end(deed)


def _settle(run: Run, rig: Rig, oracle: Oracle, episodes: Episodes) -> str:
    """Wait until nothing is under way any more; return what never came to rest, if anything did not."""
    deadline_s = time.monotonic() + run.settle_within_s

    def tended(condition: Callable[[], bool]) -> Callable[[], bool]:
        def look() -> bool:
            rig.tend()
            episodes.look(run.seconds)
            return condition()

        return look

    def all_stored() -> bool:
        taken = {
            told
            for name in rig.agents
            for note in read_journal(rig.journal(name), name)
            if not note.held
            for told in note.told
        }
        return rig.collector.answers() and taken <= stored() | rig.excuses.told and not waiting()

    def stored() -> set[Any]:
        return told_in_store(rig.members[COLLECTOR].database, rig.names)

    def waiting() -> list[object]:
        return [r for name in rig.agents for r in read_spool(rig.members[name].database, name).runs]

    try:
        until(tended(lambda: episodes.over), "every ticket is resolved", run.settle_within_s, SETTLE_EVERY_S)
        oracle.rest()
        left_s = max(deadline_s - time.monotonic(), 1.0)
        until(tended(all_stored), "everything is stored", left_s, SETTLE_EVERY_S)
    except AssertionError as error:
        return str(error)
    finally:
        oracle.rest()
    return ""


def table(outcome: Outcome) -> list[str]:
    """The outcome for people."""
    lines = []
    for name, value in outcome.figures.items():
        if name != "complaints":
            lines.append(f"{name:20} {explained(value) if isinstance(value, dict) else value}")
    if not outcome.complaints:
        return [*lines, "nothing missing, nothing twice, nothing out of order, one ticket for every fault"]
    return [*lines, *(f"COMPLAINT {kind}: {text}" for kind, texts in outcome.complaints.items() for text in texts)]


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(MAX_SEED))
    parser.add_argument("--agents", type=int, default=3)
    parser.add_argument("--kinds", nargs="+", default=sorted(KINDS), help=f"of {', '.join(sorted(KINDS))}")
    parser.add_argument("--pause", type=float, default=PAUSE_S, help="mean seconds between two deeds")
    parser.add_argument(
        "--mutants",
        nargs="*",
        choices=sorted(ALL),
        default=[],
        metavar="MUTANT",
        help=f"defects to put in: {', '.join(sorted(ALL))}",
    )
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--keep", type=Path, help="work in this empty folder and leave everything there")
    arguments = parser.parse_args()
    run = Run(
        seconds=arguments.seconds,
        seed=arguments.seed,
        size=Size(agents=arguments.agents, fault=4),
        kinds=arguments.kinds,
        pause_s=arguments.pause,
        mutants=arguments.mutants,
        keep=arguments.keep is not None,
        told=lambda line: print(line, flush=True),
    )
    print(f"seed {run.seed}: make chaos SEED={run.seed} SECONDS={run.seconds:g} repeats this", flush=True)
    if arguments.keep:
        arguments.keep.mkdir(parents=True)
        outcome = chaos(run, arguments.keep)
    else:
        with tempfile.TemporaryDirectory(prefix="gengfu-chaos-") as folder:
            outcome = chaos(run, Path(folder))
    if arguments.json:
        arguments.json.write_text(json.dumps(outcome.figures, indent=1) + "\n", encoding="utf-8")
    print("\n".join([*table(outcome), json.dumps(outcome.figures)]))
    return 1 if outcome.complaints else 0


if __name__ == "__main__":
    sys.exit(main())
