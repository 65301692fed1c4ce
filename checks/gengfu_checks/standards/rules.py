"""The words of a terminal standard (终端标准): rules, what they ask for, and exceptions. Pure.

A standard is written in TOML and travels to an agent as short JSON texts, one a rule. What either holds is looked at
here, so that a rule that was accepted can be measured.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

Value = str | int | float | bool

SYSTEMS = ("linux", "windows", "macos")
SEVERITIES = ("info", "warning", "critical")
FORMATS = ("text", "ini", "json")
HIVES = {"HKLM": "HKEY_LOCAL_MACHINE", "HKU": "HKEY_USERS", "HKCR": "HKEY_CLASSES_ROOT"}

MAX_RULES = 300
MAX_WAIVERS = 300
MAX_RULE_CHARS = 4_000
"""Of a rule as JSON; a text in a plan holds no more."""
MAX_TEXT_CHARS = 200
MAX_REASON_CHARS = 300
MAX_LIST = 50
MAX_WEIGHT = 100.0

ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_SERVICE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_:.@\\ -]*")
_SYSCTL = re.compile(r"[A-Za-z0-9_-]+([./][A-Za-z0-9_*-]+)*")
_WILDCARD = re.compile(r"[*?\[]")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class RuleError(ValueError):
    """Something in a standard or an exception that cannot be used; `key` is the key that it is about.

    `word` is the one that is not among the `allowed`, where that is the trouble.
    """

    def __init__(self, message: str, key: str = "", word: str = "", allowed: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.key = key
        self.word = word
        self.allowed = allowed


@dataclass(frozen=True, slots=True)
class Reason:
    """A text for people, in both languages."""

    zh: str
    en: str


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of a standard. `wants` holds the keys of its kind (see KINDS), with their types.

    `severity` None leaves it to the check; `if_exists` is a path without which the rule does not apply.
    """

    id: str
    kind: str
    systems: tuple[str, ...]
    reason: Reason
    weight: float
    severity: str | None
    if_exists: str | None
    wants: Mapping[str, Any]
    text: str
    """The rule as JSON, as it travels."""


@dataclass(frozen=True, slots=True)
class Standard:
    """A standard with its rules, whose ids differ."""

    id: str
    title: Reason
    version: str
    rules: tuple[Rule, ...]

    def texts(self) -> tuple[str, ...]:
        """The standard as it travels: its head, then its rules."""
        head = {"id": self.id, "title": {"zh": self.title.zh, "en": self.title.en}, "version": self.version}
        return (_json(head), *(rule.text for rule in self.rules))


@dataclass(frozen=True, slots=True)
class Waiver:
    """An exception as one machine knows it: these rules are not asked of it before `ends_at_s` (since the epoch).

    `until` is the last day as people wrote it.
    """

    rules: tuple[str, ...]
    until: str
    ends_at_s: float
    owner: str
    reason: str

    def text(self) -> str:
        """The exception as it travels."""
        return _json({name: getattr(self, name) for name in self.__slots__})


def read_standard(head: Mapping[str, object], rules: Sequence[Rule]) -> Standard:
    """Return a standard; `head` is its table. Raises RuleError."""
    _require_known(head, ("id", "title", "version"))
    if not 1 <= len(rules) <= MAX_RULES:
        raise RuleError(f"a standard has 1 to {MAX_RULES} rules, not {len(rules)}")
    return Standard(
        id=_id(_needed(head, "id"), "id"),
        title=_reason(_needed(head, "title"), "title"),
        version=_text(head.get("version", "1"), "version"),
        rules=tuple(rules),
    )


def read_rule(table: Mapping[str, object]) -> Rule:
    """Return a rule; raises RuleError."""
    kind = _choice(_needed(table, "kind"), "kind", tuple(KINDS))
    fields = KINDS[kind]
    _require_known(table, (*_COMMON, *fields))
    wants = {key: read(table[key], key) for key, (read, _) in fields.items() if key in table}
    for key, (_, is_needed) in fields.items():
        if is_needed and key not in wants:
            raise RuleError(f"a rule of kind {kind} needs {key}")
    if _EQUALS in fields and not _CONDITIONS & wants.keys():
        raise RuleError(f"a rule of kind {kind} needs equals, at_least or at_most")
    severity = table.get("severity")
    return Rule(
        id=_id(_needed(table, "id"), "id"),
        kind=kind,
        systems=_systems(table.get("on"), kind),
        reason=_reason(_needed(table, "reason"), "reason"),
        weight=_weight(table.get("weight", 1), "weight"),
        severity=None if severity is None else _choice(severity, "severity", SEVERITIES),
        if_exists=_path(table["if_exists"], "if_exists") if "if_exists" in table else None,
        wants=wants,
        text=_rule_text(table),
    )


