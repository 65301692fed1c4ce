"""The agent's errors in the reader's language: those of error_words.toml, and what checks say (`guide.words`)."""

from __future__ import annotations

import functools
import tomllib
from pathlib import Path

from gengfu_checks.guide import words


@functools.cache
def sentences() -> dict[str, str]:
    """Chinese by English, with {} for what is put into a sentence."""
    with Path(__file__).with_suffix(".toml").open("rb") as stream:
        return tomllib.load(stream)


def in_words(error: str, language: str) -> str:
    """An error in the reader's language, as far as there are words for it."""
    if language != "zh":
        return error
    return words.translated(sentences(), error) or str(words.fact_value("", "reason", error, language))
