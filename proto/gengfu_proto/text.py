"""Making text from other machines harmless to show: one rule for every string that crosses the wire."""

from __future__ import annotations

import json
import re

from gengfu_proto.errors import LimitExceeded

# C0 and C1 controls, line and paragraph separators, surrogates, and the marks that reorder or hide text.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e007f]"
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


def harmless_lines(text: str) -> str:
    """Return lines of text with every unsafe character shown as U+FFFD, but for the ends of lines."""
    return "\n".join(_UNSAFE.sub("\ufffd", line) for line in text.split("\n"))


def json_lines(value: object) -> str:
    """Return a JSON document for programs that a terminal may show as well: unsafe characters are escaped."""
    text = json.dumps(value, ensure_ascii=False, indent=2)
    return "\n".join(_UNSAFE.sub(lambda found: json.dumps(found[0])[1:-1], line) for line in text.split("\n"))
