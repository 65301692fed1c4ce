"""`gengfu-agent checks`: everything that could be looked at, and whether it can be looked at here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gengfu_agent.cli import table
from gengfu_agent.cli.words import word
from gengfu_agent.config import load_config
from gengfu_checks import registry
from gengfu_checks.errors import CheckError
from gengfu_checks.guide import text, words
from gengfu_checks.model import CheckKind
from gengfu_proto.text import json_lines


@dataclass(frozen=True, slots=True)
class _Listed:
    """One kind of check: its code if that could be loaded, and why it cannot run here ("" when it can)."""

    name: str
    kind: CheckKind | None
    why_not: str


def list_checks(state: Path, *, as_json: bool, language: str) -> int:
    """Print every check of the registry; returns 0."""
    allowed = load_config(state).allowed
    listed = [_look_at(name, name in allowed, language) for name in registry.names()]
    if as_json:
        print(json_lines([_as_json(check) for check in listed]))
        return 0
    headings = [word(name, language) for name in ("check", "about", "here", "every", "settings")]
    cells = [
        [c.name, words.kind_title(c.name, language), word("no" if c.why_not else "yes", language), _every(c, language)]
        for c in listed
    ]
    columns = table.room_for_last([headings[:-1], *cells], table.terminal_columns())
    rows = [(row, _last_cell(check, columns, language)) for row, check in zip(cells, listed, strict=True)]
    for line in table.table(headings, rows):
        print(line)
    return 0


def _look_at(name: str, allowed: bool, language: str) -> _Listed:
    try:
        kind = registry.load(name)
        why_not = kind.usable()
    except CheckError as error:
        return _Listed(name, None, str(error))
    except Exception as error:  # noqa: BLE001 - the boundary to a check's module, which may do anything on import
        return _Listed(name, None, f"{type(error).__name__}: {error}")
    return _Listed(name, kind, (why_not or "") if allowed else word("not_allowed", language))


def _every(check: _Listed, language: str) -> str:
    return text.duration(check.kind.every_s, language) if check.kind else ""


def _last_cell(check: _Listed, columns: int, language: str) -> list[str]:
    settings = [f"{s.name}*" if s.required else s.name for s in check.kind.settings] if check.kind else []
    lines = list(table.wrap(settings, columns, ", "))
    if check.why_not:
        reason = words.fact_value(check.name, "reason", check.why_not, language)
        lines += table.wrap([f"{word('why_not', language)}: {text.clean(str(reason))}"], columns, "")
    return lines


def _as_json(check: _Listed) -> dict[str, object]:
    kind = check.kind
    return {
        "kind": check.name,
        "usable": not check.why_not,
        "reason": check.why_not or None,
        "every_s": kind.every_s if kind else None,
        "settings": [
            {"name": s.name, "type": s.type.value, "required": s.required, "default": s.default, "help": s.help}
            for s in (kind.settings if kind else ())
        ],
        "metrics": [{"name": m.name, "type": m.type.value, "help": m.help} for m in (kind.metrics if kind else ())],
        "codes": list(kind.all_codes) if kind else [],
    }
