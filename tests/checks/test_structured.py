"""Answers of programs in JSON and property lists: usable ones, and every kind of rubbish."""

from __future__ import annotations

import base64
import contextlib
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gengfu_checks.errors import CannotMeasure
from gengfu_checks.local import structured


def a_program(folder: Path, answer: bytes, exit_code: int = 0) -> str:
    """A program that prints this answer."""
    (folder / "answer").write_bytes(answer)
    program = folder / "program"
    program.write_text(f"#!/bin/sh\ncat {folder}/answer\nexit {exit_code}\n", "ascii")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return str(program)


def test_json_of_a_program(tmp_path: Path) -> None:
    assert structured.run_json([a_program(tmp_path, b'\xef\xbb\xbf{"a": [1, "\xe6\x9b\xb4"]}')], 20) == {"a": [1, "更"]}


def test_only_expected_exit_codes_are_answers(tmp_path: Path) -> None:
    program = a_program(tmp_path, b"{}", 4)
    assert structured.run_json([program], 20, exit_codes=(0, 4)) == {}
    with pytest.raises(CannotMeasure) as caught:
        structured.run_json([program], 20)
    assert caught.value.facts == {"program": program, "reason": "ended with 4"}


@pytest.mark.parametrize("rubbish", [b"", b"{", b"NaN", b"[Infinity]", b"\xff\xfe", b"[" * 100_000, b"[1] trailing"])
def test_rubbish_is_no_json(rubbish: bytes) -> None:
    with pytest.raises(CannotMeasure):
        structured.parse_json("/bin/x", rubbish)


@given(st.binary(max_size=200))
def test_any_bytes_are_an_answer_or_a_reason(text: bytes) -> None:
    for parse in (structured.parse_json, structured.parse_plist):
        with contextlib.suppress(CannotMeasure):
            parse("/bin/x", text)


def test_a_property_list() -> None:
    text = b"<plist version='1.0'><array><dict><key>a</key><integer>1</integer></dict></array></plist>"
    assert structured.parse_plist("/usr/sbin/system_profiler", text) == [{"a": 1}]


def test_powershell_gets_its_pipeline_encoded_and_framed() -> None:
    argv = structured.powershell_argv(r"C:\powershell.exe", "Get-CimInstance Win32_BIOS")
    text = base64.b64decode(argv[-1]).decode("utf-16-le")
    assert argv[-2] == "-EncodedCommand"
    assert "@(Get-CimInstance Win32_BIOS)" in text


def test_rows_are_objects() -> None:
    assert structured.rows_of("x", [{"a": 1}, None]) == [{"a": 1}]
    for bad in ({}, "x", [1], None):
        with pytest.raises(CannotMeasure):
            structured.rows_of("x", bad)


def test_there_is_no_powershell_here() -> None:
    with pytest.raises(CannotMeasure):
        structured.powershell_rows("Get-Date", 1)
