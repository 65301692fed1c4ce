"""The files of the guide as they stand: one for each kind of check, named after it, and one for what they share."""

from __future__ import annotations

import functools
import tomllib
from pathlib import Path
from typing import Any

COMMON = "common"
WORDS = frozenset({"title", "metrics", "facts", "phrases"})
"""Top-level names that are no codes: see `guide.words`."""

_FOLDER = Path(__file__).parent


@functools.cache
def names() -> frozenset[str]:
    """Names of the files, without suffix."""
    return frozenset(path.stem for path in _FOLDER.glob("*.toml"))


@functools.cache
def tables(name: str) -> dict[str, Any]:
    """Everything in a file; nothing for a name without file."""
    if name not in names():
        return {}
    with (_FOLDER / f"{name}.toml").open("rb") as stream:
        return tomllib.load(stream)
