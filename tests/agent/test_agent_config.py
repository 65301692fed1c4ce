"""The agent's own file, its status file and lock, its version."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from spools import StillClock, put
from test_agent_cli import STATUS

from gengfu_agent import VERSION
from gengfu_agent.config import CONFIG_FILE, Config, load_config
from gengfu_agent.errors import AlreadyRunning, ConfigError
from gengfu_agent.plan import Allowed
from gengfu_agent.self_check import Condition, cost, self_check
from gengfu_agent.spool import Spool
from gengfu_agent.status import STATUS_FILE, is_running, only_one, read_status, write_status
from gengfu_agent.verdict import findings_of_run
from gengfu_checks.model import Context, Finding


def test_no_file_is_needed(tmp_path: Path) -> None:
    assert load_config(tmp_path) == Config(Allowed(), "info", 256 * 1024 * 1024, 7 * 86_400.0)


def test_everything_can_be_set(tmp_path: Path) -> None:
    text = 'allow = ["cpu", "disk"]\ndeny = ["disk"]\nlog_level = "debug"\n[spool]\nquota = "10 MiB"\nkeep = "36h"\n'
    (tmp_path / CONFIG_FILE).write_text(text)
    config = load_config(tmp_path)
    assert config == Config(
        Allowed(frozenset({"cpu", "disk"}), frozenset({"disk"})), "debug", 10 * 1024**2, 36 * 3600.0
    )
    assert "cpu" in config.allowed
    assert "disk" not in config.allowed


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("allow = []\nlevel = 1", "agent.toml:2: unknown key 'level'; allowed: allow, deny, log_level, spool"),
        ("[spool]\n\nquota_mb = 3", "agent.toml:3: unknown key 'quota_mb' in [spool]; allowed: quota, keep"),
        ("[spol]\nquota = 3", "agent.toml:1: unknown key 'spol'"),
        ('allow = "cpu"', "agent.toml:1: allow is a list of check kinds"),
        ("deny = [1]", "agent.toml:1: deny is a list of check kinds"),
        ('# x\nlog_level = "loud"', "agent.toml:2: log_level is one of debug, info, warning, error, not 'loud'"),
        ('[spool]\nquota = "1 MB"', "agent.toml:2: quota is a size"),
        ("[spool]\nquota = 5", "agent.toml:2: quota is a size of at least"),
        ("[spool]\nquota = true", "agent.toml:2: quota is a size"),
        ('[spool]\nkeep = "7 weeks"', "agent.toml:2: keep: '7 weeks' is not a duration"),
        ("[spool]\nkeep = 0", "agent.toml:2: keep is longer than nothing"),
        ("spool = 1", "agent.toml:1: spool is a table"),
        ("allow = [", "agent.toml: "),
    ],
)
def test_what_it_may_not_say_is_refused_with_its_place(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / CONFIG_FILE).write_text(text)
    with pytest.raises(ConfigError, match=re.escape(f"{tmp_path}/{says}")):
        load_config(tmp_path)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / CONFIG_FILE).write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path)


def test_version_is_that_of_the_project(checkout: Path) -> None:
    assert tomllib.loads((checkout / "pyproject.toml").read_text())["project"]["version"] == VERSION


def test_status_is_read_back_and_private(tmp_path: Path) -> None:
    assert read_status(tmp_path) is None
    write_status(tmp_path, STATUS)
    assert read_status(tmp_path) == STATUS
    assert stat.S_IMODE((tmp_path / STATUS_FILE).stat().st_mode) == 0o600
    for rubbish in (b"", b"[]", b'{"pid": 1}', b"\xff"):
        (tmp_path / STATUS_FILE).write_bytes(rubbish)
        assert read_status(tmp_path) is None


def test_one_agent_a_folder_and_the_lock_goes_with_the_process(tmp_path: Path) -> None:
    assert not is_running(tmp_path)
    program = f"""
import sys
from pathlib import Path
from gengfu_agent.status import only_one
with only_one(Path({str(tmp_path)!r})):
    print("locked", flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"locked\n"
        assert is_running(tmp_path)
        with pytest.raises(AlreadyRunning, match="an agent already runs on"), only_one(tmp_path):
            pass
        child.kill()
    assert not is_running(tmp_path)
    with only_one(tmp_path):
        assert is_running(tmp_path)


def looked_at(condition: Condition, clock: StillClock, memory: dict[str, object]) -> dict[str, Finding]:
    check = self_check(lambda: condition)
    context = Context({}, memory, lambda: 1.0, lambda: clock.boot_ms() / 1000, 10.0)
    findings = findings_of_run(check, tuple(check.kind.measure(context)), {}, 1.0)
    return {finding.item: finding for finding in findings}


def test_the_agent_measures_its_own_cost(tmp_path: Path) -> None:
    clock = StillClock()
    spool = Spool.open(tmp_path / "spool.db", clock=clock)
    put(spool, b"x")
    clock.move(30)
    found = looked_at(Condition(spool.position(), clock_skew_s=-0.5), clock, {})
    assert {finding.code for finding in found.values()} == {"ok"}
    own = found[""].metrics
    assert own["cpu_seconds_total"] >= sum(os.times()[:2]) - 1
    assert 5_000_000 < own["resident_memory_bytes"] < 1_000_000_000
    assert own["threads"] >= 1
    assert own["open_files"] >= 3
    assert found["spool"].metrics["spool_reports"] == 1
    assert found["spool"].metrics["spool_oldest_age_seconds"] == 30
    assert found["clock"].metrics == {"clock_skew_seconds": -0.5}
    assert cost().memory_bytes > 5_000_000


def test_what_is_wrong_with_the_spool_is_told_worst_first_and_not_for_ever() -> None:
    clock, memory = StillClock(), dict[str, object]()
    damaged = Condition(None, dropped_total=7, salvaged=3, salvage_error="bad page")
    full = Condition(None, dropped_total=7, salvaged=3, salvage_error="bad page", full_error="no space")
    assert looked_at(full, clock, memory)["spool"].code == "agent.disk_full"
    spool = looked_at(damaged, clock, memory)["spool"]
    assert (spool.code, spool.facts) == ("agent.spool_damaged", {"salvaged": 3, "error": "bad page"})
    clock.move(3_700)
    assert looked_at(damaged, clock, memory)["spool"].code == "agent.spool_over_quota"
    clock.move(700)
    assert looked_at(damaged, clock, memory)["spool"].code == "ok"
    more = Condition(None, dropped_total=8, salvaged=3, salvage_error="bad page")
    assert looked_at(more, clock, memory)["spool"].facts == {"dropped": 8}


@pytest.mark.parametrize(
    ("skew_s", "code", "shown_s"),
    [(29, "ok", None), (-31, "agent.clock_wrong", 60), (310_000_000.0, "agent.clock_wrong", 309_999_960 + 60)],
)
def test_a_wrong_clock_is_named(skew_s: float, code: str, shown_s: float | None) -> None:
    clock = looked_at(Condition(None, clock_skew_s=skew_s), StillClock(), {})["clock"]
    assert clock.code == code
    if shown_s is not None:
        assert abs(float(clock.facts["skew_s"]) - shown_s) <= 60
