"""Terminal standards (终端标准) of the inspection folder, beside those that come with Gengfu.

A file that holds `[standard]` and `[[rule]]` tables is one; `gengfu_checks.standards` says what stands in them. A
profile names a standard by its id, and the plan of its machines then holds the rules themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from gengfu_checks.errors import SettingError
from gengfu_checks.local.baseline import DEFAULT_STANDARD
from gengfu_checks.standards import built_in_ids, load
from gengfu_checks.standards.rules import Rule, Standard, read_rule, read_standard
from gengfu_checks.standards.values import RuleError
from gengfu_collector.errors import ConfigurationError
from gengfu_collector.fleet.toml_table import Table, shown, unknown_word
from gengfu_proto.convert.plan import PlannedCheck

CHECK_KIND = "baseline"
MAX_STANDARDS = 200

_BY_COLLECTOR = ("rules", "exceptions")


@dataclass(frozen=True, slots=True, eq=False)
class PlacedStandard:
    """A standard and where it is written; `table` is None for one that comes with Gengfu."""

    standard: Standard
    table: Table | None = None

    @property
    def place(self) -> str:
        """`FILE:LINE`, or that it is built in."""
        return "built-in" if self.table is None else f"{self.table.file}:{self.table.line()}"


class Standards:
    """Every standard by its id. Immutable."""

    def __init__(self, own: Iterable[PlacedStandard] = ()) -> None:
        """Raises ConfigurationError when two have one id."""
        self.by_id: dict[str, PlacedStandard] = {name: _built_in(name) for name in built_in_ids()}
        for placed in own:
            first = self.by_id.setdefault(placed.standard.id, placed)
            if first is not placed and placed.table is not None:
                hint = "; give yours an id of its own and name it in a profile" if first.table is None else ""
                raise placed.table.error(
                    f"there is a standard {shown(placed.standard.id)} already ({first.place}){hint}", "id"
                )
            if len(self.by_id) > MAX_STANDARDS and placed.table is not None:
                raise placed.table.error(f"at most {MAX_STANDARDS} standards are allowed")

    def fill(self, kind: str, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the settings of a check with the rules of the standard that they name; raises SettingError."""
        if kind != CHECK_KIND:
            return given
        for key in _BY_COLLECTOR:
            if key in given:
                raise SettingError(f"setting {key} is filled in from the standard and its exceptions", key=key)
        name = given.get("standard", DEFAULT_STANDARD)
        if not isinstance(name, str):
            return given  # refused for its type
        if name not in self.by_id:
            raise SettingError(unknown_word("standard", name, sorted(self.by_id)), key="standard")
        return {**given, "standard": name, "rules": self.by_id[name].standard.texts()}

    def items(self, check: PlannedCheck) -> frozenset[str] | None:
        """Every item that a check can have by its standard; None for a check of another kind."""
        if check.kind != CHECK_KIND:
            return None
        standard = self.by_id[str(check.settings["standard"])].standard
        return frozenset((standard.id, *(f"{standard.id}/{rule.id}" for rule in standard.rules)))


def read_file_standard(file: Table) -> PlacedStandard | None:
    """Return the standard of a file, None for a file without one; raises ConfigurationError."""
    tables = file.tables("rule")
    if "standard" not in file.data:
        if tables:
            raise tables[0].error("a [[rule]] belongs to a standard: the file needs a [standard] with id and title")
        return None
    head = file.table("standard")
    rules: list[Rule] = []
    by_id: dict[str, Table] = {}
    for table in tables:
        rule = _read_rule(table)
        first = by_id.setdefault(rule.id, table)
        if first is not table:
            raise table.error(f"there is a rule {shown(rule.id)} in line {first.line()} already", "id")
        rules.append(rule)
    try:
        return PlacedStandard(read_standard(head.data, rules), head)
    except RuleError as error:
        raise _refused(head, error) from None


def _read_rule(table: Table) -> Rule:
    try:
        return read_rule(table.data)
    except RuleError as error:
        raise _refused(table, error) from None


def _refused(table: Table, error: RuleError) -> ConfigurationError:
    keys = (error.key,) if error.key in table.data else ()
    return table.error(str(error), *keys)


@cache
def _built_in(name: str) -> PlacedStandard:
    return PlacedStandard(load(name))
