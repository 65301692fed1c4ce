"""What Windows says of its security: the products in Security Center (namespace root/SecurityCenter2, which only
workstations have), the kind of this Windows, the rights of this process, values of the registry.

`productState` has no official description; the reading used here is the one on which vendors' and administrators'
observations agree: bits 12 to 15 say whether the product is on (1), paused (2) or expired (3), bits 4 to 7 whether its
signatures are out of date, bits 8 to 11 whether it is Microsoft's own.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gengfu_checks.local import windows_registry
from gengfu_checks.local.plain_text import plain
from gengfu_checks.local.small_file import needs_rights

MAX_PRODUCTS = 16
MAX_NAME_CHARS = 80


def state_of(product_state: int) -> str:
    """`on`, `off`, `paused` or `expired`."""
    return {1: "on", 2: "paused", 3: "expired"}.get(product_state >> 12 & 0xF, "off")


def is_outdated(product_state: int) -> bool:
    """Whether the product says that its signatures are out of date."""
    return product_state >> 4 & 0xF != 0


def is_switched_on(product_state: int) -> bool:
    """Whether the product works."""
    return state_of(product_state) == "on"


def is_of_microsoft(product_state: int) -> bool:
    """Whether the product came with Windows."""
    return product_state >> 8 & 0xF == 1


def products(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Name and state of each product, at most MAX_PRODUCTS; of two with one name the one that is on."""
    found: dict[str, int] = {}
    for row in rows[:MAX_PRODUCTS]:
        name, state = row.get("displayName"), row.get("productState")
        if isinstance(name, str) and name and isinstance(state, int) and 0 <= state < 2**32:
            name = plain(name, MAX_NAME_CHARS)
            if name not in found or is_switched_on(state):
                found[name] = state
    return found


def product_names(rows: Sequence[Mapping[str, Any]], wanted: Callable[[int], bool]) -> list[str]:
    """The names of the products whose state is wanted, sorted."""
    return sorted(name for name, state in products(rows).items() if wanted(state))


def windows_kind() -> str:
    """`workstation`, `domain_controller` or `server`; "" where there is no Windows (sys.getwindowsversion)."""
    if sys.platform == "win32":
        return {1: "workstation", 2: "domain_controller"}.get(sys.getwindowsversion().product_type, "server")
    return ""


def registry_value(hive: str, key: str, name: str) -> windows_registry.Value:
    """A value of the registry; None when it is not there. Raises CannotMeasure when it may not be read."""
    try:
        return windows_registry.read_value(hive, key, name)
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise needs_rights("read access", hive + "\\" + key) from error


def is_administrator() -> bool:
    """Whether this process has an administrator's rights on Windows (IsUserAnAdmin of shell32)."""
    if sys.platform == "win32":
        import ctypes

        return bool(ctypes.windll.shell32.IsUserAnAdmin())
    return False
