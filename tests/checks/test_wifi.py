"""Wi-Fi: what iw, the kernel, Windows and macOS say, and the judgement.

No radio here, nor mac80211_hwsim in this kernel: where each sample comes from stands above it.
"""

from __future__ import annotations

import plistlib
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gengfu_checks.errors import CannotMeasure
from gengfu_checks.local import wifi, wifi_linux, wifi_macos
from gengfu_checks.local.wifi import CHECK, measure_stations
from gengfu_checks.local.wifi_linux import parse_link, parse_wireless, read_stations
from gengfu_checks.local.wifi_macos import stations_of
from gengfu_checks.local.wifi_station import Station
from gengfu_checks.local.wifi_windows import parse_connection, parse_interfaces
from gengfu_checks.model import Finding
from gengfu_checks.threshold import judge

# The three examples of the page "About iw", section "Getting link status" (wireless.docs.kernel.org).
IW_LEGACY = """Connected to 04:21:b0:e8:c8:8b (on wlan0)
        SSID: attwifi
        freq: 2437
        RX: 2272 bytes (18 packets)
        TX: 232 bytes (3 packets)
        signal: -57 dBm
        tx bitrate: 36.0 MBit/s
"""
IW_11N = """Connected to 68:7f:74:3b:b0:01 (on wlan0)
        SSID: tesla-5g-bcm
        freq: 5745
        RX: 30206 bytes (201 packets)
        TX: 4084 bytes (23 packets)
        signal: -31 dBm
        tx bitrate: 300.0 MBit/s MCS 15 40Mhz short GI
"""
IW_OFF = "Not connected.\n"
# Built after those, with the "rx bitrate" and the fraction of "freq" that iw 6 prints (link.c, print_ap_channel).
IW_6 = IW_11N.replace("freq: 5745", "freq: 5745.0").replace(
    "        tx b", "        rx bitrate: 270.0 MBit/s\n        tx b"
)

# A laptop's file as its owner showed it in a public forum (tgalati4, 2009-08-30), and the line of an access point's own
# link from a public description of a router (no signal: -256).
WIRELESS = """Inter-| sta-|   Quality        |   Discarded packets               | Missed | WE
 face | tus | link level noise |  nwid  crypt   frag  retry   misc | beacon | 22
  eth1: 0000   75.  -54.  -90.       0      0      0      3      0        5
  rai0: 0000   10.  -256   -51        0      0      0      0      0        0
"""


@pytest.mark.parametrize(
    ("printed", "station"),
    [
        (
            IW_LEGACY,
            Station("wlan0", True, -57.0, None, 36e6, 2.437e9, "04:21:b0:e8:c8:8b"),
        ),
        (IW_6, Station("wlan0", True, -31.0, 270e6, 300e6, 5.745e9, "68:7f:74:3b:b0:01")),
        (IW_OFF, Station("wlan0", False)),
        ("", None),
        ("command failed: No such device (-19)\n", None),
    ],
)
def test_what_iw_prints(printed: str, station: Station | None) -> None:
    assert parse_link("wlan0", printed) == station


def test_a_network_may_have_any_name() -> None:
    hostile = IW_LEGACY.replace("attwifi", "x signal: 0 dBm")
    found = parse_link("wlan0", hostile)
    assert found is not None
    assert found.signal_dbm == -57.0


@given(st.text(max_size=200))
def test_any_text_is_a_link_or_none(text: str) -> None:
    parse_link("w", text)
    parse_link("w", "Connected to 00:00:00:00:00:00" + text)
    parse_wireless(text)


def test_what_the_kernel_says() -> None:
    assert parse_wireless(WIRELESS) == {"eth1": -54.0}


def tree(folder: Path, *links: str) -> Path:
    for link in links:
        (folder / link / "phy80211").mkdir(parents=True)
    (folder / "eth0").mkdir(parents=True)
    return folder


