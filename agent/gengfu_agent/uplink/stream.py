"""The wire end of one stream: messages up one at a time, messages down, and gRPC's failures as errors of the agent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import grpc
import grpc.aio

from gengfu_agent.clock import Clock
from gengfu_agent.errors import BrokenProtocol, Unreachable, UplinkError
from gengfu_agent.transport import meaning
from gengfu_agent.uplink.timing import Timing
from gengfu_proto.v1 import stream_pb2, stream_pb2_grpc


class Stream:
    """One RPC. Every method raises UplinkError when the stream is gone or takes nothing."""

    def __init__(self, channel: grpc.aio.Channel, address: str, clock: Clock, timing: Timing) -> None:
        stub = stream_pb2_grpc.AgentStreamStub(channel)  # type: ignore[no-untyped-call]
        self._call: Any = stub.Converse()
        self._address = address
        self._clock = clock
        self._timing = timing
        self._writing = asyncio.Lock()
        self._said_goodbye = False

    async def send(self, **message: object) -> None:
        """Send one Up message; nothing is sent any more after Goodbye."""
        async with self._writing:
            if not self._said_goodbye:
                await self._write(stream_pb2.Up(**message))  # type: ignore[arg-type]

    async def receive(self) -> stream_pb2.Down | None:
        """Return the next message, None at the end of the stream."""
        async with self._translated():
            message = await self._call.read()
            return message if isinstance(message, stream_pb2.Down) else None

    async def goodbye(self, reason: stream_pb2.GoodbyeReason.ValueType) -> None:
        """Say that this end sends nothing more, and why; the other end may still answer."""
        async with self._writing:
            self._said_goodbye = True
            await self._write(stream_pb2.Up(goodbye=stream_pb2.Goodbye(reason=reason)))

    async def finish(self) -> None:
        """End this side of the stream; the other end ends its own when it has read everything."""
        async with self._translated():
            await self._call.done_writing()

    def cancel(self) -> None:
        """Drop the stream."""
        self._call.cancel()

    async def _write(self, message: stream_pb2.Up) -> None:
        async with self._translated():
            try:
                async with asyncio.timeout(self._timing.send_s):
                    await self._call.write(message)
            except TimeoutError:
                raise Unreachable(f"the collector at {self._address} takes nothing any more") from None

    @asynccontextmanager
    async def _translated(self) -> AsyncIterator[None]:
        try:
            yield
        except grpc.aio.AioRpcError as error:
            raise self._meaning(error.code(), error.details()) from error
        except asyncio.InvalidStateError as error:  # it was over before
            raise self._meaning(await self._call.code(), await self._call.details()) from error
        except grpc.aio.UsageError as error:
            raise BrokenProtocol(f"the stream to {self._address} cannot be used: {error}") from error

    def _meaning(self, code: grpc.StatusCode, details: str | None) -> UplinkError:
        if code is grpc.StatusCode.OK:
            return Unreachable(f"the collector at {self._address} ended the stream")
        now = datetime.fromtimestamp(self._clock.wall_ms() / 1000, UTC)
        return meaning(code, details, self._address, now.strftime("%Y-%m-%d %H:%M:%S UTC"))
