"""The fault engine against a reference that looks at the whole history every time."""

from __future__ import annotations

from engine_reference import Reference, told_by
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gengfu_checks.model import Status
from gengfu_collector.faults.engine import RECOVERED, is_settled, step
from gengfu_collector.faults.model import (
    ByHand,
    EffectKind,
    Ended,
    Event,
    Observed,
    Rule,
    Silent,
    SubjectState,
    counters_to_json,
    state_from_row,
)

BAD = (Status.WARNING, Status.CRITICAL)


rules = st.builds(
    Rule,
    confirm=st.integers(1, 4),
    recover=st.integers(1, 4),
    worst=st.sampled_from(BAD),
    flap_openings=st.integers(2, 4),
    flap_window_s=st.sampled_from([60.0, 600.0]),
    flap_hold_s=st.sampled_from([30.0, 120.0]),
)
codes = st.sampled_from(["disk.nearly_full", "disk.read_only"])
pauses = st.sampled_from([0, 10_000, 40_000])
observations = st.one_of(
    st.just(Observed(Status.OK, "ok")),
    st.builds(Observed, st.sampled_from(BAD), codes),
    st.just(Observed(Status.UNKNOWN, "check.timed_out")),
)
others = (st.just(Silent.LOST), st.just(Ended("retired")), st.just(ByHand.RESOLVED))
events = st.one_of(observations, observations, observations, *others)
# Runs of one event: what an engine that counts must get right.
runs = st.lists(st.tuples(events, st.integers(1, 5), st.sampled_from([1, 10_000, 40_000])), max_size=20)
histories = runs.map(lambda parts: [(event, pause) for event, count, pause in parts for _ in range(count)])


class Subject(RuleBasedStateMachine):
    """One subject through any life, beside the reference and a twin that is stored and read again at every step."""

    @initialize(rule_of_fault=rules)
    def begin(self, rule_of_fault: Rule) -> None:
        self.fault_rule, self.now_ms = rule_of_fault, 0
        self.reference, self.state, self.twin = Reference(rule_of_fault), SubjectState(), SubjectState()
        self.told: list[str] = []

    def _feed(self, event: Event) -> None:
        self.now_ms += 1
        before = self.state
        self.state, effects = step(self.fault_rule, before, event, self.now_ms)
        row = (self.twin.word, self.twin.code, self.twin.since_ms, counters_to_json(self.twin))
        self.twin, twin_effects = step(self.fault_rule, state_from_row(*row), event, self.now_ms)
        assert twin_effects == effects
        self.told += told_by(effects)
        self.reference.feed(event, self.now_ms)
        if before.fault is not None and self.state.fault is None:
            assert isinstance(event, Ended) or event == Observed(Status.OK, "ok"), "only good news or an act closes"

    def _observe(self, event: Observed, times: int, pause_ms: int) -> None:
        for _ in range(times):
            self.now_ms += pause_ms
            self._feed(event)

    @rule(status=st.sampled_from(BAD), code=codes, times=st.integers(1, 4), pause_ms=pauses)
    def observe_bad(self, status: Status, code: str, times: int, pause_ms: int) -> None:
        self._observe(Observed(status, code), times, pause_ms)

    @rule(times=st.integers(1, 3), pause_ms=pauses)
    def observe_good(self, times: int, pause_ms: int) -> None:
        self._observe(Observed(Status.OK, "ok"), times, pause_ms)

    @rule(between=st.sampled_from([Observed(Status.UNKNOWN, "check.timed_out"), Silent.LOST, ByHand.RESOLVED]))
    def have_a_recovery_interrupted(self, between: Event) -> None:
        for event in (Observed(Status.OK, "ok"), between, Observed(Status.OK, "ok")):
            self._feed(event)

    @rule(code=codes, between=st.sampled_from([Observed(Status.UNKNOWN, "check.timed_out"), ByHand.RESOLVED]))
    def have_a_change_interrupted(self, code: str, between: Event) -> None:
        for event in (Observed(Status.WARNING, code), Observed(Status.CRITICAL, code), between):
            self._feed(event)
        self._feed(Observed(Status.CRITICAL, code))

    @rule()
    def fall_silent(self) -> None:
        self._feed(Silent.LOST)

    @rule(reason=st.sampled_from(["retired", "no longer in the plan"]))
    def end_by_an_act(self, reason: str) -> None:
        self._feed(Ended(reason))

    @rule()
    def resolve_by_hand(self) -> None:
        self._feed(ByHand.RESOLVED)

    @rule(pause_ms=st.sampled_from([30_000, 120_000, 700_000]))
    def pass_time(self, pause_ms: int) -> None:
        self.now_ms += pause_ms

    @invariant()
    def as_the_reference_says(self) -> None:
        assert self.told == self.reference.told
        assert self.state == self.twin
        assert (self.state.fault.severity if self.state.fault else None) == self.reference.severity
        assert self.state.fault is None or self.state.fault.code == self.reference.code
        assert self.state.fault is None or self.state.fault.ticket_resolved == self.reference.resolved_by_hand


TestSubject = Subject.TestCase
TestSubject.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)


