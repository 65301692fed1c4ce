"""Exceptions from rules of a terminal standard: whose, why and until when.

    [[exception]]
    standard = "office-terminal"
    rules = ["no-telnet-server"]              # ids, or globs of them
    assets = ["pc-017", "lab-*"]              # names, or globs of them; and, or instead:
    match = { class = "terminal", site = "lab" }
    owner = "Li Lei"
    until = 2027-03-31                        # its last day, in the collector's time zone
    reason = "the old measuring station speaks nothing else; replaced in March"

The agent decides by its own clock when one ends, so that it ends on a machine that hears nothing of the collector, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta, tzinfo
from fnmatch import fnmatchcase
from typing import Any

from gengfu_checks.standards.rules import MAX_WAIVERS, Waiver, waivers_of_texts
from gengfu_checks.standards.values import RuleError
from gengfu_collector.fleet.matching import Match, fits, heaviest
from gengfu_collector.fleet.plan_words import Doubt
from gengfu_collector.fleet.plans import AssetOrders
from gengfu_collector.fleet.profiles import read_match
from gengfu_collector.fleet.standards import CHECK_KIND, Standards
from gengfu_collector.fleet.toml_table import Table, shown, unknown_word
from gengfu_proto.convert.plan import decode_plan, encode_plan

EXCEPTION_KEYS = ("standard", "rules", "assets", "match", "owner", "until", "reason")
MAX_EXCEPTIONS = 2_000
MAX_BYTES_A_MACHINE = 64 * 1024

_NAME = "asset name"  # no label is called that
_WILDCARDS = frozenset("*?[")


@dataclass(frozen=True, slots=True, eq=False)
class Exemption:
    """One `[[exception]]`. `assets` empty means every asset that `match` fits."""

    standard: str
    waiver: Waiver
    assets: tuple[str, ...]
    match: Match
    table: Table

    @property
    def place(self) -> str:
        """`FILE:LINE`."""
        return f"{self.table.file}:{self.table.line()}"

    @property
    def last_day(self) -> date:
        """The last day on which it holds."""
        return date.fromisoformat(self.waiver.until)

    def is_for(self, asset_class: str, labels: Mapping[str, str], name: str) -> bool:
        """Whether it is for an asset."""
        is_named = not self.assets or any(name == asset or fnmatchcase(name, asset) for asset in self.assets)
        return is_named and fits(self.match, asset_class, labels)

    def names_nobody(self, names: Set[str]) -> list[str]:
        """Which of its names and globs none of these assets has."""
        unknown = [asset for asset in self.assets if asset not in names]
        globs = {asset for asset in unknown if _WILDCARDS.intersection(asset)}
        return [asset for asset in unknown if asset not in globs or not any(fnmatchcase(name, asset) for name in names)]

    def as_json(self) -> dict[str, Any]:
        """Everything that it says, and where."""
        return {
            "standard": self.standard,
            "rules": list(self.waiver.rules),
            "assets": list(self.assets),
            "match": {key: sorted(values) for key, values in self.match.items()},
            "owner": self.waiver.owner,
            "until": self.waiver.until,
            "reason": self.waiver.reason,
            "file": self.table.file,
            "line": self.table.line(),
        }


def read_exception(table: Table, standards: Standards, zone: tzinfo, warnings: list[Doubt]) -> Exemption:
    """Return the exception of an `[[exception]]` table; raises ConfigurationError."""
    table.require_known(EXCEPTION_KEYS)
    for key in ("standard", "rules", "owner", "until", "reason"):
        if key not in table.data:
            raise table.error(f"an exception needs {key}: who answers for what, why, and until when")
    if "assets" not in table.data and "match" not in table.data:
        raise table.error("an exception needs assets or match; a rule that is for nobody is better removed")
    standard = table.choice("standard", sorted(standards.by_id)) or ""
    until = _until(table)
    waiver = Waiver(
        rules=_rules(table, standards, standard),
        until=until.isoformat(),
        ends_at_s=datetime.combine(until + timedelta(days=1), time(), zone).timestamp(),
        owner=table.text("owner") or "",
        reason=table.text("reason") or "",
    )
    try:
        waivers_of_texts([waiver.text()])
    except RuleError as error:
        raise table.error(str(error), error.key) from None
    return Exemption(standard, waiver, tuple(table.texts("assets")), read_match(table.table("match"), warnings), table)


def require_room(exemptions: Sequence[Exemption]) -> int:
    """Return the most bytes of exceptions that a machine can get; raises ConfigurationError when that is too much."""
    matches = [_as_match(exemption) for exemption in exemptions]
    sizes = [len(exemption.waiver.text().encode()) + 8 for exemption in exemptions]
    if not exemptions:
        return 0
    count, most_bytes = heaviest(matches, [1] * len(matches)), heaviest(matches, sizes)
    if count > MAX_WAIVERS or most_bytes > MAX_BYTES_A_MACHINE:
        raise exemptions[-1].table.error(
            f"a machine could get {count} exceptions of {most_bytes} bytes; at most {MAX_WAIVERS} of "
            f"{MAX_BYTES_A_MACHINE} are allowed"
        )
    return most_bytes


def with_exceptions(orders: AssetOrders, exemptions: Sequence[Exemption]) -> AssetOrders:
    """Return the orders with these exceptions in the checks of their standards."""
    checks = []
    for check in orders.plan.checks:
        texts = tuple(e.waiver.text() for e in exemptions if e.standard == check.settings.get("standard"))
        is_changed = check.kind == CHECK_KIND and texts
        checks.append(replace(check, settings={**check.settings, "exceptions": texts}) if is_changed else check)
    wire = encode_plan(replace(orders.plan, checks=tuple(checks)))
    # Not the decoded plan: thousands of machines share the texts of one.
    plan = replace(orders.plan, checks=tuple(checks), version=decode_plan(wire).version)
    return replace(orders, plan=plan, wire=wire)


def _until(table: Table) -> date:
    value = table.data["until"]
    if isinstance(value, str):
        try:
            value = date.fromisoformat(value)
        except ValueError:
            value = None
    # The year 9999 has no day after its last.
    if not isinstance(value, date) or isinstance(value, datetime) or not 2000 <= value.year < 9999:
        raise table.error(f"until: must be the last day, like 2027-03-31, not {shown(table.data['until'])}", "until")
    return value


def _rules(table: Table, standards: Standards, standard: str) -> tuple[str, ...]:
    patterns = table.texts("rules")
    known = [rule.id for rule in standards.by_id[standard].standard.rules]
    for i, pattern in enumerate(patterns):
        if not any(fnmatchcase(rule_id, pattern) for rule_id in known):
            raise table.error(unknown_word(f"rule of standard {standard}", pattern, known), "rules", i)
    return tuple(patterns)


def _as_match(exemption: Exemption) -> Match:
    """The exception as a match, names being like values of a label; a glob may fit any name."""
    if not exemption.assets or any(_WILDCARDS.intersection(asset) for asset in exemption.assets):
        return exemption.match
    return {**exemption.match, _NAME: frozenset(exemption.assets)}
