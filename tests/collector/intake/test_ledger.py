"""The account of report numbers against a plain set."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gengfu_collector.intake.ledger import Ledger, Ranges, greet

numbers = st.integers(1, 40)
ranges = st.tuples(numbers, st.integers(0, 6)).map(lambda pair: (pair[0], pair[0] + pair[1]))
acts = st.lists(
    st.one_of(
        st.tuples(st.just("stored"), numbers),
        st.tuples(st.just("rejected"), numbers),
        st.tuples(st.just("gap"), st.lists(ranges, max_size=3)),
    ),
    max_size=40,
)


def carry_out(history: list[tuple[str, object]]) -> tuple[Ledger, dict[int, str]]:
    ledger, plain = Ledger(), {}
    for kind, what in history:
        if kind == "gap":
            ledger, new = ledger.with_gaps(what)
            fresh = sorted({n for first, last in what for n in range(first, last + 1)} - set(plain))
            assert sorted(n for first, last in new for n in range(first, last + 1)) == fresh
            plain |= dict.fromkeys(fresh, "gap")
        elif not ledger.holds(what):
            ledger = ledger.with_stored(what) if kind == "stored" else ledger.with_rejected(what)
            plain[what] = kind
    return ledger, plain


@given(acts)
def test_every_number_is_counted_once(history: list[tuple[str, object]]) -> None:
    ledger, plain = carry_out(history)
    kinds = list(plain.values())
    assert (ledger.stored, ledger.rejected, ledger.gaps) == (
        kinds.count("stored"),
        kinds.count("rejected"),
        kinds.count("gap"),
    )
    high_water = next(n for n in range(1, 100) if n not in plain) - 1
    assert ledger.high_water == high_water
    assert ledger.top == max(plain, default=0)
    assert {n for first, last in ledger.known for n in range(first, last + 1)} == set(plain)
    assert all(ledger.holds(n) == (n in plain) for n in range(1, 50))


@given(acts, numbers, numbers)
def test_missing_is_what_is_not_held(history: list[tuple[str, object]], first: int, last: int) -> None:
    ledger, plain = carry_out(history)
    missing = {n for begin, end in ledger.missing(first, last) for n in range(begin, end + 1)}
    assert missing == set(range(first, last + 1)) - set(plain)


def held(*parts: tuple[int, int]) -> Ranges:
    return parts


def test_an_agent_that_goes_on_keeps_its_epoch() -> None:
    greeting = greet(2, {2: Ledger(high_water=10, stored=10)}, 2, 13, {2: held((11, 12))})
    assert (greeting.epoch, greeting.rewound, greeting.gaps) == (2, False, {})


def test_a_fresh_spool_gets_a_new_epoch_and_what_it_lost_is_a_gap() -> None:
    ledger = Ledger(high_water=10, ahead=((15, 16),), stored=12)
    greeting = greet(2, {2: ledger}, 0, 5, {0: held((1, 4))})
    assert (greeting.epoch, greeting.rewound, greeting.gaps) == (3, False, {2: ((11, 14),)})


def test_an_old_copy_of_the_spool_gets_a_new_epoch_and_nothing_is_unexplained() -> None:
    ledger = Ledger(high_water=150, ahead=((160, 160),), stored=151)
    greeting = greet(1, {1: ledger}, 1, 101, {1: held((90, 100))})
    assert (greeting.epoch, greeting.rewound, greeting.gaps) == (2, True, {1: ((151, 159),)})


def test_a_restored_database_learns_what_it_has_lost() -> None:
    greeting = greet(1, {1: Ledger(high_water=90, stored=90)}, 1, 151, {1: held((100, 100), (150, 150))})
    assert (greeting.epoch, greeting.rewound, greeting.gaps) == (1, False, {1: ((91, 99), (101, 149))})


def test_a_restored_database_follows_an_agent_into_a_later_epoch() -> None:
    greeting = greet(1, {1: Ledger(high_water=90, stored=90)}, 3, 8, {3: held((5, 7))})
    assert (greeting.epoch, greeting.rewound, greeting.gaps) == (3, False, {3: ((1, 4),)})


@given(acts, acts, st.integers(0, 3), st.integers(1, 50), st.sets(numbers))
def test_after_a_greeting_only_what_the_agent_holds_is_missing(
    first: list[tuple[str, object]], second: list[tuple[str, object]], epoch: int, next_seq: int, kept: set[int]
) -> None:
    ledgers = {1: carry_out(first)[0], 2: carry_out(second)[0]}
    spool = {epoch: tuple((n, n) for n in sorted(kept) if n < next_seq)}
    greeting = greet(2, ledgers, epoch, next_seq, spool)
    for number, ledger in {**dict.fromkeys({epoch} - {0}, Ledger()), **ledgers}.items():
        after, _ = ledger.with_gaps(greeting.gaps.get(number, ()))
        open_ = {n for begin, end in after.missing(1, after.top) for n in range(begin, end + 1)}
        assert open_ <= {first for first, _ in spool.get(number, ())}
    assert greeting.epoch >= 2