def _rule_text(table: Mapping[str, object]) -> str:
    text = _json({"id": table["id"], **table})  # what people know it by comes first
    if len(text) > MAX_RULE_CHARS:
        raise RuleError(f"a rule is at most {MAX_RULE_CHARS} characters long, not {len(text)}")
    return text


def standard_of_texts(texts: Sequence[str]) -> Standard:
    """Return the standard that `Standard.texts` gave; raises RuleError."""
    if not texts:
        raise RuleError("a standard is missing")
    rules = [read_rule(_object(text)) for text in texts[1:]]
    if len({rule.id for rule in rules}) != len(rules):
        raise RuleError("a standard has two rules of one id")
    return read_standard(_object(texts[0]), rules)


def waivers_of_texts(texts: Sequence[str]) -> tuple[Waiver, ...]:
    """Return the exceptions that `Waiver.text` gave; raises RuleError."""
    if len(texts) > MAX_WAIVERS:
        raise RuleError(f"at most {MAX_WAIVERS} exceptions are allowed")
    return tuple(_waiver(_object(text)) for text in texts)


def _waiver(table: Mapping[str, object]) -> Waiver:
    _require_known(table, Waiver.__slots__)
    return Waiver(
        rules=_texts(_needed(table, "rules"), "rules"),
        until=_text(_needed(table, "until"), "until"),
        ends_at_s=_number(_needed(table, "ends_at_s"), "ends_at_s"),
        owner=_text(_needed(table, "owner"), "owner"),
        reason=_text(_needed(table, "reason"), "reason", MAX_REASON_CHARS),
    )


def _object(text: str) -> dict[str, object]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise RuleError("a rule or exception is not a JSON object; the collector makes them of a standard")
    return found


