"""Fixtures that every part of the tests may use; what only one package needs stands beside its own tests."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import settings

sys.path.append(str(Path(__file__).resolve().parent / "e2e"))

from held_ports import held_ports

# Other tests share the machine's cores: how long one example takes says nothing.
settings.register_profile(
    "house", parent=settings.get_profile("ci" if os.environ.get("CI") else "default"), deadline=None
)
settings.load_profile("house")

# A shell that starts the tests in the background lets them ignore Ctrl-C, and so every program that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Debian keeps some servers and tools out of an ordinary user's PATH.
_MORE_FOLDERS = ("/usr/sbin", "/sbin", *sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True))


# Tests there wait for processes most of their time, and a file of them takes a minute or more.
_WAITING = ("chaos", "security", "e2e", "collector/cli")
_QUICK_FILES_BETWEEN = 3


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let files that wait begin early, with quick files between them: no core idles, and none is left alone at the end.

    Workers take whole files in this order (`--dist loadfile --no-loadscope-reorder`).
    """
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    here = Path(__file__).resolve().parent
    waiting = [path for folder in _WAITING for path in files if path.is_relative_to(here / folder)]
    quick = iter([path for path in files if path not in waiting])
    mixed = [path for slow in waiting for path in (slow, *islice(quick, _QUICK_FILES_BETWEEN))]
    items[:] = [item for path in (*mixed, *quick) for item in files[path]]


@pytest.fixture(scope="session")
def requires_program() -> Callable[[str, str], str]:
    """`requires_program("promtool", "apt-get install prometheus")` returns the program's absolute path.

    Without the program the test is skipped with the command that installs it; with CI=true in the environment it fails.
    """

    def find(name: str, how_to_install: str) -> str:
        path = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), *_MORE_FOLDERS]))
        if path is not None:
            return str(Path(path).absolute())
        reason = f"{name} is not installed: {how_to_install}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)

    return find


@pytest.fixture
def held_port() -> Iterator[int]:
    """A TCP port of 127.0.0.1 that nobody listens on, for a program that cannot be given port 0."""
    with held_ports(1) as (port,):
        yield port


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder like `tmp_path` with a short name, for sockets inside it: their paths are limited to 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="gengfu-") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The root folder of this checkout."""
    return Path(__file__).resolve().parent.parent
