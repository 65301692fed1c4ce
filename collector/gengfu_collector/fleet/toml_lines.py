"""Where in a TOML text each key stands: positions without values, as `tomllib` gives values without positions."""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_left

KeyPath = tuple[str | int, ...]
"""Names of tables and keys, and numbers of array elements from 0: `("profile", 0, "check", 1, "every")`."""

_BLANKS = re.compile(r"[ \t]*")
_SPACE = re.compile(r"(?:[ \t\n]|\r\n|#[^\n]*)*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(
    r"""
    \"{3} (?:\\. | [^\\])*? \"{3,5}  # the last three may be preceded by quotes that belong to the text
    | '{3} .*? '{3,5}
    | \" (?:\\. | [^"\\\n])* \"
    | ' [^'\n]* '
    """,
    re.DOTALL | re.VERBOSE,
)
_SCALAR = re.compile(r"[^,\]}#\n]+")


def key_lines(text: str) -> dict[KeyPath, int]:
    """Return the line (from 1) of every key, table and array element of a text that `tomllib` has accepted.

    A table that is only implied (`[a.b]` without `[a]`) stands where it is first implied. Raises ValueError for a text
    that is not TOML; not every such text is found out.
    """
    scanner = _Scanner(text)
    scanner.document()
    return scanner.lines


def line_of(lines: dict[KeyPath, int], path: KeyPath) -> int:
    """Return the line of a path, or that of the nearest table around it that is known; 1 when there is none."""
    while path:
        if path in lines:
            return lines[path]
        path = path[:-1]
    return 1


class _Scanner:
    def __init__(self, text: str) -> None:
        self.lines: dict[KeyPath, int] = {}
        self._text = text
        self._at = 0
        self._newlines = [match.start() for match in re.finditer("\n", text)]
        self._elements: dict[KeyPath, int] = {}

    def document(self) -> None:
        table: KeyPath = ()
        self._skip(_SPACE)
        while self._at < len(self._text):
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._pair(table)
            self._skip(_SPACE)

    def _header(self) -> KeyPath:
        line = self._line()
        is_array = self._text.startswith("[[", self._at)
        self._at += 2 if is_array else 1
        *outer, last = self._key()
        self._at += 2 if is_array else 1
        path: KeyPath = ()
        for name in outer:
            path = (*path, name)
            self.lines.setdefault(path, line)
            if path in self._elements:
                path = (*path, self._elements[path] - 1)
        path = (*path, last)
        if not is_array:
            self.lines[path] = line
            return path
        self.lines.setdefault(path, line)
        number = self._elements.get(path, 0)
        self._elements[path] = number + 1
        self.lines[*path, number] = line
        return (*path, number)

    def _pair(self, table: KeyPath) -> None:
        line = self._line()
        path = table
        for name in self._key():
            path = (*path, name)
            self.lines.setdefault(path, line)
        self._expect("=")
        self._skip(_BLANKS)
        self._value(path)

    def _key(self) -> list[str]:
        names = []
        while True:
            self._skip(_BLANKS)
            names.append(self._name())
            self._skip(_BLANKS)
            if not self._text.startswith(".", self._at):
                return names
            self._at += 1

    def _name(self) -> str:
        if self._text[self._at : self._at + 1] in ('"', "'"):
            quoted = self._take(_STRING)
            return str(tomllib.loads(f"k = {quoted}")["k"]) if "\\" in quoted else quoted[1:-1]
        return self._take(_BARE_KEY)

    def _value(self, path: KeyPath) -> None:
        first = self._text[self._at : self._at + 1]
        if first == "[":
            self._array(path)
        elif first == "{":
            self._inline_table(path)
        elif first in ('"', "'"):
            self._take(_STRING)
        else:
            self._take(_SCALAR)

    def _array(self, path: KeyPath) -> None:
        number = 0
        while not self._ends("]"):
            self.lines[*path, number] = self._line()
            self._value((*path, number))
            number += 1

    def _inline_table(self, path: KeyPath) -> None:
        while not self._ends("}"):
            self._pair(path)

    def _ends(self, bracket: str) -> bool:
        """Step over an opening bracket or comma and the space around it; True when the closing bracket was next."""
        self._skip(_SPACE)
        if self._text.startswith(bracket, self._at):
            self._at += 1
            return True
        if self._text[self._at : self._at + 1] not in ("[", "{", ","):
            raise ValueError(f"line {self._line()}: neither {bracket} nor a comma")
        self._at += 1
        self._skip(_SPACE)
        if self._text.startswith(bracket, self._at):
            self._at += 1
            return True
        return False

    def _expect(self, character: str) -> None:
        if not self._text.startswith(character, self._at):
            raise ValueError(f"line {self._line()}: {character} expected")
        self._at += 1

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self._text, self._at)
        self._at = match.end() if match else self._at

    def _take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            raise ValueError(f"line {self._line()}: unexpected text")
        self._at = match.end()
        return match.group()

    def _line(self) -> int:
        return bisect_left(self._newlines, self._at) + 1
