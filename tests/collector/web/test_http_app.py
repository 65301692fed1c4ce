"""What the HTTP listener answers, asked over a real socket."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

import httpx
import pytest

from gengfu_collector.web import app as app_module
from gengfu_collector.web.app import build_app, wants_gzip
from gengfu_collector.web.server import start_http

SECURITY_HEADERS = {
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


@dataclass(frozen=True)
class Page:
    content_type: str
    pieces: Iterator[bytes]


class OnePage:
    """Stands for the metrics: pages that say what was asked for."""

    async def everything(self, accept: str) -> Page:
        return Page("text/plain; version=0.0.4", iter([b"everything ", accept.encode()] + [b"x" * 100_000] * 20))

    async def collector(self, accept: str) -> Page:
        return Page("text/plain; version=0.0.4", iter([b"collector ", accept.encode()]))

    async def asset(self, name: str, accept: str) -> Page | None:
        return None if name == "nobody" else Page("text/plain; version=0.0.4", iter([b"asset ", name.encode()]))

    def targets(self, host: str) -> Page | None:
        return Page("application/json", iter([json.dumps([host]).encode()]))


class Broken(OnePage):
    async def collector(self, accept: str) -> Page:
        raise RuntimeError("secret-detail")

    def targets(self, host: str) -> Page | None:
        return None


async def ready() -> Sequence[str]:
    return []


Start = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


@asynccontextmanager
async def running(
    metrics: OnePage | None = None, readiness: Callable[[], object] = ready
) -> AsyncIterator[httpx.AsyncClient]:
    refused: list[str] = []
    server = await start_http("127.0.0.1", 0, build_app(metrics or OnePage(), readiness), refused.append)  # type: ignore[arg-type]
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", timeout=20) as client:
            yield client
    finally:
        await server.stop()
    assert refused == []


async def test_every_page_is_where_the_front_page_says() -> None:
    async with running() as client:
        front = await client.get("/")
        assert front.status_code == 200
        paths = [line.split()[0] for line in front.text.splitlines() if line.startswith("/")]
        assert len(paths) == 6
        for path in paths:
            response = await client.get(path)
            assert response.status_code == 200, path
            assert SECURITY_HEADERS.items() <= dict(response.headers).items()
            assert "server" not in response.headers


async def test_pages_are_those_of_the_request() -> None:
    async with running() as client:
        whole = await client.get("/metrics", headers={"accept": "a/b;q=0.5", "accept-encoding": "identity"})
        assert whole.text == "everything a/b;q=0.5" + "x" * 2_000_000
        assert "content-encoding" not in whole.headers
        assert whole.headers["content-type"] == "text/plain; version=0.0.4"
        assert (await client.get("/metrics/collector", headers={"accept": "c/d"})).text == "collector c/d"
        assert (await client.get("/sd/prometheus", headers={"host": "name:99"})).json() == ["name:99"]


async def test_an_asset_is_found_whatever_its_name() -> None:
    async with running() as client:
        for name in ("srv-1", "a/b", "机房 1", "100%", "%2F", "a?b#c", "..", "a//b/"):
            path = "".join(f"%{byte:02X}" for byte in name.encode())
            assert (await client.get(f"/metrics/asset/{path}")).text == f"asset {name}"


async def test_what_is_not_there() -> None:
    async with running() as client:
        for path in ("/metrics/asset/nobody", "/nothing", "/metrics/", "/metrics/asset", "/Metrics"):
            response = await client.get(path)
            assert (path, response.status_code) == (path, 404)
            assert SECURITY_HEADERS.items() <= dict(response.headers).items()


@pytest.mark.parametrize("path", ["/", "/metrics", "/sd/prometheus", "/readyz"])
async def test_nothing_can_be_changed(path: str) -> None:
    async with running() as client:
        for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "NONSENSE"):
            response = await client.request(method, path)
            assert (method, response.status_code) == (method, 405)
            assert set(response.headers["allow"].split(", ")) == {"GET", "HEAD"}


async def test_head_says_the_same_without_a_body() -> None:
    async with running() as client:
        for path in ("/", "/metrics", "/healthz", "/readyz", "/sd/prometheus"):
            get, head = await client.get(path), await client.head(path)
            assert (head.status_code, head.content) == (200, b"")
            assert head.headers["content-type"] == get.headers["content-type"]


async def test_gzip_for_who_asks_for_it() -> None:
    async with running() as client:
        async with client.stream("GET", "/metrics", headers={"accept-encoding": "gzip", "accept": "x"}) as response:
            raw = b"".join([piece async for piece in response.aiter_raw()])
        assert response.headers["content-encoding"] == "gzip"
        assert "Accept-Encoding" in response.headers["vary"]
        assert len(raw) < 50_000
        assert gzip.decompress(raw) == b"everything x" + b"x" * 2_000_000


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        ("gzip", True),
        ("deflate, GZIP;q=0.5", True),
        ("gzip; q=1.0", True),
        ("gzip;q=0.001", True),
        ("gzip;q=0", False),
        ("gzip;q=0.000", False),
        ("identity", False),
        ("*", False),
        ("xgzip", False),
        ("", False),
    ],
)
def test_who_wants_gzip(header: str, wanted: bool) -> None:
    assert wants_gzip(header) is wanted


async def test_the_health_page_says_that_the_process_is_up() -> None:
    async def not_ready() -> Sequence[str]:
        return ["the store cannot be written: disk full"]

    async with running(readiness=not_ready) as client:
        assert (await client.get("/healthz")).status_code == 200
        response = await client.get("/readyz")
        assert response.status_code == 503
        assert response.json() == {"ready": False, "reasons": ["the store cannot be written: disk full"]}


async def test_ready() -> None:
    async with running() as client:
        response = await client.get("/readyz")
        assert (response.status_code, response.json()) == (200, {"ready": True, "reasons": []})


async def test_readiness_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_module, "READINESS_TIMEOUT_S", 0.05)

    async def never() -> Sequence[str]:
        await asyncio.Event().wait()
        return []

    async with running(readiness=never) as client:
        response = await client.get("/readyz")
        assert response.status_code == 503
        assert response.json()["reasons"] == ["no answer within 0.05 s"]


async def test_a_defect_tells_the_log_and_not_the_client(caplog: pytest.LogCaptureFixture) -> None:
    async with running(Broken()) as client:
        response = await client.get("/metrics/collector")
        assert response.status_code == 500
        assert "secret-detail" not in response.text
        assert (await client.get("/healthz")).status_code == 200
    assert "secret-detail" in caplog.text


async def test_discovery_needs_an_address() -> None:
    async with running(Broken()) as client:
        assert (await client.get("/sd/prometheus")).status_code == 400
