"""Orders of versions, compared with dpkg and rpm themselves."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable

import pytest

from gengfu_checks.versions import compare_debian, compare_dotted, compare_rpm, is_at_least

PAIRS = 150


def some_versions(alphabet: str, seed: int) -> list[tuple[str, str]]:
    """Pairs that share a beginning, which is where mistakes hide."""
    rng = random.Random(seed)

    def one() -> str:
        return rng.choice(("", "1:", "2:")) + rng.choice("0123") + "".join(rng.choices(alphabet, k=rng.randrange(7)))

    pairs = []
    for _ in range(PAIRS):
        first = one()
        second = first[: rng.randrange(1, len(first) + 1)] + "".join(rng.choices(alphabet, k=rng.randrange(4)))
        pairs.append((first, one() if rng.random() < 0.3 else second))
    return pairs


def test_debian_versions_are_ordered_as_dpkg_does(requires_program: Callable[[str, str], str]) -> None:
    dpkg = requires_program("dpkg", "apt-get install dpkg")
    pairs = [
        (a, b) for a, b in some_versions("0019.+~-a", 7) if not a.endswith((":", "-")) and not b.endswith((":", "-"))
    ]
    wrong = []
    for a, b in pairs:
        relation = {-1: "lt-nl", 0: "eq", 1: "gt-nl"}[compare_debian(a, b)]
        said = subprocess.run([dpkg, "--compare-versions", a, relation, b], stderr=subprocess.DEVNULL, check=False)
        if said.returncode != 0:
            wrong.append((a, relation, b))
    assert wrong == []
    assert {compare_debian(a, b) for a, b in pairs} == {-1, 0, 1}


def test_rpm_versions_are_ordered_as_rpm_does(requires_program: Callable[[str, str], str]) -> None:
    rpm = requires_program("rpm", "apt-get install rpm")
    pairs = [(a.partition(":")[2] or a, b.partition(":")[2] or b) for a, b in some_versions("0019.+~^ab_", 9)]
    lines = ";".join(f'print(rpm.vercmp("{a}", "{b}").." ")' for a, b in pairs)
    said = subprocess.run([rpm, "--eval", f"%{{lua:{lines}}}"], check=True, capture_output=True, text=True)
    expected = [int(word) for word in said.stdout.split()]
    assert [compare_rpm(a, b) for a, b in pairs] == expected
    assert set(expected) == {-1, 0, 1}


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("10.0.19045.4291", "10.0.19045.999", 1),
        ("24.08", "24.8", 0),
        ("24.08 (x64)", "24.09", -1),
        ("3.1", "3.1.0.0", 0),
        ("115.0.5790.171", "99.0", 1),
        ("v2,5,1", "2.5.1", 0),
        ("8.0.3610.11", "8.0.361", 1),
        ("unknown", "1", None),
        ("", "1", None),
        ("9" * 400, "1", 1),
    ],
)
def test_dotted_versions(a: str, b: str, expected: int | None) -> None:
    assert compare_dotted(a, b) == expected
    back = compare_dotted(b, a)
    assert back == (None if expected is None else -expected)


@pytest.mark.parametrize(
    ("installed", "wanted", "source", "expected"),
    [
        ("1:8.4p1-5", "9.2", "dpkg", False),  # the rule names no epoch: it is not met by one
        ("1:9.2p1-2+deb12u3", "9.2", "dpkg", True),
        ("1:8.4p1-5", "1:9.2", "dpkg", False),
        ("2:1.0", "1:9.2", "dpkg", True),
        ("3.0.15-1~deb12u1", "3.0.15-1", "dpkg", False),
        ("9.2", "1:9.0", "dpkg", False),
        ("1:3.0.7-27.el9", "3.0.7", "rpm", True),
        ("3.0.7-27.el9", "3.0.7-28.el9", "rpm", False),
        ("24.08", "24.7", "registry", True),
        ("3.1", "3.2", "applications", False),
        ("", "1", "dpkg", None),
        ("", "1", "registry", None),
    ],
)
def test_at_least(installed: str, wanted: str, source: str, expected: bool | None) -> None:
    assert is_at_least(installed, wanted, source) is expected
