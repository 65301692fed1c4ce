"""The knowledge base is complete, used, and renders whatever a finding can hold."""

from __future__ import annotations

import re
import tomllib
import unicodedata
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gengfu_checks import codes, guide, registry
from gengfu_checks.guide import text
from gengfu_checks.guide.files import WORDS
from gengfu_checks.guide.text import PLACEHOLDER
from gengfu_checks.model import CODE_PATTERN, OK_CODE, CheckKind

FOLDER = Path(guide.__file__).parent
BREACH_VALUES = {"limit", "metric", "value", "bound"}
ALWAYS_THERE = {"item", "code"}
CHINESE = re.compile(r"[\u4e00-\u9fff]")
HALF_WIDTH_AFTER_CHINESE = re.compile(r"[\u4e00-\u9fff][,;:?!]")


@cache
def kinds() -> list[CheckKind]:
    """Every built-in check."""
    return [registry.load(name) for name in registry.BUILT_IN]


@cache
def raised_codes() -> set[str]:
    """Every code that anything of ours can put into a finding or a fault."""
    return {code for kind in kinds() for code in kind.all_codes} | set(codes.ALL) | {OK_CODE}


ARTICLES = sorted(guide.codes())
TEXTS = [(code, language) for code in [*ARTICLES, "third_party.code"] for language in guide.LANGUAGES]


def test_every_code_has_an_article() -> None:
    assert sorted(raised_codes() - guide.codes()) == []


def test_no_article_is_unused() -> None:
    assert sorted(guide.codes() - raised_codes()) == []


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.toml")), ids=lambda path: path.stem)
def test_files_hold_what_their_name_says_and_nothing_else(path: Path) -> None:
    tables = tomllib.loads(path.read_text("utf-8"))
    for code, table in tables.items():
        if code in WORDS:
            continue
        assert set(table) <= {"category", "facts", "zh", "en"}, code
        assert CODE_PATTERN.fullmatch(code) or (code, path.stem) == ("*", "common")
        for language in guide.LANGUAGES:
            assert set(table[language]) == {"title", "summary", "meaning", "remedy"}, code
        if path.stem == "common":
            assert not (FOLDER / f"{code.partition('.')[0]}.toml").exists(), f"{code} belongs into its own file"
        else:
            assert code.startswith(f"{path.stem}."), code
            assert path.stem in {*registry.BUILT_IN, "agent", "inventory"}


@pytest.mark.parametrize(("code", "language"), TEXTS)
def test_an_article_is_complete_and_in_its_language(code: str, language: str) -> None:
    article = guide.article(code).text(language)
    whole = [article.title, article.meaning, *article.remedy]
    assert len(article.remedy) >= 1
    for part in [*whole, article.summary]:
        assert part == part.strip()
        assert part
        assert "\n" not in part
    for part in whole:
        assert not re.search(r"[{}]", re.sub(r"`[^`]*`", "", part)), part
        assert bool(CHINESE.search(part)) == (language == "zh"), part
        assert part.count("`") % 2 == 0, part
        assert part is article.title or part[-1] in "。？）.?)", part
    if language == "zh":
        assert not [part for part in whole if HALF_WIDTH_AFTER_CHINESE.search(part)]
    assert len(article.title) <= (24 if language == "zh" else 60)


def test_both_languages_tell_the_same_values() -> None:
    for code in ARTICLES:
        article = guide.article(code)
        zh, en = ({match[1] for match in PLACEHOLDER.finditer(t.summary)} for t in (article.zh, article.en))
        assert zh - {"item"} == en - {"item"}, code


@pytest.mark.parametrize(("code", "language"), TEXTS)
def test_placeholders_are_values_that_can_be_there(code: str, language: str) -> None:
    article = guide.article(code)
    template = article.text(language).summary
    metrics = {m.name for kind in kinds() if code in kind.all_codes for m in kind.metrics}
    names = {match[1] for match in PLACEHOLDER.finditer(template)}
    assert names <= metrics | set(article.facts) | ALWAYS_THERE | BREACH_VALUES
    assert {match[2] for match in PLACEHOLDER.finditer(template)} <= {None, *text.FORMATS, *text.TEXT_FORMATS}
    assert "{" not in PLACEHOLDER.sub("", template)
    assert re.fullmatch(r"(\[[^\[\]]+\]|[^\[\]])*", template), "brackets do not nest and are closed"
    outside = re.sub(r"\[[^\[\]]*\]", "", template)
    certain = {match[1] for match in PLACEHOLDER.finditer(outside)}
    assert not certain & (BREACH_VALUES | {"item"}), "a limit or an item may be missing: put it into brackets"


