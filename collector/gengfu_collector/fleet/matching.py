"""Which sets of assets profiles are for, as far as it can be known without knowing the assets. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gengfu_collector.fleet.classes import ASSET_CLASSES

Match = Mapping[str, frozenset[str]]
"""`class` or a label, and the values that fit. An asset must fit all of them; an empty match fits every asset."""

CLASS = "class"


def fits(match: Match, asset_class: str, labels: Mapping[str, str]) -> bool:
    """Whether an asset of this class with these labels fits."""
    return all((asset_class if key == CLASS else labels.get(key)) in values for key, values in match.items())


def groups(matches: Sequence[Match], most: int) -> list[tuple[int, ...]] | None:
    """Return every set of matches (as ascending numbers) that are all that some asset fits; the empty one is left out.

    None when there are more than `most`.
    """
    found = {tuple(range(len(matches)))}
    for key in sorted({key for match in matches for key in match}):
        divided: set[tuple[int, ...]] = set()
        for group in found:
            named = {value for i in group for value in matches[i].get(key, ())}
            # An asset always has a class, and may have a label with a value that no match names, or none at all.
            values = ASSET_CLASSES if key == CLASS else (*named, None)
            divided.update(
                tuple(i for i in group if key not in matches[i] or value in matches[i][key]) for value in values
            )
            if len(divided) > most:
                return None
        found = divided
    return sorted(found - {()})


def heaviest(matches: Sequence[Match], weights: Sequence[int]) -> int:
    """Return a weight that the matches of no asset exceed together.

    It is exact while no match asks for more than one label, and may be too high beyond that.
    """
    return max(_heaviest_of_class(matches, weights, asset_class) for asset_class in ASSET_CLASSES)


def _heaviest_of_class(matches: Sequence[Match], weights: Sequence[int], asset_class: str) -> int:
    everywhere = 0
    by_value: dict[str, dict[str, int]] = {}
    for match, weight in zip(matches, weights, strict=True):
        if asset_class not in match.get(CLASS, ASSET_CLASSES):
            continue
        label = min((key for key in match if key != CLASS), default=None)
        if label is None:
            everywhere += weight
            continue
        sums = by_value.setdefault(label, {})
        for value in match[label]:
            sums[value] = sums.get(value, 0) + weight
    return everywhere + sum(max(sums.values()) for sums in by_value.values())
