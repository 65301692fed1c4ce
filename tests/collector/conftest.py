"""Databases to test on: the embedded one, and a real PostgreSQL that the tests start for themselves."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
from empty_store import lay_down

from gengfu_collector.store.database import Database, open_database
from gengfu_collector.store.schema import metadata

START_TIMEOUT_S = 60
SHARED = "gengfu_shared"
INITDB_OPTIONS = ("--username=gengfu", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
HOW_TO_INSTALL = "apt-get install postgresql"


@dataclass
class PostgresServer:
    """A PostgreSQL of this test session, reached by a Unix socket alone."""

    socket_folder: Path
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def url(self, name: str) -> str:
        """SQLAlchemy's address of one database."""
        return f"postgresql+psycopg://gengfu@/{name}?host={self.socket_folder}"

    def execute(self, statement: str, database: str = "postgres") -> None:
        """One statement outside transactions, as CREATE DATABASE wants it."""
        with psycopg.connect(
            host=str(self.socket_folder), user="gengfu", dbname=database, autocommit=True
        ) as connection:
            connection.execute(statement.encode())

    def new_database(self) -> str:
        """The address of a database with nothing in it."""
        name = f"gengfu_{next(self.numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def empty_shared(self) -> None:
        """Take every row out of the shared database. Ten times as fast as making a new one."""
        self.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{SHARED}'")
        tables = ", ".join(f'"{table.name}"' for table in metadata.sorted_tables)
        self.execute(f"TRUNCATE {tables} RESTART IDENTITY", SHARED)


@pytest.fixture(scope="session")
def postgres_server(requires_program: Callable[[str, str], str]) -> Iterator[PostgresServer]:
    """A running PostgreSQL; without its programs tests are skipped, with CI set they fail."""
    initdb, postgres = (requires_program(name, HOW_TO_INSTALL) for name in ("initdb", "postgres"))
    # Not below pytest's folder: PostgreSQL refuses to run as root, and its user must be able to reach the folder.
    folder = Path(tempfile.mkdtemp(prefix="gengfu-pg-"))
    user = _unprivileged_user()
    if user is not None:
        shutil.chown(folder, user)
    data = folder / "data"
    try:
        subprocess.run(
            [initdb, "--pgdata", str(data), *INITDB_OPTIONS],
            user=user,
            cwd=folder,
            check=True,
            capture_output=True,
            timeout=START_TIMEOUT_S,
        )
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(folder),
            "fsync": "off",
            "full_page_writes": "off",
            "synchronous_commit": "off",
            "shared_buffers": "16MB",
            "max_connections": "40",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [postgres, "-D", str(data), *options], user=user, cwd=folder, stdout=log, stderr=log
            )
        try:
            server = PostgresServer(folder)
            _wait_until_ready(server, process, folder / "log")
            server.execute(f"CREATE DATABASE {SHARED}")
            open_database(folder, server.url(SHARED)).close()
            yield server
        finally:
            process.send_signal(signal.SIGINT)  # "fast": connections that a test forgot do not hold it up
            process.wait(START_TIMEOUT_S)
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A fresh embedded database."""
    folder = tmp_path / "store"
    lay_down(folder)
    opened = open_database(folder)
    yield opened
    opened.close()


@pytest.fixture
def postgres_database(postgres_server: PostgresServer, tmp_path: Path) -> Iterator[Database]:
    """An empty database of a real PostgreSQL."""
    opened = open_database(tmp_path, postgres_server.url(SHARED))
    yield opened
    opened.close()
    postgres_server.empty_shared()


@pytest.fixture(params=["sqlite", "postgresql"])
def any_database(request: pytest.FixtureRequest) -> Database:
    """The test runs twice: on the embedded database and on PostgreSQL."""
    found: Database = request.getfixturevalue("database" if request.param == "sqlite" else "postgres_database")
    return found


def _unprivileged_user() -> str | None:
    """Whom to run PostgreSQL as: None for ourselves."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


def _wait_until_ready(server: PostgresServer, process: subprocess.Popen[bytes], log: Path) -> None:
    give_up_at_s = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            server.execute("SELECT 1")
        except psycopg.OperationalError as error:
            if process.poll() is not None or time.monotonic() > give_up_at_s:
                raise RuntimeError(f"PostgreSQL did not start: {log.read_text(errors='replace')}") from error
            time.sleep(0.05)
        else:
            return
