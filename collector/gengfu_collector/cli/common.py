"""What all groups of commands share."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from gengfu_checks.errors import SettingError
from gengfu_checks.language import reader_language
from gengfu_checks.settings import parse_duration_s
from gengfu_collector.admin.client import MAX_LISTED
from gengfu_collector.cli import show
from gengfu_collector.errors import UsageError

MAX_DIGITS = 15

_CUT = {"en": "only the first {} are shown; there are more", "zh": "只列出前 {} 条，其余未列出"}
_NARROW = {"en": ": ask for less with {}", "zh": "；可用 {} 缩小范围"}

Data = Annotated[Path | None, typer.Option("--data", metavar="DIR", help="Data folder · 数据目录")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON · 输出 JSON")]


def group(help_text: str) -> typer.Typer:
    """A group of commands."""
    return typer.Typer(help=help_text, no_args_is_help=True, add_completion=False)


def listing(values: Sequence[Mapping[str, Any]], json: bool, columns: Sequence[str], narrower: str = "") -> None:
    """Print a list; where it is cut, say so beside it, and the options that ask for less."""
    shown = values[:MAX_LISTED]
    if json:
        show.as_json(shown)
    else:
        show.rows(shown, columns)
    if len(values) > len(shown):
        language = reader_language()
        narrow = _NARROW[language].format(narrower) if narrower else ""
        print(_CUT[language].format(MAX_LISTED) + narrow, file=sys.stderr)


def one(value: Mapping[str, Any], json: bool, keys: Sequence[str]) -> None:
    """Print one thing."""
    if json:
        show.as_json(value)
    else:
        show.facts(value, keys)


def duration_s(option: str, text: str) -> float:
    """Seconds of `90`, `15m` or `7d`; raises UsageError."""
    try:
        return parse_duration_s(int(text) if text.isdecimal() and len(text) <= MAX_DIGITS else text)
    except (SettingError, OverflowError) as error:
        raise UsageError(f"{option}: {error}") from None
