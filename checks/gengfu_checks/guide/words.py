"""What kinds, metrics and facts are called in Chinese and English, and how their values are shown to people.

They stand in the file of their kind, before its articles:

    title = { zh = "磁盘空间", en = "disk space" }

    [metrics]
    used_ratio = { zh = "已用", en = "used" }                            # by the unit in its name: 93.4%
    read_only = { zh = "只读", en = "read-only", format = "yesno" }      # or by a format of `guide.text`

    [facts]
    duplex = { zh = "双工", en = "duplex", values = { full = "全双工", half = "半双工" } }

`values` are the Chinese of words that the check writes, alone or in a list. `common.toml` has facts that many kinds
tell, and `[phrases]`: the Chinese of whole sentences for every fact with `phrases = true`. A {} in either stands for
anything. What a third party's check brings has no words here and is shown by its name.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gengfu_checks.guide import files, text
from gengfu_checks.model import Fact

_FORMAT_BY_SUFFIX = (
    ("_bits_per_second", "bit_rate"),
    ("_bytes_per_second", "byte_rate"),
    ("_per_second", "rate"),
    ("_bytes_total", "bytes"),
    ("_bytes", "bytes"),
    ("_seconds_total", "duration"),
    ("_seconds", "duration"),
    ("_s", "duration"),
    ("_ratio", "percent"),
    ("_celsius", "celsius"),
    ("_hertz", "hertz"),
    ("_dbm", "dbm"),
    ("_total", "number"),
)
_LANGUAGE_SUFFIXES = {"zh": ("_zh", "_en"), "en": ("_en", "_zh")}
_LIST_SEPARATOR = ", "
_MAX_VALUE_CHARS = 500
"""Longer texts are nobody's sentence."""
_MAX_CACHED = 2000


@dataclass(frozen=True, slots=True)
class Word:
    """A name in both languages. `values` are Chinese by English.

    `format` is one of `text.FORMATS` or `text.TEXT_FORMATS`, "" for none.
    """

    zh: str
    en: str
    format: str = ""
    values: Mapping[str, str] = field(default_factory=dict)
    phrases: bool = False

    def name(self, language: str) -> str:
        """The name in Chinese for "zh", else in English."""
        return self.zh if language == "zh" else self.en


def kind_of(code: str, check: str, metrics: Iterable[str] = ()) -> str:
    """The kind of check that a finding comes from.

    Told by its code, else by the check's name, which is the kind unless a profile says otherwise, else by the metrics
    if one kind alone has them all; the check's name when nothing tells.
    """
    prefix, measured = code.partition(".")[0], set(metrics)
    if prefix in files.names():
        return prefix
    if check in files.names() or not measured:
        return check
    fitting = [name for name in files.names() if measured <= files.tables(name).get("metrics", {}).keys()]
    return fitting[0] if len(fitting) == 1 else check


def kind_title(kind: str, language: str) -> str:
    """What a kind of check is about; its name when it is a third party's."""
    table = files.tables(kind).get("title")
    return Word(**table).name(language) if table else kind


def metric_title(kind: str, name: str, language: str) -> str:
    """What a metric is called: `used_ratio` of disk -> "used"."""
    return _metric(kind, name).name(language)


def metric_value(kind: str, name: str, value: float, language: str) -> str:
    """A metric's value in its unit: 0.934 -> "93.4%"."""
    return text.show(value, _metric(kind, name).format, language)


def fact_value(kind: str, name: str, value: object, language: str) -> object:
    """A fact's value in the reader's language where it is one of our own texts; anything else as it is."""
    word = _fact(kind, name)
    if language != "zh" or not isinstance(value, str) or len(value) > _MAX_VALUE_CHARS:
        return value
    parts = value.split(_LIST_SEPARATOR)
    chinese = [translated(word.values, part) or part for part in parts]
    if chinese != parts:
        return _LIST_SEPARATOR.join(chinese)
    return (word.phrases and translated(files.tables(files.COMMON)["phrases"], value)) or value


def translated(values: Mapping[str, str], english: str) -> str | None:
    """The Chinese of a text by the first template that it fits, of what stands for {} too; None when it fits none."""
    for template, chinese in values.items():
        found = _pattern(template).fullmatch(english)
        if found:
            return chinese.format(*(translated(values, part) or part for part in found.groups()))
    return None


def details(kind: str, metrics: Mapping[str, float], facts: Mapping[str, Fact], language: str) -> list[str]:
    """Metrics, then facts, one clean text each: "used 93.4%". Of a fact in two languages (`title_zh`) the reader's."""
    own, other = _LANGUAGE_SUFFIXES[language]
    shown = [f"{metric_title(kind, n, language)} {metric_value(kind, n, v, language)}" for n, v in metrics.items()]
    told = {name.removesuffix(own): value for name, value in facts.items() if not name.endswith(other)}
    for name, value in told.items():
        word = _fact(kind, name)
        shown.append(
            f"{word.name(language)} {text.show(fact_value(kind, name, value, language), word.format, language)}"
        )
    return [text.clean(part, text.MAX_LINE_CHARS) for part in shown]


@functools.lru_cache(_MAX_CACHED)
def _metric(kind: str, name: str) -> Word:
    return _named(files.tables(kind).get("metrics", {}).get(name), name)


@functools.lru_cache(_MAX_CACHED)
def _fact(kind: str, name: str) -> Word:
    own = files.tables(kind).get("facts", {}).get(name)
    return _named(own or files.tables(files.COMMON)["facts"].get(name), name)


def _named(table: Mapping[str, Any] | None, name: str) -> Word:
    suffix, shown_as = next(((s, f) for s, f in _FORMAT_BY_SUFFIX if name.endswith(s)), ("", ""))
    if table is None:
        bare = name.removesuffix(suffix).replace("_", " ")
        return Word(bare, bare, shown_as)
    return Word(**{"format": shown_as, **table})


@functools.cache
def _pattern(template: str) -> re.Pattern[str]:
    return re.compile("(.*?)".join(map(re.escape, template.split("{}"))))
