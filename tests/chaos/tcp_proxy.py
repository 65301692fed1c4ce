"""A TCP proxy that can be told to misbehave as networks do. One for each agent, in a thread of its own."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

CHUNK_BYTES = 64 * 1024

T = TypeVar("T")


class TcpProxy:
    """Listens on `port` of 127.0.0.1 and passes on to `target_port`, from `start` to `stop`.

    cut        resets every connection, and every new one
    stall      takes what comes and passes nothing on, in either direction; afterwards everything goes its way
    half_open  ends every connection at the collector's end only; the agent's end hears nothing any more, for ever
    slow       passes everything on `delay_s` later
    one_way    loses what the collector says; afterwards resets the connections that have lost something
    """

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.port = 0
        self.delay_s = 0.0
        self._cut = False
        self._one_way = False
        self._pairs: set[_Pair] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: asyncio.Server | None = None
        self._flowing: asyncio.Event

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()
        self._call(self._start())

    def stop(self) -> None:
        """End everything."""
        self._call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def begin(self, misdeed: str, delay_s: float = 0.0) -> None:
        """Begin one of the four misdeeds."""
        self._call(self._begin(misdeed, delay_s))

    def behave(self) -> None:
        """Be a good proxy from now on."""
        self._call(self._behave())

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _start(self) -> None:
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        assert self._server is not None
        self._server.close()
        tasks = [pair.task for pair in self._pairs]
        for pair in list(self._pairs):
            pair.reset()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _begin(self, misdeed: str, delay_s: float) -> None:
        match misdeed:
            case "cut":
                self._cut = True
                for pair in list(self._pairs):
                    pair.reset()
            case "stall":
                self._flowing.clear()
            case "half_open":
                for pair in list(self._pairs):
                    pair.forget_collector()
            case "slow":
                self.delay_s = delay_s
            case "one_way":
                self._one_way = True
            case _:
                raise ValueError(misdeed)

    async def _behave(self) -> None:
        self._cut = self._one_way = False
        self.delay_s = 0.0
        for pair in [pair for pair in self._pairs if pair.has_lost]:
            pair.reset()
        self._flowing.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._cut:
            _reset(writer)
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target_port)
        except OSError:
            _reset(writer)
            return
        task = asyncio.current_task()
        assert task is not None
        pair = _Pair(writer, far_writer, task)
        self._pairs.add(pair)
        try:
            await asyncio.gather(self._pass(pair, reader, far_writer), self._pass(pair, far_reader, writer))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._pairs.discard(pair)
            _reset(writer)
            _reset(far_writer)

    async def _pass(self, pair: _Pair, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK_BYTES):
            await self._flowing.wait()
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            if self._one_way and writer is pair.near:
                pair.has_lost = True
            elif not pair.half_open and not pair.has_lost:
                writer.write(data)
                await writer.drain()
        if pair.half_open:
            await asyncio.Event().wait()
        raise ConnectionResetError


class _Pair:
    """The two connections of one client."""

    def __init__(self, near: asyncio.StreamWriter, far: asyncio.StreamWriter, task: asyncio.Task[Any]) -> None:
        self.half_open = False
        self.has_lost = False
        self.task = task
        self.near = near
        self._far = far

    def reset(self) -> None:
        _reset(self.near)
        _reset(self._far)
        self.task.cancel()

    def forget_collector(self) -> None:
        self.half_open = True
        _reset(self._far)


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection as a reset does: without waiting for what is still on its way."""
    sock = writer.get_extra_info("socket")
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
