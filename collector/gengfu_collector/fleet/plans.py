"""Putting profiles together: what the agent of an asset is told, and by which rules its findings become faults. Pure.

Of several profiles that fit an asset, later ones replace single keys of earlier ones, check by check. Everything that
can go wrong in this is found by `validate` when profiles are loaded, so that `orders` does not fail for any asset.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from typing import Any, TypeVar

from gengfu_checks.errors import SettingError
from gengfu_checks.model import CheckKind, SettingValue, Threshold
from gengfu_checks.settings import resolve_settings, resolve_thresholds
from gengfu_collector.fleet.absence import AbsenceRule, Hours, parse_hours
from gengfu_collector.fleet.inventory_orders import InventoryOrders, put_together
from gengfu_collector.fleet.matching import Match, groups, heaviest
from gengfu_collector.fleet.profiles import CheckRule, Part, Profile, ProfileCheck, kind_of, refusing
from gengfu_collector.fleet.toml_lines import KeyPath
from gengfu_collector.fleet.toml_table import duration, shown
from gengfu_proto.convert.plan import MAX_CHECKS, MAX_PLAN_BYTES, Plan, PlannedCheck, decode_plan, encode_plan
from gengfu_proto.errors import MessageError

DEFAULT_RULE = CheckRule()
DEFAULT_ABSENT_AFTER_S = 120.0
DEFAULT_HOURS = parse_hours("always")
MAX_GROUPS = 5_000

Fill = Callable[[str, Mapping[str, Any]], Mapping[str, Any]]
"""Completes the settings that profiles give a check of a kind; raises SettingError."""

P = TypeVar("P", bound=Part)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class AssetOrders:
    """Everything that profiles say about one asset; `wire` is the plan as it goes to the agent.

    `rules` are by check name. `origins` tell by check name, then by key (`every`, `set.pattern`,
    `thresholds.used_ratio.warning`) which profile set it; keys that no profile set are not among them. Those of
    absence stand in `absence_origins`.
    """

    plan: Plan
    wire: bytes
    rules: Mapping[str, CheckRule]
    absence: AbsenceRule
    origins: Mapping[str, Mapping[str, str]]
    absence_origins: Mapping[str, str]
    inventory: InventoryOrders
    inventory_origins: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class MergedCheck:
    """One check of one asset."""

    planned: PlannedCheck
    rule: CheckRule
    origins: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Given:
    value: Any
    part: Part


_Merged = Mapping[KeyPath, _Given]


def orders(profiles: Sequence[Profile], zone: tzinfo, fill: Fill) -> AssetOrders:
    """Return what these profiles, all of which fit the asset, say together. They must have passed `validate`."""
    names = {check.name for profile in profiles for check in profile.checks}
    merged = [merge_checks([check for _, check in _parts(profiles, name)], fill) for name in sorted(names)]
    checks = [check for check in merged if check is not None]
    absences = [profile.absence for profile in profiles if profile.absence is not None]
    inventories = [profile.inventory for profile in profiles if profile.inventory is not None]
    inventory = put_together([part.given for part in inventories])
    planned = tuple(check.planned for check in checks)
    wire = encode_plan(Plan(checks=planned, inventory_every_s=inventory.every_s))
    return AssetOrders(
        plan=decode_plan(wire),
        wire=wire,
        rules={check.planned.name: check.rule for check in checks},
        absence=merge_absence(absences, zone),
        origins={check.planned.name: check.origins for check in checks},
        absence_origins=_origins(_merge(absences)),
        inventory=inventory,
        inventory_origins=_origins(_merge(inventories)),
    )


def validate(profiles: Sequence[Profile], zone: tzinfo, fill: Fill, spare_bytes: int = 0) -> None:
    """Raise ConfigurationError when there can be an asset for which these profiles do not go together.

    Every plan is left room for `spare_bytes` more.
    """
    names = dict.fromkeys(check.name for profile in profiles for check in profile.checks)
    plan_bytes = {}
    for name in names:
        together = _groups(list(_parts(profiles, name)), f"check {name}")
        plan_bytes[name] = max(_bytes_of(merge_checks(group, fill)) for group in together)
    absences = [(profile.match, profile.absence) for profile in profiles if profile.absence is not None]
    for group in _groups(absences, "absence"):
        merge_absence(group, zone)
    _require_room(profiles, [len(profile.checks) for profile in profiles], MAX_CHECKS, "checks")
    weights = [sum(plan_bytes[check.name] for check in profile.checks) for profile in profiles]
    _require_room(profiles, weights, MAX_PLAN_BYTES - spare_bytes, "bytes of plan")


def merge_checks(parts: Sequence[ProfileCheck], fill: Fill) -> MergedCheck | None:
    """Return what several profiles, in their order, say about one check; None when it is taken out.

    Raises ConfigurationError when they do not go together.
    """
    last = parts[-1]
    for other in parts:
        if other.kind != last.kind:
            raise last.table.error(
                f"check {shown(last.name)} is of kind {last.kind} here and of kind {other.kind} in profile "
                f"{shown(other.profile)} ({other.place}), and both can fit one asset; give it another name",
                "kind",
            )
    merged = _merge(parts)
    if not _value(merged, "enabled", True):
        return None
    kind = kind_of(last.kind, [(path, given.value) for path, given in merged.items()])
    every_s, timeout_s = _times(merged, kind, parts)
    planned = PlannedCheck(
        name=last.name,
        kind=last.kind,
        every_s=every_s,
        timeout_s=timeout_s,
        settings=_settings(merged, kind, parts, fill),
        thresholds=_thresholds(merged, kind, parts),
    )
    _require_sendable(planned, last)
    rule = CheckRule(
        confirm=_value(merged, "confirm", DEFAULT_RULE.confirm),
        recover=_value(merged, "recover", DEFAULT_RULE.recover),
        worst=_value(merged, "severity", DEFAULT_RULE.worst),
    )
    return MergedCheck(planned, rule, _origins(merged))


def merge_absence(parts: Sequence[Part], zone: tzinfo) -> AbsenceRule:
    """Return what several profiles, in their order, say about absence; raises ConfigurationError as `merge_checks`."""
    merged = _merge(parts)
    after_s = _value(merged, "after", DEFAULT_ABSENT_AFTER_S)
    expected: Hours = _value(merged, "expected", DEFAULT_HOURS)
    if expected.stretches_ms and not expected.is_always and after_s * 1000 > expected.longest_ms:
        raise parts[-1].table.error(
            f"after {duration(after_s)} is longer than any stretch of {shown(expected.text)}: nothing would ever be "
            f"absent{_together(parts)}"
        )
    return AbsenceRule(after_s, expected, zone)


def _parts(profiles: Sequence[Profile], name: str) -> Iterator[tuple[Match, ProfileCheck]]:
    for profile in profiles:
        for check in profile.checks:
            if check.name == name:
                yield profile.match, check


def _groups(parts: Sequence[tuple[Match, P]], what: str) -> list[list[P]]:
    found = groups([match for match, _ in parts], MAX_GROUPS)
    if found is None:
        raise parts[-1][1].table.error(
            f"{what}: its {len(parts)} profiles can meet in more than {MAX_GROUPS} ways; let fewer fit one asset"
        )
    return [[parts[i][1] for i in group] for group in found]


def _require_room(profiles: Sequence[Profile], weights: Sequence[int], most: int, what: str) -> None:
    needed = heaviest([profile.match for profile in profiles], weights)
    if needed > most:
        largest = profiles[max(range(len(profiles)), key=lambda i: weights[i])]
        raise largest.table.error(f"an asset could get {needed} {what} from its profiles; at most {most} are allowed")


def _merge(parts: Sequence[Part]) -> _Merged:
    """The latest profile comes first, so that of several globs for items the latest that fits wins."""
    merged: dict[KeyPath, _Given] = {}
    for part in reversed(parts):
        for path, value in part.given.items():
            merged.setdefault(path, _Given(value, part))
    return merged


def _value(merged: _Merged, key: str, default: T) -> T:
    """Values of these keys were typed when they were read."""
    given = merged.get((key,))
    value: T = default if given is None else given.value
    return value


def _origins(merged: _Merged) -> dict[str, str]:
    return {".".join(str(key) for key in path): given.part.profile for path, given in merged.items()}


def _together(parts: Sequence[Part]) -> str:
    """For messages: the fault may lie in a profile other than the one where it shows."""
    if len(parts) == 1:
        return ""
    return " (for an asset that profiles " + ", ".join(f"{part.profile} [{part.place}]" for part in parts) + " fit)"


def _times(merged: _Merged, kind: CheckKind, parts: Sequence[Part]) -> tuple[float, float]:
    every_s = _value(merged, "every", kind.every_s)
    timeout_s = _value(merged, "timeout", min(kind.timeout_s, every_s))
    if timeout_s > every_s:
        where = next(given.part for path, given in merged.items() if path in (("every",), ("timeout",)))
        key = "timeout" if ("timeout",) in where.given else "every"
        raise where.table.error(
            f"timeout {duration(timeout_s)} is longer than every {duration(every_s)}{_together(parts)}", key
        )
    return every_s, timeout_s


def _settings(merged: _Merged, kind: CheckKind, parts: Sequence[Part], fill: Fill) -> dict[str, SettingValue]:
    given = {str(path[1]): given.value for path, given in merged.items() if path[0] == "set"}
    try:
        given = dict(fill(kind.name, given))
    except SettingError as error:
        place = ("set", error.key)
        part = merged[place].part if place in merged else parts[-1]
        raise part.table.error(f"{error}{_together(parts)}", *place) from None
    with refusing(parts[-1].table, "set", suffix=_together(parts)):
        resolved = resolve_settings(kind, given)
    return {name: value for name, value in resolved.items() if value is not None}


def _thresholds(merged: _Merged, kind: CheckKind, parts: Sequence[Part]) -> tuple[Threshold, ...]:
    tables: dict[str, dict[str, Any]] = {}
    for path, given in merged.items():
        match path:
            case ("thresholds", str(metric), "items", str(item)):
                tables.setdefault(metric, {}).setdefault("items", {})[item] = given.value
            case ("thresholds", str(metric), str(key)):
                tables.setdefault(metric, {})[key] = given.value
    for metric, table in tables.items():
        latest = next(given.part for path, given in merged.items() if path[:2] == ("thresholds", metric))
        with refusing(latest.table, "thresholds", metric, suffix=_together(parts)):
            resolve_thresholds(kind, {metric: table})
    return resolve_thresholds(kind, dict(sorted(tables.items())))


def _require_sendable(planned: PlannedCheck, last: ProfileCheck) -> None:
    try:
        (sent,) = decode_plan(encode_plan(Plan(checks=(planned,)))).checks
    except MessageError as error:
        raise last.table.error(f"check {planned.name} cannot be sent to an agent: {error}", "set") from None
    for name, value in planned.settings.items():
        if sent.settings[name] != value:
            raise last.table.error(f"setting {name}: invisible and control characters are not allowed", "set", name)
    if sent.thresholds != planned.thresholds:
        raise last.table.error(
            "thresholds: invisible and control characters are not allowed in names of items", "thresholds"
        )


def _bytes_of(check: MergedCheck | None) -> int:
    return 0 if check is None else len(encode_plan(Plan(checks=(check.planned,))))
