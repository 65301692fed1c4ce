"""The fault engine once more, slow and obvious: it keeps everything that was observed and looks at all of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from gengfu_checks.model import Status
from gengfu_collector.faults.engine import RECOVERED
from gengfu_collector.faults.model import ByHand, Effect, EffectKind, Ended, Event, Observed, Rule, Silent

_WORDS = {
    EffectKind.RAISED: "raised",
    EffectKind.LOWERED: "lowered",
    EffectKind.RECODED: "recoded",
    EffectKind.STILL_BAD: "still bad",
}


def told_by(effects: tuple[Effect, ...]) -> list[str]:
    """What effects say, in the words of the reference; changes of status alone are left out."""
    told = []
    for effect in effects:
        if effect.kind is EffectKind.OPENED:
            assert effect.severity is not None
            told.append(f"opened {effect.severity.word}")
        elif effect.kind is EffectKind.CLOSED:
            told.append(f"closed {effect.reason}")
        elif effect.kind in _WORDS:
            told.append(_WORDS[effect.kind])
    return told


@dataclass
class Reference:
    """Decides from the full list of what was observed since the last break."""

    rule: Rule
    seen: list[tuple[Status, str, int]] = field(default_factory=list)
    openings: list[int] = field(default_factory=list)
    severity: Status | None = None
    code: str = ""
    told: list[str] = field(default_factory=list)
    resolved_by_hand: bool = False
    by_hand_at: int = 0
    """How much had been seen when a person resolved the ticket last: bad findings before speak against nobody."""

    def feed(self, event: Event, now: int) -> None:
        match event:
            case Observed():
                self.seen.append((event.status, event.code, now))
                self._judge(event, now)
            case Silent():
                self._forget()
            case Ended():
                if self.severity is not None:
                    self._close(event.reason)
                    self._forget()
            case ByHand.RESOLVED:
                if self.severity is not None:
                    self.resolved_by_hand, self.by_hand_at = True, len(self.seen)

    def _forget(self) -> None:
        self.seen.clear()
        self.by_hand_at = 0

    def _close(self, reason: str) -> None:
        self.severity, self.resolved_by_hand = None, False
        self.told.append(f"closed {reason}")

    def _level(self, status: Status) -> Status | None:
        if status is Status.CRITICAL:
            return self.rule.worst
        return Status.WARNING if status is Status.WARNING else None

    def _in_a_row(self, wanted: Callable[[Status | None], bool], since: int) -> int:
        """How many findings at the end are wanted ones, unknown ones left out."""
        count = 0
        for status, _, _ in reversed(self.seen[since:]):
            if status is not Status.UNKNOWN:
                if not wanted(self._level(status)):
                    break
                count += 1
        return count

    def _judge(self, event: Observed, now: int) -> None:
        level = self._level(event.status)
        confirmed = self._in_a_row(lambda one: one is not None, self.by_hand_at) >= self.rule.confirm
        worst = self._in_a_row(lambda one: one is Status.CRITICAL, self.by_hand_at) >= self.rule.confirm
        if self.severity is None:
            if level is not None and confirmed:
                self.severity, self.code = (Status.CRITICAL if worst else Status.WARNING), event.code
                self.openings.append(now)
                self.told.append(f"opened {self.severity.word}")
        elif level is not None:
            self._change(event, worst=worst)
            if self.resolved_by_hand and confirmed:
                self.resolved_by_hand = False
                self.told.append("still bad")
        elif event.status is Status.OK and self._is_over(now):
            self._close(RECOVERED)

    def _change(self, event: Observed, *, worst: bool) -> None:
        milder = self._in_a_row(lambda one: one is not Status.CRITICAL, 0) >= self.rule.recover
        if self.severity is Status.WARNING and worst:
            self.severity, self.code = Status.CRITICAL, event.code
            self.told.append("raised")
        elif self.severity is Status.CRITICAL and milder:
            self.severity, self.code = Status.WARNING, event.code
            self.told.append("lowered")
        elif self.code != event.code and self._same_code() >= max(2, self.rule.confirm):
            self.code = event.code
            self.told.append("recoded")

    def _is_over(self, now: int) -> bool:
        tail = self._good_tail()
        lately = sum(at > now - self.rule.flap_window_s * 1000 for at in self.openings[-8:])
        held = now - tail[0] >= self.rule.flap_hold_s * 1000
        return len(tail) >= self.rule.recover and (held or lately < self.rule.flap_openings)

    def _same_code(self) -> int:
        count = 0
        for _, code, _ in reversed(self.seen):
            if code != self.seen[-1][1]:
                break
            count += 1
        return count

    def _good_tail(self) -> list[int]:
        """When the good findings at the end were made."""
        tail: list[int] = []
        for status, _, at in reversed(self.seen):
            if status is not Status.OK:
                break
            tail.insert(0, at)
        return tail
