"""Commands of the inventory, for people in both languages and for scripts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_rig import HOSTILE, CommandLine, collector
from intake_rig import AT_ONCE, NOW_MS, Rig, submission

from gengfu_checks.model import InventoryEntry, Status, UnreadCategory
from gengfu_collector.admin import inventory
from gengfu_collector.intake.inventory import rules_of
from gengfu_collector.store.database import open_database, prepare_folder
from gengfu_proto.convert.inventory import encode_change, encode_full

GIB = 1024**3
MODULE = {"slot": "DIMM_A1", "size_bytes": 8 * GIB, "kind": "DDR4"}
ENTRIES = [
    InventoryEntry("os", "os", {"name": f"Debian {HOSTILE}", "version": "12"}),
    InventoryEntry("memory/slot/DIMM_A1", "memory", MODULE),
    InventoryEntry("software/dpkg/bash", "software", {"name": "bash", "version": "5.1"}),
]
TARGET = "/sys/class/dmi/id/product_serial"
UNREAD = [UnreadCategory("machine", "check.needs_rights", {"needs": "root", "target": TARGET})]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("inventories") / "data"
    prepare_folder(folder)
    database = open_database(folder)
    rig = Rig(database, {"disk": AT_ONCE} | rules_of({("memory", "removed"): Status.WARNING}))
    agent_id = rig.enrol("pc-1")
    rig.enrol("pc-2")
    rig.hello(agent_id)
    bash = InventoryEntry("software/dpkg/bash", "software", {"name": "bash", "version": "5.2"})
    bodies = [
        *encode_full(1, ENTRIES, UNREAD, NOW_MS, 170),
        encode_change(2, [bash], ["memory/slot/DIMM_A1"], UNREAD, NOW_MS, 160),
    ]
    for seq, body in enumerate(bodies, 1):
        rig.send(submission(agent_id, seq, data=body))
    rig.close()
    database.close()
    with collector(folder):
        yield folder


def test_what_is_known_of_a_machine(data: Path) -> None:
    shown = CommandLine(data)("inventory", "show", "pc-1")
    assert "Debian" in shown
    assert "version 5.2" in shown
    assert "machine: " in shown
    assert "root" in shown
    chinese = CommandLine(data, LANG="zh_CN.UTF-8")("inventory", "show", "pc-1", "--category", "os")
    assert "操作系统" in chinese
    assert "版本 12" in chinese
    assert "bash" not in chinese
    found = CommandLine(data).json("inventory", "show", "pc-1")
    assert set(found) == {
        "asset", "class", "known", "looked_at", "measured_at", "changed_at", "cpu_seconds", "unread", "entries",
    }  # fmt: skip
    assert [set(entry) for entry in found["entries"]] == [{"category", "name", "key", "facts", "since"}] * 2
    assert found["cpu_seconds"] == 0.16


def test_nothing_known_is_an_exit_code_and_no_error(data: Path) -> None:
    assert "agent.toml" in CommandLine(data)("inventory", "show", "pc-2", exit_code=1)
    CommandLine(data)("inventory", "show", "pc-3", exit_code=1)


def test_what_changed(data: Path) -> None:
    shown = CommandLine(data)("inventory", "changes")
    assert "version 5.1 → 5.2" in shown
    assert "8 GiB" in shown
    chinese = CommandLine(data, LANG="zh_CN.UTF-8")("inventory", "changes", "--asset", "pc-1", "--open")
    assert "移除" in chinese
    assert "内存" in chinese
    assert "bash" not in chinese
    assert len(CommandLine(data).json("inventory", "changes", "--since", "7")) == 2, "seconds"
    found = CommandLine(data).json("inventory", "changes", "--since", "100000d")
    assert [(row["change"], row["category"], row["severity"], row["drift"]) for row in found] == [
        ("changed", "software", None, None),
        ("removed", "memory", "warning", "open"),
    ]
    assert CommandLine(data).json("inventory", "changes", "--asset", "pc-2") == []
    cli = CommandLine(data)
    cli("inventory", "changes", "--since", "yesterday", exit_code=2)
    assert "--since" in cli.error


def test_one_more_than_is_shown_tells_that_there_are_more(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inventory, "MAX_LISTED", 1)
    database = open_database(data)
    with database.read() as connection:
        assert len(inventory.changes(connection)) == 2
    database.close()


def test_totals_and_acceptance(data: Path) -> None:
    assert CommandLine(data).json("inventory", "software") == [{"name": "bash", "version": "5.2", "assets": 1}]
    assert "bash" in CommandLine(data)("inventory", "software", "--name", "b*")
    ticket = CommandLine(data).json("ticket", "list")[0]
    assert (ticket["code"], ticket["state"]) == ("inventory.memory_removed", "open")
    assert CommandLine(data, LANG="zh_CN.UTF-8")("inventory", "accept", "pc-1", "--category", "memory")
    shown = CommandLine(data, LANG="zh_CN.UTF-8")("ticket", "show", ticket["number"])
    assert "内存减少：DIMM_A1" in shown
    assert "变更确认人" in shown
    CommandLine(data)("inventory", "accept", "pc-1", "--category", "ram", exit_code=2)
