"""The inventory of Linux machines: trees laid out as the kernel does, and this machine for real."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from test_inventory_parsers import EDID, PRINTERS_CONF, TABLE

from gengfu_checks.codes import CHECK_NEEDS_RIGHTS
from gengfu_checks.errors import CannotMeasure
from gengfu_checks.inventory import linux, printers, programs
from gengfu_checks.inventory.collect import collect
from gengfu_checks.inventory.collected import Collected
from gengfu_checks.local import sysfs
from gengfu_checks.model import InventoryEntry

GIB = 1024**3


class Machine:
    """A /sys and a /proc of a test's own, after Documentation/ABI of the kernel."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, content: str | bytes) -> Path:
        """Write an attribute."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)
        return target

    def link(self, path: str, target: str) -> None:
        """Make a link to a folder, which is made, too."""
        (self.root / target).mkdir(parents=True, exist_ok=True)
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).symlink_to(self.root / target)

    def look(self) -> dict[str, InventoryEntry]:
        """What is found."""
        found = Collected()
        linux.hardware(found, self.root)
        assert found.unread == {}
        return found.entries


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "machine")


def test_an_empty_tree_is_an_empty_inventory(machine: Machine) -> None:
    assert machine.look() == {}


def test_make_model_and_serial_number(machine: Machine) -> None:
    for name, value in {
        "sys_vendor": "LENOVO\n",
        "product_name": "20XW004AGE\n",
        "product_version": "ThinkPad X1 Carbon Gen 9\n",
        "product_serial": "PF2ABCDE\n",
        "board_name": "20XW004AGE\n",
        "bios_version": "N32ET75W (1.51 )\n",
        "chassis_type": "10\n",
    }.items():
        machine.write(f"sys/class/dmi/id/{name}", value)
    assert machine.look()["machine"].facts == {
        "maker": "LENOVO",
        "model": "20XW004AGE",
        "version": "ThinkPad X1 Carbon Gen 9",
        "serial": "PF2ABCDE",
        "board": "20XW004AGE",
        "firmware": "N32ET75W (1.51 )",
        "chassis": "laptop",
    }


def test_a_board_without_firmware_tables(machine: Machine) -> None:
    machine.write("sys/firmware/devicetree/base/model", b"Raspberry Pi 4 Model B Rev 1.4\0")
    machine.write("sys/firmware/devicetree/base/serial-number", b"10000000abcdef01\0")
    assert machine.look()["machine"].facts == {
        "model": "Raspberry Pi 4 Model B Rev 1.4",
        "serial": "10000000abcdef01",
    }


def test_processors_by_socket(machine: Machine) -> None:
    lines = ("processor\t: {}", "model name\t: Intel(R) Xeon(R) Gold 6226R CPU", "physical id\t: {}", "core id\t\t: {}")
    block = "\n".join(lines) + "\n\n"
    numbers = [(0, 0, 0), (1, 1, 0), (2, 0, 1), (3, 1, 1), (4, 0, 0), (5, 1, 0), (6, 0, 1), (7, 1, 1)]
    machine.write("proc/cpuinfo", "".join(block.format(*three) for three in numbers))
    found = machine.look()
    facts = {"model": "Intel(R) Xeon(R) Gold 6226R CPU", "cores": 2, "threads": 4}
    assert {key: entry.facts for key, entry in found.items()} == {"cpu/0": facts, "cpu/1": facts}


def test_memory_as_a_whole_and_by_module(machine: Machine) -> None:
    machine.write("sys/devices/system/memory/block_size_bytes", "8000000\n")
    for number in range(640):
        machine.write(f"sys/devices/system/memory/memory{number}/state", "online\n")
    machine.write("sys/firmware/dmi/tables/DMI", TABLE)
    found = machine.look()
    assert found["memory/total"].facts == {"size_bytes": 80 * GIB}
    assert set(found) == {"memory/total", "memory/slot/NODE 0/DIMM_A1", "memory/slot/NODE 1/DIMM_B1"}


def a_disk(machine: Machine, name: str, device: str, **attributes: str) -> None:
    machine.link(f"sys/block/{name}/device", device)
    machine.write(f"sys/block/{name}/size", "1000215216\n")
    machine.write(f"sys/block/{name}/removable", attributes.pop("removable", "0\n"))
    machine.write(f"sys/block/{name}/queue/rotational", attributes.pop("rotational", "0\n"))
    for attribute, value in attributes.items():
        machine.write(f"{device}/{attribute}", value)


def test_disks_by_serial_number_those_at_usb_removable(machine: Machine) -> None:
    a_disk(machine, "nvme0n1", "sys/devices/pci0/nvme/nvme0", model="SAMSUNG MZVLB512HBJQ\n", serial="S4GENX0N123456\n")
    a_disk(machine, "sda", "sys/devices/pci0/ata1/0:0:0:0", vendor="ATA\n", model="WDC WD10EZEX\n", rotational="1\n")
    machine.write("sys/devices/pci0/ata1/0:0:0:0/vpd_pg80", b"\0\x80\0\x14     WD-WCC6Y1ABCDEF")
    a_disk(machine, "sdb", "sys/devices/pci0/usb1/1-1/0:0:0:0", vendor="SanDisk\n", model="Ultra\n", removable="1\n")
    machine.link("sys/devices/pci0/usb1/1-1/subsystem", "sys/bus/usb")
    a_disk(machine, "sdc", "sys/devices/pci0/usb1/1-2/0:0:0:0", vendor="WD\n", model="Elements\n", wwid="naa.5001\n")
    machine.link("sys/devices/pci0/usb1/1-2/subsystem", "sys/bus/usb")
    for virtual in ("loop0", "dm-0", "zram0"):
        machine.write(f"sys/block/{virtual}/size", "100\n")
    a_disk(machine, "sr0", "sys/devices/pci0/ata2/1:0:0:0", model="DVD\n")
    found = machine.look()
    assert {key: entry.facts.get("removable", False) for key, entry in found.items()} == {
        "disk/serial/S4GENX0N123456": False,
        "disk/serial/WD-WCC6Y1ABCDEF": False,
        "disk/name/sdb": True,
        "disk/wwid/naa.5001": True,
    }
    assert found["disk/serial/WD-WCC6Y1ABCDEF"].facts == {
        "name": "sda",
        "model": "WDC WD10EZEX",
        "serial": "WD-WCC6Y1ABCDEF",
        "size_bytes": 512110190592,
        "kind": "hdd",
    }
    assert found["disk/serial/S4GENX0N123456"].facts["kind"] == "ssd"
    assert found["disk/wwid/naa.5001"].facts["model"] == "WD Elements"


def a_nic(machine: Machine, name: str, device: str, address: str) -> None:
    machine.write(f"sys/class/net/{name}/address", address + "\n")
    machine.write(f"sys/class/net/{name}/addr_assign_type", "0\n")
    if device:
        machine.link(f"sys/class/net/{name}/device", device)


def test_network_cards_by_their_address_no_virtual_ones(machine: Machine) -> None:
    a_nic(machine, "eno1", "sys/devices/pci0/0000:00:1f.6", "a0:b1:c2:d3:e4:f5")
    machine.link("sys/devices/pci0/0000:00:1f.6/driver", "sys/bus/pci/drivers/e1000e")
    machine.write("sys/devices/pci0/0000:00:1f.6/vendor", "0x8086\n")
    machine.write("sys/devices/pci0/0000:00:1f.6/device", "0x15fb\n")
    a_nic(machine, "enx1", "sys/devices/pci0/usb2/2-1/2-1:1.0", "00:50:b6:00:00:01")
    machine.link("sys/devices/pci0/usb2/2-1/2-1:1.0/subsystem", "sys/bus/usb")
    a_nic(machine, "veth1", "", "be:1c:00:00:00:01")
    a_nic(machine, "ens1v0", "sys/devices/pci0/0000:3b:02.0", "02:00:00:00:00:05")
    machine.link("sys/devices/pci0/0000:3b:02.0/physfn", "sys/devices/pci0/0000:3b:00.0")
    found = machine.look()
    assert found["nic/a0:b1:c2:d3:e4:f5"].facts == {
        "name": "eno1",
        "address": "a0:b1:c2:d3:e4:f5",
        "driver": "e1000e",
        "device_id": "8086:15fb",
    }
    assert found["nic/00:50:b6:00:00:01"].facts["removable"] is True
    assert len(found) == 2


def test_monitors_that_are_plugged_in(machine: Machine) -> None:
    machine.write("sys/class/drm/card0-DP-1/edid", EDID)
    machine.write("sys/class/drm/card0-HDMI-A-1/edid", b"")
    assert [entry.facts["connector"] for entry in machine.look().values()] == ["DP-1"]


def test_what_needs_more_rights_is_said_and_the_rest_is_there(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody may read the two files; as root the denial has to be played."""
    machine.write("sys/class/dmi/id/sys_vendor", "Dell Inc.\n")
    machine.write("sys/class/dmi/id/product_serial", "ABC\n").chmod(0)
    machine.write("sys/firmware/dmi/tables/DMI", TABLE).chmod(0)
    if os.geteuid() == 0:
        real_open, real_read = os.open, Path.read_text

        def denied(path: Path | str) -> None:
            if str(path).endswith(("/DMI", "/product_serial")):
                raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr(os, "open", lambda path, *more, **named: denied(path) or real_open(path, *more, **named))
        monkeypatch.setattr(Path, "read_text", lambda path, *more: denied(path) or real_read(path, *more))
    found = Collected()
    linux.hardware(found, machine.root)
    assert {name: unread.code for name, unread in found.unread.items()} == {
        "machine": CHECK_NEEDS_RIGHTS,
        "memory": CHECK_NEEDS_RIGHTS,
    }
    assert found.entries["machine"].facts == {"maker": "Dell Inc."}
    assert found.unread["memory"].facts["target"] == str(machine.root / "sys/firmware/dmi/tables/DMI")


