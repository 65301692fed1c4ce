"""Terminal standards (终端标准): those that come with Gengfu, and those of TOML files.

[standard]
id = "call-centre"
title = { zh = "呼叫中心终端标准", en = "Call centre" }
version = "2026.1"

[[rule]]
id = "headset-driver"
kind = "software_minimum"                 # see rules.KINDS
on = ["windows"]                          # linux, windows, macos; all when left out
names = ["Jabra Direct*"]
version = "6.10"
weight = 2                                # 1 when left out
severity = "warning"                      # info (no ticket), warning, critical; the check's own when left out
reason = { zh = "…", en = "…" }
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from gengfu_checks.standards.rules import Rule, Standard, read_rule, read_standard
from gengfu_checks.standards.values import RuleError

FOLDER = Path(__file__).parent
FILE_SUFFIX = ".toml"
MAX_FILE_BYTES = 1024 * 1024
TABLES = ("standard", "rule", "profile", "exception")
"""What may stand in a file beside a standard; the rest is the collector's."""

_HEAD = re.compile(r"^[ \t]*\[[ \t]*standard[ \t]*\]", re.MULTILINE)
_RULE = re.compile(r"^[ \t]*\[\[[ \t]*rule[ \t]*\]\]", re.MULTILINE)
_LINE_OF_ERROR = re.compile(r"at line (\d+)")


def built_in_ids() -> tuple[str, ...]:
    """The standards that come with Gengfu."""
    return tuple(sorted(path.stem for path in FOLDER.glob(f"*{FILE_SUFFIX}")))


def load(name: str) -> Standard:
    """Return a built-in standard by its id, or that of a TOML file by its path; raises RuleError."""
    if name in built_in_ids():
        return read_file(FOLDER / f"{name}{FILE_SUFFIX}")
    if not name.endswith(FILE_SUFFIX):
        known = ", ".join(built_in_ids())
        raise RuleError(f"there is no standard {name!r}; known here: {known}, or the path of a file {FILE_SUFFIX}")
    return read_file(Path(name))


def read_file(path: Path) -> Standard:
    """Return the standard of a TOML file; raises RuleError with file and line, which quotes no more of it than one
    word."""
    import tomllib  # here: an agent gets its standards from its plan

    text = _text_of(path)
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        found = _LINE_OF_ERROR.search(str(error))
        line = found[1] if found else text.rstrip("\n").count("\n") + 1
        raise RuleError(f"{path}:{line}: is not TOML") from None
    for key in document:
        if key not in TABLES:
            raise RuleError(f"{path}: unknown table {key[:60]!r}; allowed: {', '.join(TABLES)}")
    tables = document.get("rule", [])
    if not isinstance(document.get("standard"), dict) or not isinstance(tables, list):
        raise RuleError(f"{path}: is not a standard: it has no [standard] with [[rule]] tables")
    return _read_tables(path, text, document["standard"], tables)


def _read_tables(path: Path, text: str, head: Mapping[str, object], tables: Sequence[object]) -> Standard:
    lines = [text.count("\n", 0, match.start()) + 1 for match in _RULE.finditer(text)]
    rules: dict[str, Rule] = {}
    for number, table in enumerate(tables):
        # Tables can be written in a line, too; then only their number is known.
        place = f"{path}:{lines[number]}" if len(lines) == len(tables) else f"{path}: rule {number + 1}"
        try:
            rule = read_rule(table if isinstance(table, dict) else {})
        except RuleError as error:
            raise RuleError(f"{place}: {error}", error.key) from None
        if rule.id in rules:
            raise RuleError(f"{place}: there is a rule {rule.id!r} already")
        rules[rule.id] = rule
    try:
        return read_standard(head, list(rules.values()))
    except RuleError as error:
        found = _HEAD.search(text)
        line = text.count("\n", 0, found.start()) + 1 if found else 1
        raise RuleError(f"{path}:{line}: {error}", error.key) from None


def _text_of(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise RuleError(f"{path}: cannot be read: {error.strerror}") from None
    if len(data) > MAX_FILE_BYTES:
        raise RuleError(f"{path}: larger than {MAX_FILE_BYTES} bytes")
    try:
        return data.decode("utf-8-sig")
    except ValueError:
        raise RuleError(f"{path}: is not UTF-8 text: save the file as UTF-8") from None
