"""`make bench`: every measurement, one after the other, as a table and as JSON in build/bench.json.

Each line is a script of this folder with its arguments, so that any of them can be repeated alone. `--long` adds those
that take many minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
RESULT = HERE.parents[1] / "build" / "bench.json"

RUNS: dict[str, list[str]] = {
    "130,000 findings a second, 200 agents": ["swarm.py", "--agents", "200", "--seconds", "20", "--rate", "2600"],
    "as fast as it goes, 20 agents": ["swarm.py", "--agents", "20", "--seconds", "20"],
    "10,000 faults at once": ["swarm.py", "--agents", "200", "--storm"],
    "2,000 agents at rest": ["swarm.py", "--agents", "2000", "--seconds", "45", "--rate", "100"],
    "a ticket after its finding": ["ticket_latency.py", "--tickets", "300"],
    "pages of metrics": ["bench_exposition.py"],
    "inventories": ["inventory_cost.py"],
    "the agent, two minutes": ["agent_footprint.py", "--minutes", "2"],
    "a day of the built-in profiles on this machine": ["day_of_schedule.py", "--budget", "5"],
}
LONG: dict[str, list[str]] = {
    "10,000 agents at rest": ["swarm.py", "--agents", "10000", "--findings", "20", "--seconds", "60", "--rate", "300"],
    "the agent, ten minutes": ["agent_footprint.py", "--minutes", "10"],
}


def main() -> None:
    """Run all and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--long", action="store_true")
    arguments = parser.parse_args()
    machine = {"processors": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()}
    print(" ".join(f"{key}={value}" for key, value in machine.items()), flush=True)
    results: dict[str, object] = {"machine": machine}
    failed = False
    for title, command in {**RUNS, **(LONG if arguments.long else {})}.items():
        begun_s = time.perf_counter()
        print(f"\n== {title}: python tests/bench/{' '.join(command)}", flush=True)
        done = subprocess.run(
            [sys.executable, str(HERE / command[0]), *command[1:]], stdout=subprocess.PIPE, text=True, check=False
        )
        print(done.stdout.rstrip(), flush=True)
        failed |= done.returncode != 0
        results[title] = {
            "command": command,
            "exit_code": done.returncode,
            "seconds": round(time.perf_counter() - begun_s, 1),
            "output": done.stdout.splitlines(),
        }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(results, indent=1, ensure_ascii=False), encoding="utf-8")
    print(f"\nwritten to {RESULT}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