@settings(max_examples=200)
@given(rules, histories)
def test_the_engine_tells_what_the_whole_history_says(rule: Rule, history: list[tuple[Event, int]]) -> None:
    reference, state, now, told = Reference(rule), SubjectState(), 0, []
    for event, pause in history:
        now += pause
        state, effects = step(rule, state, event, now)
        told += told_by(effects)
        reference.feed(event, now)
        assert told == reference.told
        assert (state.fault.severity if state.fault else None) == reference.severity
        assert state.fault is None or state.fault.code == reference.code


@given(rules, histories)
def test_a_restart_at_every_step_changes_nothing(rule: Rule, history: list[tuple[Event, int]]) -> None:
    twin, restarted, now = SubjectState(), SubjectState(), 0
    for event, pause in history:
        now += pause
        twin, expected = step(rule, twin, event, now)
        stored = (restarted.word, restarted.code, restarted.since_ms, counters_to_json(restarted))
        restarted, effects = step(rule, state_from_row(*stored), event, now)
        assert (restarted, effects) == (twin, expected)


@given(rules, histories, observations, st.lists(st.integers(1, 10**9), min_size=1, max_size=5))
def test_a_settled_subject_stays_as_it_is_under_repetition(
    rule: Rule, history: list[tuple[Event, int]], last: Observed, pauses: list[int]
) -> None:
    state, now = SubjectState(), 0
    for event, pause in (*history, (last, 1)):
        now += pause
        state, _ = step(rule, state, event, now)
    if not is_settled(rule, state, now):
        return
    for pause in pauses:
        now += pause
        again, effects = step(rule, state, last, now)
        assert (again, effects) == (state, ())


@given(rules, st.lists(st.sampled_from([Observed(Status.UNKNOWN, "check.crashed"), Silent.LOST]), max_size=20))
def test_no_data_and_unknown_never_open_and_never_close(rule: Rule, events_: list[Event]) -> None:
    state, now = SubjectState(), 0
    for event in events_:
        now += 1000
        state, effects = step(rule, state, event, now)
        assert all(effect.kind is EffectKind.STATUS for effect in effects)
    for _ in range(rule.confirm):
        now += 1000
        state, _ = step(rule, state, Observed(Status.CRITICAL, "disk.nearly_full"), now)
    assert state.fault is not None
    for event in events_:
        now += 1000
        state, _ = step(rule, state, event, now)
        assert state.fault is not None


def test_warning_to_critical_and_back_is_one_fault() -> None:
    rule, state, kinds = Rule(confirm=1, recover=1), SubjectState(), []
    for now, status in enumerate([Status.WARNING, Status.CRITICAL, Status.WARNING, Status.OK]):
        state, effects = step(rule, state, Observed(status, "disk.nearly_full" if status else "ok"), now * 60_000)
        kinds += [effect.kind for effect in effects if effect.kind is not EffectKind.STATUS]
    assert kinds == [EffectKind.OPENED, EffectKind.RAISED, EffectKind.LOWERED, EffectKind.CLOSED]


def test_a_flapping_subject_keeps_its_fault_until_it_is_calm() -> None:
    rule, state, now = Rule(confirm=1, recover=1, flap_openings=3, flap_hold_s=900), SubjectState(), 0
    closed = []
    for _ in range(3):
        for status in (Status.CRITICAL, Status.OK):
            now += 60_000
            state, effects = step(rule, state, Observed(status, "network.link_down" if status else "ok"), now)
            closed += [effect for effect in effects if effect.kind is EffectKind.CLOSED]
    assert len(closed) == 2
    assert state.fault is not None
    state, effects = step(rule, state, Observed(Status.OK, "ok"), now + 899_000)
    assert state.fault is not None
    state, effects = step(rule, state, Observed(Status.OK, "ok"), now + 900_000)
    assert [effect.reason for effect in effects] == [RECOVERED]


def test_a_ticket_resolved_by_hand_opens_again_when_it_is_still_bad() -> None:
    rule, state = Rule(confirm=2, recover=2), SubjectState()
    bad, good = Observed(Status.CRITICAL, "disk.nearly_full"), Observed(Status.OK, "ok")
    for now in range(3):
        state, _ = step(rule, state, bad, now)
    state, effects = step(rule, state, ByHand.RESOLVED, 4)
    assert effects == ()
    assert state.fault is not None
    state, effects = step(rule, state, bad, 5)
    assert effects == ()
    state, effects = step(rule, state, bad, 6)
    assert [effect.kind for effect in effects] == [EffectKind.STILL_BAD]
    state, effects = step(rule, state, bad, 7)
    assert effects == ()
    for now in (8, 9):
        state, effects = step(rule, state, good, now)
    assert effects[-1].kind is EffectKind.CLOSED


def test_unknown_and_no_data_break_a_row_of_good_findings() -> None:
    rule = Rule(confirm=1, recover=2)
    bad, good = Observed(Status.CRITICAL, "disk.nearly_full"), Observed(Status.OK, "ok")
    for between in (Observed(Status.UNKNOWN, "check.timed_out"), Silent.LOST):
        state = SubjectState()
        for now, event in enumerate([bad, good, between, good]):
            state, _ = step(rule, state, event, now)
        assert state.fault is not None
        state, _ = step(rule, state, good, 9)
        assert state.fault is None
