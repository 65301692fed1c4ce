"""The fault engine against a reference that looks at the whole history every time."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from gengfu_checks.model import Status
from gengfu_collector.faults.engine import RECOVERED, is_settled, step
from gengfu_collector.faults.model import (
    ByHand,
    Effect,
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


@dataclass
class Reference:
    """Decides from the full list of what was observed since the last break."""

    rule: Rule
    seen: list[tuple[Status, str, int]] = field(default_factory=list)
    openings: list[int] = field(default_factory=list)
    severity: Status | None = None
    code: str = ""
    told: list[str] = field(default_factory=list)

    def feed(self, event: Event, now: int) -> None:
        if isinstance(event, Silent):
            self.seen.clear()
        elif isinstance(event, Ended):
            self._end(event.reason)
        else:
            assert isinstance(event, Observed)
            self.seen.append((event.status, event.code, now))
            self._judge(event, now)

    def _end(self, reason: str) -> None:
        if self.severity is not None:
            self.severity = None
            self.told.append(f"closed {reason}")
            self.seen.clear()

    def _level(self, status: Status) -> Status | None:
        if status is Status.CRITICAL:
            return self.rule.worst
        return Status.WARNING if status is Status.WARNING else None

    def _last(self, count: int) -> list[Status | None] | None:
        known = [self._level(status) for status, _, _ in self.seen if status is not Status.UNKNOWN]
        return known[-count:] if len(known) >= count else None

    def _judge(self, event: Observed, now: int) -> None:
        level = self._level(event.status)
        last = self._last(self.rule.confirm)
        confirmed = last is not None and all(one is not None for one in last)
        worst_confirmed = last is not None and all(one is Status.CRITICAL for one in last)
        if self.severity is None:
            if level is not None and confirmed:
                self.severity = Status.CRITICAL if worst_confirmed else Status.WARNING
                self.code = event.code
                self.openings.append(now)
                self.told.append(f"opened {self.severity.word}")
        elif level is not None:
            milder = self._last(self.rule.recover)
            if self.severity is Status.WARNING and worst_confirmed:
                self.severity, self.code = Status.CRITICAL, event.code
                self.told.append("raised")
            elif self.severity is Status.CRITICAL and milder and all(one is not Status.CRITICAL for one in milder):
                self.severity, self.code = Status.WARNING, event.code
                self.told.append("lowered")
            elif self.code != event.code and self._same_code() >= max(2, self.rule.confirm):
                self.code = event.code
                self.told.append("recoded")
        elif event.status is Status.OK:
            tail = self._good_tail()
            flapping = sum(at > now - self.rule.flap_window_s * 1000 for at in self.openings[-8:]) >= (
                self.rule.flap_openings
            )
            held = now - tail[0][2] >= self.rule.flap_hold_s * 1000
            if len(tail) >= self.rule.recover and (held or not flapping):
                self.severity = None
                self.told.append(f"closed {RECOVERED}")

    def _same_code(self) -> int:
        count = 0
        for _, code, _ in reversed(self.seen):
            if code != self.seen[-1][1]:
                break
            count += 1
        return count

    def _good_tail(self) -> list[tuple[Status, str, int]]:
        tail: list[tuple[Status, str, int]] = []
        for one in reversed(self.seen):
            if one[0] is not Status.OK:
                break
            tail.insert(0, one)
        return tail


rules = st.builds(
    Rule,
    confirm=st.integers(1, 4),
    recover=st.integers(1, 4),
    worst=st.sampled_from(BAD),
    flap_openings=st.integers(2, 4),
    flap_window_s=st.sampled_from([60.0, 600.0]),
    flap_hold_s=st.sampled_from([30.0, 120.0]),
)
observations = st.one_of(
    st.just(Observed(Status.OK, "ok")),
    st.builds(Observed, st.sampled_from(BAD), st.sampled_from(["disk.nearly_full", "disk.read_only"])),
    st.just(Observed(Status.UNKNOWN, "check.timed_out")),
)
events = st.one_of(observations, observations, observations, st.just(Silent.LOST), st.just(Ended("retired")))
# Runs of one event: what an engine that counts must get right.
runs = st.lists(st.tuples(events, st.integers(1, 5), st.sampled_from([1, 10_000, 40_000])), max_size=20)
histories = runs.map(lambda parts: [(event, pause) for event, count, pause in parts for _ in range(count)])


def told_by(effects: tuple[Effect, ...]) -> list[str]:
    words = {EffectKind.RAISED: "raised", EffectKind.LOWERED: "lowered", EffectKind.RECODED: "recoded"}
    told = []
    for effect in effects:
        if effect.kind is EffectKind.OPENED:
            told.append(f"opened {effect.severity.word}")
        elif effect.kind is EffectKind.CLOSED:
            told.append(f"closed {effect.reason}")
        elif effect.kind in words:
            told.append(words[effect.kind])
    return told


@settings(max_examples=500)
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
