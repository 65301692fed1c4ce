"""The admin socket: who may ask, what nonsense does to it, and what an asker hears when nobody answers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import stat
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from intake_rig import Rig, rig_on, run
from sqlalchemy.exc import OperationalError

from gengfu_checks.model import Status
from gengfu_collector.admin import socket as socket_module
from gengfu_collector.admin.client import SOCKET_FILE, NotListening, ask
from gengfu_collector.admin.desk import Desk
from gengfu_collector.admin.socket import AdminSocket
from gengfu_collector.errors import CollectorError, NotFound, Refused, StoreError, Unreachable, UsageError
from gengfu_collector.fleet.inspection import load_inspection
from gengfu_collector.gateway.authority import Authority
from gengfu_collector.store.database import Database
from gengfu_collector.times import wall_clock_ms

FIRST = "GF-2027-000001"


@pytest.fixture
def rig(database: Database) -> Any:
    with rig_on(database) as made:
        agent_id = made.enrol()
        made.hello(agent_id)
        made.report(agent_id, 1, run("disk", Status.CRITICAL))
        yield made


@pytest.fixture
async def path(rig: Rig, tmp_path: Path) -> AsyncIterator[Path]:
    inspection = load_inspection(None)
    desk = Desk(
        rig.database,
        rig.intake,
        Authority.open(tmp_path, wall_clock_ms()),
        wall_clock_ms,
        lambda: inspection,
        running=True,
    )
    socket = AdminSocket(tmp_path / SOCKET_FILE, desk)
    await socket.start()
    yield tmp_path / SOCKET_FILE
    await socket.stop()


async def raw(path: Path, data: bytes, *, end: bool = True) -> Any:
    """Send bytes, return the answer; None when there is none, or the other end has left in the middle."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    line = b""
    with contextlib.suppress(ConnectionError):
        writer.write(data)
        await writer.drain()
        if end:
            writer.write_eof()
        line = await asyncio.wait_for(reader.readline(), 20)
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return json.loads(line) if line else None


async def test_the_socket_is_for_its_owner_alone_and_goes_with_the_collector(rig: Rig, path: Path) -> None:
    assert stat.S_ISSOCK(path.stat().st_mode)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_a_socket_that_a_killed_collector_left_is_replaced(rig: Rig, tmp_path: Path) -> None:
    left = tmp_path / SOCKET_FILE
    left.write_text("left behind")
    desk = Desk(
        rig.database,
        rig.intake,
        Authority.open(tmp_path, wall_clock_ms()),
        wall_clock_ms,
        lambda: load_inspection(None),
    )
    socket = AdminSocket(left, desk)
    await socket.start()
    assert await ask(left, "status", {}, "li") == {"running": False, "connected": 0, "waiting_reports": 0}
    await socket.stop()
    assert not left.exists()


async def test_answers_and_refusals_cross_as_what_they_are(path: Path) -> None:
    assert [row["number"] for row in await ask(path, "ticket.list", {}, "li")] == [FIRST]
    with pytest.raises(NotFound, match="there is no ticket GF-1"):
        await ask(path, "ticket.show", {"number": "GF-1"}, "li")
    await ask(path, "ticket.close", {"number": FIRST}, "li")
    with pytest.raises(Refused, match="the ticket is closed"):
        await ask(path, "ticket.close", {"number": FIRST}, "li")
    with pytest.raises(UsageError, match="has no operation"):
        await ask(path, "burn", {}, "li")


async def test_any_text_crosses_unharmed(path: Path) -> None:
    text = "中文 \u3000 😀 é \\ \" ' [bold]x[/bold]"
    shown = await ask(path, "ticket.comment", {"number": FIRST, "text": text}, "李")
    assert (shown["events"][-1]["actor"], shown["events"][-1]["data"]) == ("李", {"text": text})
    shown = await ask(path, "ticket.comment", {"number": FIRST, "text": "\udcff\x1b[2J"}, "li")
    assert shown["events"][-1]["data"] == {"text": "\ufffd\ufffd[2J"}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"\x00\xff\xfe\n",
        b"{}\n",
        b"[]\n",
        b"null\n",
        b'{"operation": "status"}\n',
        b'{"operation": "status", "arguments": [1], "actor": "li"}\n',
        b'{"operation": "status", "arguments": {}, "actor": "li"',
    ],
)
async def test_what_is_no_request_is_told_so(path: Path, data: bytes) -> None:
    answer = await raw(path, data)
    assert answer["error"]["kind"] == "UsageError"
    assert answer["error"]["message"].startswith("not a request")
    assert (await ask(path, "status", {}, "li"))["running"]


