"""Texts from other machines are harmless to show."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gengfu_proto.errors import LimitExceeded
from gengfu_proto.text import clean, shorten

REORDERING = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
ANY_TEXT = st.text(st.characters(codec=None), max_size=50)


@given(ANY_TEXT)
def test_what_is_cleaned_can_be_shown_and_stored(text: str) -> None:
    shown = clean(text, 50, "text")
    shown.encode("utf-8")
    assert len(shown) == len(text)
    assert {unicodedata.category(c) for c in shown}.isdisjoint({"Cc", "Cs", "Zl", "Zp"})
    assert {unicodedata.bidirectional(c) for c in shown}.isdisjoint(REORDERING)


@pytest.mark.parametrize("text", ["disk /", "更夫 10.0.0.1", "naïve — “quoted” €5", "𠮷野家 👩"])
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert clean(text, 50, "text") == text


@pytest.mark.parametrize(
    ("bad", "shown"),
    [
        ("a\x00b", "a\ufffdb"),
        ("\x1b[31m", "\ufffd[31m"),
        ("a\nb", "a\ufffdb"),
        ("\x85", "\ufffd"),
        ("\u2028", "\ufffd"),
        ("\u202egnp.exe", "\ufffdgnp.exe"),
        ("\u200b", "\ufffd"),
        ("\ufeff", "\ufffd"),
        ("\ud800", "\ufffd"),
    ],
)
def test_what_could_deceive_is_replaced(bad: str, shown: str) -> None:
    assert clean(bad, 50, "text") == shown


def test_the_limit_counts_characters_and_names_what_is_too_long() -> None:
    assert clean("夫" * 5, 5, "item") == "夫" * 5
    with pytest.raises(LimitExceeded, match="item has 6 characters, at most 5"):
        clean("夫" * 6, 5, "item")


@given(ANY_TEXT, st.integers(1, 50))
def test_shortened_text_fits_and_shows_that_it_was_cut(text: str, limit: int) -> None:
    short = shorten(text, limit)
    assert len(short) <= limit
    assert short == text if len(text) <= limit else short == text[: limit - 1] + "…"
