"""Profiles: which checks on which assets. This module reads one `[[profile]]`; `plans` puts several together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

from gengfu_checks import registry
from gengfu_checks.errors import CheckError, ExtraMissing, SettingError, UnknownCheck
from gengfu_checks.model import CheckKind, Metric, Setting, SettingType, Status
from gengfu_checks.settings import resolve_settings, resolve_thresholds
from gengfu_collector.fleet import inventory_orders
from gengfu_collector.fleet.absence import Hours, parse_hours
from gengfu_collector.fleet.classes import ASSET_CLASSES, LABEL_PATTERN
from gengfu_collector.fleet.matching import CLASS, Match
from gengfu_collector.fleet.plan_words import Doubt
from gengfu_collector.fleet.toml_lines import KeyPath
from gengfu_collector.fleet.toml_table import Table, did_you_mean, shown, unknown_word
from gengfu_proto.convert.facts import MAX_NAME_CHARACTERS
from gengfu_proto.convert.plan import MAX_CHECKS, MIN_EVERY_S
from gengfu_proto.convert.report import CHECK_NAME_PATTERN

PROFILE_KEYS = ("name", "match", "check", "absence", "inventory", "inventory_rule")
CHECK_KEYS = (
    "kind", "name", "every", "timeout", "confirm", "recover", "enabled", "severity", "set", "thresholds",
)  # fmt: skip
ABSENCE_KEYS = ("after", "expected")
SEVERITIES = {"warning": Status.WARNING, "critical": Status.CRITICAL}

MAX_EVERY_S = 31 * 86_400.0
MIN_TIMEOUT_S = 0.1
RESERVED_NAMES = ("agent", "identity", "inventory", "presence")
"""Under which the collector and the agent's look at itself speak."""
MAX_TIMEOUT_S = 3_600.0
MAX_CONFIRM = 100
MIN_ABSENT_AFTER_S = 30.0
MAX_ABSENT_AFTER_S = 31 * 86_400.0


@dataclass(frozen=True, slots=True)
class CheckRule:
    """When a fault of a check opens and closes: `confirm` bad runs in a row open it, `recover` good ones close it.

    `worst` is the most severe that it may get: WARNING or CRITICAL.
    """

    confirm: int = 2
    recover: int = 2
    worst: Status = Status.CRITICAL


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """What one profile says about one thing. `given` holds only what stands there, by path below `table`.

    Values under `set` and `thresholds` are as written; all others are checked and typed (seconds, Status, Hours).
    """

    profile: str
    table: Table
    given: Mapping[KeyPath, object]

    @property
    def place(self) -> str:
        """`FILE:LINE`."""
        return f"{self.table.file}:{self.table.line()}"


@dataclass(frozen=True, slots=True, eq=False)
class ProfileCheck(Part):
    """One `[[profile.check]]`."""

    name: str
    kind: str


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """One `[[profile]]`."""

    name: str
    match: Match
    checks: tuple[ProfileCheck, ...]
    absence: Part | None
    inventory: Part | None
    table: Table


def read_profile(table: Table, warnings: list[Doubt]) -> Profile:
    """Return the profile of a `[[profile]]` table; raises ConfigurationError. Doubts are added to `warnings`."""
    table.require_known(PROFILE_KEYS)
    name = table.text("name")
    if name is None:
        raise table.error('a profile needs a name: name = "front-desk"')
    checks = tuple(_read_check(check, name, warnings) for check in table.tables("check"))
    if len(checks) > MAX_CHECKS:
        raise table.error(f"profile {shown(name)} has {len(checks)} checks; at most {MAX_CHECKS} are allowed", "check")
    seen: dict[str, ProfileCheck] = {}
    for check in checks:
        first = seen.setdefault(check.name, check)
        if first is not check:
            raise check.table.error(
                f"profile {shown(name)} has a check {shown(check.name)} in line {first.table.line()} already; "
                "give one of them another name",
                "name",
            )
    absence = _read_absence(table.table("absence"), name) if "absence" in table.data else None
    found = inventory_orders.read(table)
    inventory = Part(name, table, found) if found else None
    return Profile(name, read_match(table.table("match"), warnings), checks, absence, inventory, table)


def read_match(table: Table, warnings: list[Doubt]) -> dict[str, frozenset[str]]:
    """Return the match of a `match` table; raises ConfigurationError. Doubts are added to `warnings`."""
    match = {}
    for key in table.data:
        values = table.texts(key)
        for i, value in enumerate(values):
            if key == CLASS and value not in ASSET_CLASSES:
                raise table.error(unknown_word("class", value, ASSET_CLASSES), key, i)
        if LABEL_PATTERN.fullmatch(key) is None:
            raise table.error(f"{shown(key)} is neither class nor a label: a label is a-z, 0-9 and _, like site", key)
        if key != CLASS and did_you_mean(key, (CLASS,)):
            warnings.append(Doubt(f"{table.file}:{table.line(key)}", "as_label", {"key": key}))
        match[key] = frozenset(values)
    return match


def kind_of(name: str, given: Iterable[tuple[KeyPath, object]]) -> CheckKind:
    """Return the check kind of a name that is known.

    Where its extra is not installed a stand-in takes whatever is given, without default settings and thresholds.
    """
    try:
        return registry.load(name)
    except ExtraMissing:
        return _stand_in(name, list(given))


