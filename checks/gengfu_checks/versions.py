"""Comparing versions of software by the rules of whoever numbered them. Pure; numbers of any length cost no more."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import zip_longest

_DIGITS = "0123456789"
_DOTTED = re.compile(r"\d{1,18}(?:[.,]\d{1,18}){0,15}", re.ASCII)


def compare_debian(a: str, b: str) -> int:
    """-1, 0 or 1 as Debian orders `[epoch:]upstream[-revision]` (deb-version(7))."""
    epoch_a, upstream_a, revision_a = _debian_parts(a)
    epoch_b, upstream_b, revision_b = _debian_parts(b)
    return (
        _numeric(epoch_a, epoch_b)
        or _debian_part(upstream_a, upstream_b)
        or _debian_part(revision_a or "0", revision_b or "0")
    )


def compare_rpm(a: str, b: str) -> int:
    """-1, 0 or 1 as rpm orders `[epoch:]version[-release]` (rpm-version(7)); a release counts when both have one."""
    epoch_a, version_a, release_a = _rpm_parts(a)
    epoch_b, version_b, release_b = _rpm_parts(b)
    found = _numeric(epoch_a, epoch_b) or _rpm_part(version_a, version_b)
    return found or (_rpm_part(release_a, release_b) if release_a and release_b else 0)


def compare_dotted(a: str, b: str) -> int | None:
    """-1, 0 or 1 of the first dotted numbers in two texts (`10.0.19045.1`, `24.08 (x64)`); missing ones are 0.

    None when one of them has no number.
    """
    numbers_a, numbers_b = _dotted(a), _dotted(b)
    if numbers_a is None or numbers_b is None:
        return None
    for left, right in zip_longest(numbers_a, numbers_b, fillvalue=0):
        if left != right:
            return _sign(left > right)
    return 0


def is_at_least(installed: str, wanted: str, source: str) -> bool | None:
    """Whether an installed version is the wanted one or newer; `source` is that of `software.Software`.

    An epoch counts when the wanted version names one, so that "9.2" is not met by 1:8.4. None when that cannot be said.
    """
    compare = _BY_SOURCE.get(source, compare_dotted)
    if compare is not compare_dotted and ":" not in wanted:
        installed = installed.partition(":")[2] or installed
    found = compare(installed, wanted) if installed else None
    return None if found is None else found >= 0


_BY_SOURCE: dict[str, Callable[[str, str], int | None]] = {"dpkg": compare_debian, "rpm": compare_rpm}


def _debian_parts(version: str) -> tuple[str, str, str]:
    epoch, colon, rest = version.strip().partition(":")
    if not colon:
        epoch, rest = "", epoch
    upstream, hyphen, revision = rest.rpartition("-")
    return epoch, *((upstream, revision) if hyphen else (rest, ""))


def _rpm_parts(version: str) -> tuple[str, str, str]:
    epoch, colon, rest = version.strip().partition(":")
    if not colon:
        epoch, rest = "", epoch
    name, _, release = rest.partition("-")
    return epoch, name, release


def _debian_part(a: str, b: str) -> int:
    at_a = at_b = 0
    while at_a < len(a) or at_b < len(b):
        while (at_a < len(a) and a[at_a] not in _DIGITS) or (at_b < len(b) and b[at_b] not in _DIGITS):
            left, right = _debian_order(a, at_a), _debian_order(b, at_b)
            if left != right:
                return _sign(left > right)
            at_a, at_b = at_a + 1, at_b + 1
        number_a, at_a = _digits(a, at_a)
        number_b, at_b = _digits(b, at_b)
        found = _numeric(number_a, number_b)
        if found:
            return found
    return 0


def _debian_order(text: str, at: int) -> int:
    """A tilde sorts before the end, the end (and a digit) before letters, letters before everything else."""
    if at >= len(text) or text[at] in _DIGITS:
        return 0
    character = text[at]
    if character == "~":
        return -1
    return ord(character) if character.isascii() and character.isalpha() else ord(character) + 256


def _rpm_part(a: str, b: str) -> int:
    at_a, at_b = _rpm_skip(a, 0), _rpm_skip(b, 0)
    while True:
        left, right = a[at_a : at_a + 1], b[at_b : at_b + 1]
        if "~" in (left, right):
            if left != right:
                return _sign(right == "~")
            at_a, at_b = _rpm_skip(a, at_a + 1), _rpm_skip(b, at_b + 1)
        elif "^" in (left, right):
            if left != right:  # a caret is newer than the end and older than anything else
                return _sign((left == "^") == ("" in (left, right)))
            at_a, at_b = _rpm_skip(a, at_a + 1), _rpm_skip(b, at_b + 1)
        elif not left or not right:
            return 0 if left == right else _sign(bool(left))
        else:
            take = _digits if left in _DIGITS else _letters
            part_a, at_a = take(a, at_a)
            part_b, at_b = take(b, at_b)
            if not part_b:
                return _sign(take is _digits)
            found = _numeric(part_a, part_b) if take is _digits else (part_a > part_b) - (part_a < part_b)
            if found:
                return found
            at_a, at_b = _rpm_skip(a, at_a), _rpm_skip(b, at_b)


def _rpm_skip(text: str, at: int) -> int:
    """Step over separators: whatever is no ASCII letter, digit, tilde or caret."""
    while at < len(text) and not (text[at].isascii() and (text[at].isalnum() or text[at] in "~^")):
        at += 1
    return at


def _digits(text: str, at: int) -> tuple[str, int]:
    end = at
    while end < len(text) and text[end] in _DIGITS:
        end += 1
    return text[at:end], end


def _letters(text: str, at: int) -> tuple[str, int]:
    end = at
    while end < len(text) and text[end].isascii() and text[end].isalpha():
        end += 1
    return text[at:end], end


def _numeric(a: str, b: str) -> int:
    """Order of two digit strings, however long."""
    a, b = a.lstrip("0"), b.lstrip("0")
    left, right = (len(a), a), (len(b), b)
    return (left > right) - (left < right)


def _dotted(text: str) -> tuple[int, ...] | None:
    match = _DOTTED.search(text)
    return None if match is None else tuple(int(part) for part in re.split("[.,]", match[0]))


def _sign(is_greater: bool) -> int:
    return 1 if is_greater else -1
