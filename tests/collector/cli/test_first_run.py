"""What somebody meets who has just installed the collector, from outside."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from within import run_within

from gengfu_collector.cli import main

PROGRAM = [sys.executable, "-m", "gengfu_collector"]
WITHIN_S = 30.0


def ask(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *arguments], capture_output=True, text=True, timeout=60, env={**os.environ, **environment}
    )


@contextmanager
def running(data: Path, host: str = "127.0.0.1") -> Iterator[str]:
    """A collector on free ports; what it said when it was ready."""
    listeners = [f"--{name}={host}:0" for name in ("http", "stream", "enrol")]
    log = data.with_suffix(".log")
    with log.open("w") as file:
        process = subprocess.Popen([*PROGRAM, "run", "--data", str(data), *listeners], stdout=file, stderr=file)
    try:
        deadline_s = time.monotonic() + WITHIN_S
        while "next" not in log.read_text("utf-8"):
            assert process.poll() is None, log.read_text("utf-8")
            assert time.monotonic() < deadline_s, log.read_text("utf-8")
            time.sleep(0.05)
        yield log.read_text("utf-8")
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(WITHIN_S) == 0


@pytest.mark.parametrize(
    ("locale", "says"), [("C.UTF-8", "the package typer is missing: "), ("zh_CN.UTF-8", "缺少软件包 typer：")]
)
def test_without_the_extra_the_command_says_what_to_install(locale: str, says: str) -> None:
    program = "import sys; sys.modules['typer'] = None; from gengfu_collector.cli import main; main()"
    environment = {**os.environ, "LC_ALL": locale, "PYTHONUTF8": "1"}
    argv = [sys.executable, "-c", program]
    done = subprocess.run(argv, capture_output=True, encoding="utf-8", timeout=60, env=environment)
    assert done.returncode == 2
    assert done.stderr == f"gengfu-collector: {says}pip install 'gengfu[collector]'\n"


def test_a_profile_put_into_the_data_folder_of_a_running_collector_counts_from_the_next_reload_on(
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    with running(data):
        assert (data / "inspection").stat().st_mode & 0o777 == 0o700
        (data / "inspection" / "mine.toml").write_text('[[profile]]\nname = "mine"\ncolour = "red"\n')
        refused = ask("reload", "--data", str(data))
        assert refused.returncode == 2
        assert "mine.toml:3" in refused.stderr
        (data / "inspection" / "mine.toml").write_text('[[profile]]\nname = "mine"\n')
        assert run_within(main, "reload", "--data", str(data)).returncode == 0
        empty = tmp_path / "empty"
        empty.mkdir()
        difference = run_within(main, "config", "diff", str(empty), "--data", str(data))
        assert difference.returncode == 0, difference.stderr


@pytest.mark.parametrize(("words", "says"), [(("ticket", "list"), "acknowledged"), (("fault", "list"), "open, closed")])
def test_a_state_that_does_not_exist_is_refused(tmp_path: Path, words: tuple[str, str], says: str) -> None:
    done = run_within(main, *words, "--state", "opne", "--data", str(tmp_path))
    assert done.returncode == 2
    assert 'did you mean "open"' in done.stderr
    assert says in done.stderr


def test_a_wrong_option_leaves_no_data_folder_behind(tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert ask("run", "--data", str(data), "--log-level", "loud").returncode == 2
    assert not data.exists()


def test_the_address_that_is_shown_can_be_opened_also_with_ipv6(tmp_path: Path) -> None:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")
    with running(tmp_path / "data", "[::1]") as said:
        address = re.search(r"http://\S+", said)
        assert address is not None
        with urllib.request.urlopen(address.group(), timeout=10) as answer:
            assert b"gengfu_collector_build_info" in answer.read()


@pytest.mark.parametrize("environment", [{"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1"}])
def test_a_terminal_without_chinese_shows_escapes(tmp_path: Path, environment: Mapping[str, str]) -> None:
    data = str(tmp_path)
    assert run_within(main, "token", "create", "--label", "site=总部", "--data", data).returncode == 0
    table = ask("token", "list", "--data", data, **environment)
    assert table.returncode == 0, table.stderr
    assert "site=\\u603b\\u90e8" in table.stdout
    as_json = ask("token", "list", "--json", "--data", data, **environment)
    assert json.loads(as_json.stdout)[0]["labels"] == {"site": "总部"}
