"""Wi-Fi links: signal, rates, and how often the link changed its access point between runs.

Items are links. Names of networks and addresses of access points are not told: they say where a person is. A link that
is not connected is as it should be wherever there is a cable. No Wi-Fi, no finding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import psutil

from gengfu_checks.codes import CHECK_NEEDS_RIGHTS, CHECK_PROGRAM_FAILED
from gengfu_checks.errors import CannotMeasure
from gengfu_checks.local import wifi_linux, wifi_macos, wifi_windows
from gengfu_checks.local.plain_text import plain
from gengfu_checks.local.wifi_station import Station
from gengfu_checks.model import (
    CheckKind,
    Context,
    Direction,
    Measurement,
    Metric,
    MetricType,
    Problem,
    Status,
    Threshold,
)

KEEP_MACOS_S = 1800.0

Read = Callable[[float], Iterable[Station | CannotMeasure]]


def measure_stations(context: Context, read: Read) -> Iterator[Measurement]:
    """Yield one measurement for each Wi-Fi link."""
    for found in read(context.deadline_s * 0.8):
        if isinstance(found, CannotMeasure):
            yield Measurement(plain(found.item), problem=Problem(Status.UNKNOWN, found.code, found.facts))
        else:
            yield _measurement(found, context)


def _measurement(station: Station, context: Context) -> Measurement:
    metrics = {"connected": float(station.connected), "roams_total": float(_roams(station, context))}
    told = {
        "signal_dbm": station.signal_dbm,
        "receive_bytes_per_second": _bytes(station.receive_bits_per_second),
        "transmit_bytes_per_second": _bytes(station.transmit_bits_per_second),
        "frequency_hertz": station.frequency_hertz,
    }
    return Measurement(plain(station.link), metrics | {name: v for name, v in told.items() if v is not None})


def _roams(station: Station, context: Context) -> int:
    """How often the link was seen at another access point than in the run before."""
    places: dict[str, str] = context.memory.setdefault("places", {})
    roams: dict[str, int] = context.memory.setdefault("roams", {})
    before, now = places.get(station.link, ""), station.access_point
    if before and now and before != now:
        roams[station.link] = roams.get(station.link, 0) + 1
    if now or not station.connected:
        places[station.link] = now
    return roams.get(station.link, 0)


def _bytes(bits: float | None) -> float | None:
    return None if bits is None else bits / 8


def _macos(context: Context) -> Read:
    def read(timeout_s: float) -> list[Station]:
        kept: tuple[float, list[Station]] | None = context.memory.get("kept")
        if kept is None or context.monotonic() - kept[0] >= KEEP_MACOS_S:
            kept = context.memory["kept"] = (context.monotonic(), list(wifi_macos.read_stations(timeout_s)))
        return kept[1]

    return read


def measure(context: Context) -> Iterator[Measurement]:
    """Measure the Wi-Fi links of this machine."""
    read: Read = wifi_linux.read_stations
    if psutil.WINDOWS:
        read = wifi_windows.read_stations
    elif psutil.MACOS:
        read = _macos(context)
    return measure_stations(context, read)


CHECK = CheckKind(
    name="wifi",
    measure=measure,
    metrics=(
        Metric("connected", "1 when the link is connected to a network"),
        Metric("signal_dbm", "Strength of the received signal in dBm"),
        Metric("receive_bytes_per_second", "Rate of the last frames received"),
        Metric("transmit_bytes_per_second", "Rate of the last frames sent"),
        Metric("frequency_hertz", "Frequency of the channel"),
        Metric("roams_total", "Times that a run found the link at another access point", MetricType.COUNTER),
    ),
    codes=(CHECK_NEEDS_RIGHTS, CHECK_PROGRAM_FAILED),
    thresholds=(Threshold("signal_dbm", "wifi.weak_signal", Direction.BELOW, warning=-75.0, hysteresis=3.0),),
    every_s=300.0,
    timeout_s=60.0,
    gone_is_over=True,
)
