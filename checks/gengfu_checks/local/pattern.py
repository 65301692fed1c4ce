r"""Regular expressions in time linear in the text, for patterns that come from the collector.

A backtracking engine can be made to run for years, by the pattern or by a process that chooses its own name, and holds
the whole agent meanwhile. This one follows all ways at once. It takes what linear time allows, with the meaning that
`re` gives it (`.` also matches a line break, `$` only the very end): literals, `.`, `[a-z]`, `[^...]`, `\d \D \w \W \s
\S \t`, escaped punctuation, `^`, `$`, `( )`, `(?: )`, `|`, `* + ? {m} {m,} {m,n}` and `(?i)` at the front.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

MAX_PATTERN_CHARS = 256
MAX_TEXT_CHARS = 4096
MAX_STEPS = 400
"""Size of a compiled pattern: each repetition of `{m,n}` counts anew."""
MAX_DEPTH = 16
MAX_CACHED_MOVES = 4096

Test = Callable[[str], bool]

_COUNTS = re.compile(r"\{(\d{1,3})(,?)(\d{0,3})\}")
_SETS: dict[str, Test] = {
    "d": str.isdecimal,
    "D": lambda c: not c.isdecimal(),
    "w": lambda c: c.isalnum() or c == "_",
    "W": lambda c: not (c.isalnum() or c == "_"),
    "s": str.isspace,
    "S": lambda c: not c.isspace(),
}


class PatternError(ValueError):
    """The text is not a pattern that can be used; says why and where."""


@dataclass(slots=True)
class _Step:
    """One instruction: a character to `test`, an `anchor` (`^`, `$`), a fork to all of `ways`, or (none) the end."""

    test: Test | None = None
    anchor: str = ""
    ways: list[int] = field(default_factory=list)


_Program = list[_Step]
_Emit = Callable[[_Program], None]


class Pattern:
    """A compiled pattern. Not for use by two threads at once: it remembers moves that it has worked out."""

    def __init__(self, text: str) -> None:
        """Compile; raises PatternError."""
        self._program: _Program = []
        _Parser(text).parse()(self._program)
        _append(self._program, _Step())
        self._accept = len(self._program) - 1
        self._first = self._reach({0}, "^")
        self._anywhere = self._reach({0}, "")
        self._moves: dict[tuple[frozenset[int], str], frozenset[int]] = {}

    def search(self, text: str) -> bool:
        """True when the pattern fits within the first 4096 characters; the cut is no end of the text for `$`."""
        state = self._first
        for character in text[:MAX_TEXT_CHARS]:
            if self._accept in state:
                return True
            state = self._move(state, character)
        if self._accept in state or len(text) > MAX_TEXT_CHARS:
            return self._accept in state
        ends = {step for step in state if self._program[step].anchor == "$"}
        return self._accept in self._reach(ends, "$" if text else "^$")

    def _move(self, state: frozenset[int], character: str) -> frozenset[int]:
        known = self._moves.get((state, character))
        if known is not None:
            return known
        passed = {step + 1 for step in state if (test := self._program[step].test) is not None and test(character)}
        moved = self._reach(passed, "") | self._anywhere
        if len(self._moves) >= MAX_CACHED_MOVES:
            self._moves.clear()
        self._moves[state, character] = moved
        return moved

    def _reach(self, steps: set[int], anchors: str) -> frozenset[int]:
        """Every step that can be stood on from `steps` without reading, past forks and the anchors that hold here."""
        seen: set[int] = set()
        waiting = list(steps)
        while waiting:
            number = waiting.pop()
            if number in seen:
                continue
            seen.add(number)
            step = self._program[number]
            waiting += step.ways
            if step.anchor and step.anchor in anchors:
                waiting.append(number + 1)
        return frozenset(number for number in seen if not self._program[number].ways)


class _Parser:
    """Recursive descent; what it returns writes a program, as often as it is called."""

    def __init__(self, text: str) -> None:
        if not text:
            raise PatternError("the pattern is empty")
        if len(text) > MAX_PATTERN_CHARS:
            raise PatternError(f"the pattern is longer than {MAX_PATTERN_CHARS} characters")
        self._text = text
        self._ignore_case = text.startswith("(?i)")
        self._at = 4 if self._ignore_case else 0
        self._depth = 0

    def parse(self) -> _Emit:
        emit = self._alternatives()
        if self._at < len(self._text):
            raise self._error("unbalanced )")
        return emit

    def _alternatives(self) -> _Emit:
        ways = [self._sequence()]
        while self._take("|"):
            ways.append(self._sequence())
        return ways[0] if len(ways) == 1 else _either(ways)

    def _sequence(self) -> _Emit:
        parts = []
        while self._peek() not in ("", "|", ")"):
            anchor = self._peek() in "^$"
            atom = self._atom()
            parts.append(atom if anchor else self._repeated(atom))
        return _in_order(parts)

    def _repeated(self, atom: _Emit) -> _Emit:
        counts = self._counts()
        if counts is None:
            return atom
        self._take("?")  # lazy or greedy: whether it fits is the same
        if self._peek() in ("*", "+", "?", "{"):
            raise self._error("nothing to repeat")
        return _times(atom, *counts)

    def _counts(self) -> tuple[int, int | None] | None:
        for sign, counts in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self._take(sign):
                return counts
        if self._peek() != "{":
            return None
        match = _COUNTS.match(self._text, self._at)
        if match is None:
            raise self._error("write {m}, {m,} or {m,n}, or \\{ for the character itself")
        least = int(match[1])
        most = least if not match[2] else int(match[3]) if match[3] else None
        if (match[3] and not match[2]) or (most is not None and most < least):
            raise self._error("wrong counts")
        self._at = match.end()
        return least, most

    def _atom(self) -> _Emit:
        character = self._next()
        if character == "(":
            return self._group()
        if character == "[":
            return _one(self._class())
        if character in "^$":
            return _anchor(character)
        if character == ".":
            return _one(lambda _: True)
        if character in "*+?{":
            raise self._error("nothing to repeat")
        return _one(self._folded(self._escape() if character == "\\" else _literal(character)))

    def _group(self) -> _Emit:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._error(f"more than {MAX_DEPTH} nested groups")
        if self._take("?") and not self._take(":"):
            raise self._error("of the forms (?...) only (?:...) is supported, and (?i) at the front")
        emit = self._alternatives()
        if not self._take(")"):
            raise self._error("missing )")
        self._depth -= 1
        return emit

    def _escape(self) -> Test:
        character = self._next()
        if character in _SETS:
            return _SETS[character]
        if character == "t":
            return _literal("\t")
        if character.isalnum():
            raise self._error(f"\\{character} is not supported")
        return _literal(character)

    def _class(self) -> Test:
        negated = self._take("^")
        tests = [self._class_member()]
        while not self._take("]"):
            tests.append(self._class_member())
        within = self._folded(lambda c: any(test(c) for test in tests))
        return (lambda c: not within(c)) if negated else within

    def _class_member(self) -> Test:
        first = self._next()
        if first == "\\" and self._peek() in _SETS:
            return self._escape()
        first = self._class_character(first)
        if self._peek() != "-" or self._text[self._at + 1 : self._at + 2] in ("", "]"):
            return _literal(first)
        self._at += 1
        last = self._class_character(self._next())
        if last < first:
            raise self._error(f"bad range {first}-{last}")
        return lambda c: first <= c <= last

    def _class_character(self, character: str) -> str:
        if character != "\\":
            return character
        escaped = self._next()
        if escaped.isalnum() and escaped != "t":
            raise self._error(f"\\{escaped} is not supported here")
        return "\t" if escaped == "t" else escaped

    def _folded(self, test: Test) -> Test:
        if not self._ignore_case:
            return test
        return lambda c: any(test(same) for same in {c, c.lower(), c.upper()} if len(same) == 1)

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self, character: str) -> bool:
        taken = self._peek() == character
        self._at += taken
        return taken

    def _next(self) -> str:
        character = self._peek()
        if not character:
            raise self._error("ends too early")
        self._at += 1
        return character

    def _error(self, reason: str) -> PatternError:
        return PatternError(f"pattern {self._text!r}, character {self._at}: {reason}")


def _literal(expected: str) -> Test:
    return lambda c: c == expected


def _append(program: _Program, step: _Step) -> _Step:
    if len(program) >= MAX_STEPS:
        raise PatternError("the pattern is too large: fewer or smaller repetitions {m,n}")
    program.append(step)
    return step


def _one(test: Test) -> _Emit:
    def emit(program: _Program) -> None:
        _append(program, _Step(test=test))

    return emit


def _anchor(sign: str) -> _Emit:
    def emit(program: _Program) -> None:
        _append(program, _Step(anchor=sign))

    return emit


def _in_order(parts: list[_Emit]) -> _Emit:
    def emit(program: _Program) -> None:
        for part in parts:
            part(program)

    return emit


def _either(ways: list[_Emit]) -> _Emit:
    def emit(program: _Program) -> None:
        fork = _append(program, _Step())
        ends = []
        for way in ways:
            fork.ways.append(len(program))
            way(program)
            ends.append(_append(program, _Step()))
        for end in ends:
            end.ways.append(len(program))

    return emit


def _times(body: _Emit, least: int, most: int | None) -> _Emit:
    def emit(program: _Program) -> None:
        for _ in range(least):
            size = len(program)
            body(program)
            if len(program) == size:  # an empty group, which `{999}{999}...` would repeat for ever
                break
        if most is None:
            _any_number(program, body)
            return
        forks = []
        for _ in range(most - least):
            forks.append(_append(program, _Step(ways=[len(program) + 1])))
            body(program)
        for fork in forks:
            fork.ways.append(len(program))

    return emit


def _any_number(program: _Program, body: _Emit) -> None:
    start = len(program)
    fork = _append(program, _Step(ways=[start + 1]))
    body(program)
    _append(program, _Step(ways=[start]))
    fork.ways.append(len(program))
