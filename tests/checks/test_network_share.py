"""Network shares: judgement on mount tables, and a real sshfs whose server stops, goes on and dies."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gengfu_checks.local import network_share
from gengfu_checks.local.mount_table import FstabEntry, Mount
from gengfu_checks.local.network_share import CHECK, System, measure_shares
from gengfu_checks.local.network_share_windows import mappings
from gengfu_checks.local.share_source import without_user
from gengfu_checks.model import Status
from gengfu_checks.threshold import judge

NFS = Mount("/data", "nfs4", "nas:/data", "0:50")
SMB = Mount("/office", "cifs", "//nas/office", "0:51")
DISK = Mount("/", "ext4", "/dev/vda1", "254:1")
AUTO = Mount("/home/lazy", "autofs", "systemd-1", "0:52")


def look(
    instance: Any,
    mounts: list[Mount],
    touch: Callable[[str], float | None] = lambda _: 0.001,
    fstab: tuple[FstabEntry, ...] = (),
    resolve: Callable[[str], str] = str,
) -> dict[str, Any]:
    """Findings by item."""
    system = System(lambda: mounts, lambda: list(fstab), touch, resolve)
    measured = measure_shares(instance.context(), system)
    return {m.item: judge(CHECK.name, m, CHECK.thresholds, None, 0.0) for m in measured}


def failing(number: int) -> Callable[[str], float]:
    def touch(_: str) -> float:
        raise OSError(number, os.strerror(number))

    return touch


def test_only_network_filesystems_are_touched(bench: Any) -> None:
    touched: list[str] = []

    def touch(point: str) -> float:
        touched.append(point)
        return 0.25

    found = look(bench(CHECK), [DISK, NFS, SMB, AUTO], touch)
    assert sorted(touched) == sorted(found) == ["/data", "/office"]
    assert found["/data"].metrics == {"reachable": 1.0, "response_seconds": 0.25}
    assert found["/data"].facts == {"source": "nas:/data", "fstype": "nfs4"}


def test_no_share_is_silence(bench: Any) -> None:
    assert look(bench(CHECK), [DISK, AUTO]) == {}


@pytest.mark.parametrize(
    ("touch", "status", "code"),
    [
        (failing(errno.ESTALE), "critical", "network_share.unreachable"),
        (failing(errno.ENOTCONN), "critical", "network_share.unreachable"),
        (failing(errno.EACCES), "unknown", "check.needs_rights"),
        (failing(errno.ENOENT), "ok", "ok"),
        (lambda _: 2.5, "warning", "network_share.slow"),
        (lambda _: 0.0, "ok", "ok"),
    ],
)
def test_what_a_share_answers_is_judged(bench: Any, touch: Any, status: str, code: str) -> None:
    found = look(bench(CHECK), [NFS], touch)["/data"]
    assert (found.status.word, found.code) == (status, code)


def test_a_private_mount_of_another_user_is_nobodys_business(bench: Any) -> None:
    assert look(bench(CHECK), [Mount("/home/w/x", "fuse.sshfs", "w@x:/", "0:60")], lambda _: None) == {}


def test_a_share_that_hangs_holds_neither_the_others_nor_the_next_run(bench: Any) -> None:
    release = threading.Event()
    started: list[str] = []

    def touch(point: str) -> float:
        if point == "/data":
            started.append(point)
            release.wait()
        return 0.0

    instance = bench(CHECK, answer_within="500ms")
    for _ in range(3):
        found = look(instance, [NFS, SMB], touch)
        assert {item: finding.code for item, finding in found.items()} == {
            "/data": "network_share.hangs",
            "/office": "ok",
        }
    assert started == ["/data"]
    release.set()


def test_a_share_of_fstab_that_is_not_mounted(bench: Any) -> None:
    fstab = (
        FstabEntry("/data", "nfs4", "nas:/data", ("_netdev",)),
        FstabEntry("/link/office", "cifs", "//wang@nas/office", ()),
        FstabEntry("/later", "nfs", "nas:/later", ("noauto",)),
        FstabEntry("/home/lazy", "nfs", "nas:/lazy", ("x-systemd.automount",)),
        FstabEntry("/", "ext4", "/dev/vda1", ()),
        FstabEntry("/gone", "cifs", "//wang@nas/gone", ("nofail",)),
    )
    real = {"/link/office": "/office"}
    mounts = [DISK, NFS, SMB, AUTO]
    found = look(bench(CHECK), mounts, fstab=fstab, resolve=lambda path: real.get(path, path))
    assert {item: finding.code for item, finding in found.items()} == {
        "/data": "ok",
        "/office": "ok",
        "/gone": "network_share.missing",
    }
    assert found["/gone"].facts["source"] == "//nas/gone"
    assert "/gone" not in look(bench(CHECK, missing=False), mounts, fstab=fstab)
    assert "/gone" not in look(bench(CHECK, exclude=["/gone"]), mounts, fstab=fstab)


def test_more_shares_than_the_limit_are_said_to_be_left_out(bench: Any) -> None:
    mounts = [Mount(f"/m/{n:03}", "nfs", f"nas:/{n}", f"1:{n}") for n in range(network_share.MAX_SHARES + 1)]
    found = look(bench(CHECK), mounts)
    assert found[""].code == "network_share.too_many_shares"
    assert len(found) == network_share.MAX_SHARES + 1


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("nas:/data", "nas:/data"),
        ("wang@nas:/home", "nas:/home"),
        ("//nas/office", "//nas/office"),
        ("//wang@nas/o@ffice", "//nas/o@ffice"),
        ("https://wang:secret@dav.example/x", "https://dav.example/x"),
        ("https://wang:s@cret@dav.example/x", "https://dav.example/x"),
        ("[2001:db8::1]:/e@x", "[2001:db8::1]:/e@x"),
        ("", ""),
    ],
)
def test_who_mounted_it_is_not_told(source: str, told: str) -> None:
    assert without_user(source) == told


def test_mapped_drives_of_windows() -> None:
    """Rows built after the documentation of MSFT_SmbMapping (Microsoft Learn: values of Status); no recording."""
    rows: list[dict[str, object]] = [
        {"LocalPath": "H:", "RemotePath": r"\\nas\home", "Status": "OK"},
        {"LocalPath": "I:", "RemotePath": r"\\nas\idle", "Status": "Disconnected"},
        {"LocalPath": "N:", "RemotePath": r"\\old\x", "Status": "Unavailable"},
        {"LocalPath": "", "RemotePath": r"\\old\y", "Status": "3"},
        {"LocalPath": "N:", "RemotePath": r"\\again\x", "Status": "OK"},
        {"LocalPath": None, "RemotePath": None, "Status": "OK"},
        {"LocalPath": "Q:", "RemotePath": "x", "Status": "Confused"},
    ]
    found = {m.item: m for m in mappings(rows)}
    assert {item: m.problem.code if m.problem else "ok" for item, m in found.items()} == {
        "H:": "ok",
        "I:": "ok",
        "N:": "network_share.unreachable",
        r"\\old\y": "network_share.unreachable",
    }
    assert found["N:"].facts == {"source": r"\\old\x", "fstype": "smb"}
    problem = found["N:"].problem
    assert problem is not None
    assert (problem.status, problem.facts) == (Status.CRITICAL, {"error": "Unavailable"})


# In a mount namespace: a file server that is stopped, continued and killed, and a client that is killed.
LIVE = """
import json, os, signal, socket, subprocess, sys, time
from gengfu_checks.local.network_share import CHECK
from gengfu_checks.model import Context
from gengfu_checks.settings import resolve_settings

