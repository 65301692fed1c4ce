"""What firmware, monitors, CUPS, Windows and Macs say of themselves, read by pure functions."""

from __future__ import annotations

import json
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gengfu_checks.inventory import edid, macos, smbios, windows
from gengfu_checks.inventory.collected import Collected, said, size
from gengfu_checks.inventory.printers import of_lpstat, of_printers_conf
from gengfu_checks.inventory.programs import of_software
from gengfu_checks.local.structured import parse_plist
from gengfu_checks.model import InventoryEntry
from gengfu_checks.software import Software

GIB = 1024**3


def texts(*strings: str) -> bytes:
    return b"".join(text.encode() + b"\0" for text in strings) + (b"\0" if strings else b"\0\0")


def memory_device(
    size_word: int, locator: str, bank: str, *, extended_mib: int = 0, kind: int = 0x1A, serial: str = "1B2C3D4E"
) -> bytes:
    """A structure of type 17 (92 bytes, SMBIOS 3.2) built after DSP0134 section 7.18."""
    body = struct.pack(
        "<BBHHHHHHBBBBBHHBBBBBIH",
        17, 92, 0x1100, 0x1000, 0xFFFE, 72, 64, size_word, 9, 0, 1, 2, kind, 0x80, 3200, 3, 4, 0, 5, 2,
        extended_mib, 2933,
    )  # fmt: skip
    strings = (locator, bank, "Samsung", serial, "M393A4K40DB3-CWE")
    return body.ljust(92, b"\0") + texts(*strings)


# Built after DSP0134: two modules, an empty slot, one of unknown size, one of 64 GiB in the extended size.
TABLE = (
    bytes([0, 24, 0, 0]).ljust(24, b"\0")
    + texts()
    + memory_device(0x4000, "DIMM_A1", "NODE 0")
    + memory_device(0, "DIMM_A2", "NODE 0")
    + memory_device(0xFFFF, "DIMM_A3", "NODE 0")
    + memory_device(0x7FFF, "DIMM_B1", "NODE 1", extended_mib=65_536, kind=0x22, serial="Not Specified")
    + bytes([127, 4, 0xFF, 0xFE])
    + texts()
)


def test_memory_modules_are_those_in_their_slots() -> None:
    first, second = smbios.memory_modules(TABLE)
    assert first == InventoryEntry(
        "memory/slot/NODE 0/DIMM_A1",
        "memory",
        {
            "slot": "DIMM_A1",
            "bank": "NODE 0",
            "size_bytes": 16 * GIB,
            "kind": "DDR4",
            "speed_mts": 3200,
            "maker": "Samsung",
            "part": "M393A4K40DB3-CWE",
            "serial": "1B2C3D4E",
        },
    )
    assert second.key == "memory/slot/NODE 1/DIMM_B1"
    assert (second.facts["size_bytes"], second.facts["kind"]) == (64 * GIB, "DDR5")
    assert "serial" not in second.facts


