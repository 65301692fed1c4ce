"""An asset's orders as people and scripts see them, and what differs between two of them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gengfu_checks.model import Threshold
from gengfu_collector.fleet.plan_words import ENGLISH, level, say
from gengfu_collector.fleet.plans import AssetOrders
from gengfu_collector.fleet.toml_table import duration, shown
from gengfu_proto.convert.plan import PlannedCheck

MAX_LISTED = 6
_OF_STANDARDS = ("set.rules", "set.exceptions")
"""Long lists of long texts, of which a change seldom touches more than one."""

Json = dict[str, object]
Values = dict[str, object]
"""Effective values by key: `every_s`, `confirm`, `set.pattern`, `thresholds.used_ratio.warning` ..."""


@dataclass(frozen=True, slots=True)
class PlanChange:
    """What differs. `changed` maps check name to key to (old, new); None stands for a key that is not there."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: Mapping[str, Mapping[str, tuple[object, object]]] = field(default_factory=dict)
    absence: Mapping[str, tuple[object, object]] = field(default_factory=dict)
    inventory: Mapping[str, tuple[object, object]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed or self.absence or self.inventory)

    def as_json(self) -> Json:
        """Lists of names, and objects of {"old": , "new": } by key."""
        return {
            "added": list(self.added),
            "removed": list(self.removed),
            "changed": {name: _pairs(keys) for name, keys in self.changed.items()},
            "absence": _pairs(self.absence),
            "inventory": _pairs(self.inventory),
        }

    def lines(self, language: str = ENGLISH) -> list[str]:
        """One line for each check that differs."""
        lines = [f"+ {name}" for name in self.added]
        lines += [f"- {name}" for name in self.removed]
        lines += [f"~ {name}: {_change_text(keys, language)}" for name, keys in self.changed.items()]
        lines += [f"~ absence: {_change_text(self.absence, language)}"] if self.absence else []
        return lines + ([f"~ inventory: {_change_text(self.inventory, language)}"] if self.inventory else [])


def change(old: AssetOrders, new: AssetOrders) -> PlanChange:
    """Return what differs in effect; empty exactly when plan, rules and absence are equal."""
    before, after = _by_check(old), _by_check(new)
    differing = {name: _differing(before[name], after[name]) for name in before if name in after}
    return PlanChange(
        added=tuple(name for name in after if name not in before),
        removed=tuple(name for name in before if name not in after),
        changed={name: keys for name, keys in differing.items() if keys},
        absence=_differing(_absence_values(old), _absence_values(new)),
        inventory=_differing(old.inventory.values(), new.inventory.values()),
    )


def orders_json(orders: AssetOrders) -> Json:
    """The effective values, and by key which profile set them; others have the default of the check's kind."""
    checks = [
        {"name": name, **values, "set_by": dict(orders.origins[name])} for name, values in _by_check(orders).items()
    ]
    absence = _absence_values(orders) | {"set_by": dict(orders.absence_origins)}
    inventory = orders.inventory.values() | {"set_by": dict(orders.inventory_origins)}
    return {"plan_version": orders.plan.version, "checks": checks, "absence": absence, "inventory": inventory}


def orders_lines(orders: AssetOrders) -> list[str]:
    """One line for each check and one for absence: the effective values, and which profile set what."""
    lines = [check_line(orders, check) for check in orders.plan.checks] + [absence_line(orders)]
    return lines + ([inventory_line(orders)] if orders.inventory.every_s else [])


def check_line(orders: AssetOrders, check: PlannedCheck, language: str = ENGLISH) -> str:
    """The line of one check."""
    rule = orders.rules[check.name]
    line = say(
        language,
        "check",
        name=check.name,
        every=duration(check.every_s),
        timeout=duration(check.timeout_s),
        confirm=rule.confirm,
        recover=rule.recover,
        worst=level(rule.worst.word, language),
    )
    return line + _set_by(orders.origins[check.name], language)


