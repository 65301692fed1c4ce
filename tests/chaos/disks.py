"""Small file systems of their own, to be filled up, or to lose their power."""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
from contextlib import suppress
from pathlib import Path

MIN_EXT4_BYTES = 16 * 2**20
"""A smaller one gets no journal."""

# ext4's own way to play a loss of power: from now on nothing reaches the device, its journal neither (linux/ext4.h).
_SHUTDOWN = 0x8004587D
_WITHOUT_FLUSHING = struct.pack("I", 2)


class Disk:
    """Mounted from its making to `close`, which needs root; raises OSError where that is not possible."""

    def __init__(self, folder: Path, size_bytes: int) -> None:
        self.folder = folder
        self._filler = folder / "filler"
        folder.mkdir()
        try:
            self._make(size_bytes)
        except OSError:
            folder.rmdir()
            raise

    def _make(self, size_bytes: int) -> None:
        _run("mount", "-t", "tmpfs", "-o", f"size={size_bytes},mode=0700", "gengfu-test", str(self.folder))

    def close(self) -> None:
        """Unmount it, whoever still uses it."""
        subprocess.run([program_path("umount"), "--lazy", str(self.folder)], check=False, capture_output=True)

    def fill(self) -> None:
        """Leave no byte."""
        with self._filler.open("wb", buffering=0) as filler, suppress(OSError):
            for size in (2**20, 2**16, 2**12, 1):
                with suppress(OSError):
                    while filler.write(bytes(size)) == size:
                        pass

    def free(self) -> None:
        """Give everything back."""
        self._filler.unlink(missing_ok=True)


class PoweredDisk(Disk):
    """One of ext4 on an image beside it, which can lose its power."""

    def _make(self, size_bytes: int) -> None:
        self._image = self.folder.with_suffix(".img-0")
        self._cuts = 0
        with self._image.open("wb") as image:
            image.truncate(max(size_bytes, MIN_EXT4_BYTES))
        _run("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(self._image))
        self._mount()

    def _mount(self) -> None:
        # What nobody syncs is to stay in memory for as long as a test lasts.
        _run("mount", "-o", "loop,commit=300", str(self._image), str(self.folder))

    def cut_power(self) -> None:
        """From now on nothing that is written stays."""
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(folder, _SHUTDOWN, _WITHOUT_FLUSHING)
        finally:
            os.close(folder)

    def start_again(self) -> None:
        """Be what was on the device when the power failed. Nobody may have a file of it open."""
        # The same image would be the same dead file system for as long as any other namespace has it mounted.
        before, self._cuts = self._image, self._cuts + 1
        self._image = before.with_suffix(f".img-{self._cuts}")
        _run("umount", str(self.folder))
        _run("cp", "--sparse=always", str(before), str(self._image))
        before.unlink()
        self._mount()

    def close(self) -> None:
        """Unmount it, whoever still uses it."""
        super().close()
        self._image.unlink(missing_ok=True)


def _run(name: str, *arguments: str) -> None:
    done = subprocess.run([program_path(name), *arguments], check=False, capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"{name}: {done.stderr.strip()}")


def program_path(name: str) -> str:
    """Path of a program of the system."""
    found = shutil.which(name, path="/usr/bin:/bin:/usr/sbin:/sbin")
    assert found is not None, name
    return found
