"""Reading small files: real ones, and everything that only looks like one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gengfu_checks.errors import CannotMeasure
from gengfu_checks.local.small_file import read_small, read_small_text, unknown
from gengfu_checks.model import Status


def test_a_file_is_read_as_far_as_asked(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc\xff")
    assert read_small(tmp_path / "file") == b"abc\xff"
    assert read_small(tmp_path / "file", 2) == b"ab"
    assert read_small_text(tmp_path / "file") == "abc\udcff"


def test_text_is_read_whole_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("abc")
    assert read_small_text(tmp_path / "file", 3) == "abc"
    with pytest.raises(CannotMeasure) as caught:
        read_small_text(tmp_path / "file", 2)
    assert caught.value.facts == {"reason": f"{tmp_path / 'file'} is larger than 2 bytes"}


def test_what_is_no_file_is_none_and_nothing_waits_or_stays_open(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_text("")
    before = sum(1 for _ in Path("/proc/self/fd").iterdir())
    for path in ("absent", "pipe", ".", "file/below"):
        assert read_small(tmp_path / path) is None
        assert read_small_text(tmp_path / path) is None
    assert read_small(Path("/dev/zero")) is None
    assert sum(1 for _ in Path("/proc/self/fd").iterdir()) == before


def test_a_missing_right_says_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: object, *arguments: object) -> int:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(CannotMeasure) as caught:
        read_small(tmp_path / "secret", item="passwords")
    assert caught.value.facts == {"needs": "read access", "target": str(tmp_path / "secret")}
    assert caught.value.item == "passwords"
    problem = unknown(caught.value)
    assert (problem.status, problem.code) == (Status.UNKNOWN, "check.needs_rights")
