"""The virtual machine: a real kernel with md, systemd, journald and CUPS, emulated where the processor offers no help.

`guest.py` runs in it and tells what the agent said in each scene; here stands what an engineer expects to be told.
"""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from archives import NotPossible, System
from guest import PROCESSORS
from kit import give, kit, python_of
from looks import Answer, Planned, look_of, wrong_with, wrong_with_inventory
from root import Root, build, must
from rounds import DPKG_QUERY, packages_in

RELEASE = "trixie"
EMULATOR = "qemu-system-x86_64"
PACKAGES = (
    "linux-image-amd64", "initramfs-tools", "systemd-sysv", "dbus", "udev", "kmod", "mdadm", "cups", "cups-client",
    "dmsetup", "e2fsprogs", "iproute2", "iputils-ping", "smartmontools", "systemd-coredump",
)  # fmt: skip
SYSTEM_DISK = "3G"
DISKS = ("96M", "96M", "64M")
WITHIN_S = 3600.0
# On a busy host everything takes long in an emulated machine, which is neither a broken timer, a hang nor a failure.
PATIENCE = "no_timer_check nowatchdog sysctl.kernel.hung_task_timeout_secs=0 systemd.default_timeout_start_sec=900"
KERNEL_OPTIONS = f"root=/dev/vda rw console=ttyS0 panic=1 {PATIENCE}"
SERVICE = """[Unit]
After=multi-user.target cups.service
[Service]
Type=exec
ExecStart=/usr/bin/python3 /opt/lab/guest.py
[Install]
WantedBy=multi-user.target
"""

# Findings about the machine itself, in every scene.
EVERYWHERE = frozenset(
    (
        "clock.unsynchronised",  # no time service is installed
        "firewall.off",  # none is set up
        "cpu.load_high",  # an emulated processor starts everything at once
        "cpu.busy",
        "cpu.iowait_high",
        "cpu.steal_high",
        "updates.no_lists",  # nobody fetched any
        "boot_time.slow",  # an emulated processor takes minutes to start
        "gateway_latency.slow",
    )
)


@dataclass(frozen=True, slots=True)
class Expected:
    """What a scene has to be told as."""

    codes: Mapping[str, str]
    """By kind of check the code that one of its runs tells; "ok" when nothing else may be told."""
    about: str = ""
    """Stands in the item or the facts of a finding with such a code."""
    still: tuple[str, ...] = ()
    """Codes of earlier scenes that stay for an hour."""


_LOG = ("event_log.io_error",)
EXPECTED: Mapping[str, Expected] = {
    "a quiet machine": Expected({}),
    "a mirror of two disks": Expected({"raid": "ok"}),
    "a disk of the mirror fails": Expected({"raid": "raid.degraded"}, "vdc"),
    "the disk is replaced": Expected({"raid": "raid.rebuilding"}, "md0"),
    "the copying is done": Expected({"raid": "ok"}),
    "a service fails": Expected({"os_service": "os_service.failed_units"}, "payroll"),
    "the service is mended": Expected({"os_service": "ok"}),
    "the job of a timer fails": Expected({"os_service": "os_service.failed_units"}, "nightly"),
    "the job is mended": Expected({"os_service": "ok", "scheduled_job": "ok"}),
    "an I/O error in the kernel's log": Expected({"event_log": "event_log.io_error"}, "sdq"),
    "a disk that cannot be read": Expected({"event_log": "event_log.io_error"}, "dm-0"),
    "a program crashes three times": Expected({"crashes": "crashes.repeated"}, "python3", _LOG),
    "a full ext4": Expected({"disk": "disk.nearly_full"}, "/srv/full"),
    "an ext4 without free inodes": Expected({"disk": "disk.inodes_nearly_full"}, "/srv/full"),
    "the ext4 emptied": Expected({"disk": "ok"}),
    "an ext4 mounted read-only": Expected({"disk": "disk.read_only"}, "/srv/full"),
    "an ext4 with an error in it": Expected({"event_log": "event_log.read_only"}, "vdd", (*_LOG, "event_log.fs_error")),
    "a stopped print queue": Expected({"printer_queue": "printer_queue.stopped"}, "front-desk"),
    "the queue started again": Expected({"printer_queue": "ok"}),
}


@dataclass(slots=True)
class Scene:
    """What came of one scene."""

    name: str
    told: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def as_json(self) -> dict[str, object]:
        """As plain values."""
        return asdict(self)


def play(system: System, folder: Path, kits: Path, checks: Sequence[Planned]) -> list[Scene]:
    """Build the machine in an empty folder, let it run to its end, and judge what it told. Raises NotPossible."""
    emulator = shutil.which(EMULATOR)
    if emulator is None:
        raise NotPossible(f"{EMULATOR} is not here; its package is qemu-system-x86")
    if platform.machine() != "x86_64":
        raise NotPossible(f"there is no kernel for this emulator among the packages of a {platform.machine()}")
    root = build(system, folder / "root", PACKAGES)
    give(root, kit(kits, python_of(root)))
    _put_guest_into(root, checks)
    told = _run(emulator, root, folder)
    return [_judge(line, checks) for line in told]


