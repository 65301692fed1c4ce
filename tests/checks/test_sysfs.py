"""Attributes of /sys: what can be read, what cannot, and the real /sys of this machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gengfu_checks.local.sysfs import MAX_ATTRIBUTE_BYTES, SYS, entries, read_integer, read_text

Tree = Callable[[dict[str, object]], Path]


def test_texts_are_stripped_and_printable(sys_tree: Tree) -> None:
    folder = sys_tree({"a": "  coretemp ", "b": b"x\x1b[0m\xff\n", "c": b"", "long": b"y" * 100_000})
    assert read_text(folder / "a") == "coretemp"
    assert read_text(folder / "b") == "x\\x1b[0m\\xff"
    assert read_text(folder / "c") == ""
    assert len(read_text(folder / "long") or "") <= MAX_ATTRIBUTE_BYTES
    assert read_text(folder / "none") is None
    assert read_text(folder) is None


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0), ("-62000", -62000), ("18446744073709551615", 2**64 - 1), ("", None), ("1.5", None), ("0x10", None),
     ("--1", None), ("٣", None), ("1 2", None), ("9" * 21, None), ("(null)", None)],
)  # fmt: skip
def test_numbers(sys_tree: Tree, text: str, number: int | None) -> None:
    assert read_integer(sys_tree({"n": text}) / "n") == number


@given(st.binary(max_size=60))
def test_no_content_breaks_it(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.mktemp("sys") / "attribute"
    file.write_bytes(content)
    assert (read_text(file) or "x").isprintable()
    read_integer(file)


def test_entries_are_in_the_order_of_their_numbers(sys_tree: Tree) -> None:
    folder = sys_tree(dict.fromkeys(("cpu10", "cpu2", "cpu", "cpufreq", "node0"), ""))
    assert [path.name for path in entries(folder, "cpu")] == ["cpu", "cpu2", "cpu10", "cpufreq"]
    assert entries(folder / "nowhere") == []


def test_the_real_sys() -> None:
    assert "cpu0" in [path.name for path in entries(SYS / "devices/system/cpu", "cpu")]
    assert read_text(SYS / "devices/system/cpu/possible")
