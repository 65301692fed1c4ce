"""What checks keep outlives the agent, and counts together with their findings or not at all."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from checkkinds import check_of, kind_of, level
from hypothesis import given
from hypothesis import strategies as st
from spools import StillClock
from test_agent_rounds import Watch, planned, walking

from gengfu_agent import keep
from gengfu_agent.keep import KEEP_FILE, Keeps
from gengfu_agent.runner import Runner, RunResult
from gengfu_checks.model import MAX_KEEP_BYTES, Context, Measurement
from gengfu_proto.convert.plan import Plan

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_what_is_kept_comes_back(kept: dict[str, Any]) -> None:
    try:
        text = keep.encode(kept)
    except UnicodeEncodeError:
        return  # half a character
    assert keep.decode(text) == kept


@pytest.mark.parametrize(
    "kept", [[1], {"a": {1, 2}}, {1: 2}, {"a": float("nan")}, {"a": "\ud800"}, {"a": "中" * (MAX_KEEP_BYTES // 3)}]
)
def test_what_cannot_be_kept_is_refused(kept: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        keep.encode(kept)


def test_the_file_outlives_the_agent_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / KEEP_FILE
    Keeps(path).put({("log", "event_log"): '{"at":5}', ("crashes", "crashes"): "{}"})
    again = Keeps(path)
    assert (again.get("log", "event_log"), again.get("log", "other"), again.get("gone", "x")) == (
        '{"at":5}',
        "{}",
        "{}",
    )
    assert path.stat().st_mode & 0o777 == 0o600
    again.forget_others(["crashes"])
    again.put({("crashes", "crashes"): '{"n":1}'})
    assert json.loads(path.read_bytes()) == {"crashes": {"crashes": '{"n":1}'}}


def test_what_did_not_change_is_not_written(tmp_path: Path) -> None:
    keeps = Keeps(tmp_path / KEEP_FILE)
    keeps.put({("log", "event_log"): '{"at":5}'})
    written = (tmp_path / KEEP_FILE).stat().st_ino
    keeps.put({("log", "event_log"): '{"at":5}'})
    keeps.put({})
    assert (tmp_path / KEEP_FILE).stat().st_ino == written


@pytest.mark.parametrize(
    "damaged", [b"", b"\x00\xff", b"[]", b'{"a": 1}', b'{"a": {"b": 1}}', b'{"a": {"b": "x"}}', b'{"a": {"b": "[]"}}']
)
def test_a_damaged_file_begins_anew(tmp_path: Path, damaged: bytes, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / KEEP_FILE
    path.write_bytes(damaged)
    with caplog.at_level(logging.WARNING):
        keeps = Keeps(path)
    assert keeps.get("a", "b") == "{}"
    assert "keep_unreadable" in caplog.messages
    keeps.put({("a", "b"): "{}", ("c", "d"): '{"x":1}'})
    assert Keeps(path).get("c", "d") == '{"x":1}'


def test_a_file_that_cannot_be_written_stops_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keeps = Keeps(tmp_path / "missing" / KEEP_FILE)
    keeps.put({("log", "event_log"): '{"at":5}'})
    assert keeps.get("log", "event_log") == '{"at":5}'
    assert "keep_not_written" in caplog.messages


class Hand:
    """A runner whose calls are brought in by hand."""

    def __init__(self, kept: str = "{}") -> None:
        self.results: list[RunResult] = []
        self.calls: SimpleQueue[Any] = SimpleQueue()
        self.clock = StillClock()
        self.runner = Runner(self.results.append, self.calls.put, self.clock, lambda _check, _kind: kept)

    def run(self, check: Any) -> RunResult:
        self.runner.start(check)
        self.calls.get(timeout=10)()
        return self.results[-1]


def counting(context: Context) -> Iterator[Measurement]:
    context.keep["runs"] = context.keep.get("runs", 0) + context.settings.get("step", 1)
    yield level(0.1)
    if context.settings.get("fails"):
        raise OSError("gone")


def test_a_run_goes_on_from_what_the_last_one_left() -> None:
    hand = Hand('{"runs":6}')
    check = check_of(counting)
    assert [hand.run(check).left for _ in range(2)] == ['{"runs":7}', '{"runs":8}']
    assert hand.run(check_of(counting, settings={"step": 2})).left == '{"runs":10}', "new settings, the same keep"
    assert hand.run(check_of(counting, settings={"step": 0})).left is None, "nothing new"


def test_a_run_without_a_result_leaves_no_trace() -> None:
    hand = Hand()
    assert hand.run(check_of(counting)).left == '{"runs":1}'
    failed = hand.run(check_of(counting, settings={"fails": True}))
    assert (failed.findings[0].code, failed.left) == ("check.crashed", None)
    assert hand.run(check_of(counting)).left == '{"runs":2}'


def test_a_run_that_came_too_late_leaves_no_trace() -> None:
    hand = Hand()
    hand.runner.start(check_of(counting, timeout_s=5.0))
    hand.clock.move(6)
    hand.runner.expire()
    hand.calls.get(timeout=10)()
    assert [result.left for result in hand.results] == [None]
    assert hand.run(check_of(counting)).left == '{"runs":1}'


def test_a_check_that_keeps_too_much_is_told_of_and_keeps_what_it_had() -> None:
    def measure(context: Context) -> list[Measurement]:
        context.keep["text"] = "x" * context.settings["size"]
        return [level(0.1)]

    hand = Hand()
    assert hand.run(check_of(measure, settings={"size": 3})).left == '{"text":"xxx"}'
    result = hand.run(check_of(measure, settings={"size": MAX_KEEP_BYTES}))
    assert (result.findings[0].code, result.left) == ("check.crashed", None)


async def test_a_restart_goes_on_where_the_agent_stopped(tmp_path: Path) -> None:
    seen: list[int] = []

    def measure(context: Context) -> list[Measurement]:
        seen.append(context.keep.get("runs", 0))
        context.keep["runs"] = seen[-1] + 1
        return [level(0.1)]

    for life in range(1, 3):
        watch = Watch(tmp_path, kind_of(measure))
        watch.rounds.set_plan(Plan((planned("made_up"),)))
        async with walking(watch):
            await watch.until(
                lambda life=life: Keeps(tmp_path / KEEP_FILE).get("made_up", "made_up") == f'{{"runs":{life}}}'
            )
        assert watch.codes() == {("made_up", "ok")}
        watch.spool.close()
    assert seen == [0, 1]


async def test_what_is_kept_is_never_ahead_of_the_spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(context: Context) -> list[Measurement]:
        context.keep["read"] = True
        return [level(0.1)]

    watch = Watch(tmp_path, kind_of(measure))
    in_spool: list[int] = []
    put = Keeps.put

    def spied(keeps: Keeps, left: Any) -> None:
        in_spool.append(watch.spool.position().waiting)
        put(keeps, left)

    monkeypatch.setattr(Keeps, "put", spied)
    watch.rounds.set_plan(Plan((planned("made_up"),)))
    async with walking(watch):
        await watch.until(lambda: len(in_spool) == 1)
    assert in_spool == [1]
