"""In which language a person at the command line reads."""

from __future__ import annotations

import os


def reader_language() -> str:
    """The language of the reader's locale: "zh" for Chinese, else "en"."""
    chosen = os.environ.get("LC_ALL") or os.environ.get("LC_MESSAGES") or os.environ.get("LANG") or ""
    return "zh" if chosen.lower().startswith("zh") else "en"
