"""Which of the machine's disks are real, by what the kernel shows under /sys/block.

A virtual disk has no health of its own: its hypervisor or storage has. So it is not looked at, and a machine that has
nothing else needs no smartctl.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from gengfu_checks.local.sysfs import entries, read_text

MAX_DISKS = 64

_NAME = re.compile(r"(sd[a-z]{1,4}|hd[a-z]|nvme[0-9]{1,4})(n[0-9]{1,4})?")
# As the hypervisors, cloud providers and storage networks name their disks in vendor and model.
_VIRTUAL = (
    "qemu", "virtual", "vbox", "vmware", "msft", "microsoft", "google", "persistentdisk", "amazon", "alibaba", "aliyun",
    "lio-org", "xen", "openstack", "kvm", "nutanix", "bhyve", "scsi_debug",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Disk:
    """A real disk: its name as smartctl takes it (`sda`, `nvme0`: the controller) and its model."""

    name: str
    model: str


def is_virtual(model: str) -> bool:
    """Whether vendor and model are those of a disk that only a hypervisor or a storage network shows."""
    return any(word in model.lower() for word in _VIRTUAL)


def real_disks(sys: Path) -> list[Disk]:
    """The real, fixed disks, each once."""
    found: dict[str, Disk] = {}
    for block in entries(sys / "block"):
        match = _NAME.fullmatch(block.name)
        if match is None or not (block / "device").exists():
            continue
        model = " ".join(text for name in ("vendor", "model") if (text := read_text(block / "device" / name)))
        if not is_virtual(model) and read_text(block / "removable") != "1":
            found.setdefault(match[1], Disk(match[1], model))
    return list(found.values())[:MAX_DISKS]
