"""The agent's own process: small, and quiet in one form."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gengfu_agent import log

PREPARED = "from gengfu_agent import process; process.prepare()\n"


def output_of(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_openssl_is_not_loaded_by_what_the_agent_needs() -> None:
    code = "import asyncio, hashlib, pathlib\nprint('libcrypto' in pathlib.Path('/proc/self/maps').read_text())"
    assert output_of(code) == "True"  # else this test could not fail
    assert output_of(PREPARED + code) == "False"


def test_a_check_that_wants_tls_or_hashes_gets_them() -> None:
    code = (
        "import asyncio, hashlib, ssl\nprint(hashlib.sha256(b'').hexdigest()[:4], bool(ssl.create_default_context()))"
    )
    assert output_of(PREPARED + code) == "e3b0 True"


def test_what_was_imported_before_stays_whole() -> None:
    assert output_of("import asyncio, ssl\n" + PREPARED + "print(asyncio.sslproto.ssl is ssl)") == "True"


def test_letting_go_of_idle_code_does_no_harm() -> None:
    code = (
        "import asyncio, grpc, grpc.aio\n"
        "async def dial():\n"
        "    channel = grpc.aio.insecure_channel('127.0.0.1:1')\n"
        "    try:\n"
        "        await channel.unary_unary('/a/b')(b'', timeout=5)\n"
        "    except grpc.aio.AioRpcError as error:\n"
        "        print(error.code().name)\n"
        "    await channel.close()\n"
        "for _ in range(3):\n"
        "    asyncio.run(dial())\n"
        "    process.settle()\n"
    )
    assert output_of(PREPARED + code).split() == ["UNAVAILABLE"] * 3


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    written = io.StringIO()
    log.begin("info", written)
    yield written
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_record_is_one_line_of_json(stream: io.StringIO) -> None:
    logging.getLogger("a.b").warning(
        "something_happened", extra={"reason": "x\ny\x1b[31m 中", "count": 3, "seqs": [1, 2]}
    )
    logging.getLogger("a.b").debug("not_shown")
    (line,) = stream.getvalue().splitlines()
    record = json.loads(line)
    assert record.pop("time").endswith("Z")
    assert record == {
        "level": "warning",
        "event": "something_happened",
        "logger": "a.b",
        "reason": "x\ny\x1b[31m 中",
        "count": 3,
        "seqs": [1, 2],
    }
    assert "\x1b" not in line


def test_a_defect_comes_with_its_traceback(stream: io.StringIO) -> None:
    try:
        raise ValueError("why")
    except ValueError:
        logging.getLogger("a").exception("defect")
    assert "ValueError: why" in json.loads(stream.getvalue())["traceback"]


@given(
    st.dictionaries(st.sampled_from("abc"), st.one_of(st.text(), st.floats(), st.integers(), st.binary(), st.none()))
)
def test_any_field_makes_one_line_of_ascii(fields: dict[str, object]) -> None:
    record = logging.makeLogRecord({"msg": "event", **fields})
    line = log.JsonFormatter().format(record)
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["event"] == "event"
