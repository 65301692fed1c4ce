"""Which machine this is: the same on every start, another one for a copy of the disk elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from gengfu_agent.machine import machine_facts, machine_id, platform_name


def lay_out(root: Path, nics: dict[str, tuple[str, str, str]], installation: str = "abc") -> None:
    """A small /sys and /etc; a card is (address, addr_assign_type, bus), bus "" for a virtual one."""
    (root / "etc").mkdir(parents=True)
    (root / "etc/machine-id").write_text(f"{installation}\n")
    (root / "sys/class/dmi/id").mkdir(parents=True)
    (root / "sys/class/dmi/id/product_name").write_text("ThinkCentre\n")
    for name, (address, assigned, bus) in nics.items():
        nic = root / "sys/class/net" / name
        nic.mkdir(parents=True)
        (nic / "address").write_text(f"{address}\n")
        (nic / "addr_assign_type").write_text(f"{assigned}\n")
        if bus:
            (root / "sys/bus" / bus).mkdir(parents=True, exist_ok=True)
            (nic / "device").mkdir()
            (nic / "device/subsystem").symlink_to(root / "sys/bus" / bus)


BOARD = {"eth0": ("52:54:00:00:00:01", "0", "pci")}
VISITORS = {
    "lo": ("00:00:00:00:00:00", "0", ""),
    "docker0": ("02:42:00:00:00:01", "3", ""),
    "usb0": ("aa:aa:aa:aa:aa:aa", "0", "usb"),
    "wlan0": ("bb:bb:bb:bb:bb:bb", "1", "pci"),
}


def test_cards_that_come_and_go_change_nothing(tmp_path: Path) -> None:
    lay_out(tmp_path / "plain", BOARD)
    lay_out(tmp_path / "busy", BOARD | VISITORS)
    assert machine_facts(tmp_path / "plain") == machine_facts(tmp_path / "busy")


def test_a_copied_disk_in_another_machine_is_another_machine(tmp_path: Path) -> None:
    lay_out(tmp_path / "here", BOARD)
    lay_out(tmp_path / "there", {"eth0": ("52:54:00:00:00:02", "0", "pci")})
    assert machine_id(machine_facts(tmp_path / "here")) != machine_id(machine_facts(tmp_path / "there"))


def test_a_new_installation_is_another_machine(tmp_path: Path) -> None:
    lay_out(tmp_path / "old", BOARD)
    lay_out(tmp_path / "new", BOARD, installation="def")
    assert machine_id(machine_facts(tmp_path / "old")) != machine_id(machine_facts(tmp_path / "new"))


def test_sources_may_be_absent(tmp_path: Path) -> None:
    assert machine_facts(tmp_path) == {}
    assert machine_id({}) == ""
    (tmp_path / "var/lib/dbus").mkdir(parents=True)
    (tmp_path / "var/lib/dbus/machine-id").write_text("xyz\n")
    assert machine_facts(tmp_path) == {"installation": "xyz"}


def test_the_id_does_not_depend_on_the_order_of_facts() -> None:
    assert machine_id({"a": "1", "b": "2"}) == machine_id({"b": "2", "a": "1"}) != machine_id({"a": "2", "b": "1"})


def test_this_machine() -> None:
    assert machine_id(machine_facts()) == machine_id(machine_facts())
    assert platform_name().count("-") == 1


@pytest.mark.parametrize("content", [b"\xff\xfe", b"", b"x" * 100_000])
def test_odd_files_do_no_harm(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/machine-id").write_bytes(content)
    assert len(machine_id(machine_facts(tmp_path))) in (0, 32)