def test_dmidecode_reads_the_same_from_the_same_table(
    tmp_path: Path, requires_program: Callable[[str, str], str]
) -> None:
    """The same table seen by Debian's dmidecode: a dump is an entry point (SMBIOS 3) with the table behind it."""
    program = requires_program("dmidecode", "apt-get install dmidecode")
    entry = bytearray(b"_SM3_" + bytes([0, 24, 3, 2, 0, 1, 0]) + struct.pack("<IQ", len(TABLE), 32))
    entry[5] = -sum(entry) % 256
    dump = tmp_path / "dump.bin"
    dump.write_bytes(bytes(entry).ljust(32, b"\0") + TABLE)
    command = [program, "--from-dump", str(dump), "--type", "17"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for module in smbios.memory_modules(TABLE):
        assert f"Locator: {module.facts['slot']}" in shown
        assert f"Size: {int(module.facts['size_bytes']) // GIB} GB" in shown
        assert f"Part Number: {module.facts['part']}" in shown
        assert f"Type: {module.facts['kind']}" in shown
    assert shown.count("Size: No Module Installed") == 1


def test_two_slots_of_one_name_stay_two() -> None:
    table = memory_device(0x2000, "DIMM 0", "BANK") * 2
    assert [module.key for module in smbios.memory_modules(table)] == [
        "memory/slot/BANK/DIMM 0",
        "memory/slot/BANK/DIMM 0/2",
    ]


@given(st.binary(max_size=400), st.integers(0, len(TABLE)), st.integers(0, 60))
def test_damaged_tables_end_the_reading_and_nothing_else(noise: bytes, at: int, cut: int) -> None:
    damaged = TABLE[:at] + noise + TABLE[at + cut :]
    for module in smbios.memory_modules(damaged):
        assert 0 < int(module.facts["size_bytes"]) <= 2**60


# A Dell U2917W on DisplayPort, from the list of real monitors in igt-gpu-tools (tests/chamelium/monitor_edids,
# dp_edids.h, where it stands under the name of another model): its base block.
EDID = bytes.fromhex(
    "00ffffffffffff0010acf84050383230051a0104a5431c783aca95a6554ea1260f5054a54b808100b300714f8180d1c0"
    "0101010101017e4800e0a0381f4040403a00a11c2100001a000000ff003931435937333538303238500a000000fc0044"
    "454c4c205532393137570a20000000fd00314c1d5e13010a2020202020200117"
)


def test_a_monitor_says_who_it_is() -> None:
    assert edid.monitor(EDID, "DP-1") == InventoryEntry(
        "monitor/DEL40F8/91CY7358028P",
        "monitor",
        {
            "maker": "DEL",
            "model": "DELL U2917W",
            "serial": "91CY7358028P",
            "connector": "DP-1",
            "made_in": 2016,
            "width_cm": 67,
            "height_cm": 28,
        },
    )


def test_a_monitor_without_serial_number_is_known_by_its_place() -> None:
    block = bytearray(EDID)
    block[12:16] = bytes(4)
    block[75] = 0xFE  # the descriptor of the serial number is one of other text now
    block[127] = -sum(block[:127]) % 256
    found = edid.monitor(bytes(block), "eDP-1")
    assert found is not None
    assert found.key == "monitor/DEL40F8/eDP-1"


@pytest.mark.parametrize("data", [b"", EDID[:127], b"\0" * 128, EDID[:127] + b"\x18"])
def test_what_is_no_monitor_is_none(data: bytes) -> None:
    assert edid.monitor(data, "DP-1") is None


@given(st.binary(max_size=20), st.integers(8, 126))
def test_damaged_descriptions_of_monitors_do_no_harm(noise: bytes, at: int) -> None:
    block = bytearray((EDID[:at] + noise + EDID[at:])[:128])
    block[127] = -sum(block[:127]) % 256
    edid.monitor(bytes(block), "DP-1")


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("  HP EliteDesk  800 G6 ", "HP EliteDesk 800 G6"),
        ("To Be Filled By O.E.M.", ""),
        ("Default string", ""),
        ("System Serial Number", ""),
        ("0000000000", ""),
        ("Not Specified", ""),
        ("None", ""),
        ("123456789", ""),
        ("O.E.M.", ""),
        ("MJ0123X", "MJ0123X"),
        (None, ""),
        (7, ""),
    ],
)
def test_fillers_of_firmware_are_nothing(text: object, meant: str) -> None:
    assert said(text) == meant


@pytest.mark.parametrize(
    ("number", "meant"),
    [(5, 5), ("17179869184", 17179869184), (0, None), (-1, None), (True, None), (2**70, None), ("x", None)],
)
def test_sizes_that_cannot_be_are_none(number: object, meant: int | None) -> None:
    assert size(number) == meant


# Built after printers.conf(5) of CUPS 2.4.
PRINTERS_CONF = """\
# Printer configuration file for CUPS v2.4.2
NextPrinterId 3
<DefaultPrinter Office>
PrinterId 1
UUID urn:uuid:0b1c
Info Second floor
Location Room 204
MakeModel HP LaserJet Pro M404dn
DeviceURI ipp://192.168.1.20/ipp/print
State Idle
</DefaultPrinter>
<Printer Shared>
DeviceURI smb://alice:secret@printers/shared
</Printer>
"""


def test_printers_of_cups_lead_to_their_devices_without_passwords() -> None:
    office, shared = of_printers_conf(PRINTERS_CONF.splitlines())
    assert office == InventoryEntry(
        "printer/Office",
        "printer",
        {
            "name": "Office",
            "model": "HP LaserJet Pro M404dn",
            "uri": "ipp://192.168.1.20/ipp/print",
            "location": "Room 204",
        },
    )
    assert shared.facts["uri"] == "smb://printers/shared"


def test_lpstat_names_queue_and_device() -> None:
    """The form of CUPS 2.4's `lpstat -v`."""
    lines = ["device for Office: ipp://192.168.1.20/ipp/print", "device for PDF: cups-pdf:/", "lpstat: rubbish"]
    assert [(p.facts["name"], p.facts["uri"]) for p in of_lpstat(lines)] == [
        ("Office", "ipp://192.168.1.20/ipp/print"),
        ("PDF", "cups-pdf:/"),
    ]


