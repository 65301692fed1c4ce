"""Installed software as entries of the inventory; `gengfu_checks.software` finds it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator

from gengfu_checks.codes import CHECK_NEEDS_RIGHTS, CHECK_PROGRAM_FAILED
from gengfu_checks.errors import CannotMeasure
from gengfu_checks.inventory.collected import Collected, entry
from gengfu_checks.model import InventoryEntry
from gengfu_checks.software import Software, installed

LAST_S = 253_402_300_799.0


def software(found: Collected) -> None:
    """Take in all software, or note why not."""
    try:
        listed = list(installed())
    except CannotMeasure as error:
        found.note("software", error)
    except PermissionError as error:
        facts = {"needs": "read access", "target": str(error.filename)}
        found.note("software", CannotMeasure(CHECK_NEEDS_RIGHTS, facts))
    except OSError as error:
        facts = {"program": str(error.filename), "reason": str(error.strerror)}
        found.note("software", CannotMeasure(CHECK_PROGRAM_FAILED, facts))
    else:
        found.entries.update((one.key, one) for one in of_software(listed))


def of_software(listed: Iterable[Software]) -> Iterator[InventoryEntry]:
    """Yield an entry a program. What is there in several versions, as kernels are, has its version in its key."""
    everything = list(dict.fromkeys(listed))
    names = Counter((one.source, one.name) for one in everything)
    for one in everything:
        several = names[one.source, one.name] > 1 or (one.source == "rpm" and one.name.startswith("kernel"))
        # Debian's maintainers of a package are people and lists, which change without the package.
        publisher = "" if one.source == "dpkg" else one.publisher
        facts = {"name": one.name, "version": one.version, "publisher": publisher, "installed_on": _day(one)}
        yield entry(("software", one.source, one.name, *((one.version,) if several else ())), "software", facts)


def _day(one: Software) -> str:
    if one.installed_at_s is None or not 0 < one.installed_at_s <= LAST_S:
        return ""
    return time.strftime("%Y-%m-%d", time.gmtime(one.installed_at_s))
