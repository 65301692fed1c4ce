"""Inside the virtual machine: breaks things for real, lets the agent look, mends them, lets it look again.

Started by systemd. What happened goes to the second serial port, one JSON object a line and an empty scene at the end:
{"scene": name, "looks": [{"kind", "arguments", "exit_code", "stdout", "stderr", "seconds"}, ...]}. A scene that could
not be played has an "error". Standard library only.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

PORT = Path("/dev/ttyS1")
PLAN = Path("/opt/lab/plan.json")
MIRROR = ("/dev/vdb", "/dev/vdc")
SMALL = "/dev/vdd"
PLACE = Path("/srv/full")
UNITS = Path("/etc/systemd/system")
SPEED = Path("/proc/sys/dev/raid/speed_limit_max")
QUEUE = "front-desk"
PROCESSORS = 2
WITHIN_S = 300.0

Scene = tuple[str, Callable[[], object], Sequence[str]]


def run(*argv: str, may_fail: bool = False) -> str:
    """Run a program; its output, too, goes into the error when it fails."""
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode != 0 and not may_fail:
        raise RuntimeError(f"{' '.join(argv)} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    deadline_s = time.monotonic() + WITHIN_S
    while not condition():
        if time.monotonic() > deadline_s:
            raise RuntimeError(f"not within {WITHIN_S:g} s: {condition}")
        time.sleep(0.2)


def state_of(unit: str) -> str:
    """active, failed, inactive ..."""
    return run("/usr/bin/systemctl", "is-active", unit, may_fail=True).strip()


# --- what is broken and mended


def make_mirror() -> None:
    """A new mirror of two disks, in step."""
    run("/usr/sbin/mdadm", "--create", "/dev/md0", "--run", "--level=1", "--raid-devices=2", "--metadata=1.2", *MIRROR)
    run("/usr/sbin/mdadm", "--wait", "/dev/md0", may_fail=True)


def fail_a_disk() -> None:
    """One of its disks fails."""
    run("/usr/sbin/mdadm", "/dev/md0", "--fail", MIRROR[1])


def put_the_disk_back() -> None:
    """Somebody replaces it; the copying takes its time."""
    SPEED.write_text("100\n")
    Path("/proc/sys/dev/raid/speed_limit_min").write_text("100\n")
    run("/usr/sbin/mdadm", "/dev/md0", "--remove", MIRROR[1])
    run("/usr/sbin/mdadm", "--zero-superblock", MIRROR[1])
    run("/usr/sbin/mdadm", "/dev/md0", "--add", MIRROR[1])
    until(lambda: Path("/sys/block/md0/md/sync_action").read_text().strip() == "recover")


def finish_copying() -> None:
    """The mirror is whole again."""
    SPEED.write_text("200000\n")
    until(lambda: Path("/sys/block/md0/md/sync_action").read_text().strip() == "idle")


def fail_a_service() -> None:
    """A service that ends with an error."""
    (UNITS / "payroll.service").write_text("[Service]\nType=oneshot\nExecStart=/bin/false\n")
    run("/usr/bin/systemctl", "daemon-reload")
    run("/usr/bin/systemctl", "start", "payroll.service", may_fail=True)


def mend_the_service() -> None:
    """It succeeds."""
    (UNITS / "payroll.service").write_text("[Service]\nType=oneshot\nExecStart=/bin/true\n")
    run("/usr/bin/systemctl", "daemon-reload")
    run("/usr/bin/systemctl", "start", "payroll.service")


def fail_a_timer() -> None:
    """A timer whose job fails."""
    (UNITS / "nightly.service").write_text("[Service]\nType=oneshot\nExecStart=/bin/false\n")
    (UNITS / "nightly.timer").write_text(
        "[Timer]\nOnActiveSec=1s\nOnUnitActiveSec=1d\n[Install]\nWantedBy=timers.target\n"
    )
    run("/usr/bin/systemctl", "daemon-reload")
    run("/usr/bin/systemctl", "enable", "--now", "nightly.timer")
    until(lambda: state_of("nightly.service") == "failed")


def mend_the_timer() -> None:
    """Its job succeeds."""
    (UNITS / "nightly.service").write_text("[Service]\nType=oneshot\nExecStart=/bin/true\n")
    run("/usr/bin/systemctl", "daemon-reload")
    run("/usr/bin/systemctl", "start", "nightly.service")


def write_an_io_error() -> None:
    """A line as the kernel writes it, through its own log."""
    Path("/dev/kmsg").write_text("<3>blk_update_request: I/O error, dev sdq, sector 2048 op 0x0:(READ) flags 0x0\n")
    run("/usr/bin/journalctl", "--sync")


def read_a_bad_disk() -> None:
    """A disk that fails every read: the kernel writes the line itself."""
    run("/usr/sbin/dmsetup", "create", "bad", "--table", "0 8192 error")
    run("/usr/bin/dd", "if=/dev/mapper/bad", "of=/dev/null", "bs=4096", "count=1", may_fail=True)
    run("/usr/bin/journalctl", "--sync")


def crash_again_and_again() -> None:
    """A program that reads where nothing is, three times."""
    for _ in range(3):
        run("/usr/bin/python3", "-c", "import ctypes; ctypes.string_at(1)", may_fail=True)
    run("/usr/bin/journalctl", "--sync")


def fill_a_file_system() -> None:
    """An ext4 without room."""
    run("/usr/sbin/mkfs.ext4", "-q", "-N", "512", SMALL)
    PLACE.mkdir()
    run("/usr/bin/mount", SMALL, str(PLACE))
    room = os.statvfs(PLACE)
    run("/usr/bin/fallocate", "-l", str(int(room.f_bavail * room.f_frsize * 0.98)), str(PLACE / "big"))


def use_up_inodes() -> None:
    """Room, but no more names."""
    (PLACE / "big").unlink()
    for number in range(os.statvfs(PLACE).f_favail - 2):
        (PLACE / f"small-{number}").touch()


def empty_it() -> None:
    """Nothing is in it."""
    for path in PLACE.glob("small-*"):
        path.unlink()


def make_it_read_only() -> None:
    """It takes no writes, though fstab says that it should."""
    with Path("/etc/fstab").open("a") as table:
        table.write(f"{SMALL} {PLACE} ext4 defaults 0 2\n")
    run("/usr/bin/systemctl", "daemon-reload")
    run("/usr/bin/mount", "-o", "remount,ro", str(PLACE))


def break_the_file_system() -> None:
    """The kernel finds an error in it and lets nobody write any more, as the mount option says."""
    run("/usr/bin/mount", "-o", "remount,rw,errors=remount-ro", str(PLACE))
    Path("/sys/fs/ext4", Path(SMALL).name, "trigger_fs_error").write_text("1\n")
    run("/usr/bin/journalctl", "--sync")


def stop_a_queue() -> None:
    """Paper jam: the queue is stopped and a job waits."""
    run("/usr/sbin/lpadmin", "-p", QUEUE, "-E", "-v", "socket://127.0.0.1:9")
    run("/usr/sbin/cupsdisable", "-r", "paper jam", QUEUE)
    run("/usr/bin/lp", "-d", QUEUE, "/etc/hostname")


def start_the_queue() -> None:
    """The job is gone and the queue goes on."""
    run("/usr/bin/cancel", "-a", QUEUE)
    run("/usr/sbin/cupsenable", QUEUE)


def nothing() -> None:
    """Leave everything as it is."""


SCENES: tuple[Scene, ...] = (
    ("a mirror of two disks", make_mirror, ("raid",)),
    ("a disk of the mirror fails", fail_a_disk, ("raid",)),
    ("the disk is replaced", put_the_disk_back, ("raid",)),
    ("the copying is done", finish_copying, ("raid",)),
    ("a service fails", fail_a_service, ("os_service",)),
    ("the service is mended", mend_the_service, ("os_service",)),
    ("the job of a timer fails", fail_a_timer, ("os_service", "scheduled_job")),
    ("the job is mended", mend_the_timer, ("os_service", "scheduled_job")),
    ("an I/O error in the kernel's log", write_an_io_error, ("event_log",)),
    ("a disk that cannot be read", read_a_bad_disk, ("event_log",)),
    ("a program crashes three times", crash_again_and_again, ("event_log", "crashes")),
    ("a full ext4", fill_a_file_system, ("disk",)),
    ("an ext4 without free inodes", use_up_inodes, ("disk",)),
    ("the ext4 emptied", empty_it, ("disk",)),
    ("an ext4 mounted read-only", make_it_read_only, ("disk",)),
    ("an ext4 with an error in it", break_the_file_system, ("event_log",)),
    ("a stopped print queue", stop_a_queue, ("printer_queue",)),
    ("the queue started again", start_the_queue, ("printer_queue",)),
)


def look(kind: str, arguments: Sequence[str]) -> dict[str, object]:
    """One run of the agent."""
    began_s = time.monotonic()
    first = ("inventory", "--json") if kind == "inventory" else ("check", kind, "--json")
    done = subprocess.run(
        ["/usr/bin/python3", "-m", "gengfu_agent", *first, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        env={"PATH": "/usr/sbin:/usr/bin", "LC_ALL": "C.UTF-8", "PYTHONPATH": "/opt/gengfu"},
    )
    return {
        "kind": kind,
        "arguments": arguments,
        "exit_code": done.returncode,
        "stdout": done.stdout,
        "stderr": done.stderr,
        "seconds": round(time.monotonic() - began_s, 1),
    }


def play() -> Iterator[dict[str, object]]:
    """Everything, scene by scene. A deed that fails is told and ends only its own scene."""
    plan, query = json.loads(PLAN.read_text())
    plan = [(kind, tuple(arguments)) for kind, arguments in plan]
    with ThreadPoolExecutor(PROCESSORS) as pool:
        quiet = list(pool.map(lambda told: look(*told), (*plan, ("inventory", ()))))
    yield {"scene": "a quiet machine", "looks": quiet, "packages": run(*query)}
    for name, deed, kinds in SCENES:
        try:
            deed()
        except (RuntimeError, OSError) as error:
            yield {"scene": name, "looks": [], "error": str(error)}
            continue
        yield {"scene": name, "looks": [look(kind, args) for kind, args in plan if kind in kinds]}


def main() -> None:
    """Tell what happened, then switch the machine off."""
    with PORT.open("w", encoding="utf-8") as port:
        for told in play():
            port.write(json.dumps(told) + "\n")
            port.flush()
        port.write(json.dumps({"scene": "", "looks": []}) + "\n")
    run("/usr/bin/systemctl", "poweroff")


if __name__ == "__main__":
    main()
