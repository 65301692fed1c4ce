"""The uplink's pure parts: what is live, when a certificate is due, how fast messages are taken, what a drain means."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gengfu_agent.uplink import renewal
from gengfu_agent.uplink.answered import Answered
from gengfu_agent.uplink.ending import End, ending_of_drain
from gengfu_agent.uplink.loader import MAX_HELD_RANGES, _folded
from gengfu_agent.uplink.pace import Pace
from gengfu_agent.uplink.present import Key, Present
from gengfu_agent.uplink.timing import Timing
from gengfu_proto.v1 import stream_pb2

FRESH_MS = 100


@dataclass
class Appended:
    key: Key
    checks: tuple[str, ...]
    at_ms: int
    order: int
    gone: bool = False


@dataclass
class Model:
    """Everything that was ever appended, in a list; live is looked up from scratch each time."""

    records: list[Appended] = field(default_factory=list)

    def live(self, now_ms: int) -> list[Key]:
        newest = {check: record.order for record in self.records for check in record.checks}
        return [
            record.key
            for record in self.records
            if not record.gone
            and record.checks
            and (now_ms - record.at_ms < FRESH_MS or record.order in {newest[check] for check in record.checks})
        ]


class PresentAgainstModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.present = Present(FRESH_MS)
        self.model = Model()
        self.now_ms = 0
        self.epoch = 0

    @rule(checks=st.sets(st.sampled_from("abc")))
    def append(self, checks: set[str]) -> None:
        seq = len(self.model.records) + 1
        record = Appended((self.epoch, seq), tuple(sorted(checks)), self.now_ms, seq)
        self.model.records.append(record)
        self.present.add(record.key, record.checks, self.now_ms, record.order)

    @rule(ms=st.integers(min_value=0, max_value=80))
    def pass_time(self, ms: int) -> None:
        self.now_ms += ms

    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        if self.model.records:
            record = data.draw(st.sampled_from(self.model.records))
            record.gone = True
            self.present.remove([record.key])

    @rule()
    def name(self) -> None:
        if self.epoch == 0:
            self.epoch = 5
            for record in self.model.records:
                record.key = (5, record.key[1])
            self.present.name_epoch(5)

    @invariant()
    def live_is_what_the_model_says(self) -> None:
        before = set(self.present.live())
        expired = self.present.expire(self.now_ms)
        live = self.model.live(self.now_ms)
        assert self.present.live() == live
        assert before == {*expired, *live}
        # What is not live any more never is again: forgetting it is right.
        for record in self.model.records:
            record.gone = record.gone or record.key not in live


TestPresent = PresentAgainstModel.TestCase


def test_a_record_under_a_new_number_takes_the_place_of_the_old_one() -> None:
    present = Present(FRESH_MS)
    present.add((1, 1), ("a",), 0, 10)
    present.remove([(1, 1)])
    present.add((2, 1), ("a",), 0, 10)
    assert present.expire(10_000) == []
    assert (2, 1) in present


def test_an_older_record_taken_in_later_is_not_the_latest() -> None:
    present = Present(FRESH_MS)
    present.add((2, 2), ("a",), 0, 20)
    present.add((2, 3), ("a",), 0, 10)
    assert present.expire(10_000) == [(2, 3)]


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 30))))
def test_answered_keys_are_held_in_as_few_ranges_as_there_are(keys: list[Key]) -> None:
    answered = Answered()
    for key in keys:
        answered.add(key)
    held = {(epoch, seq) for epoch in range(5) for seq in range(32) if (epoch, seq) in answered}
    assert held == set(keys)
    assert len(answered) == sum((epoch, seq - 1) not in held for epoch, seq in held)


lives = st.tuples(st.floats(0, 2e9), st.floats(10, 1e9))


@given(lives, st.floats(0, 1))
def test_renewal_is_due_between_half_and_six_tenths_of_the_life(life: tuple[float, float], random: float) -> None:
    begin_s, length_s = life
    due_s = renewal.due_at_s(begin_s, begin_s + length_s, random)
    assert begin_s + 0.499 * length_s <= due_s <= begin_s + 0.601 * length_s
    assert not renewal.is_over(begin_s + length_s, due_s)
    assert renewal.is_over(begin_s + length_s, begin_s + length_s)


@given(lives)
def test_renewal_is_asked_for_many_times_before_it_is_too_late(life: tuple[float, float]) -> None:
    begin_s, length_s = life
    retry_s = renewal.retry_after_s(begin_s, begin_s + length_s)
    assert renewal.MIN_RETRY_S <= retry_s <= renewal.MAX_RETRY_S
    if length_s > 100:
        assert 0.4 * length_s / retry_s >= 10


@given(st.lists(st.floats(min_value=0, max_value=0.3), min_size=1, max_size=200))
def test_no_second_sees_more_messages_than_the_pace(gaps_s: list[float]) -> None:
    pace, now_s, taken = Pace(10, 0.0), 0.0, []
    for gap_s in gaps_s:
        now_s += gap_s
        taken.append(now_s)
        now_s += pace.delay_s(now_s)
    for at_s in taken:
        assert sum(at_s <= other < at_s + 1.0 for other in taken) <= 20


@pytest.mark.parametrize(
    ("wished_ms", "expected_s"), [(0, 30.0), (-5, 30.0), (1, 1.0), (15_000, 15.0), (10**12, 300.0)]
)
def test_the_collectors_wish_for_heartbeats_is_followed_within_reason(wished_ms: int, expected_s: float) -> None:
    assert Timing().heartbeat_s(wished_ms) == expected_s


@given(st.integers(0, 2**31 - 1), st.text(max_size=500), st.integers(0, 2**63))
def test_any_drain_can_be_told_in_one_line(reason: int, detail: str, retry_after_ms: int) -> None:
    try:
        detail.encode()
    except UnicodeEncodeError:
        detail = ""
    drain = stream_pb2.Drain(reason=reason, detail=detail, retry_after_ms=retry_after_ms)  # type: ignore[arg-type]
    ending = ending_of_drain(drain)
    assert len(ending.reason) < 300
    assert len(ending.reason.splitlines()) == 1
    kept_out = {stream_pb2.DRAIN_REASON_BLOCKED, stream_pb2.DRAIN_REASON_QUARANTINED}
    assert ending.end is (End.REFUSED if reason in kept_out else End.DRAINED)


@given(st.integers(MAX_HELD_RANGES + 1, 3 * MAX_HELD_RANGES))
def test_many_ranges_are_folded_into_the_last_one(count: int) -> None:
    ranges = [(3 * n + 1, 3 * n + 1) for n in range(count)]
    folded = _folded(ranges)
    assert len(folded) == MAX_HELD_RANGES
    assert folded[:-1] == ranges[: MAX_HELD_RANGES - 1]
    assert folded[-1] == (ranges[MAX_HELD_RANGES - 1][0], ranges[-1][1])
