"""`make demo` tells the truth and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from machinery import processes_with, until


def start(checkout: Path, folder: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(checkout / "deploy" / "demo.py"), *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(folder)},
    )


@pytest.mark.timeout(180)
def test_the_demo_shows_one_fault_from_beginning_to_end(checkout: Path, short_path: Path) -> None:
    demo = start(checkout, short_path, "--until-resolved")
    said, errors = demo.communicate(timeout=170)
    assert (demo.returncode, errors) == (0, "")
    told = [line for line in said.splitlines() if "GF-20" in line]
    assert len({line.split("GF-20")[1].split()[0] for line in told}) == 1
    assert [line.split("GF-20")[1].split()[1] for line in told] == ["opened", "resolved"]
    assert "/metrics" in said
    assert list(short_path.iterdir()) == []
    assert processes_with(str(short_path)) == []


def test_ctrl_c_stops_the_demo_and_leaves_nothing_behind(checkout: Path, short_path: Path) -> None:
    demo = start(checkout, short_path)
    assert demo.stdout is not None
    lines = iter(demo.stdout)
    until(lambda: "ready after" in next(lines), "the demo is ready", within_s=60)
    demo.send_signal(signal.SIGINT)
    began_s = time.monotonic()
    demo.communicate(timeout=60)
    assert demo.returncode == 0
    assert time.monotonic() - began_s < 60
    assert list(short_path.iterdir()) == []
    assert processes_with(str(short_path)) == []
