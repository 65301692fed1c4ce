"""Loading an inspection folder from real files, the profiles that come with Gengfu, and the example folder."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from gengfu_checks import registry
from gengfu_checks.model import Status
from gengfu_checks.standards.rules import KINDS
from gengfu_collector.errors import ConfigurationError
from gengfu_collector.fleet.inspection import load_inspection

EXAMPLE = "collector/examples/inspection"
PROFILE = '[[profile]]\nname = "{}"\n[[profile.check]]\nkind = "cpu"\nconfirm = {}\n'


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / f"{name}.toml").write_text(text, encoding="utf-8")


def test_without_a_folder_terminals_and_servers_are_inspected() -> None:
    inspection = load_inspection(None)
    terminal, server = inspection.for_asset("terminal", {}), inspection.for_asset("server", {})
    local = {"cpu", "memory", "disk", "network", "clock", "uptime"}
    assert {check.name for check in terminal.plan.checks} >= local
    assert {check.name for check in server.plan.checks} >= local | {"os_service"}
    assert inspection.for_asset("ups", {}).plan.checks == ()
    assert inspection.warnings == ()


def test_built_in_plans_are_cheap() -> None:
    inspection = load_inspection(None)
    for asset_class in ("terminal", "server"):
        checks = inspection.for_asset(asset_class, {}).plan.checks
        assert min(check.every_s for check in checks) >= 60
        assert sum(60 / check.every_s for check in checks) <= 10


def test_the_silence_of_a_server_is_a_fault_and_that_of_a_terminal_is_not() -> None:
    inspection = load_inspection(None)
    assert inspection.for_asset("server", {}).absence.absent_after_ms(1_000) == 121_000
    assert inspection.for_asset("terminal", {}).absence.absent_after_ms(1_000) is None


def test_nothing_of_a_terminal_is_critical_but_what_loses_its_user_s_work() -> None:
    rules = load_inspection(None).for_asset("terminal", {}).rules
    assert {name for name, rule in rules.items() if rule.worst is Status.CRITICAL} == {"disk", "disk_health", "raid"}


def test_a_pattern_that_cannot_be_used_is_refused_with_its_line(tmp_path: Path) -> None:
    text = '[[profile]]\nname = "a"\n[[profile.check]]\nkind = "process"\nset = { pattern = "erp(" }\n'
    write(tmp_path, a=text)
    with pytest.raises(ConfigurationError, match=r"a.toml:5: .*setting pattern: .*missing \)"):
        load_inspection(tmp_path)


def test_files_count_in_the_order_of_their_names(tmp_path: Path) -> None:
    (tmp_path / "20-more").mkdir()
    write(tmp_path, **{"30": PROFILE.format("c", 3), "10": PROFILE.format("a", 1), "20-more/x": PROFILE.format("b", 2)})
    inspection = load_inspection(tmp_path)
    assert [profile.name for profile in inspection.profiles] == ["server", "terminal", "a", "b", "c"]
    assert inspection.for_asset("ups", {}).rules["cpu"].confirm == 3


def test_only_visible_toml_files_count(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    write(tmp_path, **{".git/a": "broken", ".hidden": "broken"})
    (tmp_path / "notes.txt").write_text("broken")
    (tmp_path / "old.toml~").write_text("broken")
    assert len(load_inspection(tmp_path).profiles) == 2


def test_a_mounted_folder_of_links_is_read_once(tmp_path: Path) -> None:
    """Kubernetes mounts a ConfigMap as links to files in a hidden folder."""
    data = tmp_path / "..2026_03_06"
    data.mkdir()
    write(data, own=PROFILE.format("own", 4))
    (tmp_path / "..data").symlink_to(data.name)
    (tmp_path / "own.toml").symlink_to("..data/own.toml")
    assert load_inspection(tmp_path).for_asset("ups", {}).rules["cpu"].confirm == 4


def test_one_bad_file_refuses_the_whole_folder(tmp_path: Path) -> None:
    write(tmp_path, a=PROFILE.format("a", 1), b=PROFILE.format("b", 0))
    with pytest.raises(ConfigurationError, match=r"b\.toml:5: confirm"):
        load_inspection(tmp_path)


def test_names_are_unique_over_all_files(tmp_path: Path) -> None:
    write(tmp_path, a=PROFILE.format("same", 1), b=PROFILE.format("same", 2))
    with pytest.raises(ConfigurationError, match=r'b\.toml:2: there is a profile "same" already \(.*a\.toml:1\)'):
        load_inspection(tmp_path)


def test_a_file_saved_on_windows_is_read(tmp_path: Path) -> None:
    text = PROFILE.format("前台", 5).replace("\n", "\r\n")
    (tmp_path / "a.toml").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert load_inspection(tmp_path).for_asset("ups", {}).origins["cpu"] == {"confirm": "前台"}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ('# 采集\nname = "采集"\n'.encode("gb18030"), r"a\.toml:1: is not UTF-8"),
        (b'x = 1\n\ny = "\xff"\n', r"a\.toml:3: is not UTF-8"),
        (b"#" * (1024 * 1024 + 1), r"a\.toml: is larger than 1048576 bytes"),
    ],
)
def test_files_that_cannot_be_text_are_refused(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "a.toml").write_bytes(data)
    with pytest.raises(ConfigurationError, match=message):
        load_inspection(tmp_path)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="nowhere: cannot be read: No such file"):
        load_inspection(tmp_path / "nowhere")
    write(tmp_path, a="")
    with pytest.raises(ConfigurationError, match=r"a\.toml: cannot be read: Not a directory"):
        load_inspection(tmp_path / "a.toml")
    (tmp_path / "gone.toml").symlink_to("nothing")
    with pytest.raises(ConfigurationError, match=r"gone\.toml: cannot be read: No such file"):
        load_inspection(tmp_path)


def test_a_folder_with_too_many_files_is_refused(tmp_path: Path) -> None:
    for i in range(1_001):
        (tmp_path / f"{i}.toml").touch()
    with pytest.raises(ConfigurationError, match="at most 1000 files"):
        load_inspection(tmp_path)


def test_the_example_folder_loads(checkout: Path) -> None:
    inspection = load_inspection(checkout / EXAMPLE)
    assert inspection.warnings == ()
    desk = inspection.for_asset("terminal", {"role": "front-desk"})
    assert desk.rules["erp-client"].confirm == 3
    backup = inspection.for_asset("server", {"role": "backup"})
    assert "nightly-dump" in backup.rules
    key = inspection.for_asset("terminal", {"tier": "key"})
    assert "cpu" not in key.rules
    assert key.rules["disk"].confirm == 2
    office = inspection.for_asset("terminal", {"site": "hq"}).absence
    assert office.expected_at(datetime.fromisoformat("2026-03-06 09:00"))
    assert not office.expected_at(datetime.fromisoformat("2026-03-08 09:00"))


def test_the_example_shows_every_kind_of_rule_with_every_key(checkout: Path) -> None:
    standard = load_inspection(checkout / EXAMPLE).standards.by_id["front-desk"].standard
    assert {rule.kind for rule in standard.rules} == set(KINDS)
    text = (checkout / EXAMPLE / "40-standard.toml").read_text("utf-8")
    assert [key for keys in KINDS.values() for key in keys if key not in text] == []


def test_every_local_check_is_in_a_built_in_profile_or_in_the_example(checkout: Path) -> None:
    inspection = load_inspection(checkout / EXAMPLE)
    used = {check.kind for profile in inspection.profiles for check in profile.checks}
    assert used <= set(registry.names())
    assert {"file_age", "process"} <= used


def test_hours_are_those_of_the_zone(tmp_path: Path) -> None:
    write(tmp_path, a='[[profile]]\nname = "a"\nabsence = { after = "1m", expected = "mon-sun 08:00-18:00" }\n')
    rule = load_inspection(tmp_path, ZoneInfo("Asia/Shanghai")).for_asset("ups", {}).absence
    assert rule.absent_after_ms(0) == 60_000  # 08:00 there
    here = load_inspection(tmp_path, ZoneInfo("Asia/Tokyo")).for_asset("ups", {}).absence
    assert here.absent_after_ms(9 * 3_600_000) == (23 * 3600 + 60) * 1000


@pytest.mark.parametrize("name", ["Asia/Shanghai", ":Asia/Shanghai", "CST-8", "/usr/share/zoneinfo/Asia/Shanghai"])
def test_the_zone_of_the_machine_may_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    monkeypatch.setenv("TZ", name)
    time.tzset()
    try:
        zone = load_inspection(None).zone
    finally:
        monkeypatch.undo()
        time.tzset()
    assert str(datetime(2026, 3, 6, tzinfo=zone).utcoffset()) == "8:00:00"
