"""Roots: built by debootstrap, changed in layers on top, and programs run inside.

Everything here happens in a mount namespace of its own (see `apart`): whoever is killed, no mount is left.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from archives import System

PROGRAM_TIMEOUT_S = 900.0
NOBODY = "65534:65534"
ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
    "PYTHONPATH": "/opt/gengfu",
    "PYTHONDONTWRITEBYTECODE": "1",
}
SCRIPTS = Path("/usr/share/debootstrap/scripts")
SERVICES_STAY_DOWN = "#!/bin/sh\nexit 101\n"


@dataclass(frozen=True, slots=True)
class Done:
    """What a program left."""

    exit_code: int
    stdout: str
    stderr: str


def run(
    argv: Sequence[str], timeout_s: float = PROGRAM_TIMEOUT_S, environment: Mapping[str, str] = ENVIRONMENT
) -> Done:
    """Run a program to its end. Raises subprocess.TimeoutExpired."""
    done = subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=timeout_s,
        env=dict(environment),
    )
    return Done(done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))


def must(argv: Sequence[str], timeout_s: float = PROGRAM_TIMEOUT_S) -> str:
    """Run a program that has to succeed; return its output."""
    done = run(argv, timeout_s)
    if done.exit_code != 0:
        raise RuntimeError(f"{' '.join(argv)} ended with {done.exit_code}: {(done.stderr or done.stdout)[-2000:]}")
    return done.stdout


def apart(argv: Sequence[str]) -> list[str]:
    """The command that runs `argv` with mounts and processes of its own, all of which go when it or we go."""
    kill = ["/usr/bin/setpriv", "--pdeathsig", "KILL"]
    spaces = ["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child=SIGKILL", "--mount-proc"]
    return [*kill, "/usr/bin/unshare", *spaces, *argv]


@dataclass(frozen=True, slots=True)
class Root:
    """A folder that programs take for `/`."""

    path: Path

    def run(self, *argv: str, user: str = "", timeout_s: float = PROGRAM_TIMEOUT_S) -> Done:
        """Run a program inside; `user` is `UID:GID`, else it is root."""
        as_user = [f"--userspec={user}", "--groups="] if user else []
        return run(["/usr/sbin/chroot", *as_user, str(self.path), *argv], timeout_s)

    def must(self, *argv: str) -> str:
        """Run a program inside that has to succeed; return its output."""
        return must(["/usr/sbin/chroot", str(self.path), *argv])

    def file(self, name: str) -> Path:
        """A file inside, its absolute name there given."""
        return self.path / name.lstrip("/")


def build(system: System, folder: Path, packages: Sequence[str] = (), keyring: Path | None = None) -> Root:
    """Make a small system with Python in an empty folder, signatures checked."""
    key = [f"--keyring={keyring}"] if keyring else []
    include = ",".join(("python3", *packages))
    options = ["--variant=minbase", "--force-check-gpg", f"--include={include}", *key]
    script = SCRIPTS / (system.release if (SCRIPTS / system.release).exists() else system.family_script)
    must(["/usr/sbin/debootstrap", *options, system.release, str(folder), system.main, str(script)])
    while run(["/usr/bin/umount", "--lazy", str(folder / "proc")]).exit_code == 0:
        pass
    root = Root(folder)
    root.file("/usr/sbin/policy-rc.d").write_text(SERVICES_STAY_DOWN)
    root.file("/usr/sbin/policy-rc.d").chmod(0o755)
    shutil.copy("/etc/resolv.conf", root.file("/etc/resolv.conf"))
    return root


@contextmanager
def layered(lower: Sequence[Path], upper: Path, *, with_sys: bool = True) -> Iterator[Root]:
    """A root of layers, the topmost of `lower` first; what is changed goes into `upper`, which may be a layer then."""
    place, work = upper.with_name(f"{upper.name}.root"), upper.with_name(f"{upper.name}.work")
    for folder in (upper, place, work):
        folder.mkdir()
    options = f"lowerdir={':'.join(map(str, lower))},upperdir={upper},workdir={work}"
    must(["/usr/bin/mount", "-t", "overlay", "-o", options, "overlay", str(place)])
    try:
        must(["/usr/bin/mount", "-t", "proc", "proc", str(place / "proc")])
        if with_sys:
            must(["/usr/bin/mount", "-t", "sysfs", "-o", "ro", "sysfs", str(place / "sys")])
            must(["/usr/bin/mount", "--rbind", "/dev", str(place / "dev")])
        yield Root(place)
    finally:
        must(["/usr/bin/umount", "--recursive", "--lazy", str(place)])
        place.rmdir()
        shutil.rmtree(work)


def is_root() -> bool:
    """Whether roots can be built at all."""
    return os.geteuid() == 0
