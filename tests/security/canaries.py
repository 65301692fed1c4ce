"""Texts that do harm where somebody pastes them into something, and what no output may hold.

Each has the mark of its name in it, by which it is found again where it may be shown.
"""

from __future__ import annotations

import json
import unicodedata

CONTROLS = "".join(map(chr, [*range(0x20), *range(0x7F, 0xA0)]))
HIDING = "\u200b\u200e\u202a\u202e\u2066\u2069\u061c\u00ad\u180e\u2065\ufeff\ufff9\U000e0041\U000e007f"
MUST_NOT_BE_READ_AS = "forged"
"""Name of the log record, the metric, the label, the table and the field that some of them would become."""

_HOSTILE = {
    "controls": CONTROLS,
    "nul": "before\0after",
    "terminal": "\x1b[2J\x1b]0;forged\x07\x1b[1;31m\x9b31m\x1bP\x90\r\b\b\b",
    "bidi": HIDING + "gpj.exe",
    "lines": "a\nb\rc\x0bd\x0ce\x85f\u2028g\u2029h",
    "html": "<script>alert(1)</script><img src=x onerror=alert(1)>\"'><a href=javascript:alert(1)>&amp;",
    "formula": "=cmd|' /C calc'!A0",
    "formula_at": "@SUM(1+1)*cmd|' /C calc'!A0",
    "formula_plus": "+1-2\t=1",
    "toml": "\"\"\"\n[forged]\nx = 1\n'''\n[[profile]] # ",
    "json": '"},{"forged":1,"x":"\\u0000\\',
    "prometheus": '",forged="1"} 1\n# TYPE forged counter\nforged_total 1\n# EOF\n',
    "prometheus_label": 'x\\",forged=\\"1\\"} 1 1{a="b"} #{"c"}',
    "log": 'x\n{"time":"2026-01-01T00:00:00Z","level":"error","event":"forged"}\r\nlevel=error event=forged',
    "markup": "[bold red]x[/bold red][link=http://x/]y[/link] :smile: \\[x]",
    "templates": "{item} {0} {x.__class__} %s %(x)s %n ${x} {{7*7}} $(id) `id` ; rm -rf / # {limit:percent}",
    "sql": "'; DROP TABLE asset; -- \" OR 1=1",
    "paths": "../../../etc/passwd\\..\\..\\x//%2e%2e%2f?a=b#c",
    "right_to_left": "שלום مرحبا 机房",
    "combining": "e\u0301\u0301" * 20 + "\U0001f469\u200d\U0001f4bb",
}
CANARIES = {name: f"{text} mark-{name}" for name, text in _HOSTILE.items()}
LONE_SURROGATES = "\ud800x\udfff mark-surrogates"
"""Cannot be said in UTF-8; JSON can."""


def marks_in(text: str) -> set[str]:
    """Names of the canaries that are to be found in an output."""
    return {name for name in [*CANARIES, "surrogates"] if f"mark-{name}" in text.replace("mark_", "mark-")}


def harmful_characters(text: str) -> set[str]:
    """What a terminal obeys, what breaks a line, what hides or turns round a part of it."""
    return {c for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")}


def assert_harmless(text: str, what: str = "") -> None:
    """For a person's eyes: nothing but characters that are seen, and lines."""
    found = harmful_characters(text)
    assert not found, (what, sorted(map(ascii, found)), text[:2_000])


def parsed(text: str, what: str = "") -> object:
    """A JSON document that a terminal may show, too."""
    assert_harmless(text, what)
    return json.loads(text)
