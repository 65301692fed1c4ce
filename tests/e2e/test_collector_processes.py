"""A collector alone: its folder, its ports, its end."""

from __future__ import annotations

import signal
import socket
import stat

import pytest
from machinery import Site, until


def test_a_second_collector_on_one_data_folder_is_refused_and_the_first_goes_on(site: Site) -> None:
    first = site.collector()
    first.start()
    second = site.collector("second", data=first.data)
    second.start(wait=False)
    assert second.wait() == 1
    said = second.log.read_text().splitlines()[-1]
    assert str(first.data) in said
    assert f"process {first.pid}" in said
    assert "--data" in said
    assert first.json("status") == {"running": True, "connected": 0, "waiting_reports": 0}


def test_a_killed_collector_leaves_a_folder_that_the_next_one_takes(site: Site) -> None:
    collector = site.collector()
    collector.start()
    collector.json("token", "create")
    for _ in range(2):
        collector.kill()
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", collector.ports["stream"]))
        collector.start()
    assert len(collector.json("token", "list")) == 1
    assert collector.stop() == 0


def test_commands_work_on_the_files_when_no_collector_runs(site: Site) -> None:
    collector = site.collector()
    collector.start()
    made = collector.json("token", "create", "--uses", "3")
    collector.kill()
    assert made["token"]
    listed = collector.json("token", "list")
    assert [row["uses_left"] for row in listed] == [3]
    assert collector.json("ledger", "verify")["unexplained"] == 0


def test_a_port_in_use_is_named_with_the_option_that_changes_it(site: Site) -> None:
    first = site.collector()
    first.start()
    second = site.collector("second")
    second.ports = {**second.ports, "stream": first.ports["stream"]}
    second.start(wait=False)
    assert second.wait() != 0
    said = second.log.read_text().splitlines()[-1]
    assert str(first.ports["stream"]) in said
    assert "--stream" in said
    assert "Traceback" not in second.log.read_text()


def test_the_data_folder_is_for_its_owner_alone(site: Site) -> None:
    collector = site.collector()
    collector.start()
    open_to_others = [
        path
        for path in (collector.data, *collector.data.rglob("*"))
        if stat.S_IMODE(path.stat().st_mode) & (stat.S_IRWXG | stat.S_IRWXO)
    ]
    assert open_to_others == []


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


def test_health_and_readiness_answer_and_metrics_tell_of_the_collector_itself(site: Site) -> None:
    collector = site.collector()
    collector.start()
    assert collector.page("/healthz")
    assert collector.page("/readyz")
    assert collector.samples("gengfu_collector_connected_agents") == ["gengfu_collector_connected_agents 0"]
