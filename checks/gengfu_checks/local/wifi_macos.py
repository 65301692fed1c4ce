"""Wi-Fi links of macOS, by `system_profiler -xml SPAirPortDataType`. It takes seconds, so its answer is kept a while.

Keys as in public programs that read the same report (moriai/macutils, wifistat.sh); never run here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from gengfu_checks.local.structured import run_plist
from gengfu_checks.local.wifi_station import Station, sound_dbm, sound_rate

PROGRAM = "/usr/sbin/system_profiler"
_SIGNAL = re.compile(r"(-?\d{1,3}) dBm")


def read_stations(timeout_s: float) -> Iterator[Station]:
    """Yield each Wi-Fi link. Raises CannotMeasure."""
    yield from stations_of(run_plist([PROGRAM, "-xml", "SPAirPortDataType"], timeout_s))


def stations_of(report: Any) -> Iterator[Station]:
    """Yield the interfaces of the report that have a name."""
    for section in _rows(report):
        for item in _rows(section.get("_items")):
            for interface in _rows(item.get("spairport_airport_interfaces")):
                name = interface.get("_name")
                if isinstance(name, str) and name and "spairport_status_information" in interface:
                    yield _station(name, interface.get("spairport_current_network_information"))


def _station(name: str, network: object) -> Station:
    if not isinstance(network, dict):
        return Station(name, False)
    signal = _SIGNAL.match(str(network.get("spairport_signal_noise", "")))
    rate = network.get("spairport_network_rate")
    return Station(
        name,
        True,
        signal_dbm=sound_dbm(float(signal[1])) if signal else None,
        transmit_bits_per_second=sound_rate(rate * 1e6) if isinstance(rate, (int, float)) else None,
    )


def _rows(value: object) -> list[Mapping[str, Any]]:
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []
