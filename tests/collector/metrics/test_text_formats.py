"""The text formats: escaping, numbers, names, and which format a scraper gets."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from live_fleet import parse, parse_samples

from gengfu_collector.metrics.accept import choose_format
from gengfu_collector.metrics.text import (
    PIECE_BYTES,
    FamilyText,
    FamilyType,
    Format,
    escape_label_value,
    join,
    label_name,
    label_text,
    number,
    page,
    sample,
)

PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
VALUES = st.floats(allow_nan=False, allow_infinity=False)


@given(st.text(), st.sampled_from(Format))
def test_any_label_value_comes_back_but_for_what_cannot_be_shown(value: str, form: Format) -> None:
    line = sample("gengfu_x_y", label_text({"item": value, "other": "1"}), 1.5)
    text = b"".join(page([FamilyText("gengfu_x_y", FamilyType.GAUGE, "", (line,))], form)).decode()
    harmless = "".join("\ufffd" if c != "\n" and _cannot_be_shown(c) else c for c in value)
    expected = {"item": harmless, "other": "1"} if value else {"other": "1"}
    assert parse_samples(text, form) == [("gengfu_x_y", tuple(sorted(expected.items())), 1.5)]


def _cannot_be_shown(character: str) -> bool:
    return ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0 or 0xD800 <= ord(character) < 0xE000


def test_escaping_is_done_once() -> None:
    assert escape_label_value('a\\n"b"\n') == r"a\\n\"b\"\n"


@given(VALUES)
def test_a_number_reads_back_exactly_and_is_no_longer_than_it_must_be(value: float) -> None:
    text = number(value)
    assert float(text) == value
    assert len(text) <= len(repr(value))
    if value.is_integer() and abs(value) < 1e15:
        assert float(int(text)) == value


@given(st.text())
def test_any_text_makes_a_label_name(text: str) -> None:
    name = label_name(text)
    assert name.isascii()
    assert name.isidentifier()
    assert not name.startswith("_")
    assert label_name(name) == name or len(name) > 64


@pytest.mark.parametrize(
    ("text", "name"), [("site", "site"), ("a-b.c", "a_b_c"), ("9th", "label_9th"), ("__x", "x"), ("机房", "label_")]
)
def test_label_names(text: str, name: str) -> None:
    assert label_name(text) == name


def one(name: str, kind: FamilyType, *more: str) -> FamilyText:
    return FamilyText(name, kind, "h", [f"{line} 1\n".encode() for line in (name, *more)])


def test_families_have_the_names_and_words_of_their_format() -> None:
    families = [
        one("b_total", FamilyType.COUNTER),
        one("a_info", FamilyType.INFO),
        one("c", FamilyType.UNKNOWN),
    ]
    classic = b"".join(page(families, Format.CLASSIC)).decode()
    assert classic == (
        "# HELP a_info h\n# TYPE a_info gauge\na_info 1\n"
        "# HELP b_total h\n# TYPE b_total counter\nb_total 1\n"
        "# HELP c h\n# TYPE c untyped\nc 1\n"
    )
    openmetrics = b"".join(page(families, Format.OPENMETRICS)).decode()
    assert openmetrics == (
        "# HELP a h\n# TYPE a info\na_info 1\n"
        "# HELP b h\n# TYPE b counter\nb_total 1\n"
        "# HELP c h\n# TYPE c unknown\nc 1\n"
        "# EOF\n"
    )


@pytest.mark.parametrize("form", list(Format))
def test_help_texts_come_back_whatever_they_hold(form: Format) -> None:
    text = 'first\nsecond \\ "quoted" 机房'
    family = FamilyText("a", FamilyType.GAUGE, text, (b"a 1\n",))
    assert parse(b"".join(page([family], form)).decode(), form) == {"a": ("gauge", text)}


NAMES = st.sampled_from(["a", "a_total", "a_created", "a_created_total", "a_info", "b_total", "b"])


@given(st.dictionaries(NAMES, st.sampled_from(FamilyType), max_size=6))
@example({"a_total": FamilyType.COUNTER, "a_created_total": FamilyType.COUNTER})
@example({"a_total": FamilyType.COUNTER, "a": FamilyType.GAUGE})
@example({"a_total": FamilyType.COUNTER, "a_info": FamilyType.INFO})
def test_no_family_needs_the_name_of_another(wanted: dict[str, FamilyType]) -> None:
    families = []
    for name, kind in wanted.items():
        if kind is FamilyType.COUNTER and not name.endswith("_total"):
            continue
        if kind is FamilyType.HISTOGRAM or (kind is FamilyType.INFO and not name.endswith("_info")):
            continue
        families.append(one(name, kind))
    text = b"".join(page(families, Format.OPENMETRICS)).decode()
    shown = sorted(name for name, _labels, _value in parse_samples(text, Format.OPENMETRICS))
    assert shown == sorted(family.name for family in families)


@given(st.lists(st.binary(max_size=20), max_size=20))
def test_joining_loses_nothing(chunks: list[bytes]) -> None:
    assert b"".join(join(chunks)) == b"".join(chunks)


def test_pieces_are_bounded() -> None:
    pieces = list(join(iter([b"x" * 1000] * 1000)))
    assert len(pieces) > 1
    assert max(map(len, pieces)) <= PIECE_BYTES + 1000


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", Format.CLASSIC),
        ("*/*", Format.CLASSIC),
        ("text/html,application/xhtml+xml,*/*;q=0.8", Format.CLASSIC),
        (PROMETHEUS_2, Format.OPENMETRICS),
        (PROMETHEUS_3, Format.OPENMETRICS),
        ("text/plain;version=0.0.4;q=0.5,*/*;q=0.1", Format.CLASSIC),
        ("application/openmetrics-text", Format.OPENMETRICS),
        ('Application/OpenMetrics-Text; Version="1.0.0"; charset=utf-8', Format.OPENMETRICS),
        ("application/openmetrics-text; version=0.0.1", Format.CLASSIC),
        ("application/openmetrics-text; version=2.0.0, text/plain", Format.CLASSIC),
        ("application/openmetrics-text;q=0", Format.CLASSIC),
        ("application/openmetrics-text;q=0.3, text/plain;q=0.4", Format.CLASSIC),
        ("text/plain, application/openmetrics-text", Format.OPENMETRICS),
        ("application/openmetrics-text;q=0.4, text/plain;q=0.3, */*", Format.OPENMETRICS),
        ("application/openmetrics-text;q=nonsense", Format.CLASSIC),
        ("application/openmetrics-text;q=nan", Format.CLASSIC),
        ("application/openmetrics-text;q=7", Format.CLASSIC),
        (";;;,,=;q", Format.CLASSIC),
    ],
)
def test_the_scraper_decides_on_the_format(accept: str, form: Format) -> None:
    assert choose_format(accept) is form


@given(st.text(alphabet="aq/*;,=.019- plintextomsr"))
def test_no_accept_header_is_an_error(accept: str) -> None:
    assert choose_format(accept) in Format


def test_numbers_as_the_format_wants_them() -> None:
    assert [number(v) for v in (1.0, -0.0, 0.1, 1e16, 1e-7, 5, True and 1)] == [
        "1",
        "-0",
        "0.1",
        "1e+16",
        "1e-07",
        "5",
        "1",
    ]
    assert math.isclose(float(number(1 / 3)), 1 / 3, rel_tol=0)
