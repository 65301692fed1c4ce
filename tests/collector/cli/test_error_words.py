"""Every error that a person meets at the collector's command line has its Chinese."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_rig import CommandLine

import gengfu_checks.settings
import gengfu_collector
from gengfu_collector import errors
from gengfu_collector.cli.error_words import in_words, sentences

ROOT = Path(gengfu_collector.__file__).parent
# What these refuse is told to agents over the wire; an agent has words of its own.
FOR_AGENTS = {"certificates", "challenges", "door", "enrolment", "issuance", "messages", "session", "stream"}
# Sentences that stand in the code in parts, and what they are whole.
PUT_TOGETHER = {
    "1: gengfu-collector agent list shows all": "there is no agent 'x': gengfu-collector agent list shows all",
    "an asset could get 1 1 from its profiles; at most 1 are allowed": (
        "an asset could get 300 checks from its profiles; at most 200 are allowed"
    ),
    "1: must be 1, not 1": "every: must be from 1s to 31d, not 0",
    "after 1 is longer than any stretch of 1: nothing would ever be absent1": (
        'after 2d is longer than any stretch of "mon 08:00-09:00": nothing would ever be absent'
    ),
    "setting 1 is 1, not 1": "setting paths is a list of texts, not 1",
    "there is a profile 1 already (1:1)1": 'there is a profile "a" already (b.toml:1)',
    "there is a standard 1 already (1)1": 'there is a standard "a" already (b.toml:1)',
    "url 1": ("url is not the address of a database: write postgresql://USER:PASSWORD@HOST/NAME or sqlite:////PATH"),
}
NOT_ERRORS = {"_log", "_write_log", "_refusals_log", "log"}


def said_in(path: Path) -> Iterator[str]:
    """What errors of a module say, with a 1 for what is put into a sentence."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call) and node.args and is_error(node.func):
            yield from texts(node.args[0])


def is_error(called: ast.expr) -> bool:
    match called:
        case ast.Name(id=name):
            found = getattr(errors, name, None)
            is_ours = isinstance(found, type) and issubclass(found, errors.CollectorError)
            return is_ours or name in ("NotListening", "SettingError", "ValueError")
        case ast.Attribute(value=owner, attr="error"):
            return not (isinstance(owner, ast.Name) and owner.id in NOT_ERRORS)
    return False


def texts(node: ast.expr) -> Iterator[str]:
    match node:
        case ast.Constant(value=str(said)):
            yield said
        case ast.JoinedStr(values=parts):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "1" for part in parts)


def test_every_sentence_has_its_chinese() -> None:
    paths = [path for path in ROOT.rglob("*.py") if path.parent.name != "gateway" or path.stem not in FOR_AGENTS]
    said = [text for path in (*paths, Path(gengfu_checks.settings.__file__)) for text in said_in(path)]
    assert len(said) > 120
    unsaid = {text for text in said if re.search("[a-z]{2}", text.partition(": ")[2] or text)}
    unsaid = {PUT_TOGETHER.get(text, text) for text in unsaid}
    assert sorted(text for text in unsaid if in_words(text, "zh").isascii()) == [], "put it into cli/error_words.toml"


def test_every_sentence_can_be_filled_in() -> None:
    for english in sentences():
        assert not in_words(english.replace("{}", "1"), "zh").isascii()


@pytest.mark.parametrize(
    ("error", "chinese"),
    [
        (
            "/x/p.toml:3: timeout 20s is longer than every 10s (for an asset that profiles a [f:1], b [g:2] fit)",
            "/x/p.toml:3: timeout 20s 比 every 10s 还长（资产同时符合方案 a [f:1], b [g:2]）",
        ),
        ("--ttl: 'x' is not a duration: write seconds or a number with ms, s, m, h, d or w, like \"30s\"", "不是时长"),
        ("the ticket is closed: it can be resolved only while open or acknowledged", "只有“打开或已受理”的工单"),
        ("cannot use the data folder /x: Permission denied; choose another with --data DIR", "无法使用：权限不足；"),
        ("a thing: nobody knows", "a thing: nobody knows"),
    ],
)
def test_by_example(error: str, chinese: str) -> None:
    assert chinese in in_words(error, "zh")
    assert in_words(error, "en") == error


@pytest.mark.parametrize(
    ("words", "exit_code", "told"),
    [
        (("ticket", "lst"), 2, "没有命令 'lst'，是否应为 'list'？；用法见 gengfu-collector ticket --help"),
        (("ticket", "show", "GF-1"), 1, "没有工单 GF-1"),
        (("token", "create", "--class", "pc"), 2, "这里没有类别 'pc'"),
        (("run", "--log-level", "x"), 2, "--log-level：没有级别"),
    ],
)
def test_at_the_command_line(tmp_path: Path, words: tuple[str, ...], exit_code: int, told: str) -> None:
    assert told in CommandLine(tmp_path, LANG="zh_CN.UTF-8").refused(*words, exit_code=exit_code)
