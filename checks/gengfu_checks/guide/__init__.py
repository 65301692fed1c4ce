"""The built-in knowledge base: what every code means and what to do about it, in Chinese and English.

Collectors and command lines render texts for people from here; checks and a running agent never import it.

An article lives in the file named after the part of its code before the dot (`disk.nearly_full` in `disk.toml`), or in
`common.toml` where there is no such file:

    ["disk.nearly_full"]
    category = "hardware"            # software, hardware, network, security or other
    facts = ["fs_type"]              # every fact that a summary below uses; metrics need no declaration

    ["disk.nearly_full".zh]
    title = "磁盘空间不足"
    summary = "[{item}：]已用 {used_ratio:percent}，剩余 {free_bytes:bytes}[，阈值 {limit:percent}]"
    meaning = "one paragraph"
    remedy = ["first step", "second step"]

    ["disk.nearly_full".en]
    ...

A part of a summary in square brackets is left out when a value inside it is missing (the item "" and the limit of a
problem without threshold are); elsewhere a missing value shows as `?`. Beside its metrics and declared facts a summary
may use {item}, {limit}, {code}, {metric} (title of the breached one), {value} and {bound} (of that one, and its limit,
both in its unit). A text of somebody's own comes as two facts, `reason_zh` and `reason_en`, and is shown as {reason}.
Formats: `guide.text`; what metrics and facts are called: `guide.words`.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gengfu_checks.guide import files, text, words
from gengfu_checks.model import CODE_PATTERN, Fact

LANGUAGES = ("zh", "en")

_ANY_OTHER_CODE = "*"


class Category(enum.StrEnum):
    """What kind of trouble a code is; tickets are routed and counted by it."""

    SOFTWARE = "software"
    HARDWARE = "hardware"
    NETWORK = "network"
    SECURITY = "security"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Text:
    """An article in one language. `summary` is a template of one line, `remedy` the steps in order."""

    title: str
    summary: str
    meaning: str
    remedy: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Article:
    """What is known about one code. `facts` names the facts that its summaries use."""

    code: str
    category: Category
    facts: tuple[str, ...]
    zh: Text
    en: Text

    def text(self, language: str) -> Text:
        """The article in Chinese for `zh`, `zh-CN`, `zh_TW` ..., else in English."""
        return self.zh if _is_chinese(language) else self.en


def article(code: str) -> Article:
    """The article of a code. A code that is not in the guide (a third party's) gets one that says so."""
    found = _file(_file_of(code)).get(code)
    return found or _file(files.COMMON)[_ANY_OTHER_CODE]


def summary(
    code: str,
    language: str,
    item: str,
    facts: Mapping[str, Fact],
    metrics: Mapping[str, float],
    limit: float | None,
    *,
    metric: str = "",
    check: str = "",
) -> str:
    """One line that tells a finding to people; never raises and never holds control characters.

    `limit` and `metric` are those of the finding's breach, if it has one; `check` is the name of its check, which tells
    the kind where the code does not. Everything but the templates is hostile: values are cleaned and bounded, names
    that fit nothing are ignored. A metric hides a fact of the same name.
    """
    language = "zh" if _is_chinese(language) else "en"
    kind = words.kind_of(code, check, metrics)
    own = {name[:-3]: value for name, value in facts.items() if name.endswith(f"_{language}")}
    told = {name: words.fact_value(kind, name, value, language) for name, value in facts.items()}
    values: dict[str, object] = {**own, **told, **metrics, "item": item, "code": code}
    if metric:
        values["metric"] = words.metric_title(kind, metric, language)
        for name, number in (("value", metrics.get(metric)), ("bound", limit)):
            values[name] = None if number is None else words.metric_value(kind, metric, number, language)
    if limit is not None:
        values["limit"] = limit
    return text.render(article(code).text(language).summary, values, language)


def codes() -> set[str]:
    """Every code that has an article of its own."""
    return {code for name in files.names() for code in _file(name)} - {_ANY_OTHER_CODE}


def _is_chinese(language: str) -> bool:
    return language.lower().startswith("zh")


def _file_of(code: str) -> str:
    if CODE_PATTERN.fullmatch(code):
        prefix = code.partition(".")[0]
        if prefix in files.names():
            return prefix
    return files.COMMON


@functools.cache
def _file(name: str) -> dict[str, Article]:
    return {code: _article(code, table) for code, table in files.tables(name).items() if code not in files.WORDS}


def _article(code: str, table: dict[str, Any]) -> Article:
    return Article(
        code=code,
        category=Category(table["category"]),
        facts=tuple(table.get("facts", ())),
        zh=_text(table["zh"]),
        en=_text(table["en"]),
    )


def _text(table: dict[str, Any]) -> Text:
    return Text(table["title"], table["summary"], table["meaning"], tuple(table["remedy"]))
