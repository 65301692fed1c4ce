"""What one look at a machine found, and what it could not look at."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from gengfu_checks.errors import CannotMeasure
from gengfu_checks.local.plain_text import plain
from gengfu_checks.model import Fact, InventoryEntry, UnreadCategory

MAX_OF_A_CATEGORY = 1_000
"""Entries of one category, but for software: more disks or printers than any machine has."""
MAX_TEXT_CHARS = 200
MAX_BYTES = 2**60

# What firmware says where nobody has put anything in.
_NOTHING = re.compile(
    r"(to be filled by o\.?e\.?m\.?|default string|not (specified|applicable|available|settable|present)|none|unknown"
    r"|undefined|n/?a|no asset (information|tag)|no dimm|(system|chassis|base board|board)[ _-]?(serial[ _-]?number"
    r"|product name|manufacturer|version|asset tag)|[0x. -]*|f{8,}|1?23456789|o\.e\.m\.|empty|\(none\))",
    re.IGNORECASE,
)


_CALLED = {"memory/total": "RAM"}


@dataclass(slots=True)
class Collected:
    """Entries by key, and categories that could not be looked at as a whole."""

    entries: dict[str, InventoryEntry] = field(default_factory=dict)
    unread: dict[str, UnreadCategory] = field(default_factory=dict)

    def take(self, category: str, found: Iterable[InventoryEntry]) -> None:
        """Take in what was found of a category; of two with one key the first stays. Notes why when it cannot."""
        try:
            for number, entry in enumerate(found):
                if number >= MAX_OF_A_CATEGORY:
                    break
                self.entries.setdefault(entry.key, entry)
        except CannotMeasure as error:
            self.note(category, error)

    def note(self, category: str, error: CannotMeasure) -> None:
        """Note why a category could not be looked at as a whole; the first reason stays."""
        self.unread.setdefault(category, UnreadCategory(category, error.code, error.facts))


def entry(key: Iterable[str], category: str, facts: Mapping[str, object]) -> InventoryEntry:
    """Return an entry whose key is made of these parts; facts that say nothing are left out."""
    return InventoryEntry("/".join(key), category, dict(_telling(facts)))


def name_of(key: str, facts: Mapping[str, Fact]) -> str:
    """What people call a thing."""
    named = (str(facts[fact]) for fact in ("model", "name", "slot", "address") if facts.get(fact))
    return next(named, _CALLED.get(key, key))


def said(text: object) -> str:
    """What firmware or a driver really says in a text: "" for the fillers that stand where nothing was put in."""
    if not isinstance(text, str):
        return ""
    words = plain(" ".join(text.split()), MAX_TEXT_CHARS)
    return "" if _NOTHING.fullmatch(words) else words


def size(number: object) -> int | None:
    """A number of bytes that can be one."""
    if isinstance(number, str) and number.isascii() and number.isdecimal() and len(number) < 20:
        number = int(number)
    if isinstance(number, bool) or not isinstance(number, int) or not 0 < number <= MAX_BYTES:
        return None
    return number


def _telling(facts: Mapping[str, object]) -> Iterator[tuple[str, Fact]]:
    for name, value in facts.items():
        if isinstance(value, bool | int | float) or (isinstance(value, str) and value):
            yield name, value
