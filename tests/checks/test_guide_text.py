"""Templates and formats, with values that nobody can trust."""

from __future__ import annotations

import math
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gengfu_checks.guide.text import FORMATS, MAX_LINE_CHARS, MAX_VALUE_CHARS, clean, render

ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters(), max_size=400),
    st.sampled_from([10**400, -(10**5000), math.nan, math.inf, "\x1b[2J", "{b}", "[{b}]", "\u202eevil", "\ud800"]),
)
TEMPLATES = st.lists(
    st.sampled_from(
        ["{a}", "{b:percent}", "[，{c:bytes}]", "[{a} {b}]", "{d:duration}", "{c:number}", " text ", "中文"]
    )
).map("".join)


@given(TEMPLATES, st.dictionaries(st.sampled_from("abcd"), ANYTHING), st.sampled_from(["zh", "en"]))
def test_whatever_comes_in_one_clean_bounded_line_comes_out(
    template: str, values: dict[str, object], language: str
) -> None:
    line = render(template, values, language)
    assert len(line) <= MAX_LINE_CHARS
    assert not [c for c in line if unicodedata.category(c)[0] == "C" or c in "\u2028\u2029"]


@given(st.text(st.characters(), max_size=2000))
def test_cleaning_keeps_what_prints_in_order(text: str) -> None:
    cleaned = clean(text)
    assert len(cleaned) <= MAX_VALUE_CHARS
    assert clean(cleaned) == cleaned
    printable = "".join(c for c in text if unicodedata.category(c)[0] != "C" and not c.isspace())
    assert printable.startswith(cleaned.replace(" ", "").removesuffix("…")) or len(text) > MAX_VALUE_CHARS


@pytest.mark.parametrize(
    ("template", "values", "line"),
    [
        ("{item}: {r:percent} used", {"item": "/", "r": 0.934}, "/: 93.4% used"),
        ("[{item}: ]ok", {"item": ""}, "ok"),
        ("[{item}: ]ok", {"item": "eth0"}, "eth0: ok"),
        ("{x} of {y}", {"x": 3}, "3 of ?"),
        ("a[ b {x} {y}][ c {x}]", {"x": 1}, "a c 1"),
        ("{x:bytes}", {"x": "many"}, "many"),
        ("{x:or_nothing} {y:or_nothing} {z}", {"x": "-", "y": "a-b", "z": "-"}, "none a-b -"),
        ("{x:or_nothing}", {"x": "- (no)"}, "not set (default no)"),
        ("{x}", {"x": True}, "yes"),
        ("{x}", {"x": "{y} [z]", "y": 1}, "{y} [z]"),
        ("{x:percent}", {"x": math.nan}, "?"),
        ("a[ {x:bytes}]", {"x": 10**400}, "a"),
        ("{x}", {"x": "one\n\ttwo\x00\x1b[31m three"}, "one two[31m three"),
        ("{x}", {"x": "a" * 200}, "a" * 119 + "…"),
    ],
)
def test_templates_by_example(template: str, values: dict[str, object], line: str) -> None:
    assert render(template, values, "en") == line


@pytest.mark.parametrize(
    ("name", "value", "english", "chinese"),
    [
        ("percent", 0.0, "0%", "0%"),
        ("percent", 0.00042, "0.042%", "0.042%"),
        ("percent", 0.9996, "100%", "100%"),
        ("percent", 12.5, "1,250%", "1,250%"),
        ("bytes", 0, "0 B", "0 B"),
        ("bytes", 1023, "1,023 B", "1,023 B"),
        ("bytes", 1536, "1.5 KiB", "1.5 KiB"),
        ("bytes", 25276502016, "23.5 GiB", "23.5 GiB"),
        ("bytes", 1e30, "867,361,737,988 EiB", "867,361,737,988 EiB"),
        ("bytes", -2048, "-2 KiB", "-2 KiB"),
        ("duration", 0, "0 s", "0 秒"),
        ("duration", 0.0123, "12.3 ms", "12.3 毫秒"),
        ("duration", 12.5, "12.5 s", "12.5 秒"),
        ("duration", 90, "1 min 30 s", "1 分钟 30 秒"),
        ("duration", 3600, "1 h", "1 小时"),
        ("duration", 93784, "1 d 2 h", "1 天 2 小时"),
        ("duration", 86430, "1 d", "1 天"),
        ("duration", -90, "-1 min 30 s", "-1 分钟 30 秒"),
        ("number", 1234567, "1,234,567", "1,234,567"),
        ("number", 0.12345, "0.123", "0.123"),
        ("number", -1e-12, "0", "0"),
        ("number", 1e300, "1e+300", "1e+300"),
        ("yesno", 1, "yes", "是"),
        ("yesno", 0.0, "no", "否"),
        ("rate", 1200, "1,200/s", "1,200/s"),
        ("byte_rate", 1536, "1.5 KiB/s", "1.5 KiB/s"),
        ("bit_rate", 1e9, "1 Gbit/s", "1 Gbit/s"),
        ("bit_rate", 999, "999 bit/s", "999 bit/s"),
        ("line_rate", 12_500_000, "100 Mbit/s", "100 Mbit/s"),
        ("hertz", 5.18e9, "5.18 GHz", "5.18 GHz"),
        ("celsius", -5.5, "-5.5 °C", "-5.5 °C"),
        ("dbm", -67, "-67 dBm", "-67 dBm"),
        ("rpm", 1200, "1,200 rpm", "1,200 转/分"),
    ],
)
def test_formats_by_example(name: str, value: float, english: str, chinese: str) -> None:
    assert render(f"{{x:{name}}}", {"x": value}, "en") == english
    assert render(f"{{x:{name}}}", {"x": value}, "zh") == chinese


@given(st.sampled_from(["percent", "bytes", "duration", "number"]), st.floats(0, 1e12))
def test_a_shown_value_is_close_to_the_real_one(name: str, value: float) -> None:
    shown = FORMATS[name](value, "en").replace(",", "")
    units = {"B": 1.0, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "%": 0.01, "": 1.0}
    units |= {unit: 1024.0**power for power, unit in enumerate(("KiB", "MiB", "GiB", "TiB"), 1)}
    words = shown.replace("%", " %").split()
    pairs = [words[i : i + 2] for i in range(0, len(words), 2)]
    total = sum(float(number) * units["".join(unit)] for number, *unit in pairs)
    assert total == pytest.approx(value, rel=0.05, abs=1e-5)