def absence_line(orders: AssetOrders, language: str = ENGLISH) -> str:
    """The line that says when silence is a fault."""
    after, hours = duration(orders.absence.after_s), orders.absence.expected.text
    return say(language, "absence", after=after, hours=hours) + _set_by(orders.absence_origins, language)


def inventory_line(orders: AssetOrders, language: str = ENGLISH) -> str:
    """The line that says how often the inventory is looked at and which of its changes become tickets."""
    inventory = orders.inventory
    line = say(language, "inventory", every=duration(inventory.every_s)) if inventory.every_s else ""
    rules = [f"{category} {kind} {worst.word}" for (category, kind), worst in sorted(inventory.rules.items())]
    line = ", ".join([line, *rules]) if line else say(language, "no_inventory")
    return line + _set_by(orders.inventory_origins, language)


def _by_check(orders: AssetOrders) -> dict[str, Values]:
    return {check.name: _check_values(orders, check) for check in orders.plan.checks}


def _check_values(orders: AssetOrders, check: PlannedCheck) -> Values:
    rule = orders.rules[check.name]
    values: Values = {
        "kind": check.kind,
        "every_s": check.every_s,
        "timeout_s": check.timeout_s,
        "confirm": rule.confirm,
        "recover": rule.recover,
        "severity": rule.worst.word,
    }
    for name, value in sorted(check.settings.items()):
        values[f"set.{name}"] = list(value) if isinstance(value, tuple) else value
    for threshold in check.thresholds:
        values.update(_threshold_values(threshold))
    return values


def _threshold_values(threshold: Threshold) -> Values:
    found: Values = {
        "warning": threshold.warning,
        "critical": threshold.critical,
        "hysteresis": threshold.hysteresis,
        "direction": threshold.direction.value,
        # A list, because the first glob that fits an item wins.
        "items": [[item, limits.warning, limits.critical] for item, limits in threshold.items.items()],
    }
    return {f"thresholds.{threshold.metric}.{key}": value for key, value in found.items() if value not in (None, [])}


def _absence_values(orders: AssetOrders) -> Values:
    return {"after_s": orders.absence.after_s, "expected": orders.absence.expected.text}


def _differing(before: Values, after: Values) -> dict[str, tuple[object, object]]:
    keys = dict.fromkeys((*before, *after))
    return {key: (before.get(key), after.get(key)) for key in keys if before.get(key) != after.get(key)}


def _pairs(keys: Mapping[str, tuple[object, object]]) -> Json:
    return {key: {"old": old, "new": new} for key, (old, new) in keys.items()}


def _change_text(keys: Mapping[str, tuple[object, object]], language: str) -> str:
    return "; ".join(
        f"{key.removesuffix('_s')} {_pair_text(key, old, new, language)}" for key, (old, new) in keys.items()
    )


def _pair_text(key: str, old: object, new: object, language: str) -> str:
    if key in _OF_STANDARDS:
        before, after = ([] if value is None else list(value) for value in (old, new))  # type: ignore[call-overload]
        parts = [f"-{shown(text)}" for text in before if text not in after]
        parts += [f"+{shown(text)}" for text in after if text not in before]
        more = say(language, "and_more", count=len(parts) - MAX_LISTED) if len(parts) > MAX_LISTED else ""
        return " ".join(parts[:MAX_LISTED]) + more
    return f"{_text(key, old, language)} -> {_text(key, new, language)}"


def _text(key: str, value: object, language: str) -> str:
    if value is None:
        return say(language, "none")
    if isinstance(value, list) and len(value) > MAX_LISTED:
        return say(language, "entries", count=len(value))
    return duration(value) if key.endswith("_s") and isinstance(value, float) else str(value)


def _set_by(origins: Mapping[str, str], language: str) -> str:
    keys_of: dict[str, list[str]] = {}
    for key, profile in origins.items():
        keys_of.setdefault(profile, []).append(key)
    return "".join(
        say(language, "set_by", profile=name, keys=", ".join(sorted(keys))) for name, keys in keys_of.items()
    )
