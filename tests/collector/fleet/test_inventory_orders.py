"""What profiles may say about the inventory, and what becomes of it on the way to an agent."""

from __future__ import annotations

from pathlib import Path

import pytest

from gengfu_checks.model import Status
from gengfu_collector.errors import ConfigurationError
from gengfu_collector.fleet.inspection import Inspection, load_inspection
from gengfu_collector.fleet.plan_view import change, orders_json, orders_lines
from gengfu_collector.fleet.plans import AssetOrders
from gengfu_proto.convert.plan import decode_plan

HOUR_S = 3600.0
MEMORY = {("memory", "removed"): Status.WARNING, ("memory", "shrunk"): Status.WARNING}


def folder(tmp_path: Path, text: str) -> Inspection:
    (tmp_path / "test.toml").write_text(text, encoding="utf-8")
    return load_inspection(tmp_path)


def terminal(tmp_path: Path, *lines: str) -> AssetOrders:
    text = "\n".join(["[[profile]]", 'name = "test"', *lines])
    return folder(tmp_path, text).for_asset("terminal", {})


def test_terminals_and_servers_are_counted_from_the_start(tmp_path: Path) -> None:
    found = load_inspection(None)
    for asset_class, more in (("terminal", {}), ("server", {("disk", "removed"): Status.WARNING})):
        orders = found.for_asset(asset_class, {})
        assert (orders.inventory.every_s, orders.inventory.rules) == (6 * HOUR_S, MEMORY | more)
        assert decode_plan(orders.wire).inventory_every_s == 6 * HOUR_S
    assert found.for_asset("ups", {}).inventory.every_s == 0


def test_later_profiles_replace_single_keys(tmp_path: Path) -> None:
    orders = terminal(
        tmp_path,
        'inventory = { every = "1d" }',
        "[[profile.inventory_rule]]",
        'category = "memory"',
        'change = "shrunk"',
        "enabled = false",
        "[[profile.inventory_rule]]",
        'category = "software"',
        'change = "added"',
        'severity = "critical"',
    )
    assert orders.inventory.every_s == 24 * HOUR_S
    assert orders.inventory.rules == {
        ("memory", "removed"): Status.WARNING,
        ("software", "added"): Status.CRITICAL,
    }
    line = orders_lines(orders)[-1]
    assert line.startswith("inventory: every 1d, memory removed warning, software added critical; ")
    assert "test set every, rule.memory.shrunk, rule.software.added" in line
    assert orders_json(orders)["inventory"] == {
        "every_s": 86400.0,
        "rule.memory.removed": "warning",
        "rule.software.added": "critical",
        "set_by": dict(orders.inventory_origins),
    }


def test_it_can_be_switched_off(tmp_path: Path) -> None:
    orders = terminal(tmp_path, "inventory = { enabled = false }")
    assert (orders.inventory.every_s, orders.inventory.rules) == (0.0, {})
    assert decode_plan(orders.wire).inventory_every_s == 0.0


def test_an_empty_table_switches_it_on(tmp_path: Path) -> None:
    text = '[[profile]]\nname = "test"\nmatch = { class = "meeting" }\ninventory = {}\n'
    assert folder(tmp_path, text).for_asset("meeting", {}).inventory.every_s == 6 * HOUR_S


def test_what_differs_is_told(tmp_path: Path) -> None:
    before = load_inspection(None).for_asset("terminal", {})
    after = terminal(tmp_path, 'inventory = { every = "1d" }')
    found = change(before, after)
    assert found.lines() == ["~ inventory: every 6h -> 1d"]
    assert found.as_json()["inventory"] == {"every_s": {"old": 21600.0, "new": 86400.0}}
    assert not change(before, before)


@pytest.mark.parametrize(
    ("lines", "line", "said"),
    [
        (['inventory = "6h"'], 3, "must be a table"),
        (['inventory = { every = "1s" }'], 3, "from 1m to 31d"),
        (["inventory = { often = true }"], 3, "unknown key"),
        (["[[profile.inventory_rule]]", 'change = "removed"'], 3, "needs a category"),
        (["[[profile.inventory_rule]]", 'category = "memory"'], 3, "needs a change"),
        (["[[profile.inventory_rule]]", 'category = "monitor"', 'change = "removed"'], 4, "disk, machine, memory"),
        (["[[profile.inventory_rule]]", 'category = "disk"', 'change = "gone"'], 5, "added, removed, changed"),
        (["[[profile.inventory_rule]]", 'category = "disk"', 'change = "removed"', 'severity = "bad"'], 6, "warning"),
        (["[[profile.inventory_rule]]", 'category = "software"', 'change = "shrunk"'], 5, "disk and memory"),
        (["[[profile.inventory_rule]]", 'name = "disk"'], 4, "unknown key"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_line(tmp_path: Path, lines: list[str], line: int, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        terminal(tmp_path, *lines)
    assert f"test.toml:{line}:" in str(caught.value)
    assert said in str(caught.value)
