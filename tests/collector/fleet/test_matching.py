"""What can be known of assets without knowing them, against every asset there can be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from gengfu_collector.fleet.classes import ASSET_CLASSES
from gengfu_collector.fleet.matching import Match, fits, groups, heaviest

VALUES = ("hq", "b7", "b8")
LABELS = ("role", "site")
FEW = st.frozensets(st.sampled_from(VALUES), min_size=1)
CLASSES = st.frozensets(st.sampled_from(["terminal", "server", "ups"]), min_size=1) | st.just(frozenset(ASSET_CLASSES))
MATCHES = st.fixed_dictionaries({}, optional={"class": CLASSES, "role": FEW, "site": FEW})


def every_asset() -> Iterator[tuple[str, Mapping[str, str]]]:
    for asset_class, *values in product(ASSET_CLASSES, *[(None, "other", *VALUES) for _ in LABELS]):
        yield str(asset_class), {label: value for label, value in zip(LABELS, values, strict=True) if value}


def fitting(matches: list[Match], asset_class: str, labels: Mapping[str, str]) -> tuple[int, ...]:
    return tuple(i for i, match in enumerate(matches) if fits(match, asset_class, labels))


@given(st.lists(MATCHES, max_size=5))
def test_groups_are_those_of_every_possible_asset(matches: list[Match]) -> None:
    wanted = {fitting(matches, *asset) for asset in every_asset()} - {()}
    assert groups(matches, 10_000) == sorted(wanted)


@given(st.lists(MATCHES, min_size=1, max_size=5), st.lists(st.integers(0, 9), min_size=5, max_size=5))
def test_no_asset_is_heavier_than_the_heaviest(matches: list[Match], weights: list[int]) -> None:
    weights = weights[: len(matches)]
    heavy = max(sum(weights[i] for i in fitting(matches, *asset)) for asset in every_asset())
    assert heaviest(matches, weights) >= heavy
    if all(len(match.keys() - {"class"}) <= 1 for match in matches):
        assert heaviest(matches, weights) == heavy


def test_an_empty_match_fits_every_asset() -> None:
    assert all(fits({}, *asset) for asset in every_asset())


def test_too_many_groups_are_given_up() -> None:
    matches: list[Match] = [{f"label_{i}": frozenset(["x"])} for i in range(40)]
    assert groups(matches, 1_000) is None
    assert len(groups(matches[:9], 1_000) or ()) == 2**9 - 1