def _json(table: Mapping[str, object]) -> str:
    try:
        return json.dumps(table, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise RuleError("only texts, numbers, true and false, and lists of them are allowed") from None


def _require_known(table: Mapping[str, object], allowed: Sequence[str]) -> None:
    for key in table:
        if key not in allowed:
            raise RuleError(f"unknown key {key[:MAX_TEXT_CHARS]!r}; allowed: {', '.join(allowed)}", key, key, allowed)


def _needed(table: Mapping[str, object], key: str) -> object:
    if key not in table:
        raise RuleError(f"{key} is missing")
    return table[key]


def _text(value: object, key: str, most: int = MAX_TEXT_CHARS) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable() or len(value) > most:
        raise RuleError(f"{key}: must be a text of 1 to {most} characters without control characters", key)
    return value


def _any_text(value: object, key: str) -> str:
    return "" if value == "" else _text(value, key)


def _texts(value: object, key: str) -> tuple[str, ...]:
    values = value if isinstance(value, (list, tuple)) else [value]
    if not 1 <= len(values) <= MAX_LIST:
        raise RuleError(f"{key}: 1 to {MAX_LIST} texts are needed, not {len(values)}", key)
    return tuple(_text(part, key) for part in values)


def _choice(value: object, key: str, allowed: Sequence[str]) -> str:
    if not isinstance(value, str) or value not in allowed:
        raise RuleError(f"{key}: {str(value)[:60]!r} is not one of {', '.join(allowed)}", key, str(value)[:60], allowed)
    return value


def _id(value: object, key: str) -> str:
    text = _text(value, key)
    if ID.fullmatch(text) is None:
        raise RuleError(f"{key}: {text!r} is not an id: a-z, 0-9, ., _ and - are allowed, at most 63", key)
    return text


def _reason(value: object, key: str) -> Reason:
    if isinstance(value, str):
        return Reason(_text(value, key, MAX_REASON_CHARS), value)
    if not isinstance(value, Mapping) or set(value) != {"zh", "en"}:
        raise RuleError(f'{key}: write {{ zh = "…", en = "…" }}, or one text for both', key)
    return Reason(*(_text(value[language], key, MAX_REASON_CHARS) for language in ("zh", "en")))


def _systems(value: object, kind: str) -> tuple[str, ...]:
    possible = KIND_SYSTEMS.get(kind, SYSTEMS)
    return possible if value is None else tuple(_choice(part, "on", possible) for part in _texts(value, "on"))


def _number(value: object, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise RuleError(f"{key}: must be a number", key)
    return float(value)


def _weight(value: object, key: str) -> float:
    number = _number(value, key)
    if not 0 < number <= MAX_WEIGHT:
        raise RuleError(f"{key}: must be more than 0 and at most {MAX_WEIGHT:g}", key)
    return number


def _boolean(value: object, key: str) -> bool:
    if not isinstance(value, bool):
        raise RuleError(f"{key}: must be true or false", key)
    return value


def _value(value: object, key: str) -> Value:
    if isinstance(value, str):
        return _any_text(value, key)
    return value if isinstance(value, bool) else _number(value, key)


def _values(value: object, key: str) -> tuple[Value, ...]:
    values = value if isinstance(value, (list, tuple)) else [value]
    if not 1 <= len(values) <= MAX_LIST:
        raise RuleError(f"{key}: 1 to {MAX_LIST} values are needed, not {len(values)}", key)
    return tuple(_value(part, key) for part in values)


def _path(value: object, key: str) -> str:
    """An absolute path of Linux, macOS or Windows; a `*` in it is one."""
    text = _text(value, key)
    if not PurePosixPath(text).is_absolute() and not PureWindowsPath(text).is_absolute():
        raise RuleError(f"{key}: {text!r} is not an absolute path", key)
    if ".." in PurePosixPath(text.replace("\\", "/")).parts:
        raise RuleError(f"{key}: .. is not allowed in a path", key)
    return text


def _paths(value: object, key: str) -> tuple[str, ...]:
    """Paths whose last part may be a glob."""
    paths = tuple(_path(part, key) for part in _texts(value, key))
    for path in paths:
        folder = path.replace("\\", "/").rpartition("/")[0]
        if _WILDCARD.search(folder):
            raise RuleError(f"{key}: only the name of a file may be a glob, like /etc/ssh/sshd_config.d/*.conf", key)
    return paths


def _services(value: object, key: str) -> tuple[str, ...]:
    names = _texts(value, key)
    for name in names:
        if _SERVICE.fullmatch(name) is None:
            raise RuleError(f"{key}: {name!r} is not the name of a service", key)
    return names


def _sysctl(value: object, key: str) -> str:
    text = _text(value, key)
    if _SYSCTL.fullmatch(text) is None:
        raise RuleError(f"{key}: {text!r} is not a sysctl, like net.ipv4.ip_forward", key)
    return text


def _registry_key(value: object, key: str) -> str:
    text = _text(value, key)
    hive, _, rest = text.partition("\\")
    if hive not in HIVES or not rest:
        raise RuleError(f"{key}: begins with one of {', '.join(HIVES)}, like 'HKLM\\SOFTWARE\\Vendor'", key)
    if rest.split("\\")[0].upper() in ("SAM", "SECURITY"):
        raise RuleError(f"{key}: secrets of Windows are not read", key)
    return text


def _sha256(value: object, key: str) -> str:
    text = _text(value, key).lower()
    if _SHA256.fullmatch(text) is None:
        raise RuleError(f"{key}: must be 64 hexadecimal digits", key)
    return text


_Field = tuple[Callable[[object, str], object], bool]
_EQUALS = "equals"
_CONDITIONS = frozenset((_EQUALS, "at_least", "at_most"))
_COMMON = ("id", "kind", "on", "reason", "weight", "severity", "if_exists")
# `default` is what holds where nothing is set; without it nothing set is a deviation.
_JUDGED: dict[str, _Field] = {
    _EQUALS: (_values, False),
    "at_least": (_number, False),
    "at_most": (_number, False),
    "default": (_value, False),
}
KINDS: Mapping[str, Mapping[str, _Field]] = {
    "software_required": {"names": (_texts, True), "version": (_text, False)},
    "software_forbidden": {"names": (_texts, True)},
    "software_minimum": {"names": (_texts, True), "version": (_text, True)},
    "file_setting": {
        "file": (_paths, True),
        "format": (lambda value, key: _choice(value, key, FORMATS), False),
        "section": (_text, False),
        "key": (_text, True),
        "first": (_boolean, False),
        "stop_at": (_text, False),
        **_JUDGED,
    },
    "sysctl": {"key": (_sysctl, True), **_JUDGED},
    "registry_value": {"key": (_registry_key, True), "name": (_any_text, True), **_JUDGED},
    "macos_default": {"domain": (_path, True), "key": (_text, True), **_JUDGED},
    "service_running": {"names": (_services, True)},
    "service_stopped": {"names": (_services, True)},
    "file_present": {"path": (_path, True), "sha256": (_sha256, False)},
    "file_absent": {"path": (_path, True)},
}
"""The keys that a rule of each kind takes beside the common ones, and whether it needs them."""
KIND_SYSTEMS: Mapping[str, tuple[str, ...]] = {
    "sysctl": ("linux", "macos"),
    "registry_value": ("windows",),
    "macos_default": ("macos",),
}
"""Systems of kinds that are not for all."""
