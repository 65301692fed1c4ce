"""The last words to whoever is not let in, and what the other end's going looks like."""

from __future__ import annotations

import asyncio
import contextlib

import grpc
from sqlalchemy.exc import SQLAlchemyError

from gengfu_collector.errors import CollectorError
from gengfu_collector.gateway import messages
from gengfu_collector.gateway.refusals import as_away
from gengfu_collector.logs import sparing_logger

LEAVE_S = 2.0
"""For the other end to read why, then to go: where it writes into a finished RPC, it loses what it has not read."""

GONE = (grpc.RpcError, grpc.aio.BaseError, asyncio.InvalidStateError, TimeoutError)

_log = sparing_logger(__name__)


def note_failure(uid: str, outcome: BaseException | None) -> None:
    """The end of a stream that nobody meant is told; that the other end went away is none."""
    if isinstance(outcome, CollectorError | SQLAlchemyError):
        _log.warning("stream failed", agent=uid, reason=str(outcome))
    elif isinstance(outcome, Exception) and not isinstance(outcome, GONE):
        _log.exception("stream failed", outcome, agent=uid)


async def turn_away(context: grpc.aio.ServicerContext[bytes, bytes], error: Exception) -> None:
    """Tell why, in a drain message where the other end can read one, and wait until it is gone."""
    _log.warning("stream refused", reason=str(error) or "no Hello in time")
    away = as_away(error)
    if away is not None:
        with contextlib.suppress(*GONE):
            await context.write(messages.drain(away.reason, away.retry_after_ms, str(away)))
            await asyncio.wait_for(_until_left(context), LEAVE_S)
        return
    await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error) or "no Hello in time")


async def _until_left(context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
    while isinstance(await context.read(), bytes):
        pass
