"""Logs: the form of a record, and hostile text in it."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gengfu_collector.errors import UsageError
from gengfu_collector.logs import (
    MAX_FIELDS,
    MAX_TRACEBACK_CHARACTERS,
    MAX_VALUE_CHARACTERS,
    configure_logging,
    escape,
    logger,
)

FORGED = 'x\n{"level": "error", "event": "forged"}\r\x1b[2J\u2028\u202e\x85 level=error "quoted" 机房'


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _root_as_it_was() -> Iterator[None]:
    root, own = logging.getLogger(), logging.getLogger("gengfu_collector")
    handlers, levels = root.handlers[:], (root.level, own.level)
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    own.setLevel(levels[1])


def entries(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_record_is_one_json_object() -> None:
    stream = io.StringIO()
    configure_logging("info", stream)
    logger("gengfu_collector.gateway").warning("agent refused", agent="a-1", tries=3, late=True, delay_s=0.5, why=None)
    (entry,) = entries(stream)
    when = datetime.fromisoformat(str(entry.pop("time")))
    assert when.utcoffset() is not None
    assert entry == {
        "level": "warning",
        "event": "agent refused",
        "logger": "gengfu_collector.gateway",
        "agent": "a-1",
        "tries": 3,
        "late": True,
        "delay_s": 0.5,
        "why": None,
    }


def test_a_list_stays_a_list_and_is_bounded() -> None:
    stream = io.StringIO()
    configure_logging("info", stream)
    logger("gengfu_collector").info("refused", few=["disk", 3], many=list(range(1_000)))
    (entry,) = entries(stream)
    assert entry["few"] == ["disk", 3]
    assert entry["many"] == list(range(32))


@given(st.text(), st.text())
def test_whatever_is_logged_is_one_line_and_comes_back(event: str, value: str) -> None:
    stream = io.StringIO()
    configure_logging("info", stream)
    logger("gengfu_collector.x").info(event, value=value)
    text = stream.getvalue()
    assert text.endswith("\n")
    assert text[:-1].isprintable()
    (entry,) = entries(stream)
    assert (entry["event"], entry["value"]) == (event[:MAX_VALUE_CHARACTERS], value[:MAX_VALUE_CHARACTERS])


@given(st.text(), st.text())
def test_on_a_terminal_too_whatever_is_logged_is_one_line(event: str, value: str) -> None:
    stream = Terminal()
    configure_logging("info", stream)
    logger("gengfu_collector.x").info(event, value=value)
    assert stream.getvalue()[:-1].isprintable()


def test_a_terminal_gets_short_lines() -> None:
    stream = Terminal()
    configure_logging("info", stream)
    logger("gengfu_collector.x").info("agent connected", asset="srv-1", site="机房 1", tries=2, why="")
    assert stream.getvalue()[8:] == ' INFO    agent connected  asset=srv-1  site="机房 1"  tries=2  why=""\n'


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()], ids=["json", "terminal"])
def test_hostile_text_forges_nothing(stream: io.StringIO) -> None:
    configure_logging("info", stream)
    logger("gengfu_collector.x").error(FORGED, name=FORGED, error=ValueError(FORGED))
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert not {"\x1b", "\r", "\u2028", "\u202e", "\x85"} & set(text)
    assert "机房" in text


def test_a_traceback_cannot_pass_for_a_record() -> None:
    for stream in (Terminal(), io.StringIO()):
        configure_logging("info", stream)
        try:
            raise ValueError("first\n12:00:00 ERROR   forged\x1b[2J")
        except ValueError as error:
            logger("gengfu_collector.x").exception("work failed", error, job=7)
        lines = stream.getvalue().splitlines()
        assert "work failed" in lines[0]
        assert all(line.startswith("    | ") for line in lines[1:])
        assert "forged\\u001b[2J" in stream.getvalue()
    assert len(lines) == 1


def test_everything_is_bounded() -> None:
    stream = io.StringIO()
    configure_logging("info", stream)
    fields: dict[str, object] = {f"f{i}": "x" * 10_000 for i in range(100)}
    logger("gengfu_collector.x").info("y" * 10_000, **fields)
    try:
        raise ValueError("z" * 100_000)
    except ValueError as error:
        logger("gengfu_collector.x").exception("failed", error)
    first, second = entries(stream)
    assert len(first) == 4 + MAX_FIELDS
    assert all(len(str(value)) <= MAX_VALUE_CHARACTERS for value in first.values())
    assert len(str(second["traceback"])) == MAX_TRACEBACK_CHARACTERS


def test_fields_never_hide_what_a_record_is() -> None:
    stream = io.StringIO()
    configure_logging("info", stream)
    logger("gengfu_collector.x").info("real", time="never", level="error", ratio=float("nan"))
    (entry,) = entries(stream)
    assert (entry["event"], entry["level"], entry["level_"], entry["time_"]) == ("real", "info", "error", "never")
    assert entry["ratio"] == "nan"


def test_levels() -> None:
    stream = io.StringIO()
    configure_logging("warning", stream)
    log = logger("gengfu_collector.x")
    log.debug("no")
    log.info("no")
    log.warning("yes")
    log.error("yes")
    configure_logging("debug", stream)
    log.debug("yes")
    assert [entry["level"] for entry in entries(stream)] == ["warning", "error", "debug"]
    with pytest.raises(UsageError, match="'loud' is not a log level; use one of debug, info, warning, error"):
        configure_logging("loud", stream)


def test_records_of_libraries_look_the_same_and_start_with_warnings() -> None:
    stream = io.StringIO()
    configure_logging("debug", stream)
    logging.getLogger("some.library").info("chatter")
    logging.getLogger("some.library").warning("hello %s", FORGED)
    (entry,) = entries(stream)
    assert (entry["event"], entry["logger"]) == (f"hello {FORGED}", "some.library")
    configure_logging("error", stream)
    logging.getLogger("some.library").warning("no")
    assert len(entries(stream)) == 1


@given(st.text())
def test_escaping_is_that_of_json(text: str) -> None:
    assert escape(text).isprintable()
    assert json.loads(f'"{escape(text.replace(chr(92), "").replace(chr(34), ""))}"') == text.replace("\\", "").replace(
        '"', ""
    )
