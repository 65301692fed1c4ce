"""Making text from other machines harmless to show: one rule for every string that crosses the wire."""

from __future__ import annotations

import re

from gengfu_proto.errors import LimitExceeded

# C0 and C1 controls, line and paragraph separators, surrogates, and the marks that reorder or hide text.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb]"
)


def clean(text: str, limit: int, what: str) -> str:
    """Return the text with every unsafe character shown as U+FFFD; raises LimitExceeded beyond `limit` characters."""
    if len(text) > limit:
        raise LimitExceeded(f"{what} has {len(text)} characters, at most {limit} are allowed")
    if text.isascii() and text.isprintable():
        return text
    return _UNSAFE.sub("\ufffd", text)


def shorten(text: str, limit: int) -> str:
    """Return the text cut to `limit` characters, the last one an ellipsis where something was cut."""
    return text if len(text) <= limit else text[: limit - 1] + "…"
