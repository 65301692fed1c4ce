"""Templates of one line and the formats of their values. Pure; built for hostile values.

A placeholder is `{name}` or `{name:format}`, with one of `FORMATS` or `TEXT_FORMATS`; without one, texts stand as they
are (cleaned), numbers as `number`, booleans as yes or no. A part in square brackets is left out when one of its values
is missing.
"""

from __future__ import annotations

import functools
import math
import re
import unicodedata
from collections.abc import Callable, Mapping

MAX_VALUE_CHARS = 120
MAX_LINE_CHARS = 400

MISSING = "?"
PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_]*)(?::([a-z_]+))?\}")

_PART = re.compile(r"\[([^\[\]]*)\]|([^\[\]]+)")
_YES_NO = {"zh": ("否", "是"), "en": ("no", "yes")}
_NOTHING_THERE = {"zh": "无", "en": "none"}
_NOT_SET = {"zh": "未设置（默认 {}）", "en": "not set (default {})"}
_DECIMAL_UNITS = ("", "k", "M", "G", "T")
_BYTE_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_DURATION_UNITS = (("d", " 天", 86400), ("h", " 小时", 3600), ("min", " 分钟", 60), ("s", " 秒", 1))


def render(template: str, values: Mapping[str, object], language: str) -> str:
    """Fill a template; missing, ill-typed and non-finite values show as `?` or drop their bracketed part."""
    pieces = []
    for optional, plain in _parts(template):
        piece, complete = _fill(optional or plain, values, language)
        if complete or plain:
            pieces.append(piece)
    return clean("".join(pieces), MAX_LINE_CHARS)


def show(value: object, format_name: str, language: str) -> str:
    """One value by a format; texts are cleaned, and what cannot be shown is `?`."""
    return _shown(value, format_name, language) or MISSING


def clean(value: str, max_chars: int = MAX_VALUE_CHARS) -> str:
    """One line of printable characters: controls, direction marks and private characters go, long texts are cut."""
    head = value[: max_chars * 4]
    kept = "".join(" " if c.isspace() else c for c in head if c.isspace() or unicodedata.category(c)[0] != "C")
    line = " ".join(kept.split())
    return line if len(line) <= max_chars else line[: max_chars - 1].rstrip() + "…"


def percent(value: float, _language: str) -> str:
    """0.934 -> 93.4%."""
    return f"{_digits(value * 100)}%"


def byte_size(value: float, _language: str) -> str:
    """1536 -> 1.5 KiB."""
    power = 0
    while abs(value) >= 1024 and power < len(_BYTE_UNITS) - 1:
        value /= 1024
        power += 1
    return f"{_digits(value)} {_BYTE_UNITS[power]}"


def duration(value: float, language: str) -> str:
    """0.0123 -> 12.3 ms; 93784 -> 1 d 2 h: the two largest units that count."""
    chinese = language == "zh"
    if abs(value) < 1:
        return f"{_digits(value * 1000)} {'毫秒' if chinese else 'ms'}" if value else ("0 秒" if chinese else "0 s")
    if abs(value) < 60:
        return f"{_digits(value)} {'秒' if chinese else 's'}"
    shown: list[tuple[int, str]] = []
    rest = int(abs(value))
    for english, chinese_unit, seconds in _DURATION_UNITS:
        count, rest = divmod(rest, seconds)
        if count or shown:
            shown.append((count, chinese_unit if chinese else f" {english}"))
        if len(shown) == 2:
            break
    return ("-" if value < 0 else "") + " ".join(f"{count:,}{unit}" for count, unit in shown if count)


def number(value: float, _language: str) -> str:
    """1234567.0 -> 1,234,567; 0.12345 -> 0.123."""
    return _digits(value)


def yes_no(value: float, language: str) -> str:
    """1.0 -> yes."""
    return _YES_NO[language][value != 0]


def bit_rate(value: float, _language: str) -> str:
    """Bits per second: 1e9 -> 1 Gbit/s."""
    return f"{_decimal(value)}bit/s"


def _or_nothing(value: str, language: str) -> str:
    if value == "-":
        return _NOTHING_THERE[language]
    if value.startswith("- (") and value.endswith(")"):
        return _NOT_SET[language].format(value[3:-1])
    return value


FORMATS: Mapping[str, Callable[[float, str], str]] = {
    "percent": percent,
    "bytes": byte_size,
    "duration": duration,
    "number": number,
    "yesno": yes_no,
    "rate": lambda value, _: f"{_digits(value)}/s",
    "byte_rate": lambda value, language: f"{byte_size(value, language)}/s",
    "bit_rate": bit_rate,
    "line_rate": lambda value, language: bit_rate(value * 8, language),
    "hertz": lambda value, _: f"{_decimal(value)}Hz",
    "celsius": lambda value, _: f"{_digits(value)} °C",
    "dbm": lambda value, _: f"{_digits(value)} dBm",
    "rpm": lambda value, language: f"{_digits(value)} {'转/分' if language == 'zh' else 'rpm'}",
}
"""By name: of a ratio, of bytes, of seconds, of any number, of 0 or 1, of something, bytes, bits or bytes (shown as
bits: the speed of a line) per second, of hertz, of degrees Celsius, of dBm, of rotations per minute.
"""
TEXT_FORMATS: Mapping[str, Callable[[str, str], str]] = {
    "or_nothing": _or_nothing,
}
"""By name: of a text for which `-` stands for nothing, and `- (no)` for nothing set, which means no."""


@functools.cache
def _parts(template: str) -> tuple[tuple[str, str], ...]:
    return tuple((match[1] or "", match[2] or "") for match in _PART.finditer(template))


def _fill(part: str, values: Mapping[str, object], language: str) -> tuple[str, bool]:
    complete = True

    def replace(match: re.Match[str]) -> str:
        nonlocal complete
        shown = _shown(values.get(match[1]), match[2] or "", language)
        complete = complete and shown != ""
        return shown or MISSING

    return PLACEHOLDER.sub(replace, part), complete


def _shown(value: object, format_name: str, language: str) -> str:
    if isinstance(value, str):
        return TEXT_FORMATS.get(format_name, _as_it_is)(clean(value), language)
    if isinstance(value, bool):
        return _YES_NO[language][value]
    finite = _finite(value)
    return "" if finite is None else FORMATS.get(format_name, number)(finite, language)


def _as_it_is(value: str, _language: str) -> str:
    return value


def _finite(value: object) -> float | None:
    if not isinstance(value, (int, float)):
        return None
    try:
        result = float(value)
    except OverflowError:
        return None
    return result if math.isfinite(result) else None


def _decimal(value: float) -> str:
    """1.5e9 -> "1.5 G", to be followed by the unit."""
    power = 0
    while abs(value) >= 1000 and power < len(_DECIMAL_UNITS) - 1:
        value /= 1000
        power += 1
    return f"{_digits(value)} {_DECIMAL_UNITS[power]}"


def _digits(value: float) -> str:
    """About three significant digits, whole from 100 up, without trailing zeros; exponents for the absurd."""
    size = abs(value)
    if size >= 1e15:
        return f"{value:.3g}"
    decimals = 0 if size >= 100 or size == 0 else min(6, 2 - math.floor(math.log10(size)))
    shown = f"{value:,.{decimals}f}"
    if "." in shown:
        shown = shown.rstrip("0").rstrip(".")
    return "0" if shown == "-0" else shown
