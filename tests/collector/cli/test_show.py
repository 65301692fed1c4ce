"""What people read: the reader's language, columns that stand under each other."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from gengfu_collector.cli import common, show, told

TICKET = {"state": "open", "severity": "critical", "category": "software", "asset": "open", "solution": None}


def test_words_are_in_the_readers_language_and_names_are_left_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    show.facts(TICKET, tuple(TICKET))
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [["状态", "打开"], ["级别", "严重"], ["分类", "软件"], ["资产", "open"], ["解决方法", "-"]]
    monkeypatch.setenv("LC_ALL", "C")
    show.facts(TICKET, tuple(TICKET))
    assert capsys.readouterr().out.splitlines()[0].split() == ["state", "open"]


def test_columns_are_as_wide_in_chinese(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    show.rows([{"asset": "前台-01", "state": "open"}, {"asset": "pc", "state": "closed"}], ("asset", "state"))
    heading, *lines = capsys.readouterr().out.splitlines()
    assert [line for line in (heading, *lines) if line != line.rstrip()] == []
    starts = [cell_len(line[: line.index(word)]) for line, word in zip(lines, ("打开", "已关闭"), strict=True)]
    assert starts == [cell_len(heading[: heading.index("状态")])] * 2


def test_a_narrow_terminal_keeps_what_other_commands_ask_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(show, "PIPE_WIDTH", 40)
    row = {"number": "GF-2026-000123", "title": "Process is not running, or too few are", "asset": "pc-17"}
    show.rows([row, row], ("number", "title", "asset"))
    _, *lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["GF-2026-000123"] * 2
    assert all(cell_len(line) <= 40 for line in lines)


@pytest.mark.parametrize("json", [True, False])
def test_a_list_that_is_cut_says_so_beside_it(
    json: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(common, "MAX_LISTED", 2)
    monkeypatch.setenv("LC_ALL", "C")
    rows = [{"name": f"pc-{n}"} for n in range(3)]
    common.listing(rows[:2], json, ("name",), "--since")
    assert capsys.readouterr().err == ""
    common.listing(rows, json, ("name",), "--since, --asset")
    said = capsys.readouterr()
    assert said.err == "only the first 2 are shown; there are more: ask for less with --since, --asset\n"
    assert "pc-1" in said.out
    assert "pc-2" not in said.out


@pytest.mark.parametrize("text", ["", "opened", "重新打开", "发生", "much longer than twelve"])
def test_padding_counts_columns_of_a_terminal(text: str) -> None:
    shown = show.padded(text, 12)
    assert shown.rstrip() == text
    assert cell_len(shown) == max(12, cell_len(text))


@pytest.mark.parametrize(
    ("error", "chinese"),
    [
        (
            "/x/s.toml:6: version: 'new' is no version: it has no digit",
            "/x/s.toml:6: version：'new' 不是版本号：其中没有数字",
        ),
        (
            '/x/s.toml:6: unknown rule of standard server "a" (did you mean "b"?); allowed: b',
            '/x/s.toml:6: 标准 server 中没有规则 "a"（是否应为 "b"？）；可用的有：b',
        ),
        ("/x/s.toml:6: something else", "/x/s.toml:6: something else"),
        ("there is no asset 'a.toml'", "there is no asset 'a.toml'"),
    ],
)
def test_errors_in_files_keep_their_place_in_every_language(
    error: str, chinese: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", "C")
    assert told(error) == error
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    assert told(error) == chinese
