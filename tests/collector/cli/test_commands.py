"""Every command: against a running collector, and on the files when none runs."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_rig import FIRST, MARKUP, SECOND, CommandLine, Running, collector, fill
from machinery import constants

from gengfu_collector import __version__

TICKET = {
    "number",
    "state",
    "asset",
    "check",
    "item",
    "code",
    "severity",
    "category",
    "priority",
    "opened_at",
    "resolved_at",
}
AGENT = {"id", "asset", "state", "connected", "last_seen_at", "version", "epoch", "high_water"}
ASSET = {"name", "class", "state", "labels"}
CHINESE = re.compile(r"[\u4e00-\u9fff]")
FAULT = {"asset", "check", "item", "code", "severity", "state", "opened_at", "closed_at", "ticket"}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("filled") / "data"
    fill(data)
    return data


@pytest.fixture(scope="module")
def running(filled: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    data = tmp_path_factory.mktemp("running") / "data"
    shutil.copytree(filled, data)
    with collector(data) as made:
        made.data = data  # type: ignore[attr-defined]
        yield made


@pytest.fixture(params=["running", "alone"])
def cli(request: pytest.FixtureRequest, filled: Path, tmp_path: Path) -> CommandLine:
    """The test runs twice: with a collector running, and on the files alone."""
    if request.param == "running":
        return CommandLine(request.getfixturevalue("running").data)
    data = tmp_path / "data"
    shutil.copytree(filled, data)
    return CommandLine(data)


@pytest.fixture
def online(running: Running) -> CommandLine:
    return CommandLine(running.data)  # type: ignore[attr-defined]


def test_lists_for_scripts_have_their_fields(cli: CommandLine) -> None:
    tickets = cli.json("ticket", "list")
    assert [set(row) for row in tickets] == [TICKET] * len(tickets)
    assert {row["number"] for row in tickets} >= {FIRST, SECOND}
    assert all(set(row) == AGENT for row in cli.json("agent", "list"))
    assert all(set(row) == ASSET for row in cli.json("asset", "list"))
    faults = cli.json("fault", "list")
    assert all(set(row) >= FAULT for row in faults)
    assert MARKUP in {row["item"] for row in faults}
    verified = cli.json("ledger", "verify")
    assert {"reports", "rejected", "gaps", "unexplained"} <= set(verified)
    assert (verified["rejected"], verified["gaps"], verified["unexplained"]) == (1, 2, 0)


def test_the_life_of_a_ticket(cli: CommandLine) -> None:
    assert cli.json("ticket", "acknowledge", FIRST)["state"] == "acknowledged"
    assert "看过了 [i]x[/i]" in cli("ticket", "comment", FIRST, "看过了 [i]x[/i]")
    assert cli.json("ticket", "resolve", FIRST, "--cause", "logs", "--solution", "rotated")["cause"] == "logs"
    assert cli.json("ticket", "close", FIRST)["state"] == "closed"
    assert "the ticket is closed" in cli.refused("ticket", "acknowledge", FIRST, exit_code=1)
    assert [row["kind"] for row in cli.json("ticket", "show", FIRST)["events"]] == [
        "opened",
        "acknowledged",
        "commented",
        "resolved",
        "closed",
    ]


def test_tables_for_people_show_hostile_names_as_they_are(online: CommandLine) -> None:
    listed = online("ticket", "list")
    assert SECOND in listed
    assert "[bold red]x[/]" in listed
    shown = online("ticket", "show", SECOND)
    assert "/srv" in shown
    assert len(shown.splitlines()) > 15
    assert "[bold red]x[/]" in online("fault", "list")
    assert "[bold red]x[/]" in online("ledger", "dead-letters")
    assert "[bold red]x[/]" in online("asset", "show", "pc-1")
    assert "\ufffd[2J" in online("asset", "list")
    assert "pc-1" in online("agent", "list")
    assert "unexplained" in online("ledger", "verify")


def test_assets(online: CommandLine) -> None:
    assert online.json("asset", "rename", "pc-1", "前台-01")["name"] == "前台-01"
    assert online.json("asset", "classify", "前台-01", "terminal")["class"] == "terminal"
    assert online.json("asset", "label", "前台-01", "site=hq", "floor=2")["labels"] == {"floor": "2", "site": "hq"}
    assert "is not a label" in online.refused("asset", "label", "前台-01", "site", exit_code=2)
    assert "no class" in online.refused("asset", "classify", "前台-01", "toaster", exit_code=2)
    assert "no asset" in online.refused("asset", "show", "pc-1", exit_code=1)
    assert online.json("asset", "rename", "前台-01", "pc-1")["name"] == "pc-1"
    # What a terminal would obey does not get into a name.
    assert online.json("asset", "rename", "pc-1", "a\x1b[31mb")["name"] == "a\ufffd[31mb"
    assert online.json("asset", "rename", "a\ufffd[31mb", "pc-1")["name"] == "pc-1"


def test_agents(online: CommandLine) -> None:
    uid = next(row["id"] for row in online.json("agent", "list") if row["asset"] == "pc-1")
    assert online.json("agent", "block", uid)["state"] == "blocked"
    assert "only one that is" in online.refused("agent", "block", uid, exit_code=1)
    assert "active" in online("agent", "unblock", uid)
    assert online.json("agent", "allow", uid)["recoveries_left"] == 3
    assert set(online.json("agent", "show", uid)) > AGENT
    assert "no agent" in online.refused("agent", "show", "nobody", exit_code=1)


def test_tokens(online: CommandLine) -> None:
    (line,) = online("token", "create", "--uses", "3", "--ttl", "90m", "--class", "server", "--label", "site=hq").split(
        "\n"
    )[:-1]
    assert len(line) > 60
    (listed,) = online.json("token", "list")
    assert (listed["uses_left"], listed["class"], listed["labels"]) == (3, "server", {"site": "hq"})
    assert online.json("token", "revoke", str(listed["id"]))["state"] == "expired"
    for wrong in (["--uses", "0"], ["--ttl", "soon"], ["--ttl", "²"], ["--class", "toaster"], ["--label", "x"]):
        online.refused("token", "create", *wrong, exit_code=2)
    for wrong in ("0", "-1", "x", "9" * 40):
        online.refused("token", "revoke", wrong, exit_code=2)


def test_state_of_the_collector_itself(online: CommandLine) -> None:
    assert online.json("status") == {"running": True, "connected": 0, "waiting_reports": 0}
    assert "0 agents got a new plan" in online("reload")


def test_what_a_command_makes_is_for_its_owner_alone(tmp_path: Path) -> None:
    CommandLine(tmp_path)("token", "create")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ca", "gengfu.sqlite3", "lock"]
    assert [path.name for path in tmp_path.rglob("*") if path.stat().st_mode & 0o077] == []


def test_without_a_collector_the_state_says_so(filled: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(filled, data)
    cli = CommandLine(data)
    assert cli.json("status", exit_code=1)["running"] is False
    assert "no collector runs here" in cli.refused("reload", exit_code=2)


def test_the_inspection_folder_is_checked_and_compared(online: CommandLine, tmp_path: Path) -> None:
    new = tmp_path / "new"
    new.mkdir()
    (new / "mine.toml").write_text('[[profile]]\nname = "mine"\nmatch = { class = "server" }\n')
    assert "mine" in online("config", "check", "--inspection", str(new))
    assert online.json("config", "check", "--inspection", str(new))
    assert online("config", "diff", str(new))
    assert online.json("config", "diff", str(new)) is not None
    (new / "mine.toml").write_text('[[profile]]\nname = "mine"\nmatsch = {}\n')
    for command in (("config", "check", "--inspection"), ("config", "diff")):
        assert "mine.toml:3" in online.refused(*command, str(new), exit_code=2)


def test_what_happens_to_tickets_is_printed_as_it_happens(online: CommandLine) -> None:
    watching = online.start("ticket", "watch", "--all")
    assert watching.stdout is not None
    assert FIRST in watching.stdout.readline()
    CommandLine(online.data)("ticket", "comment", SECOND, "as it happens")
    while "as it happens" not in watching.stdout.readline():
        assert watching.poll() is None
    watching.send_signal(signal.SIGINT)
    _, said = watching.communicate(timeout=30)
    assert (watching.returncode, said) == (130, "")


def test_in_chinese(running: Running) -> None:
    cli = CommandLine(running.data, LANG="zh_CN.UTF-8")  # type: ignore[attr-defined]
    listed = cli("ticket", "list")
    assert all(word in listed for word in ("编号", "状态", "级别", "资产", "磁盘"))
    shown = cli("ticket", "show", SECOND)
    assert "磁盘空间不足" in shown
    assert "发生" in shown
    assert "已用 100% · " in shown, "what was measured, with names and units"
    assert "disk（磁盘空间）" in shown
    assert "磁盘空间不足" in cli("fault", "list")
    assert "磁盘空间不足" in cli("asset", "show", "pc-1")
    assert "超出限制" in cli("ledger", "dead-letters")
    (agent, *_) = cli.json("agent", "list")
    of_agent = cli("agent", "show", agent["id"])
    assert [line for line in of_agent.splitlines() if not CHINESE.search(line.split()[0])] == []
    assert cli.json("ticket", "list")[0]["state"] in ("open", "acknowledged", "resolved", "closed")


def test_arguments_that_are_no_text_are_refused(online: CommandLine) -> None:
    assert "must be UTF-8" in online.refused("ticket", "comment", FIRST, "\udcff\udcfe", exit_code=2)


def test_a_reader_that_goes_away_is_no_failure_worth_a_traceback(online: CommandLine) -> None:
    process = online.start("ticket", "show", SECOND, "--json")
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    said = process.stderr.read()
    process.stderr.close()
    process.wait(30)
    assert said == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ("bogus",),
        ("ticket", "bogus"),
        ("ticket", "show"),
        ("ticket", "list", "--bogus"),
        ("token", "create", "--uses", "x"),
    ],
)
def test_wrong_use_is_one_line_that_says_where_help_is(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert "--help" in CommandLine(tmp_path).refused(*arguments, exit_code=2)


def test_commands_at_once_wait_for_each_other_on_the_files(filled: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(filled, data)
    cli = CommandLine(data)
    # However busy the machine is: all of them wait as long as it takes.
    patient = constants("gengfu_collector.cli:main", "gengfu_collector.cli.reach:LOCK_WAIT_S=60.0")
    processes = [cli.start("ticket", "comment", SECOND, f"number {n}", program=patient) for n in range(3)]
    for process in processes:
        _, said = process.communicate(timeout=60)
        assert (process.returncode, said) == (0, "")
    texts = {row["data"].get("text") for row in cli.json("ticket", "show", SECOND)["events"]}
    assert texts >= {f"number {n}" for n in range(3)}


def test_every_command_has_help_in_both_languages() -> None:
    from typer.main import get_command

    from gengfu_collector.cli.commands import app

    def walk(command: object, path: str) -> Iterator[tuple[str, str]]:
        """Every command as the list of its group shows it on a terminal of 80 columns."""
        subcommands: dict[str, Any] = getattr(command, "commands", {})
        for name, found in subcommands.items():
            yield f"{path} {name}", found.get_short_help_str(80 - 8 - max(map(len, subcommands)))
            yield from walk(found, f"{path} {name}")

    helps = dict(walk(get_command(app), "gengfu-collector"))
    assert len(helps) >= 28
    assert {path for path, text in helps.items() if re.search("[\u4e00-\u9fff]$", text) is None} == set()


def test_the_program_and_the_module_are_one(tmp_path: Path) -> None:
    import sys

    program = Path(sys.executable).parent / "gengfu-collector"
    done = subprocess.run([program, "status", "--data", tmp_path / "none"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith("gengfu-collector: there is no data folder")
    assert subprocess.check_output([program, "--version"], text=True) == f"gengfu-collector {__version__}\n"