def _put_guest_into(root: Root, checks: Sequence[Planned]) -> None:
    lab = root.file("/opt/lab")
    lab.mkdir()
    shutil.copy(Path(__file__).with_name("guest.py"), lab)
    (lab / "plan.json").write_text(json.dumps([[(c.kind, c.arguments) for c in checks], DPKG_QUERY]))
    root.file("/etc/systemd/system/lab.service").write_text(SERVICE)
    wants = root.file("/etc/systemd/system/multi-user.target.wants")
    wants.mkdir(parents=True, exist_ok=True)
    (wants / "lab.service").symlink_to("/etc/systemd/system/lab.service")
    root.file("/etc/fstab").write_text("/dev/vda / ext4 defaults 0 1\n")
    network = root.file("/etc/systemd/network/lab.network")
    network.write_text("[Match]\nName=en* eth*\n[Network]\nDHCP=yes\n")
    root.must("/usr/bin/systemctl", "enable", "systemd-networkd.service")
    root.file("/etc/resolv.conf").write_text("nameserver 10.0.2.3\n")
    root.file("/usr/sbin/policy-rc.d").unlink()


def _run(emulator: str, root: Root, folder: Path) -> list[dict[str, Any]]:
    """What the guest wrote on its second serial port, once the machine is off."""
    images = [folder / f"disk-{number}" for number in range(len(DISKS) + 1)]
    must(["/usr/sbin/mkfs.ext4", "-q", "-d", str(root.path), str(images[0]), SYSTEM_DISK])
    for image, size in zip(images[1:], DISKS, strict=True):
        must(["/usr/bin/truncate", "--size", size, str(image)])
    kernel, initrd = (next(root.file("/boot").glob(f"{name}-*")) for name in ("vmlinuz", "initrd.img"))
    console, port = folder / "console", folder / "port"
    drives = [word for path in images for word in ("-drive", f"file={path},format=raw,if=virtio,cache=unsafe")]
    argv = [
        emulator, "-accel", "tcg,thread=single", "-cpu", "max", "-m", "1024", "-smp", str(PROCESSORS), "-display",
        "none", "-monitor", "none", "-no-reboot", "-kernel", str(kernel), "-initrd", str(initrd),
        "-append", KERNEL_OPTIONS, "-serial", f"file:{console}", "-serial", f"file:{port}",
        *drives, "-nic", "user,model=virtio-net-pci",
    ]  # fmt: skip
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=WITHIN_S)
    text = port.read_text("utf-8", "replace") if port.exists() else ""
    told = [json.loads(line) for line in text.splitlines() if line.endswith("}")]
    if not told or told[-1]["scene"]:
        tail = console.read_text("utf-8", "replace")[-2000:] if console.exists() else ""
        raise RuntimeError(f"the machine ended early ({done.returncode}: {done.stderr[-500:]!r}): {tail}")
    return told[:-1]


def _judge(line: Mapping[str, Any], checks: Sequence[Planned]) -> Scene:
    scene, wanted = Scene(line["scene"]), EXPECTED[line["scene"]]
    if "error" in line:
        scene.complaints.append(f"the scene could not be played: {line['error']}")
    planned = {(check.kind, check.arguments): check for check in checks}
    right = EVERYWHERE | {*wanted.still, *wanted.codes.values()}
    told: list[Mapping[str, Any]] = []
    for look in line["looks"]:
        answer = Answer(look["exit_code"], look["stdout"], look["stderr"])
        if look["kind"] == "inventory":
            scene.complaints += wrong_with_inventory(answer, packages_in(line["packages"]))
            continue
        found = look_of(planned[look["kind"], tuple(look["arguments"])], answer, look["seconds"])
        label = " ".join((look["kind"], *look["arguments"]))
        expected = ("ok",) if wanted.codes.get(look["kind"]) == "ok" else ()
        scene.complaints += [f"{label}: {text}" for text in wrong_with(found, expected, right)]
        told += found.findings or ()
    bad = [finding for finding in told if finding["status"] != "ok"]
    scene.told = sorted({f"{f['status']} {f['code']} [{f['item']}]" for f in bad})
    scene.complaints += _missed(wanted, bad)
    scene.seconds = round(sum(look["seconds"] for look in line["looks"]), 1)
    return scene


def _missed(wanted: Expected, bad: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    codes = {code for code in wanted.codes.values() if code != "ok"}
    for code in sorted(codes - {finding["code"] for finding in bad}):
        yield f"{code} is not told"
    texts = [json.dumps([f["item"], f["facts"]], ensure_ascii=False) for f in bad if f["code"] in codes]
    if wanted.about and not any(wanted.about in text for text in texts):
        yield f"nothing is told about {wanted.about}"


def row(scene: Scene) -> str:
    """One line for people."""
    return f"{scene.name:42} {scene.seconds:6.1f} s  {', '.join(scene.told)}"
