"""Limits before authentication: fair between addresses, bounded in memory, each refusal counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gengfu_collector.errors import Overloaded
from gengfu_collector.gateway.admission import Admission, Bucket, EnrolmentLimits, Rate, address_of
from gengfu_collector.gateway.challenges import GOOD_FOR_S, MAX_CHALLENGES, NONCE_BYTES, Challenges


@dataclass
class Hands:
    """A clock that stands until it is moved."""

    now_s: float = 1_000.0

    def __call__(self) -> float:
        return self.now_s


def admitted(admission: Admission, peer: str) -> bool:
    try:
        with admission.admit(peer):
            return True
    except Overloaded:
        return False


def peer(number: int) -> str:
    return f"ipv4:10.0.{number >> 8}.{number & 255}:{40_000 + number}"


# Eighths are exact in binary: the reference may count in whole numbers.
@given(st.integers(1, 5), st.integers(1, 40), st.lists(st.integers(0, 40), max_size=60))
def test_a_bucket_lets_through_what_a_slow_count_lets_through(burst: int, per_s: int, waits: list[int]) -> None:
    bucket = Bucket(Rate(per_s=float(per_s), burst=float(burst)), 0.0)
    now_eighths, level_eighths = 0, burst * 8
    for wait in waits:
        for _ in range(wait):
            now_eighths += 1
            level_eighths = min(burst * 8, level_eighths + per_s)
        expected = level_eighths >= 8
        level_eighths -= 8 if expected else 0
        assert bucket.take(now_eighths / 8) is expected


def test_a_clock_that_goes_back_gives_nothing_and_takes_nothing() -> None:
    bucket = Bucket(Rate(per_s=1.0, burst=1.0), 100.0)
    assert bucket.take(100.0)
    assert not bucket.take(50.0)
    assert bucket.take(51.0)


def test_one_address_cannot_use_up_what_is_there_for_all() -> None:
    hands = Hands()
    admission = Admission(EnrolmentLimits(address=Rate(1.0, 5.0), overall=Rate(1.0, 20.0)), hands)
    assert [admitted(admission, peer(1)) for _ in range(100)].count(True) == 5
    assert [admitted(admission, peer(2)) for _ in range(100)].count(True) == 5
    assert [admitted(admission, peer(number)) for number in range(3, 20)].count(True) == 10
    assert admission.refusals == {"address_rate": 190, "overall_rate": 7}
    hands.now_s += 2
    assert admitted(admission, peer(1))


def test_only_so_many_calls_are_under_way_and_each_end_makes_room() -> None:
    admission = Admission(EnrolmentLimits(concurrent=2), Hands())
    with admission.admit(peer(1)):
        with admission.admit(peer(2)):
            assert not admitted(admission, peer(3))
        with pytest.raises(ZeroDivisionError), admission.admit(peer(3)):
            raise ZeroDivisionError
        assert admitted(admission, peer(3))
    assert admission.refusals == {"concurrent": 1}


def test_addresses_are_forgotten_when_their_bucket_is_full_again_and_when_there_are_too_many() -> None:
    hands = Hands()
    bounds = EnrolmentLimits(address=Rate(1.0, 10.0), overall=Rate(1e9, 1e9), addresses=100)
    admission = Admission(bounds, hands)
    for number in range(1_000):
        admitted(admission, peer(number))
        assert admission.addresses <= 100
    hands.now_s += 2
    admitted(admission, peer(5_000))
    assert admission.addresses == 1


def test_an_address_that_goes_on_asking_is_not_forgotten_for_it() -> None:
    hands = Hands()
    admission = Admission(EnrolmentLimits(address=Rate(0.001, 2.0), overall=Rate(1e9, 1e9), addresses=10), hands)
    won = 0
    for number in range(200):
        won += admitted(admission, peer(7_777))
        admitted(admission, peer(number % 5))
        hands.now_s += 0.01
    assert won == 2


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ipv4:192.0.2.7:5000", "192.0.2.7"),
        ("ipv6:[2001:db8:1:2:3:4:5:6]:5000", "2001:db8:1:2::/64"),
        ("ipv6:%5B2001:db8:1:2::9%5D:5000", "2001:db8:1:2::/64"),
        ("ipv6:[fe80::1%25eth0]:5000", "fe80::/64"),
        ("ipv6:[::ffff:192.0.2.7]:5000", "192.0.2.7"),
        ("unix:/run/x", "unix"),
        ("ipv4:rubbish", "ipv4"),
        ("", ""),
    ],
)
def test_an_ipv6_network_counts_as_one_address(name: str, expected: str) -> None:
    assert address_of(name) == expected


def nonces() -> Callable[[int], bytes]:
    count = iter(range(10**9))
    return lambda size: next(count).to_bytes(size, "big")


def test_a_challenge_is_good_once_for_one_agent_and_for_a_minute() -> None:
    hands = Hands()
    challenges = Challenges(hands, nonces())
    first, second, third = (challenges.give("a") for _ in range(3))
    assert len({first, second, third}) == 3
    assert len(first) == NONCE_BYTES
    assert challenges.take(first, "a")
    assert not challenges.take(first, "a")
    assert not challenges.take(second, "b")
    assert not challenges.take(second, "a")
    assert not challenges.take(b"", "a")
    assert not challenges.take(bytes(NONCE_BYTES), "")
    hands.now_s += GOOD_FOR_S
    assert not challenges.take(third, "a")
    assert len(challenges) == 0


def test_challenges_are_bounded_and_old_ones_make_room() -> None:
    hands = Hands()
    challenges = Challenges(hands, nonces())
    for _ in range(MAX_CHALLENGES):
        challenges.give("a")
    with pytest.raises(Overloaded, match="try again"):
        challenges.give("a")
    hands.now_s += GOOD_FOR_S
    challenges.give("a")
    assert len(challenges) == 1
