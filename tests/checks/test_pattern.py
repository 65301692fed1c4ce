"""Patterns mean what `re` means, and no pattern and no text makes them slow."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gengfu_checks.local.pattern import (
    MAX_CACHED_MOVES,
    MAX_PATTERN_CHARS,
    MAX_TEXT_CHARS,
    Pattern,
    PatternError,
)

ATOMS = st.sampled_from(
    (
        *("a", "b", "A", "-", ".", r"\.", r"\d", r"\D", r"\w", r"\W", r"\s", r"\S", "/", "^", "$", "é"),
        *("[ab]", "[^a]", "[a-c]", "[^b-z]", r"[\d-]", "[]a]", "[^]a]", r"[\w.]", r"[a\]]"),
    )
)
TEXTS = st.text(st.sampled_from("abcABz019-._/ ]é\t"), max_size=12)
NOT_REPEATABLE = ("^", "$")


def _extend(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    counts = st.sampled_from(["*", "+", "?", "{2}", "{0,2}", "{1,3}", "{2,}", "{0}", "*?", "+?", "??"])
    return st.one_of(
        st.lists(inner, min_size=1, max_size=3).map("".join),
        st.lists(inner, min_size=1, max_size=3).map(lambda ways: "(?:" + "|".join(ways) + ")"),
        st.tuples(inner, counts).map(lambda pair: f"({pair[0]}){pair[1]}"),
        st.tuples(ATOMS.filter(lambda a: a not in NOT_REPEATABLE), counts).map("".join),
    )


PATTERNS = st.recursive(ATOMS, _extend, max_leaves=7).filter(lambda p: len(p) <= 60)


@settings(max_examples=1000)
@given(PATTERNS, st.sampled_from(["", "(?i)"]), st.lists(TEXTS, min_size=1, max_size=6))
def test_it_finds_what_re_finds(pattern: str, flags: str, texts: list[str]) -> None:
    compiled = Pattern(flags + pattern)
    reference = re.compile(flags + pattern, re.DOTALL)
    for text in texts:
        assert compiled.search(text) == (reference.search(text) is not None), (pattern, text)


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("^$", "", True),
        ("$^", "", True),
        ("^$", "a", False),
        ("(^|/)java$", "/usr/bin/java", True),
        ("(^|/)java$", "/usr/bin/javac", False),
        (r"java.*-jar\s+\S*(erp|crm)\.jar", "/usr/bin/java -Xmx1g -jar /opt/erp.jar", True),
        (r"(?i)sap(gui|logon)", "SAPlogon.exe", True),
        ("(?i)[^a]", "A", False),
        ("更夫", "巡检 更夫", True),
    ],
)
def test_by_example(pattern: str, text: str, found: bool) -> None:
    assert Pattern(pattern).search(text) is found


@pytest.mark.parametrize(
    "pattern",
    [
        *("(", ")", "a)", "(a", "[a", "[", "a**", "a*+", "*a", "|*", "^*", "a{", "a{2,1}", "a{,2}", "a{1000}", "\\"),
        *(r"\b", r"\1", r"\Z", "(?=a)", "(?P<x>a)", "(?<!a)", "a(?i)", "[b-a]"),
        *(r"[\b]", "", "x" * (MAX_PATTERN_CHARS + 1), "(" * 17 + "a" + ")" * 17, "(a{100}){100}", "((a?){30}){30}"),
    ],
)
def test_what_cannot_be_used_is_refused(pattern: str) -> None:
    with pytest.raises(PatternError):
        Pattern(pattern)


@pytest.mark.filterwarnings("ignore:Possible (nested set|set):FutureWarning")  # of `re`, the reference
@example("[1||]")
@given(st.text(st.sampled_from("a(|)*+?{}[]^$.\\-,19d:i"), max_size=30))
def test_any_text_compiles_to_the_meaning_of_re_or_is_refused(text: str) -> None:
    try:
        compiled = Pattern(text)
    except PatternError:
        return
    assert compiled.search("a1-a.") == (re.search(text, "a1-a.", re.DOTALL) is not None)


HOSTILE = [
    ("(a+)+$", "a" * MAX_TEXT_CHARS + "b"),
    ("(a|aa)+$", "a" * (MAX_TEXT_CHARS - 1) + "b"),
    ("(a?){60}a{60}b", "a" * MAX_TEXT_CHARS),
    (".*a.*a.*a.*a.*a.*a.*a.*a.*b", "a" * MAX_TEXT_CHARS),
    ("((((((a{0}){999}){999}){999}){999}){999}){999}b", "a" * MAX_TEXT_CHARS),
    ("(((((((){999}){999}){999}){999}){999}){999})b", "a" * MAX_TEXT_CHARS),
    ("((a*)*)*b", "a" * MAX_TEXT_CHARS),
    (r"(\w|[^x]|\D|.){39}y", "".join(chr(0x4E00 + n) for n in range(MAX_TEXT_CHARS))),
]


@pytest.mark.parametrize(("pattern", "text"), HOSTILE)
def test_work_grows_with_the_text_and_never_explodes(pattern: str, text: str) -> None:
    compiled = Pattern(pattern)
    tried = 0
    for step in compiled._program:
        if (test := step.test) is not None:

            def counted(character: str, test: object = test) -> bool:
                nonlocal tried
                tried += 1
                return test(character)  # type: ignore[operator,no-any-return]

            step.test = counted
    assert not compiled.search(text)
    assert tried <= len(text) * len(compiled._program)


def test_only_the_beginning_of_a_text_is_searched() -> None:
    assert Pattern("b").search("a" * (MAX_TEXT_CHARS - 1) + "b")
    assert not Pattern("b").search("a" * MAX_TEXT_CHARS + "b")
    assert Pattern("a$").search("a" * MAX_TEXT_CHARS)
    assert not Pattern("a$").search("a" * MAX_TEXT_CHARS + "b")


def test_what_it_remembers_stays_bounded() -> None:
    compiled = Pattern("(a|b).{3}c")
    for start in range(0x4E00, 0x4E00 + 20_000, 100):
        compiled.search("".join(chr(n) for n in range(start, start + 100)))
    assert 0 < len(compiled._moves) <= MAX_CACHED_MOVES
