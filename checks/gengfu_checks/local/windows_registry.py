"""Reading the registry of Windows through `winreg`; nothing is ever written.

Interface: https://docs.python.org/3/library/winreg.html. Keys are opened in the 64-bit view, then in the 32-bit one,
so that a 32-bit Python sees what programs see.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

MAX_KEYS = 10_000
MAX_VALUES = 1_000

HIVES = ("HKEY_LOCAL_MACHINE", "HKEY_USERS", "HKEY_CURRENT_USER", "HKEY_CLASSES_ROOT")
VIEW_64, VIEW_32 = "KEY_WOW64_64KEY", "KEY_WOW64_32KEY"

Value = str | int | list[str] | bytes | None
"""What winreg makes of REG_SZ, REG_DWORD and REG_QWORD, REG_MULTI_SZ, REG_BINARY and REG_NONE."""


def read_value(hive: str, key: str, name: str, view: str = VIEW_64) -> Value:
    """The value of a name below a key ("" for the key's own). Raises FileNotFoundError, PermissionError, OSError."""
    winreg = _winreg()
    with _open(winreg, hive, key, view) as handle:
        value: Value = winreg.QueryValueEx(handle, name)[0]
    return value


def subkeys(hive: str, key: str, view: str = VIEW_64) -> Iterator[str]:
    """Yield the names of the keys right below a key, at most MAX_KEYS. Raises as `read_value`."""
    winreg = _winreg()
    with _open(winreg, hive, key, view) as handle:
        for number in range(min(winreg.QueryInfoKey(handle)[0], MAX_KEYS)):
            try:
                yield winreg.EnumKey(handle, number)
            except OSError:  # one was removed meanwhile
                return


def values(hive: str, key: str, view: str = VIEW_64) -> dict[str, Value]:
    """The values of a key by name, at most MAX_VALUES. Raises as `read_value`."""
    winreg = _winreg()
    found: dict[str, Value] = {}
    with _open(winreg, hive, key, view) as handle:
        for number in range(min(winreg.QueryInfoKey(handle)[1], MAX_VALUES)):
            try:
                name, value, _ = winreg.EnumValue(handle, number)
            except OSError:
                break
            found[name] = value
    return found


def _open(winreg: Any, hive: str, key: str, view: str) -> Any:
    access = winreg.KEY_READ | getattr(winreg, view)
    return winreg.OpenKeyEx(getattr(winreg, hive), key, 0, access)


def _winreg() -> Any:
    return importlib.import_module("winreg")