def test_where_sys_is_hidden_nothing_is_gone(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysfs, "SYS", machine.root / "sys")
    found = Collected()
    linux.hardware(found, machine.root)
    assert {name: unread.code for name, unread in found.unread.items()} == dict.fromkeys(
        ("machine", "memory", "disk", "nic", "monitor"), "check.not_usable"
    )


@pytest.mark.parametrize(("body", "queues"), [("echo rubbish", None), ("exit 127", None), ("exit 1", [])])
def test_rubbish_of_lpstat_is_no_list_of_queues(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, body: str, queues: list[InventoryEntry] | None
) -> None:
    def denied(_path: Path, _most: int) -> bytes:
        raise CannotMeasure(CHECK_NEEDS_RIGHTS)

    lpstat = machine.write("bin/lpstat", f"#!/bin/sh\n{body}\n")
    lpstat.chmod(0o755)
    monkeypatch.setattr(printers, "read_small", denied)
    monkeypatch.setattr(printers, "find_program", lambda _name: str(lpstat))
    found = Collected()
    found.take("printer", printers.printers(machine.root))
    assert list(found.entries.values()) == (queues or [])
    assert ("printer" in found.unread) is (queues is None)


def test_the_system_by_os_release(machine: Machine) -> None:
    machine.write("etc/os-release", 'PRETTY_NAME="Rocky Linux 9.4"\nID="rocky"\nVERSION_ID="9.4"\n')
    (found,) = linux.operating_system(machine.root)
    assert found.facts == {
        "name": "Rocky Linux 9.4",
        "version": "9.4",
        "kernel": os.uname().release,
        "architecture": os.uname().machine,
    }