def test_every_declared_fact_is_used() -> None:
    for code in ARTICLES:
        article = guide.article(code)
        used = {match[1] for match in PLACEHOLDER.finditer(article.zh.summary + article.en.summary)}
        assert set(article.facts) <= used, code


@pytest.mark.parametrize(("code", "language"), TEXTS)
def test_a_summary_renders_with_all_values_and_with_none(code: str, language: str) -> None:
    article = guide.article(code)
    facts = dict.fromkeys(article.facts, 3)
    metrics = {match[1]: 0.5 for match in PLACEHOLDER.finditer(article.text(language).summary)}
    full = guide.summary(code, language, "thing", facts, {k: v for k, v in metrics.items() if k not in facts}, 0.25)
    assert full
    assert not re.search(r"[\[\]{}?]", full)
    bare = guide.summary(code, language, "", {}, {}, None)
    assert bare
    assert not re.search(r"[\[\]{}]", bare)


FACTS = st.dictionaries(
    st.one_of(st.sampled_from(["item", "limit", "reason", "timeout_s", "metric", "since", "code"]), st.text()),
    st.one_of(st.text(st.characters(), max_size=300), st.integers(), st.floats(), st.booleans(), st.just(10**400)),
    max_size=5,
)


@given(
    st.one_of(st.sampled_from(ARTICLES), st.text(max_size=40), st.just("../common"), st.just("common.x")),
    st.sampled_from(["zh", "en", "zh-CN", "fr", ""]),
    st.text(st.characters(), max_size=300),
    FACTS,
    st.dictionaries(st.sampled_from(["limit", "item", "used_ratio", "count"]), st.floats()),
    st.one_of(st.none(), st.floats()),
    st.text(max_size=20),
)
def test_a_summary_never_fails_and_is_one_clean_line(
    code: str,
    language: str,
    item: str,
    facts: dict[str, str | int | float | bool],
    metrics: dict[str, float],
    limit: float | None,
    metric: str,
) -> None:
    line = guide.summary(code, language, item, facts, metrics, limit, metric=metric)
    assert len(line) <= text.MAX_LINE_CHARS
    assert not [c for c in line if unicodedata.category(c)[0] == "C"]


def test_a_third_partys_code_is_shown_as_what_it_is() -> None:
    article = guide.article("coffee.cold")
    assert article.category is guide.Category.OTHER
    assert "knowledge base" in article.en.meaning
    assert guide.summary("coffee.cold", "en", "kitchen", {}, {"celsius": 20.0}, 50.0, metric="celsius") == (
        "kitchen: coffee.cold, celsius is 20, limit 50"
    )
    assert guide.summary("coffee.cold", "zh", "", {}, {}, None) == "coffee.cold"
    assert "*" not in guide.codes()


def test_summaries_by_example() -> None:
    breach = {"load5": 9.0, "cpus": 2.0, "load5_per_cpu_ratio": 4.5}
    assert guide.summary("cpu.load_high", "en", "load", {}, breach, 3.0) == (
        "load over 5 minutes is 9 on 2 logical CPUs, 4.5 for each, limit 3"
    )
    assert guide.summary("check.timed_out", "zh-CN", "/mnt/nas", {"timeout_s": 90}, {}, None) == (
        "/mnt/nas：检查未能在 1 分钟 30 秒内完成"
    )


def test_language_tags() -> None:
    article = guide.article("ok")
    assert [article.text(tag) for tag in ("zh", "zh-CN", "ZH_tw")] == [article.zh] * 3
    assert [article.text(tag) for tag in ("en", "en-GB", "de", "")] == [article.en] * 4
