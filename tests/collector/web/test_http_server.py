"""The HTTP listener against clients that ask too much, too slowly, or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from gengfu_collector.errors import UsageError
from gengfu_collector.web import server as server_module
from gengfu_collector.web.server import HttpServer, start_http

GET = b"GET /small HTTP/1.1\r\nHost: x\r\n\r\n"


async def small(_request: Request) -> Response:
    return PlainTextResponse("ok")


async def endless(_request: Request) -> Response:
    async def body() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65536
            await asyncio.sleep(0)

    return StreamingResponse(body())


async def slow(_request: Request) -> Response:
    await asyncio.sleep(0.5)
    return PlainTextResponse("done")


APP = Starlette(routes=[Route("/small", small), Route("/endless", endless), Route("/slow", slow)])


class Listener:
    def __init__(self) -> None:
        self.refused: list[str] = []
        self.server: HttpServer
        self.writers: list[asyncio.StreamWriter] = []

    async def connect(self, host: str = "127.0.0.1") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(host, self.server.port)
        self.writers.append(writer)
        return reader, writer

    async def hang_up(self) -> None:
        for writer in self.writers:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def ask(self, data: bytes) -> bytes:
        """Everything that the server says before it closes."""
        reader, writer = await self.connect()
        writer.write(data)
        with contextlib.suppress(ConnectionError):
            return await reader.read()
        return b""


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    found = Listener()
    found.server = await start_http("127.0.0.1", 0, APP, found.refused.append)
    yield found
    await found.hang_up()
    await found.server.stop()


async def test_a_port_in_use_is_named_with_what_to_do(listener: Listener) -> None:
    port = listener.server.port
    with pytest.raises(UsageError) as caught:
        await start_http("127.0.0.1", port, APP, listener.refused.append)
    assert str(caught.value) == f"port {port} is in use; choose another with --http HOST:PORT"


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
async def test_an_address_of_another_machine_is_refused(host: str) -> None:
    with pytest.raises(UsageError, match=f"cannot listen on {host}: .*; choose another with --http HOST:PORT"):
        await start_http(host, 0, APP, print)


async def test_a_name_is_listened_on_at_all_its_addresses(listener: Listener) -> None:
    await listener.server.stop()
    listener.server = await start_http("localhost", 0, APP, listener.refused.append)
    tried = 0
    for found in socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM):
        host = str(found[4][0])
        if is_there(host):
            reader, writer = await listener.connect(host)
            writer.write(GET)
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            tried += 1
    assert tried


def is_there(host: str) -> bool:
    try:
        socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError:
        return False
    return True


async def test_signals_stay_the_collectors_business() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    server = await start_http("127.0.0.1", 0, APP, print)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(GET)
    await reader.readuntil(b"ok")
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    writer.close()
    await server.stop()


async def test_who_does_not_finish_asking_is_cut(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "REQUEST_TIMEOUT_S", 0.2)
    assert await listener.ask(GET[:-2]) == b""
    assert listener.refused == ["too_slow"]


async def test_a_drip_of_headers_gains_no_time(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "REQUEST_TIMEOUT_S", 0.3)
    reader, writer = await listener.connect()
    writer.write(GET)
    await reader.readuntil(b"ok")
    with contextlib.suppress(ConnectionError):
        for _ in range(100):
            writer.write(b"G")
            await writer.drain()
            await asyncio.sleep(0.02)
    assert listener.refused == ["too_slow"]
    assert reader.at_eof() or reader.exception() is not None


async def test_who_does_not_read_the_answer_is_cut(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "RESPONSE_TIMEOUT_S", 0.3)
    monkeypatch.setattr(server_module, "REQUEST_TIMEOUT_S", 1000.0)
    client = socket.create_connection(("127.0.0.1", listener.server.port))
    with client:
        client.sendall(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
        while not listener.refused:
            await asyncio.sleep(0.02)
        assert listener.refused == ["too_slow"]
    while listener.server._server.server_state.tasks:
        await asyncio.sleep(0.02)


async def test_an_answer_may_take_longer_than_a_question(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "REQUEST_TIMEOUT_S", 0.2)
    answer = await listener.ask(b"GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer.endswith(b"done")
    assert listener.refused == []


async def test_headers_are_bounded(listener: Listener) -> None:
    answer = await listener.ask(GET[:-2] + b"X: " + b"y" * 20_000)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400")
    many = await listener.ask(GET[:-2] + b"".join(b"X-%d: y\r\n" % i for i in range(2_500)))
    assert many == b"" or many.startswith(b"HTTP/1.1 400")
    assert listener.refused == ["malformed", "malformed"]


@pytest.mark.parametrize("data", [b"\x16\x03\x01\x02\x00", b"GET /\r\n\r\n", b"\0" * 20 + b"\r\n\r\n"])
async def test_what_is_not_http_is_refused(listener: Listener, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "REQUEST_TIMEOUT_S", 0.3)
    answer = await listener.ask(data)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400")
    assert len(listener.refused) == 1


async def test_connections_are_bounded_and_free_again_when_others_leave(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "MAX_CONNECTIONS", 3)
    held = [await listener.connect() for _ in range(3)]
    while len(listener.server._server.server_state.connections) < 3:
        await asyncio.sleep(0.01)
    assert await listener.ask(GET) == b""
    assert listener.refused == ["too_many"]
    assert len(held) == 3
    await listener.hang_up()
    while listener.server._server.server_state.connections:
        await asyncio.sleep(0.01)
    assert (await listener.ask(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))).startswith(b"HTTP/1.1 200")


async def test_requests_one_after_another_share_a_connection(listener: Listener) -> None:
    reader, writer = await listener.connect()
    for _ in range(3):
        writer.write(GET)
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
    writer.write(GET * 3)
    for _ in range(3):
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
    writer.close()
    assert listener.refused == []


async def test_it_stops_under_clients_that_stay(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "STOP_TIMEOUT_S", 1)
    await listener.server.stop()
    server = listener.server = await start_http("127.0.0.1", 0, APP, listener.refused.append)
    await listener.connect()
    with socket.create_connection(("127.0.0.1", server.port)) as busy:
        busy.sendall(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
        while not server._server.server_state.tasks:
            await asyncio.sleep(0.01)
        async with asyncio.timeout(10):
            await server.stop()
    assert not server._server.server_state.connections
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", server.port)
    await server.stop()
