"""A short run of the fuzzer over every target, what it has found before, and that it would find something."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from random import Random

import fuzz
import pytest
from fuzz import KEPT, TooSlow, feed, run, where
from inputs import Inputs
from targets import Target, all_targets

EXECUTIONS = 15


@pytest.fixture(scope="module")
def targets() -> dict[str, Target]:
    found = all_targets()
    by_name = {target.name: target for target in found}
    assert len(by_name) == len(found)
    return by_name


@pytest.fixture(autouse=True)
def _warnings_are_no_findings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def test_every_target_for_a_moment(targets: dict[str, Target]) -> None:
    found = []
    for target in targets.values():
        tally = fuzz.Tally(target, Inputs(Random(f"short {target.name}"), target.samples, target.words))
        fuzz.turn(tally, EXECUTIONS, float("inf"))
        assert tally.executions == EXECUTIONS
        found += [f"{target.name}: {what}: {data[:200]!r}" for what, data in tally.findings.items()]
    assert found == []


def test_what_was_found_once_is_not_found_again(targets: dict[str, Target]) -> None:
    fed = 0
    for path in sorted(KEPT.glob("*/*")):
        feed(targets[path.parent.name], path.read_bytes())
        fed += 1
    assert fed > 0


def test_a_parser_that_lets_something_out_or_never_ends_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def careless(data: bytes) -> None:
        if data.count(b"7") > 2:
            raise IndexError("seven")

    def endless(data: bytes) -> None:
        while b"7" in data:
            pass

    def refusing(_data: bytes) -> None:
        raise ValueError("no")

    monkeypatch.setattr(fuzz, "MOST_CPU_S", 0.05)
    monkeypatch.setattr(fuzz, "KEPT", tmp_path)
    made = [
        Target("careless", careless, Inputs.data, (), (b"77", b"17 17")),
        Target("endless", endless, Inputs.data, (), (b"6",), ("7",)),
        Target("refusing", refusing, Inputs.data, (ValueError,), (b"x",)),
    ]
    monkeypatch.setattr(fuzz, "TURN_S", 0.2)
    first, second, third = run(made, 1.0, 7)
    assert [what.split(" at ")[0] for what in first.findings] == ["IndexError"]
    assert [what.split(" at ")[0] for what in second.findings] == [TooSlow.__name__]
    assert third.refused == third.executions > 0
    assert third.findings == {}
    assert list(fuzz.keep(first))
    (kept,) = tmp_path.glob("careless/*")
    with pytest.raises(IndexError) as caught:
        feed(made[0], kept.read_bytes())
    assert "IndexError" in where(caught.value)


def test_the_same_seed_makes_the_same_inputs(targets: dict[str, Target]) -> None:
    target = targets["wire.up"]
    once, again = (
        [target.make(inputs) for _ in range(50)]
        for inputs in (Inputs(Random(3), target.samples, target.words) for _ in range(2))
    )
    assert once == again
    assert len(set(once)) > 40
