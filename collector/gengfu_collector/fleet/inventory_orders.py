"""What profiles say about the inventory: how often to look, and which changes somebody has to look at.

[[profile]]
inventory = { every = "6h" }

  [[profile.inventory_rule]]
  category = "disk"
  change = "removed"
  severity = "warning"
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gengfu_checks.model import Status
from gengfu_collector.fleet.inventory import EVENTFUL, KINDS, SIZED
from gengfu_collector.fleet.toml_lines import KeyPath
from gengfu_collector.fleet.toml_table import Table, unknown_word
from gengfu_proto.convert.plan import MIN_INVENTORY_EVERY_S

KEYS = ("every", "enabled")
RULE_KEYS = ("category", "change", "severity", "enabled")
SEVERITIES = {"warning": Status.WARNING, "critical": Status.CRITICAL}
DEFAULT_EVERY_S = 6 * 3600.0
MAX_EVERY_S = 31 * 86_400.0
MAX_RULES = 100

_RULE = "rule"


@dataclass(frozen=True, slots=True)
class InventoryOrders:
    """What one asset's profiles say. `every_s` 0: its inventory is not looked at.

    `rules` are the severities of changes that become tickets, by category and kind of change.
    """

    every_s: float = 0.0
    rules: Mapping[tuple[str, str], Status] = field(default_factory=dict)

    def values(self) -> dict[str, object]:
        """Effective values by key, for people and scripts."""
        rules = {f"rule.{category}.{kind}": severity.word for (category, kind), severity in sorted(self.rules.items())}
        return {"every_s": self.every_s, **rules} if self.every_s else {}


def read(profile: Table) -> dict[KeyPath, object]:
    """Return what stands in one profile, by path; raises ConfigurationError."""
    table = profile.table("inventory")
    table.require_known(KEYS)
    given: dict[KeyPath, object] = {}
    every_s = table.duration_s("every", MIN_INVENTORY_EVERY_S, MAX_EVERY_S)
    enabled = table.boolean("enabled")
    if every_s is not None or ("inventory" in profile.data and enabled is None):
        given["every",] = every_s or DEFAULT_EVERY_S
    if enabled is not None:
        given["enabled",] = enabled
    rules = profile.tables("inventory_rule")
    if len(rules) > MAX_RULES:
        raise profile.error(f"at most {MAX_RULES} rules for the inventory are allowed", "inventory_rule")
    for rule in rules:
        category, kind, severity = _read_rule(rule)
        given[_RULE, category, kind] = severity
    return given


def put_together(given: Sequence[Mapping[KeyPath, object]]) -> InventoryOrders:
    """Return what several profiles say, later ones over earlier ones."""
    merged: dict[KeyPath, object] = {}
    for one in given:
        merged |= one
    every_s = merged.get(("every",), DEFAULT_EVERY_S if merged.get(("enabled",)) else 0.0)
    if merged.get(("enabled",)) is False or not isinstance(every_s, float):
        return InventoryOrders()
    rules = {
        (str(path[1]), str(path[2])): severity
        for path, severity in merged.items()
        if path[0] == _RULE and isinstance(severity, Status)
    }
    return InventoryOrders(every_s, rules if every_s else {})


def _read_rule(rule: Table) -> tuple[str, str, Status | None]:
    """Category, kind of change and severity; None switches a rule of an earlier profile off."""
    rule.require_known(RULE_KEYS)
    category = _needed(rule, "category", sorted(EVENTFUL))
    kind = _needed(rule, "change", KINDS)
    if kind == "shrunk" and category not in SIZED:
        raise rule.error(f"change: shrunk is for {' and '.join(sorted(SIZED))}; nothing else has a size", "change")
    severity = rule.choice("severity", tuple(SEVERITIES)) or "warning"
    return category, kind, None if rule.boolean("enabled") is False else SEVERITIES[severity]


def _needed(rule: Table, key: str, allowed: Sequence[str]) -> str:
    value = rule.text(key)
    if value is None:
        raise rule.error(f"a rule for the inventory needs a {key}; allowed: {', '.join(allowed)}")
    if value not in allowed:
        raise rule.error(unknown_word(key, value, allowed), key)
    return value