sshfs, sftp_server, remote, point = sys.argv[1:]
memory = {}

def look(wanted):
    deadline = time.monotonic() + 20
    while True:
        settings = resolve_settings(CHECK, {"answer_within": "300ms"})
        context = Context(settings, memory, time.time, time.monotonic, CHECK.timeout_s)
        found = {m.item: m for m in CHECK.measure(context)}
        m = found.get(point)
        code = None if m is None else m.problem.code if m.problem else "ok"
        if code == wanted or time.monotonic() > deadline:
            return [code, dict(m.facts) if m else {}, dict(m.metrics) if m else {}]
        time.sleep(0.05)

here, there = socket.socketpair()
server = subprocess.Popen([sftp_server], stdin=there, stdout=there)
options = "passive,fsname=wang@nas:/home"
client = subprocess.Popen([sshfs, "-f", "-o", options, ":" + remote, point], stdin=here, stdout=here)
here.close(); there.close()
looks = [look("ok")]
while looks[-1][2].get("reachable") != 1.0:
    looks[-1] = look("ok")
server.send_signal(signal.SIGSTOP)
looks.append(look("network_share.hangs"))
server.send_signal(signal.SIGCONT)
looks.append(look("ok"))
client.kill(); client.wait()
looks.append(look("network_share.unreachable"))
subprocess.run(["umount", "-l", point], check=True)
looks.append(look(None))
server.kill(); server.wait()
print(json.dumps(looks))
"""


def test_a_real_share_whose_server_stops_goes_on_and_dies(
    tmp_path: Path, unshare: str, requires_program: Callable[[str, str], str]
) -> None:
    """Debian's packages `sshfs` and `openssh-sftp-server`, which speak through a socket, without a network."""
    sshfs = requires_program("sshfs", "apt-get install sshfs")
    server = Path("/usr/lib/openssh/sftp-server")
    if not server.exists():
        assert os.environ.get("CI") != "true", "apt-get install openssh-sftp-server"
        pytest.skip("apt-get install openssh-sftp-server")
    for name in ("remote", "point"):
        (tmp_path / name).mkdir()
    places = [sshfs, str(server), str(tmp_path / "remote"), str(tmp_path / "point")]
    done = subprocess.run(
        [unshare, "--mount", sys.executable, "-c", LIVE, *places], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    looks = json.loads(done.stdout)
    assert [code for code, _, _ in looks] == [
        "ok",
        "network_share.hangs",
        "ok",
        "network_share.unreachable",
        None,
    ]
    assert looks[0][1] == {"source": "nas:/home", "fstype": "fuse.sshfs"}
    assert 0 <= looks[0][2]["response_seconds"] < 0.3


def test_this_machine(bench: Any) -> None:
    mounted = Path("/proc/self/mountinfo").read_text()
    found = bench(CHECK).run()
    assert all(f" {item} " in mounted for item in found)
