"""Reading configuration tables: every value checked, every refusal with file, line and what is allowed."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from gengfu_checks.errors import SettingError
from gengfu_checks.settings import parse_duration_s
from gengfu_collector.errors import ConfigurationError
from gengfu_collector.fleet.toml_lines import KeyPath, key_lines, line_of

MAX_FILE_BYTES = 1024 * 1024
MAX_TEXT_CHARACTERS = 256
MAX_TEXTS = 1_000
_MAX_INTEGER = 2**63 - 1
_SHOWN_CHARACTERS = 60
_LINE_OF_ERROR = re.compile(r"\s*\(at line (\d+), column \d+\)")


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A table of a TOML file: its values and where they stand. `file` is the name that messages show."""

    file: str
    data: Mapping[str, object]
    lines: dict[KeyPath, int]
    path: KeyPath = ()

    def line(self, *keys: str | int) -> int:
        """Line of a key below this table, of the nearest thing around it, or of the table itself."""
        return line_of(self.lines, (*self.path, *keys))

    def error(self, message: str, *keys: str | int) -> ConfigurationError:
        """The error to raise about a key below this table."""
        return ConfigurationError(message, file=self.file, line=self.line(*keys))

    def require_known(self, allowed: Collection[str]) -> None:
        """Refuse every key that is not allowed."""
        for key in self.data:
            if key not in allowed:
                raise self.error(unknown_word("key", key, allowed), key)

    def table(self, key: str) -> Table:
        """The table under a key; an empty one when it is missing."""
        value = self.data.get(key, {})
        if not isinstance(value, dict):
            raise self._wrong(key, "a table", value)
        return Table(self.file, value, self.lines, (*self.path, key))

    def tables(self, key: str) -> list[Table]:
        """The tables under `[[key]]`; none when it is missing."""
        value = self.data.get(key, [])
        if not isinstance(value, list) or not all(isinstance(element, dict) for element in value):
            raise self._wrong(key, f"a list of tables, each begun with [[{key}]]", value)
        return [Table(self.file, element, self.lines, (*self.path, key, i)) for i, element in enumerate(value)]

    def text(self, key: str) -> str | None:
        """A text that is not empty and not longer than MAX_TEXT_CHARACTERS; None when the key is missing."""
        return None if key not in self.data else self._sound_text(key, self.data[key])

    def texts(self, key: str) -> list[str]:
        """A text or a list of at least one; empty when the key is missing."""
        if key not in self.data:
            return []
        value = self.data[key]
        if not isinstance(value, list):
            return [self._sound_text(key, value)]
        if not 1 <= len(value) <= MAX_TEXTS:
            raise self.error(f"{key}: 1 to {MAX_TEXTS} texts are needed, not {len(value)}", key)
        return [self._sound_text(key, element, i) for i, element in enumerate(value)]

    def choice(self, key: str, allowed: Collection[str]) -> str | None:
        """One of the allowed texts; None when the key is missing."""
        value = self.text(key)
        if value is not None and value not in allowed:
            raise self.error(unknown_word(key, value, allowed), key)
        return value

    def boolean(self, key: str) -> bool | None:
        """True or false; None when the key is missing."""
        value = self.data.get(key)
        if value is None or isinstance(value, bool):
            return value
        raise self._wrong(key, "true or false", value)

    def integer(self, key: str, least: int, most: int) -> int | None:
        """A whole number in a range; None when the key is missing."""
        value = self.data.get(key)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise self._wrong(key, f"a whole number from {least} to {most}", value)
        return value

    def duration_s(self, key: str, least_s: float, most_s: float) -> float | None:
        """Seconds, in a range; None when the key is missing."""
        if key not in self.data:
            return None
        try:
            value_s = parse_duration_s(self.data[key])
        except SettingError as error:
            raise self.error(f"{key}: {error}", key) from None
        if not least_s <= value_s <= most_s:
            raise self._wrong(key, f"from {duration(least_s)} to {duration(most_s)}", self.data[key])
        return value_s

    def _sound_text(self, key: str, value: object, *element: int) -> str:
        if not isinstance(value, str) or not value.strip() or not value.isprintable():
            raise self._wrong(key, "a text without control characters and not empty", value, *element)
        if len(value) > MAX_TEXT_CHARACTERS:
            raise self.error(f"{key}: at most {MAX_TEXT_CHARACTERS} characters are allowed", key, *element)
        return value

    def _wrong(self, key: str, wanted: str, value: object, *element: int) -> ConfigurationError:
        return self.error(f"{key}: must be {wanted}, not {shown(value)}", key, *element)


def read_file(path: Path, name: str) -> Table:
    """Return a TOML file as a table; raises ConfigurationError, which shows the file as `name`."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"cannot be read: {error.strerror}", file=name) from None
    if len(data) > MAX_FILE_BYTES:
        raise ConfigurationError(f"is larger than {MAX_FILE_BYTES} bytes", file=name)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigurationError("is not UTF-8 text: save the file as UTF-8", file=name, line=line) from None
    return parse(text, name)


def parse(text: str, name: str) -> Table:
    """Return a TOML text as a table; raises ConfigurationError."""
    try:
        data = tomllib.loads(text)
        lines = key_lines(text)
    except tomllib.TOMLDecodeError as error:
        found = _LINE_OF_ERROR.search(str(error))
        line = int(found[1]) if found else text.rstrip("\n").count("\n") + 1
        raise ConfigurationError(f"is not TOML: {_LINE_OF_ERROR.sub('', str(error))}", file=name, line=line) from None
    except (ValueError, RecursionError) as error:
        # A number of thousands of digits or a date that is none, or brackets nested by the thousand.
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ConfigurationError(f"is not TOML: {reason}", file=name) from None
    table = Table(name, data, lines)
    _refuse_huge_integers(table)
    return table


def unknown_word(what: str, word: str, allowed: Iterable[str]) -> str:
    """The message about a word that is not allowed, with the nearest one that is."""
    return f"unknown {what} {shown(word)}{did_you_mean(word, allowed)}; allowed: {', '.join(allowed) or 'none'}"


def did_you_mean(word: str, allowed: Iterable[str]) -> str:
    """` (did you mean "every"?)`, or nothing when no allowed word is near."""
    near = get_close_matches(word, list(allowed), n=1)
    return f' (did you mean "{near[0]}"?)' if near else ""


def shown(value: object) -> str:
    """A value as a message shows it: on one line, cut when long."""
    text = repr(value)
    if isinstance(value, str) and value.isprintable() and '"' not in value:
        text = f'"{value}"'
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"


def duration(value_s: float) -> str:
    """Seconds as people write them in a profile: 90 -> 90s, 172800 -> 2d."""
    for unit, seconds in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        if value_s >= seconds and value_s % seconds == 0:
            return f"{value_s / seconds:.0f}{unit}"
    return f"{value_s * 1000:g}ms" if value_s < 1 else f"{value_s:g}s"


def _refuse_huge_integers(table: Table) -> None:
    """TOML's integers have 64 bits; Python's have no end, and overflow where they become floats."""
    waiting: list[tuple[KeyPath, object]] = [((), table.data)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, dict):
            waiting += (((*path, key), element) for key, element in value.items())
        elif isinstance(value, list):
            waiting += (((*path, i), element) for i, element in enumerate(value))
        elif isinstance(value, int) and not -_MAX_INTEGER - 1 <= value <= _MAX_INTEGER:
            raise table.error("a whole number is beyond 64 bits", *path)
