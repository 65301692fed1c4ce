"""The agent's command line, as real processes; what needs checks of the tests' own runs in this one."""

from __future__ import annotations

import ast
import fcntl
import json
import os
import pty
import re
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from checkkinds import LEVEL, kind_of, level, returning

import gengfu_agent
from gengfu_agent import VERSION, cli, errors
from gengfu_agent.cli.error_words import in_words, sentences
from gengfu_agent.cli.table import width
from gengfu_agent.cli.words import connection_words
from gengfu_agent.status import LOCK_FILE, Status, write_status
from gengfu_agent.transport import meaning
from gengfu_agent.uplink.states import State
from gengfu_checks import registry
from gengfu_checks.errors import CannotMeasure, ExtraMissing
from gengfu_checks.model import Context, Measurement, Problem
from gengfu_checks.model import Status as FindingStatus

PROGRAM = [sys.executable, "-m", "gengfu_agent"]
STATUS = Status(
    pid=4242,
    version=VERSION,
    agent_id="agent-1",
    asset="pc-17",
    collector="collector.example:8421",
    started_at=1_790_000_000.0,
    written_at=1_790_003_600.0,
    connection="streaming",
    connected_since=1_790_000_010.0,
    last_acknowledged_at=1_790_003_598.0,
    plan_version="abcdef123456",
    checks=10,
    refused_checks=2,
    refused=[
        {"name": "inventory", "code": "check.refused", "reason": "this agent's own file does not allow it"},
        {"name": "erp", "code": "check.not_usable", "reason": "check erp needs the package erp: pip install \x1b[2J"},
    ],
    spool_reports=3,
    spool_bytes=49_152,
    spool_oldest_age_s=12.0,
    cpu_s=6.0,
    memory_bytes=34_000_000,
    threads=6,
)


def gengfu(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "GENGFU"))}
    env |= {"LANG": "C.UTF-8", **environment}
    return subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True, timeout=60, env=env, check=False)


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """The one line on standard error of a command that failed."""
    assert done.stdout == ""
    assert done.stderr.startswith("gengfu-agent: ")
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
    return done.stderr


