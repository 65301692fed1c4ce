"""What will be done to agents, collector and network, drawn from a seed. Pure.

Two deeds never befall the same thing at the same time; different things suffer at once.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass

COLLECTOR = "collector"
PAUSE_S = 0.8


@dataclass(frozen=True, slots=True)
class Deed:
    """`kind` befalls `target` (an agent's name, or the collector) from `at_s` on for `lasts_s`."""

    at_s: float
    kind: str
    target: str
    lasts_s: float
    amount: float = 0.0

    def __str__(self) -> str:
        return f"{self.at_s:7.2f} s  {self.kind:<10} {self.target:<10} {self.lasts_s:5.2f} s"


@dataclass(frozen=True, slots=True)
class _Kind:
    sides: tuple[str, ...]
    thing: str
    often: int
    least_s: float
    most_s: float


_BOTH = ("agent", COLLECTOR)
KINDS: dict[str, _Kind] = {
    "kill": _Kind(_BOTH, "process", 8, 0.0, 1.5),
    "stop": _Kind(_BOTH, "process", 3, 0.0, 1.5),
    "freeze": _Kind(_BOTH, "process", 3, 0.2, 4.0),
    "cut": _Kind(("agent",), "network", 4, 0.0, 3.0),
    "stall": _Kind(("agent",), "network", 3, 0.2, 4.0),
    "half_open": _Kind(("agent",), "network", 2, 0.1, 1.0),
    "slow": _Kind(("agent",), "network", 2, 1.0, 5.0),
    "one_way": _Kind(("agent",), "network", 4, 0.2, 3.0),
    "fill": _Kind(_BOTH, "disk", 3, 1.0, 6.0),
    "power": _Kind(_BOTH, "process", 2, 0.0, 1.5),
    "clock": _Kind(_BOTH, "clock", 3, 1.0, 6.0),
    "copy": _Kind(_BOTH, "process", 4, 0.0, 0.0),
    "restore": _Kind(_BOTH, "process", 2, 0.0, 1.0),
}

_DAY_S = 86_400.0
CLOCKS_S = {
    "agent": (-3652 * _DAY_S, -3600.0, -120.0, 120.0, 3600.0, 3652 * _DAY_S),
    # A collector whose clock is years ahead throws away what is older than it keeps: see test_wrong_clocks.
    COLLECTOR: (-43_200.0, -120.0, 120.0, 43_200.0),
}


def draw(
    seed: int, seconds: float, agents: Collection[str], kinds: Collection[str], pause_s: float = PAUSE_S
) -> Iterator[Deed]:
    """Yield deeds in the order of their beginnings, `pause_s` apart in the mean; all are over at the end of `seconds`.

    `kinds` are names of kinds; one with a side behind it ("kill collector") befalls that side only.
    """
    chance = random.Random(seed)
    choices = [
        (name, target)
        for name in sorted(KINDS)
        for side in KINDS[name].sides
        if name in kinds or f"{name} {side}" in kinds
        for target in (sorted(agents) if side == "agent" else [COLLECTOR])
    ]
    weights = [KINDS[name].often / (1 if target == COLLECTOR else len(agents)) for name, target in choices]
    busy_until_s: dict[tuple[str, str], float] = {}
    at_s = 0.0
    while (at_s := at_s + chance.expovariate(1 / pause_s)) < seconds:
        name, target = chance.choices(choices, weights)[0]
        kind = KINDS[name]
        lasts_s = min(chance.uniform(kind.least_s, kind.most_s), seconds - at_s)
        amount = chance.choice(CLOCKS_S[COLLECTOR if target == COLLECTOR else "agent"])
        if busy_until_s.get((kind.thing, target), 0.0) <= at_s:
            busy_until_s[kind.thing, target] = at_s + lasts_s + 0.2
            yield Deed(at_s, name, target, lasts_s, amount)
