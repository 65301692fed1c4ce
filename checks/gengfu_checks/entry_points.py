"""Entry points of installed packages, read from their own files.

`importlib.metadata` does the same and much more, and would cost a running agent 4 MiB.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

_FILES = ("*.dist-info/entry_points.txt", "*.egg-info/entry_points.txt")


def entry_points(group: str) -> dict[str, str]:
    """Return what installed packages offer in a group, `module:object` by name; the first on the path wins."""
    found: dict[str, str] = {}
    for folder in dict.fromkeys(sys.path):
        for pattern in _FILES:
            for file in sorted(Path(folder or ".").glob(pattern)):
                for name, value in _lines_of(file, group):
                    found.setdefault(name, value)
    return found


def _lines_of(file: Path, group: str) -> Iterator[tuple[str, str]]:
    inside = False
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        text = line.strip()
        if text.startswith("["):
            inside = text == f"[{group}]"
        elif inside and "=" in text and not text.startswith(("#", ";")):
            name, _, value = text.partition("=")
            yield name.strip(), value.partition("[")[0].strip()
