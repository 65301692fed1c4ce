"""Feeds every parser of outside data with senseless input for a while: `make fuzz`.

A parser may return something or refuse in its own words. Anything else that it raises, and more than two seconds of CPU
for one input of at most 64 KiB, is a finding: printed, and its input kept in tests/fuzz/kept/TARGET/, which a test
feeds again for ever.

    .venv/bin/python tests/fuzz/fuzz.py --seconds 300 [--seed 7] [--only disk_health]
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import FrameType

sys.path.insert(0, str(Path(__file__).resolve().parent))

from inputs import Inputs
from targets import Target, all_targets

KEPT = Path(__file__).resolve().parent / "kept"
MOST_CPU_S = 2.0
TURN = 200
TURN_S = 2.0
MOST_FINDINGS = 5
"""Different ones of one target; then the others have their turn."""


class TooSlow(Exception):
    """One input took longer than any may."""


@dataclass
class Tally:
    """What became of one target."""

    target: Target
    inputs: Inputs
    executions: int = 0
    refused: int = 0
    spent_s: float = 0.0
    findings: dict[str, bytes] = field(default_factory=dict)


def feed(target: Target, data: bytes) -> bool:
    """Give one input to a parser: False when it refused. Whatever else it raises comes out."""
    with at_most_cpu(MOST_CPU_S):
        try:
            target.feed(data)
        except target.refusals:
            return False
    return True


@contextlib.contextmanager
def at_most_cpu(seconds: float) -> Iterator[None]:
    """Raise TooSlow inside after so much CPU time, however busy the machine is."""

    def give_up(_number: int, _frame: FrameType | None) -> None:
        raise TooSlow(f"more than {seconds:g} s of CPU")

    before = signal.signal(signal.SIGVTALRM, give_up)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def turn(tally: Tally, count: int, stop_at_s: float) -> None:
    """So many executions of one target."""
    began_s = time.monotonic()
    for _ in range(count):
        if len(tally.findings) >= MOST_FINDINGS or time.monotonic() > stop_at_s:
            break
        data = tally.target.make(tally.inputs)
        tally.executions += 1
        try:
            tally.refused += not feed(tally.target, data)
        except Exception as error:  # noqa: BLE001 - a finding is whatever a parser lets out
            tally.findings.setdefault(where(error), data)
    tally.spent_s += time.monotonic() - began_s


def where(error: Exception) -> str:
    """Kind of an error and the line of the product that it came from."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/gengfu_" in frame.filename]
    last = frames[-1] if frames else traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}: {str(error)[:100]!a}"


def run(targets: Sequence[Target], seconds: float, seed: int) -> list[Tally]:
    """Feed the targets in turns until the time is over."""
    random = Random(seed)
    tallies = [Tally(t, Inputs(Random(random.random()), t.samples, t.words)) for t in targets]
    stop_at_s = time.monotonic() + seconds
    while time.monotonic() < stop_at_s:
        for tally in tallies:
            turn(tally, TURN, min(stop_at_s, time.monotonic() + TURN_S))
    return tallies


def keep(tally: Tally) -> Iterator[str]:
    """Write the inputs of findings to where the test finds them; tell each."""
    for what, data in tally.findings.items():
        folder = KEPT / tally.target.name
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / hashlib.sha256(data).hexdigest()[:12]
        path.write_bytes(data)
        yield f"{tally.target.name}: {what}\n    {path}"


def main() -> int:
    """Run for the time asked for; 1 when something was found."""
    parser = argparse.ArgumentParser(description="feed every parser of outside data with senseless input")
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=None, help="a seed repeats a run")
    parser.add_argument("--only", default="", help="targets whose names hold this")
    options = parser.parse_args()
    seed = Random().randrange(2**32) if options.seed is None else options.seed
    warnings.simplefilter("ignore")
    targets = [target for target in all_targets() if options.only in target.name]
    print(f"{len(targets)} targets for {options.seconds:g} s, seed {seed}", flush=True)
    tallies = run(targets, options.seconds, seed)
    print(f"{'target':<42} {'executions':>10} {'refused':>8} {'a second':>9} {'findings':>8}")
    for tally in tallies:
        rate = tally.executions / tally.spent_s if tally.spent_s else 0.0
        refused = tally.refused / max(tally.executions, 1)
        print(f"{tally.target.name:<42} {tally.executions:>10} {refused:>8.0%} {rate:>9.0f} {len(tally.findings):>8}")
    found = [line for tally in tallies for line in keep(tally)]
    print(f"{sum(tally.executions for tally in tallies)} executions, {len(found)} findings")
    print("\n".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