@pytest.mark.parametrize("arguments", [{"bogus": 1}, {"number": 7}, {"number": None}, {}])
async def test_arguments_that_do_not_fit_fail_alone(path: Path, arguments: dict[str, Any]) -> None:
    with pytest.raises(CollectorError):
        await ask(path, "ticket.show", arguments, "li")
    assert (await ask(path, "status", {}, "li"))["running"]


async def test_a_request_without_end_is_not_kept(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert await raw(path, b"x" * (socket_module.MAX_REQUEST_BYTES + 70_000), end=False) is None
    assert (await ask(path, "status", {}, "li"))["running"]


async def test_nesting_without_end_fails_alone(path: Path) -> None:
    answer = await raw(path, b"[" * 200_000 + b"\n")
    assert answer is None or "error" in answer
    assert (await ask(path, "status", {}, "li"))["running"]


async def test_who_says_nothing_is_not_waited_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket_module, "REQUEST_TIMEOUT_S", 0.05)
    assert await raw(path, b"", end=False) is None


async def test_who_leaves_before_the_answer_disturbs_nobody(path: Path) -> None:
    for _ in range(5):
        _, writer = await asyncio.open_unix_connection(str(path))
        writer.write(b'{"operation": "ticket.list", "arguments": {}, "actor": "li"}\n')
        writer.close()
    assert (await ask(path, "status", {}, "li"))["running"]


async def test_a_store_that_cannot_be_written_is_told_in_one_line(
    rig: Rig, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_connection: object) -> None:
        raise OperationalError("COMMIT", {}, Exception("disk full\nand more"))

    monkeypatch.setattr(rig.database.engine.dialect, "do_commit", refuse)
    with pytest.raises(StoreError, match="disk full") as caught:
        await ask(path, "ticket.comment", {"number": FIRST, "text": "x"}, "li")
    assert "\n" not in str(caught.value)


async def test_who_has_asked_is_answered_and_who_has_not_is_let_go_when_the_collector_stops(
    rig: Rig, tmp_path: Path
) -> None:
    inspection, path = load_inspection(None), tmp_path / SOCKET_FILE
    desk = Desk(rig.database, rig.intake, Authority.open(tmp_path, wall_clock_ms()), wall_clock_ms, lambda: inspection)
    socket = AdminSocket(path, desk)
    await socket.start()
    begun, go_on = threading.Event(), threading.Event()
    rig.writer.call(lambda _connection: (begun.set(), go_on.wait(20)))
    await asyncio.to_thread(begun.wait, 20)
    asked = asyncio.ensure_future(ask(path, "ticket.comment", {"number": FIRST, "text": "last words"}, "li"))
    reader, writer = await asyncio.open_unix_connection(str(path))
    async with asyncio.timeout(20):
        while len(socket._serving) < 2 or not rig.writer.waiting:
            await asyncio.sleep(0.01)
    stopping = asyncio.ensure_future(socket.stop())
    async with asyncio.timeout(20):
        while path.exists():
            await asyncio.sleep(0.01)
    assert json.loads(await reader.readline() or b"{}").get("result") is None
    go_on.set()
    assert (await asked)["events"][-1]["data"] == {"text": "last words"}
    await stopping
    writer.close()


async def test_nobody_there_and_no_answer_are_different(tmp_path: Path) -> None:
    """The first may be asked again; the second may have been done."""
    with pytest.raises(NotListening, match="does not answer"):
        await ask(tmp_path / SOCKET_FILE, "status", {}, "li")

    async def hang_up(_reader: Any, writer: Any) -> None:
        writer.close()

    server = await asyncio.start_unix_server(hang_up, str(tmp_path / SOCKET_FILE))
    with pytest.raises(Unreachable) as caught:
        await ask(tmp_path / SOCKET_FILE, "status", {}, "li")
    assert not isinstance(caught.value, NotListening)
    assert caught.value.exit_code == 3
    server.close()
    await server.wait_closed()


async def test_a_folder_with_a_very_long_name_has_a_socket_too(rig: Rig, tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 40)
    folder.mkdir()
    assert len(os.fsencode(folder)) > 107
    desk = Desk(
        rig.database, rig.intake, Authority.open(folder, wall_clock_ms()), wall_clock_ms, lambda: load_inspection(None)
    )
    socket = AdminSocket(folder / SOCKET_FILE, desk)
    await socket.start()
    assert (await ask(folder / SOCKET_FILE, "status", {}, "li"))["connected"] == 0
    await socket.stop()
