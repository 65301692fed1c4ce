"""What all groups of commands share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from gengfu_checks.errors import SettingError
from gengfu_checks.settings import parse_duration_s
from gengfu_collector.cli import show
from gengfu_collector.errors import UsageError

MAX_DIGITS = 15

Data = Annotated[Path | None, typer.Option("--data", metavar="DIR", help="Data folder · 数据目录")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON · 输出 JSON")]


def group(help_text: str) -> typer.Typer:
    """A group of commands."""
    return typer.Typer(help=help_text, no_args_is_help=True, add_completion=False)


def listing(values: Sequence[Mapping[str, Any]], json: bool, columns: Sequence[str]) -> None:
    """Print a list."""
    if json:
        show.as_json(values)
    else:
        show.rows(values, columns)


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