def program(name: str, version: str, source: str = "dpkg", at_s: float | None = 1_700_000_000.0) -> Software:
    return Software(name, version, "somebody", at_s, source)


def test_programs_have_stable_keys() -> None:
    listed = [
        program("bash", "5.2"),
        program("bash", "5.2"),
        program("kernel-core", "5.14-1", "rpm"),
        program("app", "1", "registry", None),
        program("app", "2", "registry", 1e18),
    ]
    found = {entry.key: entry.facts for entry in of_software(listed)}
    assert set(found) == {
        "software/dpkg/bash",
        "software/rpm/kernel-core/5.14-1",
        "software/registry/app/1",
        "software/registry/app/2",
    }
    assert found["software/dpkg/bash"] == {"name": "bash", "version": "5.2", "installed_on": "2023-11-14"}
    assert found["software/registry/app/2"] == {"name": "app", "version": "2", "publisher": "somebody"}


SAMPLES = Path(__file__).parent / "fixtures/inventory"

# Built after the classes' pages on Microsoft Learn (Win32_ComputerSystemProduct, Win32_PhysicalMemory ...): a notebook
# with a dock. No recording.
WINDOWS: list[dict[str, Any]] = json.loads((SAMPLES / "windows.json").read_text())


def test_a_windows_machine_by_its_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "powershell_rows", lambda pipeline, timeout_s: WINDOWS)
    found = Collected()
    windows.hardware(found)
    assert sorted(found.entries) == [
        "cpu/0",
        "disk/serial/0025_3885_01B2_C3D4.",
        "disk/serial/4C530001",
        "machine",
        "memory/slot/BANK 0/Controller0-ChannelA",
        "monitor/DELA0EF/7MT01",
        "nic/00:50:b6:00:00:01",
        "nic/a0:b1:c2:d3:e4:f5",
        "os",
        "printer/Office",
    ]
    assert found.entries["machine"].facts["serial"] == "PF2ABCDE"
    assert "serial" not in found.entries["memory/slot/BANK 0/Controller0-ChannelA"].facts
    removable = {key for key, entry in found.entries.items() if entry.facts.get("removable")}
    assert removable == {"disk/serial/4C530001", "nic/00:50:b6:00:00:01"}
    assert found.entries["monitor/DELA0EF/7MT01"].facts["model"] == "DELL U2419H"
    assert found.unread == {}


def test_without_an_answer_every_category_is_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Collected()
    windows.hardware(found)  # there is no PowerShell here
    assert set(found.unread) == set(windows.CATEGORIES)
    monkeypatch.setattr(macos, "PROFILER", "/usr/sbin/no-system-profiler")
    other = Collected()
    macos.hardware(other)
    assert set(other.unread) == set(macos.CATEGORIES)
    assert other.entries == {}


@pytest.mark.parametrize(
    "rows", [[{}], [{"Of": "Win32_DiskDrive"}], [{"Of": "WmiMonitorID", "ManufacturerName": ["x", -1]}]]
)
def test_rows_without_values_do_no_harm(rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "powershell_rows", lambda pipeline, timeout_s: rows)
    windows.hardware(Collected())


# Built after the keys that `system_profiler -xml` prints (system_profiler(8)): an Intel Mac mini with a network card at
# USB. No recording.
MAC = (SAMPLES / "system_profiler.xml").read_bytes()


def test_a_mac_by_its_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(macos, "run_plist", lambda argv, timeout_s: parse_plist("system_profiler", MAC))
    found = Collected()
    macos.hardware(found)
    assert sorted(found.entries) == [
        "cpu/0",
        "disk/serial/C02123",
        "machine",
        "memory/slot/BANK 0/ChannelA-DIMM0",
        "memory/total",
        "monitor/DELL U2419H/7MT01",
        "nic/00:e0:4c:00:00:01",
        "nic/f0:18:98:00:00:01",
        "os",
        "printer/Office",
    ]
    assert found.entries["memory/total"].facts == {"size_bytes": 16 * GIB}
    assert found.entries["os"].facts == {
        "name": "macOS", "version": "14.5", "build": "23F79", "kernel": "Darwin 23.5.0",
    }  # fmt: skip
    assert found.entries["nic/00:e0:4c:00:00:01"].facts["removable"] is True
    assert "removable" not in found.entries["disk/serial/C02123"].facts


@pytest.mark.parametrize(
    "answer", [None, {}, [1], [{"_dataType": "SPHardwareDataType", "_items": [7]}], [{"_items": {}}]]
)
def test_profiles_without_sense_are_empty(answer: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(macos, "run_plist", lambda argv, timeout_s: answer)
    found = Collected()
    macos.hardware(found)
    assert found.entries == {}
