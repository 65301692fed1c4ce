"""A collector alone: its folder, its ports, its end."""

from __future__ import annotations

import signal
import socket
import stat

import pytest
from machinery import Site, until


def test_a_killed_collector_leaves_a_folder_that_commands_and_the_next_one_take(site: Site) -> None:
    collector = site.collector()
    collector.start()
    assert collector.json("token", "create", "--uses", "3")["token"]
    for _ in range(2):
        collector.kill()
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", collector.ports["stream"]))
        listed = collector.json("token", "list")
        assert [row["uses_left"] for row in listed] == [3]
        assert collector.json("ledger", "verify")["unexplained"] == 0
        collector.start()
    assert collector.json("token", "list") == listed
    assert collector.stop() == 0


def test_a_bad_inspection_folder_is_refused_with_file_and_line_and_the_old_one_stays(site: Site) -> None:
    collector = site.collector(inspection='[[profile]]\nname = "good"\n')
    collector.start()
    collector.inspect('[[profile]]\nname = "bad"\nchekc = 1\n')
    done = collector.command_line("reload")
    assert done.returncode == 2
    assert "test.toml:3" in done.stderr
    assert "check" in done.stderr
    collector.send(signal.SIGHUP)
    until(lambda: "refused" in collector.log.read_text(), "the log tells of the refused folder")
    assert collector.json("status")["running"]
    collector.inspect('[[profile]]\nname = "good"\n')
    assert collector.command_line("reload").returncode == 0


def test_it_answers_for_its_health_tells_of_itself_and_keeps_its_folder_for_its_owner(site: Site) -> None:
    collector = site.collector(first_start=True)
    collector.start()
    assert collector.page("/healthz")
    assert collector.page("/readyz")
    assert collector.samples("gengfu_collector_connected_agents") == ["gengfu_collector_connected_agents 0"]
    open_to_others = [
        path
        for path in (collector.data, *collector.data.rglob("*"))
        if stat.S_IMODE(path.stat().st_mode) & (stat.S_IRWXG | stat.S_IRWXO)
    ]
    assert open_to_others == []
