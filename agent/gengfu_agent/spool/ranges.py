"""Inclusive ranges of numbers. Pure."""

from __future__ import annotations

from collections.abc import Iterable

Range = tuple[int, int]


def ranges_of(numbers: Iterable[int]) -> list[Range]:
    """Return ascending numbers as ascending, disjoint ranges."""
    found: list[Range] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found


def missing_in(last: int, present: Iterable[int]) -> list[Range]:
    """Return the ranges of 1..last that `present` (ascending) leaves out."""
    found: list[Range] = []
    expected = 1
    for number in present:
        if number > last:
            break
        if number > expected:
            found.append((expected, number - 1))
        expected = number + 1
    if expected <= last:
        found.append((expected, last))
    return found
