"""The collector as a process: what keeps it from starting, how it reads its folder anew, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from cli_rig import PROGRAM, CommandLine, Running, collector

from gengfu_collector.admin.client import SOCKET_FILE
from gengfu_collector.store.database import DATABASE_FILE, lock_folder, open_database

ENDS_WITHIN_S = 10.0
ANYWHERE = ("--http=127.0.0.1:0", "--stream=127.0.0.1:0", "--enrol=127.0.0.1:0")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def entries(running: Running) -> list[dict[str, object]]:
    """The log: every line is JSON."""
    return [json.loads(line) for line in running.log.read_text("utf-8").splitlines()]


def test_its_log_is_json_and_tells_its_own_story_only_until_sigint(data: Path) -> None:
    with collector(data) as running:
        running.wait_for_log("collector started")
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(ENDS_WITHIN_S) == 0
    events = [entry["event"] for entry in entries(running)]
    assert events[-1] == "collector stopped"
    assert {str(entry["logger"]).split(".")[0] for entry in entries(running)} == {"gengfu_collector"}
    assert {entry["level"] for entry in entries(running)} == {"info"}


def test_it_ends_within_seconds_whatever_is_still_connected(data: Path) -> None:
    with collector(data) as running:
        idle = [socket.create_connection(("127.0.0.1", port)) for port in running.ports.values()]
        waiting = socket.socket(socket.AF_UNIX)
        waiting.connect(str(data / SOCKET_FILE))
        began_s = time.monotonic()
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(ENDS_WITHIN_S) == 0
        assert time.monotonic() - began_s < ENDS_WITHIN_S
        for connection in (*idle, waiting):
            connection.close()
    assert not (data / SOCKET_FILE).exists()
    assert "Traceback" not in running.log.read_text("utf-8")


@pytest.mark.parametrize("listener", ["http", "stream", "enrol"])
def test_a_port_in_use_is_named_with_its_option(data: Path, listener: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        others = [option for option in ANYWHERE if not option.startswith(f"--{listener}")]
        said = CommandLine(data).refused("run", *others, f"--{listener}=127.0.0.1:{port}", exit_code=2, process=True)
    assert f"port {port} is in use" in said
    assert f"--{listener}" in said
    # Nothing holds the folder afterwards.
    with lock_folder(data):
        pass


def test_a_second_collector_on_the_same_data_is_refused_with_the_first_ones_number(data: Path) -> None:
    with collector(data) as running:
        said = CommandLine(data).refused("run", *ANYWHERE, exit_code=1, process=True)
        assert f"process {running.process.pid}" in said
        assert str(data) in said
        assert "--data" in said
        assert CommandLine(data).json("status")["running"]


def test_a_command_at_the_files_for_a_moment_does_not_keep_a_collector_from_starting(data: Path) -> None:
    data.mkdir()
    held = lock_folder(data)
    threading.Timer(1.5, held.close).start()
    with collector(data):
        assert CommandLine(data).json("status")["running"]


def test_a_newer_database_is_refused(data: Path) -> None:
    data.mkdir()
    open_database(data).close()
    plain = sqlite3.connect(data / DATABASE_FILE)
    plain.execute("UPDATE alembic_version SET version_num = '9999'")
    plain.commit()
    plain.close()
    for command in (("run", *ANYWHERE), ("ticket", "list"), ("status",)):
        said = CommandLine(data).refused(*command, exit_code=1, process=command[0] == "run")
        assert "9999" in said
        assert "install the Gengfu that wrote it" in said


def test_a_damaged_database_is_named(data: Path) -> None:
    data.mkdir()
    (data / DATABASE_FILE).write_bytes(b"no database at all" * 1_000)
    for command in (("run", *ANYWHERE), ("ticket", "list")):
        assert "not a database" in CommandLine(data).refused(*command, exit_code=1, process=command[0] == "run")


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    said = CommandLine(tmp_path / "file" / "data").refused("run", *ANYWHERE, exit_code=2)
    assert f"cannot look into the data folder {tmp_path}/file/data: Not a directory" in said


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('colour = "red"\n', "collector.toml:1"),
        ('log_level = "info"\n[listen]\nhttp = "nowhere"\n', "collector.toml:3"),
        ("[retention]\nreport_days = 0\n", "collector.toml:2"),
        ("[listen\n", "collector.toml"),
        ("[database]\nurl = 7\n", "collector.toml:2"),
    ],
)
def test_a_bad_configuration_is_refused_with_file_and_line(data: Path, text: str, told: str) -> None:
    data.mkdir()
    (data / "collector.toml").write_text(text)
    for command in (("run",), ("config", "check")):
        assert told in CommandLine(data).refused(*command, exit_code=2)


def test_wrong_options_are_refused(data: Path) -> None:
    cli = CommandLine(data)
    for options in (
        ["--http", "here"],
        ["--stream", "127.0.0.1:99999"],
        ["--inspection", "/nowhere"],
        ["--log-level", "loud"],
    ):
        assert options[0] in cli.refused("run", *options, exit_code=2)
    assert not data.exists()


def test_the_folder_is_read_anew_at_sighup_or_not_at_all(data: Path) -> None:
    profile = '[[profile]]\nname = "mine"\nmatch = { class = "server" }\n'
    with collector(data) as running:
        folder = data / "inspection"
        folder.mkdir(exist_ok=True)
        (folder / "mine.toml").write_text(profile)
        running.process.send_signal(signal.SIGHUP)
        running.wait_for_log("inspection folder read anew")
        (folder / "mine.toml").write_text(profile + "bogus = 1\n")
        running.process.send_signal(signal.SIGHUP)
        running.wait_for_log("inspection folder refused; nothing has changed")
        (refusal,) = [entry for entry in entries(running) if entry["level"] == "error"]
        assert "mine.toml:4" in str(refusal["error"])
        (folder / "mine.toml").write_text(profile.replace("class", "clas"))
        running.process.send_signal(signal.SIGHUP)
        running.wait_for_log("inspection folder may not say what is meant")
        assert CommandLine(data).json("status")["running"]
        with urllib.request.urlopen(f"http://127.0.0.1:{running.ports['http']}/readyz", timeout=20) as answer:
            assert answer.status == 200


def test_a_collector_that_does_not_answer_is_not_reached(data: Path) -> None:
    """Something listens, and hangs up."""
    data.mkdir()
    with socket.socket(socket.AF_UNIX) as listening, lock_folder(data):
        listening.bind(str(data / SOCKET_FILE))
        listening.listen()

        def hang_up() -> None:
            connection, _ = listening.accept()
            connection.recv(65_536)
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        said = CommandLine(data).refused("ticket", "list", exit_code=3)
        thread.join()
    assert "without an answer" in said


def test_without_a_data_folder_commands_say_what_to_do(tmp_path: Path) -> None:
    said = CommandLine(tmp_path / "none").refused("ticket", "list", exit_code=1)
    assert "gengfu-collector run" in said
    assert "--data" in said


@pytest.mark.parametrize(("locale", "ready"), [("C.UTF-8", "is ready"), ("zh_CN.UTF-8", "已就绪")])
def test_it_starts_where_it_stands_with_nothing_given(tmp_path: Path, locale: str, ready: str) -> None:
    """No file and no folder: `gengfu-data` here. Ports are given, since the usual ones may be taken on this machine."""
    process = subprocess.Popen(
        [*PROGRAM, "run", *ANYWHERE],
        cwd=tmp_path,
        env={**os.environ, "LC_ALL": locale, "PYTHONUTF8": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    assert process.stdout is not None
    said = [process.stdout.readline() for _ in range(4)]
    assert ready in said[0], process.communicate(timeout=5)
    assert "/metrics" in said[1]
    assert "gengfu-collector token create --data" in said[3]
    assert (tmp_path / "gengfu-data").stat().st_mode & 0o777 == 0o700
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=ENDS_WITHIN_S)
    assert process.returncode == 0