_STARTS = ("FINDING", "level 10%", "level 95%", "Problem reported")


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Checks that the registry of this process knows."""
    kinds: dict[str, Any] = {}

    def load(name: str) -> Any:
        if isinstance(kinds[name], Exception):
            raise kinds[name]
        return kinds[name]

    monkeypatch.setattr(registry, "load", load)
    monkeypatch.setattr(registry, "names", lambda: sorted(kinds))
    return kinds


@pytest.mark.parametrize(("level", "code", "word"), [("warning", 1, "warning"), ("critical", 2, "critical")])
def test_check_exits_like_a_monitoring_plugin(level: str, code: int, word: str) -> None:
    done = gengfu("check", "uptime", "--threshold", f"uptime_seconds.{level}=0", "--language", "en")
    assert (done.returncode, done.stderr) == (code, "")
    assert done.stdout.startswith("STATUS")
    assert f"\n{word} " in done.stdout
    assert "What to do: " in done.stdout
    assert "\x1b" not in done.stdout


def test_check_json_is_a_list_of_findings() -> None:
    done = gengfu("check", "uptime", "--threshold", "uptime_seconds.critical=1", "--json")
    (finding,) = json.loads(done.stdout)
    assert list(finding) == ["check", "item", "status", "code", "facts", "metrics", "measured_at", "breach"]
    assert (finding["check"], finding["status"]) == ("uptime", "critical")
    assert finding["breach"] == {"metric": "uptime_seconds", "limit": 1.0, "direction": "above"}
    assert finding["metrics"]["uptime_seconds"] > 1
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", finding["measured_at"])


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_without_chinese_shows_escapes(encoding: str) -> None:
    done = gengfu("check", "uptime", "--language", "zh", PYTHONIOENCODING=encoding)
    assert done.returncode in (0, 1)
    assert done.stdout.startswith("\\u72b6\\u6001")
    assert done.stderr == ""


def test_a_pattern_that_cannot_be_used_is_wrong_use() -> None:
    done = gengfu("check", "process", "--set", "pattern=erp(")
    assert done.returncode == 2
    assert "setting pattern" in one_line(done)


def test_check_takes_settings(tmp_path: Path) -> None:
    (tmp_path / "dump.sql").write_bytes(bytes(2_048))
    done = gengfu("check", "file_age", "--set", f"path={tmp_path}/dump.sql", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)[0]["metrics"]["size_bytes"] == 2_048


def test_chinese_for_a_chinese_locale_and_aligned(tmp_path: Path) -> None:
    done = gengfu("check", "uptime", "--threshold", "uptime_seconds.warning=0", LC_ALL="zh_CN.UTF-8")
    heading, row = done.stdout.splitlines()[:2]
    assert heading.startswith("状态  结果")
    assert row.startswith("警告  ")
    assert "处理建议" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "COMMAND"),
        (("frobnicate",), "frobnicate"),
        (("check",), "KIND"),
        (("check", "frobnicate"), "there is no check 'frobnicate'; known: "),
        (("check", "process"), "needs the setting 'pattern'"),
        (("check", "uptime", "--set", "x=1"), "no setting 'x'"),
        (("check", "uptime", "--set", "nonsense"), "write key=value"),
        (("check", "uptime", "--threshold", "uptime_seconds=1"), "METRIC.LEVEL=NUMBER"),
        (("check", "uptime", "--threshold", "uptime_seconds.warning=soon"), "neither a number nor false"),
        (("check", "uptime", "--threshold", "nothing.warning=1"), "no metric 'nothing'"),
        (("enrol", "--token", "x"), "--collector"),
        (("run", "--stat", "x", "y"), "unrecognized arguments"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(arguments: tuple[str, ...], says: str) -> None:
    done = gengfu(*arguments)
    assert done.returncode == 2
    assert says in one_line(done)


def test_checks_lists_what_can_run_and_why_the_rest_cannot() -> None:
    done = gengfu("checks", "--json")
    assert done.returncode == 0
    listed = {check["kind"]: check for check in json.loads(done.stdout)}
    assert list(listed) == registry.names()
    assert all((check["reason"] is None) is check["usable"] for check in listed.values())
    assert [s["name"] for s in listed["process"]["settings"] if s["required"]] == ["pattern"]
    table = gengfu("checks")
    assert [line.split()[0] for line in table.stdout.splitlines() if line[0] != " "][1:] == list(listed)


def test_checks_names_what_is_missing_or_not_allowed(
    shelf: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shelf["broken"] = ZeroDivisionError("oh")
    shelf["denied"] = kind_of(returning(), "denied")
    shelf["fine"] = kind_of(returning(), "fine")
    shelf["missing"] = ExtraMissing("pip install 'gengfu[snmp]'")
    shelf["unfit"] = kind_of(returning(), "unfit", usable=lambda: "no \x1b[31msystemd")
    (tmp_path / "agent.toml").write_text('deny = ["denied"]\n')
    assert cli.main(["checks", "--state", str(tmp_path), "--json"]) == 0
    listed = {check["kind"]: check["reason"] for check in json.loads(capsys.readouterr().out)}
    assert listed == {
        "broken": "ZeroDivisionError: oh",
        "denied": "not allowed by agent.toml",
        "fine": None,
        "missing": "pip install 'gengfu[snmp]'",
        "unfit": "no \x1b[31msystemd",
    }
    assert cli.main(["checks", "--state", str(tmp_path), "--language", "zh"]) == 0
    out = capsys.readouterr().out
    assert "原因: no [31msystemd" in out
    assert "\x1b" not in out


def test_check_shows_the_worst_first_and_hides_what_terminals_obey(
    shelf: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    problem = Problem(FindingStatus.WARNING, "made_up.broken", {"part": "\x1b]0;title\x07fan"})
    shelf["made_up"] = kind_of(
        returning(level(0.1, "fine"), Measurement("\x1b[2Jevil\n", {}, {}, problem), level(0.95, "资料盘")),
        thresholds=(LEVEL,),
    )
    assert cli.main(["check", "made_up", "--language", "en"]) == 2
    out = capsys.readouterr().out
    table = out.split("\n\n")[0].splitlines()
    assert [line.split()[0] for line in table if line[0] != " "] == ["STATUS", "critical", "warning", "ok"]
    assert "\x1b" not in out
    assert "\x07" not in out
    columns = {width(line[: line.index(start)]) for start in _STARTS for line in table if start in line}
    assert len(columns) == 1, "aligned, whatever the width of the items"


@pytest.mark.parametrize(
    ("measure", "usable", "code"),
    [
        (lambda _: [1 / 0], None, "check.crashed"),
        (returning(level(0.1)), "not on this machine", "check.not_usable"),
    ],
)
def test_check_exits_3_when_there_is_no_answer(
    shelf: dict[str, Any], capsys: pytest.CaptureFixture[str], measure: Any, usable: str | None, code: str
) -> None:
    shelf["made_up"] = kind_of(measure, usable=lambda: usable)
    assert cli.main(["check", "made_up", "--json"]) == 3
    assert json.loads(capsys.readouterr().out)[0]["code"] == code


def test_a_check_that_hangs_does_not_hang_the_command(
    shelf: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    def hang(_: Context) -> list[Measurement]:
        time.sleep(5)
        raise CannotMeasure("made_up.gone")

    shelf["made_up"] = kind_of(hang, timeout_s=0.1)
    assert cli.main(["check", "made_up", "--json"]) == 3
    assert json.loads(capsys.readouterr().out)[0]["code"] == "check.timed_out"


def test_status_of_an_agent_that_does_not_run(tmp_path: Path) -> None:
    done = gengfu("status", "--state", str(tmp_path))
    assert done.returncode == 1
    assert done.stdout.splitlines()[0] == f"not running ({tmp_path})"
    assert "not enrolled: gengfu-agent enrol --collector" in done.stdout
    write_status(tmp_path, STATUS)
    assert json.loads(gengfu("status", "--json", "--state", str(tmp_path)).stdout)["running"] is False
    (tmp_path / "status.json").write_text("rubbish")
    assert gengfu("status", GENGFU_STATE=str(tmp_path)).returncode == 1


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("en", ["pid 4242", "pc-17 (agent-1)", "collector.example:8421: streaming, since 2026-", "10 checks, 2 refused",
                "inventory: Agent refused the check: this agent's own file does not allow it",
                "erp: Check cannot run on this machine: check erp needs the package erp: pip install [2J",
                "3 reports, 48 KiB, oldest 12 s", "32.4 MiB, CPU 6 s (100 ms a minute), 6 threads"]),
        ("zh", ["运行中", "10 项检查, 2 项被拒绝", "3 条记录, 48 KiB, 最早 12 秒前", "每分钟 100 毫秒", "6 个线程",
                "8421: 已连接", "inventory：代理拒绝执行该检查：本机的 agent.toml 不允许"]),
    ],
)  # fmt: skip
def test_status_of_an_agent_that_runs(tmp_path: Path, language: str, words: list[str]) -> None:
    write_status(tmp_path, STATUS)
    with (tmp_path / LOCK_FILE).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = gengfu("status", "--state", str(tmp_path), "--language", language)
        as_json = gengfu("status", "--state", str(tmp_path), "--json")
    assert (done.returncode, as_json.returncode) == (0, 0)
    for word in words:
        assert word in done.stdout
    assert json.loads(as_json.stdout) | {"running": True} == {**json.loads(as_json.stdout), "asset": "pc-17"}


def test_every_state_of_the_connection_has_its_words() -> None:
    for state in State:
        shown = connection_words(state.value, "zh")
        assert shown
        assert not shown.isascii()
    assert connection_words("of another version", "zh") == "of another version"


def test_colours_on_a_terminal_only() -> None:
    ours, theirs = pty.openpty()
    arguments = [*PROGRAM, "check", "uptime", "--threshold", "uptime_seconds.critical=0"]
    env = {**os.environ, "TERM": "xterm", "LC_ALL": "C.UTF-8"}
    env.pop("NO_COLOR", None)
    child = subprocess.Popen(arguments, stdout=theirs, stderr=theirs, env=env)
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 65_536):
            shown += chunk
    except OSError:  # a terminal whose other end is gone
        pass
    os.close(ours)
    assert child.wait(timeout=20) == 2
    assert b"\x1b[1;31mcritical\x1b[0m" in shown


@pytest.mark.parametrize("command", [("checks", "--json"), ("status",)])
def test_a_reader_that_stops_reading_is_no_error(command: tuple[str, ...]) -> None:
    with subprocess.Popen([*PROGRAM, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.close()
        assert child.stderr.read() == b""


def test_the_state_folder_is_made_private_and_a_useless_one_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    cli.make_state_folder(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (tmp_path / "file").write_text("")
    for state in (["--state", str(tmp_path / "file")], [f"--state={tmp_path / 'file'}"]):
        done = gengfu("run", *state)
        assert done.returncode == 2
        assert "cannot be used" in one_line(done)


def test_a_wrong_configuration_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text("\nalow = []\n")
    for command in ("run", "checks"):
        done = gengfu(command, "--state", str(tmp_path))
        assert done.returncode == 2
        assert f"{tmp_path}/agent.toml:2: unknown key 'alow'; allowed: allow, deny" in one_line(done)


def test_every_error_of_the_agent_has_its_chinese() -> None:
    """Every sentence that stands in the code as a literal; what a collector says is its own."""
    tree = [ast.parse(path.read_text("utf-8")) for path in Path(gengfu_agent.__file__).parent.rglob("*.py")]
    calls = [node for part in tree for node in ast.walk(part) if isinstance(node, ast.Call) and node.args]
    said = [said_by(call.args[0]) for call in calls if isinstance(call.func, ast.Name) and is_error(call.func.id)]
    assert "this machine is enrolled already, as 1 in 1; to enrol it" in " ".join(said)
    unsaid = [text for text in said if re.search("[a-z]", text) and in_words(text, "zh").isascii()]
    assert unsaid == [], "put their Chinese into cli/error_words.toml"
    assert not [english for english in sentences() if in_words(english.replace("{}", "1"), "zh").isascii()]


def is_error(name: str) -> bool:
    return isinstance(found := getattr(errors, name, None), type) and issubclass(found, errors.AgentError)


def said_by(node: ast.expr) -> str:
    """The text of an expression, with a 1 for what is put into it; "" for what is no text."""
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    texts = [part.value if isinstance(part, ast.Constant) else "1" for part in parts]
    return "".join(text for text in texts if isinstance(text, str))


def test_an_error_is_told_in_the_readers_language(tmp_path: Path) -> None:
    done = gengfu("run", "--state", str(tmp_path), LANG="zh_CN.UTF-8")
    assert one_line(done).startswith(f"gengfu-agent: 本机尚未注册（{tmp_path} 中没有 agent.json）")
    nested = "no connection to the collector at c:1: refused (it is valid from a to b)"
    assert in_words(nested, "zh") == "无法连接采集器 c:1：refused（有效期 a 至 b）"
    clock = meaning(grpc.StatusCode.UNAVAILABLE, "x certificate has expired", "c:1", "2026-01-01")
    assert "按本机时钟（2026-01-01），采集器的证书已过期" in in_words(str(clock), "zh")
    assert in_words("what nobody knows {0}", "zh") == "what nobody knows {0}"


def test_the_agent_that_runs_has_not_imported_what_only_commands_need(tmp_path: Path) -> None:
    program = """
import sys
from gengfu_agent import cli
exit_code = cli.main(["run", "--state", sys.argv[1]])
heavy = {"argparse", "importlib.metadata", "gengfu_checks.guide", "tomllib", "grpc", "ssl", "cryptography"}
print(exit_code, "gengfu_agent.service" in sys.modules, sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout == "2 True []\n"
    assert "gengfu-agent enrol" in done.stderr


def test_help_and_version() -> None:
    assert gengfu("--version").stdout == f"gengfu-agent {VERSION}\n"
    assert "退出码" in gengfu("check", "--help").stdout
    for command in ("enrol", "run", "status", "checks", "check"):
        shown = gengfu(command, "--help").stdout
        assert "--state DIR" in shown
        assert "{" not in shown, "choices are told in words"


def test_the_default_state_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENGFU_STATE", "/chosen")
    assert cli.default_state() == Path("/chosen")
    monkeypatch.delenv("GENGFU_STATE")
    monkeypatch.setenv("HOME", "/home/somebody")
    for user, folder in ((0, "/var/lib/gengfu-agent"), (1000, "/home/somebody/.local/state/gengfu-agent")):
        monkeypatch.setattr(os, "geteuid", lambda user=user: user)
        assert cli.default_state() == Path(folder)
