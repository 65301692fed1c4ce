"""What the HTTP listener answers. Everything can be read only; nothing asks who is reading, so it listens on loopback
unless told otherwise."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Final, Protocol

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

READINESS_TIMEOUT_S = 2.0
GZIP_LEVEL = 2
GZIP_WINDOW_BITS = zlib.MAX_WBITS | 16

FRONT_PAGE: Final = """\
Gengfu 更夫

/metrics               metrics of the collector and of every asset
/metrics/collector     metrics of the collector alone
/metrics/asset/NAME    metrics of one asset
/sd/prometheus         targets for Prometheus (http_sd_configs): the collector, and each asset by itself
/healthz               200 while this process is up
/readyz                200 when it can do its work; otherwise 503, with the reasons
"""

SECURITY_HEADERS: Final = (
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)


class Document(Protocol):
    """Something to send, in pieces that are made while it is sent; making one takes milliseconds at most."""

    @property
    def content_type(self) -> str: ...
    @property
    def pieces(self) -> Iterator[bytes]: ...


class Metrics(Protocol):
    """Where the pages of metrics come from; `accept` and `host` are the request's headers as they are."""

    async def everything(self, accept: str) -> Document: ...
    async def collector(self, accept: str) -> Document: ...
    async def asset(self, name: str, accept: str) -> Document | None: ...
    def targets(self, host: str) -> Document | None: ...


Readiness = Callable[[], Awaitable[Sequence[str]]]
"""Why the collector cannot do its work at present, in a few words each; empty when it can."""


def build_app(metrics: Metrics, readiness: Readiness) -> Starlette:
    """The whole of the listener as an ASGI application."""
    pages = _Pages(metrics, readiness)
    app = Starlette(
        routes=[
            Route("/", pages.front),
            Route("/metrics", pages.metrics),
            Route("/metrics/collector", pages.collector),
            Route("/metrics/asset/{name:path}", pages.asset),
            Route("/sd/prometheus", pages.targets),
            Route("/healthz", pages.health),
            Route("/readyz", pages.ready),
        ],
        middleware=[Middleware(SecurityHeaders)],
    )
    # A redirection would repeat the Host header, which is the client's to choose.
    app.router.redirect_slashes = False
    return app


class SecurityHeaders:
    """ASGI middleware: these headers on every response."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *SECURITY_HEADERS]
            await send(message)

        await self._app(scope, receive, send_with_headers)


def wants_gzip(accept_encoding: str) -> bool:
    """True when the header allows gzip by name."""
    for part in accept_encoding.lower().split(","):
        coding, _, parameter = (piece.strip() for piece in part.partition(";"))
        if coding == "gzip":
            name, _, quality = parameter.partition("=")
            return name.strip() != "q" or quality.strip().rstrip("0") not in ("", ".", "0.")
    return False


class _Pages:
    def __init__(self, metrics: Metrics, readiness: Readiness) -> None:
        self._metrics = metrics
        self._readiness = readiness

    async def front(self, _request: Request) -> Response:
        return PlainTextResponse(FRONT_PAGE)

    async def metrics(self, request: Request) -> Response:
        return _respond(request, await self._metrics.everything(_accept(request)))

    async def collector(self, request: Request) -> Response:
        return _respond(request, await self._metrics.collector(_accept(request)))

    async def asset(self, request: Request) -> Response:
        document = await self._metrics.asset(request.path_params["name"], _accept(request))
        if document is None:
            return PlainTextResponse("There is no such asset.\n", 404)
        return _respond(request, document)

    async def targets(self, request: Request) -> Response:
        document = self._metrics.targets(request.headers.get("host", ""))
        if document is None:
            return PlainTextResponse("The Host header names no address that could be scraped.\n", 400)
        return _respond(request, document)

    async def health(self, _request: Request) -> Response:
        return PlainTextResponse("up\n")

    async def ready(self, _request: Request) -> Response:
        try:
            reasons = list(await asyncio.wait_for(self._readiness(), READINESS_TIMEOUT_S))
        except TimeoutError:
            reasons = [f"no answer within {READINESS_TIMEOUT_S:g} s"]
        return JSONResponse({"ready": not reasons, "reasons": reasons}, 503 if reasons else 200)


def _accept(request: Request) -> str:
    return ",".join(request.headers.getlist("accept"))


def _respond(request: Request, document: Document) -> Response:
    headers = {"content-type": document.content_type, "vary": "Accept, Accept-Encoding"}
    if wants_gzip(request.headers.get("accept-encoding", "")):
        return StreamingResponse(_gzipped(document.pieces), headers=headers | {"content-encoding": "gzip"})
    return StreamingResponse(_in_turn(document.pieces), headers=headers)


async def _in_turn(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
        # Sending need not wait for anything: give way to others after each piece.
        await asyncio.sleep(0)


async def _gzipped(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    compressor = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, GZIP_WINDOW_BITS)
    for piece in pieces:
        compressed = await asyncio.to_thread(compressor.compress, piece)
        if compressed:
            yield compressed
    yield compressor.flush()
