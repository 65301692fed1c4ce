"""Wi-Fi links of Linux: found in /sys/class/net, asked by `iw dev LINK link` (nl80211).

Without `iw` the signal alone comes from /proc/net/wireless, where the kernel still has it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from gengfu_checks.errors import CannotMeasure
from gengfu_checks.local.programs import failed, find_program, run_program
from gengfu_checks.local.sysfs import require_sys
from gengfu_checks.local.wifi_station import Station, sound_dbm, sound_rate

NET, WIRELESS = Path("/sys/class/net"), Path("/proc/net/wireless")
MAX_LINKS = 16
MAX_OUTPUT_BYTES = 65536

_MARKS = ("phy80211", "wireless")
_CONNECTED = re.compile(r"^(?:Connected to|Joined IBSS) ([0-9a-f]{2}(?::[0-9a-f]{2}){5})", re.MULTILINE)
_SIGNAL = re.compile(r"^\s{0,8}signal: (-?\d{1,3}) ", re.MULTILINE)
_RATE = re.compile(r"^\s{0,8}(rx|tx) bitrate: (\d{1,6}(?:\.\d{1,3})?) MBit/s", re.MULTILINE)
_FREQUENCY = re.compile(r"^\s{0,8}freq: (\d{3,6}(?:\.\d{1,3})?)$", re.MULTILINE)
_WIRELESS_LINE = re.compile(r"^ {0,8}([^\s:]{1,15}): +[0-9a-f]{1,8} +[-0-9.]{1,6} +(-?\d{1,3})\.? ", re.MULTILINE)


def parse_link(link: str, printed: str) -> Station | None:
    """Return what `iw dev LINK link` printed; None for what it does not print."""
    connected = _CONNECTED.search(printed)
    if connected is None:
        return Station(link, False) if printed.startswith("Not connected") else None
    rates = {direction: sound_rate(float(number) * 1e6) for direction, number in _RATE.findall(printed)}
    signal, frequency = _SIGNAL.search(printed), _FREQUENCY.search(printed)
    return Station(
        link,
        True,
        signal_dbm=sound_dbm(float(signal[1])) if signal else None,
        receive_bits_per_second=rates.get("rx"),
        transmit_bits_per_second=rates.get("tx"),
        frequency_hertz=float(frequency[1]) * 1e6 if frequency else None,
        access_point=connected[1],
    )


def parse_wireless(text: str) -> dict[str, float]:
    """Return the signals (dBm) of the links in /proc/net/wireless that have one."""
    found = {}
    for link, level in _WIRELESS_LINE.findall(text):
        signal = sound_dbm(float(level))
        if signal is not None:
            found[link] = signal
    return found


def wifi_links(net: Path = NET) -> list[str]:
    """Names of the links that are Wi-Fi, sorted."""
    try:
        names = sorted(path.name for path in net.iterdir())
    except FileNotFoundError:
        require_sys()
        return []
    return [name for name in names if any((net / name / mark).exists() for mark in _MARKS)][:MAX_LINKS]


def read_stations(timeout_s: float, net: Path = NET, wireless: Path = WIRELESS) -> Iterator[Station | CannotMeasure]:
    """Yield each Wi-Fi link, or why nothing is known of it; nothing where there is no Wi-Fi."""
    links = wifi_links(net)
    if not links:
        return
    iw = find_program("iw")
    signals = _signals(wireless) if iw is None else {}
    for link in links:
        try:
            yield _asked(iw, link, timeout_s / len(links)) if iw else _guessed(link, signals)
        except CannotMeasure as error:
            yield CannotMeasure(error.code, error.facts, item=link)


def _asked(iw: str, link: str, timeout_s: float) -> Station:
    output = run_program([iw, "dev", link, "link"], timeout_s, MAX_OUTPUT_BYTES)
    if output.exit_code != 0:
        raise failed(iw, f"ended with {output.exit_code}")
    station = parse_link(link, output.stdout.decode("utf-8", "replace"))
    if station is None:
        raise failed(iw, "printed what nobody can read")
    return station


def _guessed(link: str, signals: Mapping[str, float]) -> Station:
    if link not in signals:
        raise failed("iw", "is not installed: apt-get install iw, dnf install iw")
    return Station(link, True, signal_dbm=signals[link])


def _signals(wireless: Path) -> dict[str, float]:
    try:
        with wireless.open("rb") as stream:
            return parse_wireless(stream.read(MAX_OUTPUT_BYTES).decode("utf-8", "replace"))
    except FileNotFoundError:
        return {}