def test_printers_of_the_file_that_cups_keeps(machine: Machine) -> None:
    machine.write("etc/cups/printers.conf", PRINTERS_CONF)
    assert [entry.key for entry in printers.printers(machine.root)] == ["printer/Office", "printer/Shared"]
    assert list(printers.printers(machine.root / "nowhere")) == []


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PermissionError(13, "Permission denied", "/var/lib/dpkg/status"), CHECK_NEEDS_RIGHTS),
        (OSError(5, "Input/output error", "/var/lib/dpkg/status"), "check.program_failed"),
        (CannotMeasure("check.program_failed", {"program": "rpm"}), "check.program_failed"),
    ],
)
def test_a_list_of_software_that_fails_is_unread(error: Exception, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def installed() -> list[object]:
        raise error

    monkeypatch.setattr(programs, "installed", installed)
    found = Collected()
    programs.software(found)
    assert found.unread["software"].code == code
    assert found.entries == {}


def test_this_machine_for_real(requires_program: Callable[[str, str], str]) -> None:
    query = [requires_program("dpkg-query", "apt-get install dpkg"), "-W", "-f", "${db:Status-Status}\n"]
    before_s = time.process_time()
    found = collect()
    assert time.process_time() - before_s < 2.0
    categories = {entry.category for entry in found.entries.values()}
    assert {"os", "cpu", "software"} <= categories
    threads = sum(int(entry.facts["threads"]) for entry in found.entries.values() if entry.category == "cpu")
    assert threads == psutil.cpu_count()
    there = subprocess.run(query, capture_output=True, text=True, check=True).stdout.split().count("installed")
    listed = sum(entry.key.startswith("software/dpkg/") for entry in found.entries.values())
    assert abs(listed - there) <= 20, "packages that others install meanwhile"
    physical = {nic.name for nic in Path("/sys/class/net").iterdir() if (nic / "device").exists()}
    assert {e.facts["name"] for e in found.entries.values() if e.category == "nic"} <= physical


def test_the_permanent_address_of_real_cards() -> None:
    """Loopback has none; what a card says is an address."""
    assert linux._ask_permanent_address("lo") == ""
    for nic in Path("/sys/class/net").iterdir():
        address = linux._ask_permanent_address(nic.name)
        assert address == "" or len(address) >= 17
