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

from pathlib import Path

from gengfu_checks.standards.rules import RuleError, Standard, read_rule, read_standard

FOLDER = Path(__file__).parent
FILE_SUFFIX = ".toml"
MAX_FILE_BYTES = 1024 * 1024


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
    """Return the standard of a TOML file; raises RuleError, which quotes no more of it than one word."""
    import tomllib  # here: an agent gets its standards from its plan

    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise RuleError(f"{path}: cannot be read: {error.strerror}") from None
    if len(data) > MAX_FILE_BYTES:
        raise RuleError(f"{path}: larger than {MAX_FILE_BYTES} bytes")
    try:
        document = tomllib.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        raise RuleError(f"{path}: is not TOML in UTF-8") from None
    tables = document.get("rule", [])
    if not isinstance(document.get("standard"), dict) or not isinstance(tables, list):
        raise RuleError(f"{path}: is not a standard: it has no [standard] with [[rule]] tables")
    rules = []
    for number, table in enumerate(tables, 1):
        try:
            rules.append(read_rule(table if isinstance(table, dict) else {}))
        except RuleError as error:
            raise RuleError(f"{path}: rule {number}: {error}", error.key) from None
    if len({rule.id for rule in rules}) != len(rules):
        raise RuleError(f"{path}: two rules have one id")
    return read_standard(document["standard"], rules)