@contextmanager
def refusing(table: Table, *keys: str | int, among: Iterable[str] = (), suffix: str = "") -> Iterator[None]:
    """Turn a SettingError into a ConfigurationError at this place, with the nearest of the words that are allowed."""
    try:
        yield
    except SettingError as error:
        hint = did_you_mean(error.key, among) if error.key not in among else ""
        raise table.error(f"{error}{hint}{suffix}", *keys) from None


def _read_check(table: Table, profile: str, warnings: list[Doubt]) -> ProfileCheck:
    table.require_known(CHECK_KEYS)
    kind_name = _read_kind(table, warnings)
    name = table.text("name") or kind_name
    if CHECK_NAME_PATTERN.fullmatch(name) is None or len(name) > MAX_NAME_CHARACTERS:
        raise table.error(
            f"{shown(name)} is not a check name: a-z, 0-9, _, . and - are allowed, at most {MAX_NAME_CHARACTERS}",
            "name",
        )
    if name in RESERVED_NAMES:
        raise table.error(f"{shown(name)} cannot be the name of a check: Gengfu itself speaks under it", "name")
    every_s = table.duration_s("every", MIN_EVERY_S, MAX_EVERY_S)
    severity = table.choice("severity", tuple(SEVERITIES))
    typed: dict[str, object] = {
        "every": every_s,
        "timeout": table.duration_s("timeout", MIN_TIMEOUT_S, MAX_TIMEOUT_S),
        "confirm": table.integer("confirm", 1, MAX_CONFIRM),
        "recover": table.integer("recover", 1, MAX_CONFIRM),
        "enabled": table.boolean("enabled"),
        "severity": SEVERITIES[severity] if severity else None,
    }
    given: dict[KeyPath, object] = {(key,): value for key, value in typed.items() if value is not None}
    given.update(_read_settings(table, kind_name))
    given.update(_read_thresholds(table, kind_name))
    return ProfileCheck(profile, table, given, name, kind_name)


def _read_kind(table: Table, warnings: list[Doubt]) -> str:
    name = table.text("kind")
    if name is None:
        raise table.error(f"a check needs a kind; allowed: {', '.join(registry.names())}")
    try:
        registry.load(name)
    except UnknownCheck:
        raise table.error(unknown_word("check kind", name, registry.names()), "kind") from None
    except ExtraMissing as error:
        place = f"{table.file}:{table.line('kind')}"
        warnings.append(Doubt(place, "not_checked", {"kind": name, "error": str(error)}))
    except CheckError as error:
        raise table.error(str(error), "kind") from None
    return name


def _read_settings(table: Table, kind_name: str) -> dict[KeyPath, object]:
    settings = table.table("set")
    given: dict[KeyPath, object] = {("set", key): value for key, value in settings.data.items()}
    kind = kind_of(kind_name, given.items())
    optional = replace(kind, settings=tuple(replace(setting, required=False) for setting in kind.settings))
    for key, value in settings.data.items():
        with refusing(settings, key, among=[setting.name for setting in kind.settings]):
            resolve_settings(optional, {key: value})
    return given


def _read_thresholds(table: Table, kind_name: str) -> dict[KeyPath, object]:
    """Check each limit alone: whether limits fit each other is known only when all profiles are put together."""
    thresholds = table.table("thresholds")
    given: dict[KeyPath, object] = {}
    for metric in thresholds.data:
        kind = kind_of(kind_name, [(("thresholds", metric), None)])
        limitless = replace(kind, thresholds=tuple(replace(t, warning=None, critical=None) for t in kind.thresholds))
        with refusing(thresholds, metric, among=[m.name for m in kind.metrics]):
            resolve_thresholds(limitless, {metric: {}})
        limits = thresholds.table(metric)
        for key, value in limits.data.items():
            if key == "items":
                items = limits.table("items").data
                given.update({("thresholds", metric, "items", item): value for item, value in items.items()})
            else:
                given["thresholds", metric, key] = value
            with refusing(limits, key):
                resolve_thresholds(limitless, {metric: {key: value}})
    return given


def _read_absence(table: Table, profile: str) -> Part:
    table.require_known(ABSENCE_KEYS)
    after_s = table.duration_s("after", MIN_ABSENT_AFTER_S, MAX_ABSENT_AFTER_S)
    expected = _read_hours(table)
    given: dict[KeyPath, object] = {}
    if after_s is not None:
        given["after",] = after_s
    if expected is not None:
        given["expected",] = expected
    return Part(profile, table, given)


def _read_hours(table: Table) -> Hours | None:
    text = table.text("expected")
    try:
        return None if text is None else parse_hours(text)
    except ValueError as error:
        raise table.error(f"expected: {error}", "expected") from None


def _stand_in(name: str, given: list[tuple[KeyPath, object]]) -> CheckKind:
    settings = [Setting(str(path[1]), _type_of(value), "") for path, value in given if path[0] == "set"]
    metrics = dict.fromkeys(str(path[1]) for path, _ in given if path[0] == "thresholds")
    return CheckKind(
        name=name,
        measure=lambda _context: (),
        metrics=tuple(Metric(metric, "") for metric in metrics),
        codes=(),
        settings=tuple(settings),
    )


def _type_of(value: object) -> SettingType:
    match value:
        case bool():
            return SettingType.BOOLEAN
        case int():
            return SettingType.INTEGER
        case float():
            return SettingType.NUMBER
        case list():
            return SettingType.TEXT_LIST
    return SettingType.TEXT
