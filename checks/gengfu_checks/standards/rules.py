"""The words of a terminal standard (终端标准): rules, what they ask for, and exceptions. Pure.

A standard is written in TOML and travels to an agent as short JSON texts, one a rule. What either holds is looked at
here, so that a rule that was accepted can be measured.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gengfu_checks.standards.values import (
    MAX_REASON_CHARS,
    Reason,
    RuleError,
    is_of,
    needed,
    read_any_text,
    read_boolean,
    read_choice,
    read_id,
    read_number,
    read_path,
    read_paths,
    read_reason,
    read_registry_key,
    read_services,
    read_sha256,
    read_sysctl,
    read_text,
    read_texts,
    read_value,
    read_values,
    read_version,
    read_weight,
    require_known,
)

SYSTEMS = ("linux", "windows", "macos")
SEVERITIES = ("info", "warning", "critical")
FORMATS = ("text", "ini", "json")

MAX_RULES = 300
MAX_WAIVERS = 300
MAX_RULE_CHARS = 4_000
"""Of a rule as JSON; a text in a plan holds no more."""


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
    require_known(head, ("id", "title", "version"))
    if not 1 <= len(rules) <= MAX_RULES:
        hint = "; make several standards of it, and let a profile name each" if rules else ""
        raise RuleError(f"a standard has 1 to {MAX_RULES} rules, not {len(rules)}{hint}")
    return Standard(
        id=read_id(needed(head, "id"), "id"),
        title=read_reason(needed(head, "title"), "title"),
        version=read_text(head.get("version", "1"), "version"),
        rules=tuple(rules),
    )


def read_rule(table: Mapping[str, object]) -> Rule:
    """Return a rule; raises RuleError."""
    if "kind" not in table:
        raise RuleError(f"kind is missing; allowed: {', '.join(KINDS)}")
    kind = read_choice(table["kind"], "kind", tuple(KINDS))
    fields = KINDS[kind]
    require_known(table, (*_COMMON, *fields))
    wants = {key: read(table[key], key) for key, (read, _) in fields.items() if key in table}
    for key, (_, is_needed) in fields.items():
        if is_needed and key not in wants:
            raise RuleError(f"a rule of kind {kind} needs {key}")
    if _EQUALS in fields and not _CONDITIONS & wants.keys():
        raise RuleError(f"a rule of kind {kind} needs equals, at_least or at_most")
    severity = table.get("severity")
    if_exists = read_path(table["if_exists"], "if_exists") if "if_exists" in table else None
    return Rule(
        id=read_id(needed(table, "id"), "id"),
        kind=kind,
        systems=_systems(table, kind),
        reason=read_reason(needed(table, "reason"), "reason"),
        weight=read_weight(table.get("weight", 1), "weight"),
        severity=None if severity is None else read_choice(severity, "severity", SEVERITIES),
        if_exists=if_exists,
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
    require_known(table, Waiver.__slots__)
    return Waiver(
        rules=read_texts(needed(table, "rules"), "rules"),
        until=read_text(needed(table, "until"), "until"),
        ends_at_s=read_number(needed(table, "ends_at_s"), "ends_at_s"),
        owner=read_text(needed(table, "owner"), "owner"),
        reason=read_text(needed(table, "reason"), "reason", MAX_REASON_CHARS),
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


def _systems(table: Mapping[str, object], kind: str) -> tuple[str, ...]:
    """Those of `on`, or all that know the kind and the form of the paths."""
    possible = KIND_SYSTEMS.get(kind, SYSTEMS)
    for key in (key for key in _PATH_KEYS if key in table):
        paths = read_texts(table[key], key)
        possible = tuple(name for name in possible if any(is_of(path, name) for path in paths))
        if not possible:
            raise RuleError(f"{key}: no system for which this rule is has paths like {paths[0]!r}", key)
    if "on" not in table:
        return possible
    return tuple(read_choice(part, "on", possible) for part in read_texts(table["on"], "on"))


_Field = tuple[Callable[[object, str], object], bool]
_EQUALS = "equals"
_CONDITIONS = frozenset((_EQUALS, "at_least", "at_most"))
_PATH_KEYS = ("path", "file", "if_exists")
_COMMON = ("id", "kind", "on", "reason", "weight", "severity", "if_exists")
# `default` is what holds where nothing is set; without it nothing set is a deviation.
_JUDGED: dict[str, _Field] = {
    _EQUALS: (read_values, False),
    "at_least": (read_number, False),
    "at_most": (read_number, False),
    "default": (read_value, False),
}
KINDS: Mapping[str, Mapping[str, _Field]] = {
    "software_required": {"names": (read_texts, True), "version": (read_version, False)},
    "software_forbidden": {"names": (read_texts, True)},
    "software_minimum": {"names": (read_texts, True), "version": (read_version, True)},
    "file_setting": {
        "file": (read_paths, True),
        "format": (lambda value, key: read_choice(value, key, FORMATS), False),
        "section": (read_text, False),
        "key": (read_text, True),
        "first": (read_boolean, False),
        "stop_at": (read_text, False),
        **_JUDGED,
    },
    "sysctl": {"key": (read_sysctl, True), **_JUDGED},
    "registry_value": {"key": (read_registry_key, True), "name": (read_any_text, True), **_JUDGED},
    "macos_default": {"domain": (read_path, True), "key": (read_text, True), **_JUDGED},
    "service_running": {"names": (read_services, True)},
    "service_stopped": {"names": (read_services, True)},
    "file_present": {"path": (read_path, True), "sha256": (read_sha256, False)},
    "file_absent": {"path": (read_path, True)},
}
"""The keys that a rule of each kind takes beside the common ones, and whether it needs them."""
KIND_SYSTEMS: Mapping[str, tuple[str, ...]] = {
    "sysctl": ("linux", "macos"),
    "registry_value": ("windows",),
    "macos_default": ("macos",),
}
"""Systems of kinds that are not for all."""
