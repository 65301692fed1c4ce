"""One look at this machine: hardware, system, printers, software."""

from __future__ import annotations

import psutil

from gengfu_checks.inventory.collected import Collected
from gengfu_checks.inventory.programs import software


def collect() -> Collected:
    """Return everything that can be seen, and what could not be looked at. Takes a second at most on a normal PC."""
    found = Collected()
    if psutil.WINDOWS:
        from gengfu_checks.inventory import windows

        windows.hardware(found)
    elif psutil.MACOS:
        from gengfu_checks.inventory import macos

        macos.hardware(found)
    else:
        from gengfu_checks.inventory import linux, printers

        linux.hardware(found)
        found.take("os", linux.operating_system())
        found.take("printer", printers.printers())
    software(found)
    return found
