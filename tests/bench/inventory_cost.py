"""What inventories cost: a look at this machine, its reports, taking them in, totals over a fleet.

`python tests/bench/inventory_cost.py --machines 200 --programs 1000`
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "collector"))

from intake_rig import Rig, submission

from gengfu_agent.inventory.helper import Helper
from gengfu_agent.inventory.known import Known, Look, Told, adopt_next, tell
from gengfu_checks.model import InventoryEntry
from gengfu_collector.admin import inventory
from gengfu_collector.store.database import DATABASE_FILE, open_database

T = TypeVar("T")


def timed(what: str, work: Callable[[], T], note: Callable[[T], str] = lambda _: "") -> T:
    """Do it, and say how long it took."""
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    done = work()
    wall_ms, cpu_ms = (time.perf_counter() - wall_s) * 1000, (time.process_time() - cpu_s) * 1000
    print(f"{what:45} {wall_ms:8.0f} ms, {cpu_ms:6.0f} ms of CPU time  {note(done)}", flush=True)
    return done


def programs(count: int, version: str = "1:2.3-4+deb12u1") -> list[InventoryEntry]:
    """Software as Debian has it."""
    facts = {"version": version, "installed_on": "2026-01-01"}
    keys = (f"package-name-{number}" for number in range(count))
    return [InventoryEntry(f"software/dpkg/{name}", "software", {"name": name, **facts}) for name in keys]


def look_at_this_machine() -> None:
    """The helper process as the agent runs it, twice: everything, then what changed."""
    with tempfile.TemporaryDirectory() as folder:
        for what in ("this machine, first look", "this machine, second look"):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            bodies, _ = Helper(Path(folder)).look(full=False)
            adopt_next(Path(folder))
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            size = sum(map(len, bodies))
            print(f"{what:45} {cpu_s:.2f} s of CPU time, {size} bytes sent")


class Fleet:
    """A collector's intake and machines that tell it their inventories."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.known: dict[int, Known] = {}
        self.seq: dict[int, int] = {}

    def join(self) -> int:
        """A new machine."""
        agent_id = self.rig.enrol()
        self.rig.hello(agent_id)
        self.known[agent_id], self.seq[agent_id] = Known(), 0
        return agent_id

    def tell(self, agent_id: int, entries: Iterable[InventoryEntry], *, full: bool = False) -> Told:
        """What this machine tells now."""
        told = tell(self.known[agent_id], Look(entries, (), 0, 0), full=full)
        self.known[agent_id] = told.known
        return told

    def take(self, agent_id: int, told: Told) -> None:
        """Take it in."""
        reports: list[Any] = []
        for body in told.bodies:
            self.seq[agent_id] += 1
            reports.append(submission(agent_id, self.seq[agent_id], data=body))
        self.rig.send(*reports)


def take_in(folder: Path, machines: int, count: int) -> None:
    """A collector that takes in one machine in all ways, then a fleet, and counts its software."""
    database = open_database(folder)
    rig = Rig(database)
    fleet = Fleet(rig)
    one, newer = fleet.join(), programs(count, "2:1.0-1")
    for what, entries, full in (
        ("taken in: first snapshot", programs(count), False),
        ("taken in: the same snapshot again", programs(count), True),
        ("taken in: a look that found nothing new", programs(count), False),
        ("taken in: every program has a new version", newer, False),
    ):
        told = fleet.tell(one, entries, full=full)
        size = f"{len(told.bodies)} reports, {sum(map(len, told.bodies))} bytes"
        timed(f"{what}, {count} programs", lambda told=told: fleet.take(one, told), lambda _, size=size: size)  # type: ignore[misc]

    def all_others() -> None:
        for _ in range(machines - 1):
            agent_id = fleet.join()
            fleet.take(agent_id, fleet.tell(agent_id, programs(count)))

    timed(f"{machines - 1} more machines", all_others)
    with database.read() as connection:
        for glob in ("", "*name-99*"):
            timed(f"totals of {machines * count} rows, {glob or 'all'}", lambda: inventory.software(connection, glob))  # noqa: B023
    print(f"{'database':45} {(folder / DATABASE_FILE).stat().st_size / 2**20:8.0f} MiB")
    rig.close()
    database.close()


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--machines", type=int, default=200)
    parser.add_argument("--programs", type=int, default=1_000)
    arguments = parser.parse_args()
    look_at_this_machine()
    with tempfile.TemporaryDirectory() as folder:
        take_in(Path(folder), arguments.machines, arguments.programs)


if __name__ == "__main__":
    main()