def program(monkeypatch: pytest.MonkeyPatch, path: Path | None, text: str = "") -> None:
    if path is not None:
        path.write_text(text)
        path.chmod(0o755)
    monkeypatch.setattr(wifi_linux, "find_program", lambda _: str(path) if path else None)


def test_only_wifi_links_are_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = tmp_path / "said"
    said.write_text(IW_LEGACY)
    program(monkeypatch, tmp_path / "iw", f'#!/bin/sh\n[ "$*" = "dev wlp2s0 link" ] || exit 1\ncat {said}\n')
    found = list(read_stations(10.0, tree(tmp_path / "net", "wlp2s0")))
    assert [(s.link, s.signal_dbm) for s in found if isinstance(s, Station)] == [("wlp2s0", -57.0)]
    assert list(read_stations(10.0, tree(tmp_path / "wired"))) == []
    assert list(read_stations(10.0, tmp_path / "nowhere")) == []


@pytest.mark.parametrize("script", ["exit 237", "echo rubbish", "yes", "exec sleep 60"])
def test_an_iw_that_fails_is_said_of_its_link(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    program(monkeypatch, tmp_path / "iw", f"#!/bin/sh\n{script}\n")
    net = tree(tmp_path / "net", "wlan0")
    found = {m.item: m for m in measure_stations(bench(CHECK).context(), lambda _: read_stations(0.3, net))}
    assert found["wlan0"].problem is not None
    assert found["wlan0"].problem.code == "check.program_failed"


def test_without_iw_the_kernel_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(monkeypatch, None)
    (tmp_path / "wireless").write_text(WIRELESS)
    first, second = read_stations(10.0, tree(tmp_path / "net", "eth1", "wlan9"), tmp_path / "wireless")
    assert first == Station("eth1", True, -54.0)
    assert isinstance(second, CannotMeasure)
    assert second.item == "wlan9"
    assert "is not installed" in str(second.facts["reason"])


# --- judgement


def look(instance: Any, *stations: Station | CannotMeasure) -> dict[str, Finding]:
    measured = measure_stations(instance.context(), lambda _: stations)
    return {m.item: judge(CHECK.name, m, CHECK.thresholds, None, 0.0) for m in measured}


@pytest.mark.parametrize(
    ("station", "code"),
    [
        (Station("w", True, -57.0), "ok"),
        (Station("w", True, -74.0), "ok"),
        (Station("w", True, -75.0), "wifi.weak_signal"),
        (Station("w", True), "ok"),
        (Station("w", False), "ok"),
    ],
)
def test_a_weak_signal(bench: Any, station: Station, code: str) -> None:
    assert look(bench(CHECK), station)["w"].code == code


def test_no_wifi_is_silence(bench: Any) -> None:
    assert look(bench(CHECK)) == {}


def test_roaming_is_counted_and_where_is_not_told(bench: Any) -> None:
    instance = bench(CHECK)
    places = ["a", "a", "b", "", "b", "c"]
    found = [look(instance, Station("w", True, -50.0, access_point=place))["w"] for place in places]
    assert [finding.metrics["roams_total"] for finding in found] == [0, 0, 1, 1, 1, 2]
    assert all(not finding.facts for finding in found)


def test_another_network_after_a_pause_is_no_roaming(bench: Any) -> None:
    instance = bench(CHECK)
    stations = [Station("w", True, access_point="a"), Station("w", False), Station("w", True, access_point="b")]
    assert [look(instance, station)["w"].metrics["roams_total"] for station in stations] == [0, 0, 0]


def test_metrics_are_in_base_units(bench: Any) -> None:
    station = Station("w", True, -50.0, 270e6, 300e6, 5.745e9)
    assert look(bench(CHECK), station)["w"].metrics == {
        "connected": 1.0,
        "roams_total": 0.0,
        "signal_dbm": -50.0,
        "receive_bytes_per_second": 33.75e6,
        "transmit_bytes_per_second": 37.5e6,
        "frequency_hertz": 5.745e9,
    }


# --- Windows. Bytes laid out after the structures in Microsoft's documentation of wlanapi.h; no recording.


def connection(state: int = 1, quality: int = 80, rx: int = 866700, tx: int = 433300) -> bytes:
    profile = "办公网".encode("utf-16-le").ljust(512, b"\0")
    ssid = struct.pack("<I32s", 6, b"office")
    bssid = bytes.fromhex("687f743bb001")
    return struct.pack("<II", state, 0) + profile + ssid + struct.pack("<I6sxxIIIII", 1, bssid, 8, 0, quality, rx, tx)


@pytest.mark.parametrize(
    ("data", "station"),
    [
        (connection(), Station("w", True, -60.0, 866.7e6, 433.3e6, None, "68:7f:74:3b:b0:01")),
        (connection(quality=0, rx=0, tx=0), Station("w", True, -100.0, None, None, None, "68:7f:74:3b:b0:01")),
        (connection(quality=4711), Station("w", True, None, 866.7e6, 433.3e6, None, "68:7f:74:3b:b0:01")),
        (connection(state=4), Station("w", False)),
    ],
)
def test_a_connection_of_windows(data: bytes, station: Station) -> None:
    assert parse_connection("w", data + b"\0" * 24) == station


def test_interfaces_of_windows() -> None:
    def row(number: int, name: str, state: int) -> bytes:
        return bytes([number] * 16) + name.encode("utf-16-le").ljust(512, b"\0") + struct.pack("<I", state)

    data = struct.pack("<II", 2, 0) + row(1, "Intel(R) Wi-Fi 6 AX201", 1) + row(2, "无线网卡", 4)
    expected = [(b"\1" * 16, "Intel(R) Wi-Fi 6 AX201", True), (b"\2" * 16, "无线网卡", False)]
    assert parse_interfaces(data) == expected
    assert parse_interfaces(struct.pack("<II", 1000, 0) + data[8:]) == expected, (
        "a count beyond the data is not believed"
    )


# --- macOS. Built after the keys that public programs read from the report (moriai/macutils, wifistat.sh).


def report(**network: object) -> list[dict[str, Any]]:
    en0: dict[str, Any] = {"_name": "en0", "spairport_status_information": "spairport_status_connected"}
    if network:
        en0["spairport_current_network_information"] = {"_name": "office", **network}
    awdl = {"_name": "awdl0"}
    return [{"_dataType": "SPAirPortDataType", "_items": [{"spairport_airport_interfaces": [en0, awdl]}]}]


@pytest.mark.parametrize(
    ("answer", "station"),
    [
        (
            report(spairport_signal_noise="-54 dBm / -92 dBm", spairport_network_rate=866),
            Station("en0", True, -54.0, None, 866e6),
        ),
        (report(spairport_signal_noise="0 dBm / 0 dBm"), Station("en0", True)),
        (report(), Station("en0", False)),
    ],
)
def test_the_report_of_macos(answer: Any, station: Station) -> None:
    assert list(stations_of(plistlib.loads(plistlib.dumps(answer)))) == [station]


@pytest.mark.parametrize("answer", [None, {}, [], [1], [{"_items": 3}], [{"_items": [{}]}]])
def test_another_report_of_macos_has_no_links(answer: object) -> None:
    assert list(stations_of(answer)) == []


def test_the_report_of_macos_is_asked_for_seldom(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def run_plist(argv: list[str], timeout_s: float) -> object:
        asked.append(argv)
        return report(spairport_signal_noise="-54 dBm / -92 dBm")

    monkeypatch.setattr(wifi_macos, "run_plist", run_plist)
    monkeypatch.setattr(wifi.psutil, "MACOS", True)
    instance = bench(CHECK)
    for _ in range(6):
        assert instance.run()["en0"].metrics["signal_dbm"] == -54.0
        instance.later(300)
    assert asked == [["/usr/sbin/system_profiler", "-xml", "SPAirPortDataType"]]
    instance.run()
    assert len(asked) == 2


def test_this_machine(bench: Any) -> None:
    assert set(bench(CHECK).run()) == set(wifi_linux.wifi_links())
