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


class NobodyReads(asyncio.CancelledError):
    """Ends a handler: gRPC holds a message that the other end does not take, and can send no status behind it.

    It holds it for as long as that connection lasts.
    """


async def turn_away(context: grpc.aio.ServicerContext[bytes, bytes], error: Exception, *, may_tell: bool) -> None:
    """Tell why, in a drain message where the other end can read one; then it should be left to go (`let_go`).

    Without `may_tell`, in a status only, which no window of the other end holds up. Raises NobodyReads.
    """
    away = as_away(error)
    reason = str(away or error) or "no Hello in time"
    _log.warning("stream refused", reason=reason)
    if away is None:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, reason)
    if not may_tell:
        await context.abort(grpc.StatusCode.UNAVAILABLE, reason)
    try:
        await asyncio.wait_for(context.write(messages.drain(away.reason, away.retry_after_ms, str(away))), LEAVE_S)
    except TimeoutError:
        raise NobodyReads from None
    except GONE:
        return


async def let_go(context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
    """Wait a little until the other end has left."""
    with contextlib.suppress(*GONE):
        async with asyncio.timeout(LEAVE_S):
            while isinstance(await context.read(), bytes):
                pass
