"""Names made fit to be shown and sent."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gengfu_checks.local.plain_text import MAX_ITEM_CHARS, plain


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("/srv/my files", "/srv/my files"),
        ("/数据/备份", "/数据/备份"),
        ("/a\nb\x1b[31m", "/a\\x0ab\\x1b[31m"),
        ("/\udcff\udc80", "/\\xff\\x80"),
        ("a\u202egpj.exe", "a\\u202egpj.exe"),
        ("a\u200bb", "a\\u200bb"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_what_does_not_print_is_escaped(raw: str, shown: str) -> None:
    assert plain(raw) == shown


@given(st.text(st.characters(codec=None)))
def test_any_text_becomes_short_valid_and_visible(raw: str) -> None:
    shown = plain(raw)
    assert len(shown) <= MAX_ITEM_CHARS
    shown.encode()
    assert all(c.isprintable() or unicodedata.category(c) == "Zs" for c in shown)
    assert plain(shown) == shown


def test_long_names_that_begin_alike_stay_different() -> None:
    first, second = "/a" * 500 + "1", "/a" * 500 + "2"
    assert len(plain(first)) == MAX_ITEM_CHARS
    assert plain(first) != plain(second)
    assert plain(first) == plain(first)
