"""Wi-Fi links of Windows, by the Native Wifi API (wlanapi.dll), whose answers are numbers in every language.

Written after Microsoft's documentation of WlanEnumInterfaces, WlanQueryInterface, WLAN_INTERFACE_INFO_LIST and
WLAN_CONNECTION_ATTRIBUTES; never run. `netsh wlan` would say the same in the language of the system.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gengfu_checks.codes import CHECK_NEEDS_RIGHTS, CHECK_PROGRAM_FAILED
from gengfu_checks.errors import CannotMeasure
from gengfu_checks.local.wifi_station import Station, sound_rate

MAX_INTERFACES = 16

_LIST_HEADER = struct.Struct("<II")
_INTERFACE = struct.Struct("<16s512sI")
# state, mode, profile; then SSID length and bytes, BSS type, BSSID, PHY type and index, quality, receive, transmit.
_CONNECTION = struct.Struct("<II512sI32sI6s2xIIIII")
_CONNECTED = 1
_CURRENT_CONNECTION = 7
_CLIENT_VERSION = 2
_ACCESS_DENIED, _SERVICE_NOT_ACTIVE = 5, 1062


def parse_interfaces(data: bytes) -> list[tuple[bytes, str, bool]]:
    """Return identifier, description and whether it is connected, of each interface of a WLAN_INTERFACE_INFO_LIST."""
    count = min(_LIST_HEADER.unpack_from(data)[0], MAX_INTERFACES, (len(data) - _LIST_HEADER.size) // _INTERFACE.size)
    rows = (_INTERFACE.unpack_from(data, _LIST_HEADER.size + index * _INTERFACE.size) for index in range(count))
    return [(guid, _text(name), state == _CONNECTED) for guid, name, state in rows]


def parse_connection(link: str, data: bytes) -> Station:
    """Return what WLAN_CONNECTION_ATTRIBUTES say: quality from 0 (-100 dBm) to 100 (-50 dBm), rates in kbit/s."""
    state, _, _, _, _, _, access_point, _, _, quality, receive, transmit = _CONNECTION.unpack_from(data)
    if state != _CONNECTED:
        return Station(link, False)
    return Station(
        link,
        True,
        signal_dbm=quality / 2 - 100 if quality <= 100 else None,
        receive_bits_per_second=sound_rate(receive * 1000.0),
        transmit_bits_per_second=sound_rate(transmit * 1000.0),
        access_point=access_point.hex(":"),
    )


def read_stations(_timeout_s: float) -> Iterator[Station | CannotMeasure]:
    """Yield each Wi-Fi link; nothing where Windows has no Wi-Fi, or its service does not run."""
    import ctypes

    path = Path(os.environ.get("SYSTEMROOT", r"C:\Windows")) / "System32/wlanapi.dll"
    try:
        wlan: Any = vars(ctypes)["WinDLL"](str(path))
    except OSError:
        return
    handle, version = ctypes.c_void_p(), ctypes.c_uint32()
    if wlan.WlanOpenHandle(_CLIENT_VERSION, None, ctypes.byref(version), ctypes.byref(handle)):
        return
    try:
        interfaces = ctypes.c_void_p()
        _require(wlan.WlanEnumInterfaces(handle, None, ctypes.byref(interfaces)), "WlanEnumInterfaces")
        count = ctypes.c_uint32.from_address(interfaces.value or 0).value
        size = _LIST_HEADER.size + min(count, MAX_INTERFACES) * _INTERFACE.size
        listed = ctypes.string_at(interfaces, size)
        wlan.WlanFreeMemory(interfaces)
        for guid, name, connected in parse_interfaces(listed):
            yield _asked(wlan, handle, guid, name) if connected else Station(name, False)
    finally:
        wlan.WlanCloseHandle(handle, None)


def _asked(wlan: Any, handle: Any, guid: bytes, name: str) -> Station | CannotMeasure:
    import ctypes

    size, answer = ctypes.c_uint32(), ctypes.c_void_p()
    identifier = ctypes.create_string_buffer(guid, len(guid))
    places = (ctypes.byref(size), ctypes.byref(answer))
    try:
        number = wlan.WlanQueryInterface(handle, identifier, _CURRENT_CONNECTION, None, *places, None)
        _require(number, "WlanQueryInterface")
        data = ctypes.string_at(answer, min(size.value, _CONNECTION.size))
        wlan.WlanFreeMemory(answer)
        return parse_connection(name, data)
    except CannotMeasure as error:
        return CannotMeasure(error.code, error.facts, item=name)


def _require(number: int, function: str) -> None:
    if number == _ACCESS_DENIED:
        raise CannotMeasure(CHECK_NEEDS_RIGHTS, {"needs": "access to location (Windows 11)", "target": function})
    if number:
        raise CannotMeasure(CHECK_PROGRAM_FAILED, {"program": "wlanapi.dll", "reason": f"{function} gave {number}"})


def _text(utf16: bytes) -> str:
    return utf16.decode("utf-16-le", "replace").partition("\0")[0]
