"""The file age check on real files."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from gengfu_checks.errors import CannotMeasure, SettingError
from gengfu_checks.local import file_age
from gengfu_checks.local.file_age import CHECK, Budget, find, parse_path
from gengfu_checks.model import Finding, Measurement, Status
from gengfu_checks.settings import resolve_thresholds
from gengfu_checks.threshold import judge

NOW_S = 1_800_000_000.0
HOUR_S = 3600.0


def write(path: Path, *, age_s: float = 0.0, size_bytes: int = 10) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size_bytes)
    os.utime(path, (NOW_S - age_s, NOW_S - age_s))
    return path


def look(bench: Any, path: Path | str, **settings: object) -> Measurement:
    measurement: Measurement = bench(CHECK, path=str(path), **settings).run()[""]
    return measurement


def code(measurement: Measurement) -> str:
    return measurement.problem.code if measurement.problem is not None else "ok"


def test_one_file_is_measured(bench: Any, tmp_path: Path) -> None:
    found = look(bench, write(tmp_path / "dump.gz", age_s=HOUR_S, size_bytes=123))
    assert found.metrics == {"files": 1.0, "age_seconds": HOUR_S, "size_bytes": 123.0}
    assert found.facts == {"path": str(tmp_path / "dump.gz")}
    assert found.problem is None


def test_of_many_files_the_newest_counts(bench: Any, tmp_path: Path) -> None:
    write(tmp_path / "mon" / "a.gz", age_s=50, size_bytes=5)
    write(tmp_path / "tue" / "a.gz", age_s=20, size_bytes=7)
    write(tmp_path / "tue" / "b.gz", age_s=30, size_bytes=9)
    write(tmp_path / "tue" / "notes.txt", age_s=1)
    write(tmp_path / "tue" / ".part.gz", age_s=1)
    write(tmp_path / "tue" / "deep" / "c.gz", age_s=1)
    (tmp_path / "tue" / "folder.gz").mkdir()
    found = look(bench, tmp_path / "*" / "*.gz")
    assert found.metrics == {"files": 3.0, "age_seconds": 20.0, "size_bytes": 7.0}
    assert look(bench, tmp_path / "t?e" / "[ab].gz").metrics["files"] == 2.0
    assert look(bench, tmp_path / "*" / "a.gz").metrics["files"] == 2.0
    assert look(bench, tmp_path / "tue" / ".*").metrics["files"] == 1.0


@pytest.mark.parametrize("pattern", ["absent", "absent/*.gz", "*.gz", "file/below", "file/*", "folder"])
def test_a_missing_file_is_critical(bench: Any, tmp_path: Path, pattern: str) -> None:
    write(tmp_path / "file")
    (tmp_path / "folder").mkdir()
    found = look(bench, tmp_path / pattern)
    assert found.problem is not None
    assert (found.problem.status, found.problem.code) == (Status.CRITICAL, "file_age.missing")
    assert found.metrics == {"files": 0.0}
    assert code(look(bench, tmp_path / pattern, count_at_least=0)) == "ok"


def test_fewer_files_than_wanted_are_told(bench: Any, tmp_path: Path) -> None:
    write(tmp_path / "1.log")
    write(tmp_path / "2.log")
    assert code(look(bench, tmp_path / "*.log", count_at_least=2)) == "ok"
    assert code(look(bench, tmp_path / "*.log", count_at_least=3)) == "file_age.missing"


def test_a_small_file_is_no_backup(bench: Any, tmp_path: Path) -> None:
    dump = write(tmp_path / "dump", size_bytes=99)
    assert code(look(bench, dump, minimum_bytes=99)) == "ok"
    found = look(bench, dump, minimum_bytes=100)
    assert found.problem is not None
    assert (found.problem.status, found.problem.code) == (Status.CRITICAL, "file_age.too_small")


def test_a_file_from_the_future_hides_nothing(bench: Any, tmp_path: Path) -> None:
    dump = write(tmp_path / "dump", age_s=-200)
    assert code(look(bench, dump)) == "ok"
    found = look(bench, write(dump, age_s=-86400.0))
    assert code(found) == "file_age.from_future"
    assert found.metrics["age_seconds"] == 0.0


@pytest.mark.parametrize(
    ("metric", "limit", "expected"),
    [
        ("age_seconds", HOUR_S, "file_age.too_old"),
        ("age_seconds", HOUR_S + 1, "ok"),
        ("size_bytes", 10, "file_age.too_large"),
        ("size_bytes", 11, "ok"),
    ],
)
def test_limits_are_off_until_a_profile_sets_them(
    bench: Any, tmp_path: Path, metric: str, limit: float, expected: str
) -> None:
    measurement = look(bench, write(tmp_path / "x", age_s=HOUR_S, size_bytes=10))

    def judged(given: dict[str, dict[str, object]]) -> Finding:
        return judge("file_age", measurement, resolve_thresholds(CHECK, given), None, 0.0)

    assert judged({}).status is Status.OK
    assert judged({metric: {"critical": limit}}).code == expected


def test_growth_is_that_of_one_file(bench: Any, tmp_path: Path) -> None:
    log = write(tmp_path / "app.log", size_bytes=1000)
    instance = bench(CHECK, path=str(tmp_path / "*.log"))
    seen = [instance.run()[""].metrics.get("growth_bytes_per_second")]
    for size_bytes in (1600, 1600, 200):
        instance.later(60)
        log.write_bytes(b"x" * size_bytes)
        seen.append(instance.run()[""].metrics.get("growth_bytes_per_second"))
    instance.later(60)
    write(tmp_path / "next.log", age_s=-7200)
    seen.append(instance.run()[""].metrics.get("growth_bytes_per_second"))
    assert seen == [None, 10.0, 0.0, 0.0, None]


def test_links_are_followed_and_those_that_lead_nowhere_are_not_files(bench: Any, tmp_path: Path) -> None:
    write(tmp_path / "real" / "dump", age_s=5)
    (tmp_path / "latest").symlink_to(tmp_path / "real" / "dump")
    (tmp_path / "broken").symlink_to(tmp_path / "absent")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "up").symlink_to(tmp_path)
    assert look(bench, tmp_path / "latest").metrics["age_seconds"] == 5.0
    assert look(bench, tmp_path / "*").metrics["files"] == 1.0
    assert look(bench, tmp_path / "*" / "*" / "dump").metrics["files"] == 1.0


@pytest.mark.parametrize("path", ["relative/file", "", "~/x", "/a\0b", "/backup/**/x", "/" + "a" * 5000])
def test_paths_that_cannot_be_meant_are_refused(bench: Any, path: str) -> None:
    with pytest.raises(SettingError):
        look(bench, path)


def test_the_part_before_the_first_wildcard_is_not_searched() -> None:
    assert parse_path("/srv/backup/2026-*/db.gz") == (Path("/srv/backup"), ("2026-*", "db.gz"))
    assert parse_path("/srv/one.file") == (Path("/srv/one.file"), ())


def test_a_folder_without_bounds_is_given_up_and_told(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(30):
        write(tmp_path / f"{i}")
    assert len(list(find(tmp_path, ("*",), Budget(30)))) == 30
    monkeypatch.setattr(file_age, "Budget", lambda: Budget(29))
    with pytest.raises(CannotMeasure) as caught:
        look(bench, tmp_path / "*")
    assert caught.value.code == "file_age.too_many_entries"
    assert caught.value.facts["path"] == str(tmp_path)


def test_names_that_do_not_fit_are_counted_too(tmp_path: Path) -> None:
    for i in range(30):
        write(tmp_path / f"{i}.tmp")
    with pytest.raises(CannotMeasure):
        list(find(tmp_path, ("*.gz",), Budget(29)))


def test_folders_closed_to_the_agent_are_told(bench: Any, tmp_path: Path) -> None:
    write(tmp_path / "closed" / "dump")
    (tmp_path / "closed").chmod(0o700)
    is_root = os.geteuid() == 0
    if not is_root:
        (tmp_path / "closed").chmod(0o000)
    instance = bench(CHECK, path=str(tmp_path / "closed" / "*"))
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    if is_root:
        os.seteuid(65534)
    try:
        with pytest.raises(CannotMeasure) as caught:
            instance.run()
    finally:
        if is_root:
            os.seteuid(0)
        (tmp_path / "closed").chmod(0o700)
    assert caught.value.code == "check.needs_rights"
    assert caught.value.facts["target"] == str(tmp_path / "closed")


def test_errors_of_the_disk_are_unknown(bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(tmp_path))

    monkeypatch.setattr(Path, "stat", fail)
    with pytest.raises(CannotMeasure) as caught:
        look(bench, tmp_path / "x")
    assert caught.value.code == "file_age.unreadable"
    assert caught.value.facts["error"] == "Input/output error"


def test_contents_are_never_read(bench: Any, tmp_path: Path) -> None:
    """A pipe would hang whoever opens it."""
    os.mkfifo(tmp_path / "pipe")
    write(tmp_path / "secret", age_s=1).chmod(0o000)
    assert look(bench, tmp_path / "*").metrics["files"] == 1.0


def test_names_that_are_not_text_do_no_harm(bench: Any, tmp_path: Path) -> None:
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\x1b[2J"))).write_bytes(b"x")
    assert look(bench, tmp_path / "*").metrics["files"] == 1.0
    shown = look(bench, f"{tmp_path}/\x1b[2J*", count_at_least=0).facts["path"]
    assert shown == f"{tmp_path}/\\x1b[2J*"
