"""The collector's errors in the reader's language: those of error_words.toml, and what checks and standards say."""

from __future__ import annotations

import functools
import re
import tomllib
from pathlib import Path

from gengfu_checks.guide import files, words

_PLACED = re.compile(r"(.*?\.toml(?::\d+)?: )?(.*)", re.DOTALL)


@functools.cache
def sentences() -> dict[str, str]:
    """Chinese by English, with {} for what is put into a sentence."""
    with Path(__file__).with_suffix(".toml").open("rb") as stream:
        return tomllib.load(stream)


def in_words(error: str, readers: str) -> str:
    """An error in the reader's language, as far as there are words for it, behind its `FILE:LINE`, option or key."""
    if readers != "zh":
        return error
    known = {**sentences(), **files.tables(files.COMMON)["phrases"]}
    place, message = _PLACED.fullmatch(error).groups("")  # type: ignore[union-attr]
    told = words.translated(known, message)
    if told is None:
        head, _, rest = message.partition(": ")
        translated = words.translated(known, rest)
        told = message if translated is None else f"{head}：{translated}"
    return place + told
