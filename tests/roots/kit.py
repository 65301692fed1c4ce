"""The agent for the Python of a root: built from this checkout, with the locked packages for that version."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from root import Root, must, run

CHECKOUT = Path(__file__).resolve().parents[2]
PLACE = "/opt/gengfu"
OLDEST = (3, 11)
NEEDED = frozenset(("grpcio", "protobuf", "psutil", "typing-extensions", "cryptography", "cffi", "pycparser"))
# The C library of a root is at least this old; pip takes a name for one exact version of it.
PLATFORMS = ("manylinux2014_x86_64", "manylinux_2_17_x86_64", "manylinux_2_28_x86_64", "manylinux_2_34_x86_64")

_making = threading.Lock()


def python_of(root: Root) -> tuple[int, int]:
    """The version of a root's own Python."""
    major, minor = root.must("/usr/bin/python3", "-c", "import sys; print(*sys.version_info[:2])").split()
    return int(major), int(minor)


def kit(folder: Path, version: tuple[int, int]) -> Path:
    """A folder with the agent for this version of Python, made at the first call."""
    place = folder / f"kit-{version[0]}.{version[1]}"
    with _making:
        if not place.exists():
            locked = folder / "locked.txt"
            locked.write_text("".join(_locked(CHECKOUT / "requirements/dev.txt")), encoding="utf-8")
            for_version = ["--python-version", f"{version[0]}.{version[1]}", "--implementation", "cp"]
            platforms = [word for name in PLATFORMS for word in ("--platform", name)]
            _pip(place, *for_version, *platforms, "--only-binary", ":all:", "--require-hashes", "-r", str(locked))
            _pip(place, "--no-deps", "--no-build-isolation", str(CHECKOUT))
    return place


def give(root: Root, place: Path) -> None:
    """Put the agent into a root."""
    must(["/usr/bin/cp", "-r", str(place), str(root.file(PLACE))])


def _pip(target: Path, *arguments: str) -> None:
    pip = [sys.executable, "-m", "pip", "install", "-qq", "--no-compile", "--no-input", "--target", str(target)]
    done = run([*pip, *arguments], environment=os.environ)
    if done.exit_code != 0:
        raise RuntimeError(f"pip could not put {arguments[-1]} into {target}: {done.stderr[-2000:]}")


def _locked(lock: Path) -> Iterator[str]:
    """The lines of the lock that are about what the agent needs."""
    wanted = False
    for line in lock.read_text(encoding="utf-8").splitlines(keepends=True):
        if (name := re.match(r"([a-z0-9_.-]+)==", line)) is not None:
            wanted = name[1] in NEEDED
        if wanted:
            yield line
