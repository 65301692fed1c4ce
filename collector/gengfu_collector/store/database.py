"""Opening the database: pragmas, migrations, and the lock that keeps a second collector out of a data folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DatabaseError, DataError, IntegrityError, InterfaceError, ProgrammingError, SQLAlchemyError

from gengfu_collector.errors import StoreError, StoreInUse, StoreTooNew

DATABASE_FILE = "gengfu.sqlite3"
LOCK_FILE = "lock"
LOCK_POLL_S = 0.05
BUSY_TIMEOUT_MS = 10_000
_WRITING = "gengfu_writing"
_MIGRATION_LOCK = 0x67656E676675
MIGRATIONS = Path(__file__).parent / "migrations"


class Database:
    """An open database at the present schema. `write` is for one thread at a time, `read` for any."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @property
    def is_sqlite(self) -> bool:
        """True for the embedded database."""
        return self.engine.dialect.name == "sqlite"

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection for reading; sees one consistent state for as long as it is open."""
        options = {} if self.is_sqlite else {"isolation_level": "REPEATABLE READ"}
        with self.engine.connect().execution_options(**options) as connection, connection.begin():
            yield connection

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """A connection in a transaction: committed at the end, rolled back by an exception."""
        with self.engine.connect().execution_options(**{_WRITING: True}) as connection, connection.begin():
            yield connection

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def open_database(data: Path, url: str | None = None) -> Database:
    """Open (creating or migrating as needed) the database of a data folder, or that of a URL.

    Raises StoreTooNew and StoreError.
    """
    target = make_url(url) if url else make_url("sqlite://").set(database=str(data / DATABASE_FILE))
    engine = _create_engine(target)
    try:
        _migrate(engine)
    except (SQLAlchemyError, OSError) as error:
        engine.dispose()
        reason = " ".join(str(getattr(error, "orig", None) or error).split())
        raise StoreError(f"cannot open the database {target.render_as_string()}: {reason}") from None
    except StoreError:
        engine.dispose()
        raise
    return Database(engine)


def is_trouble(error: BaseException) -> bool:
    """True when the database could not do it now (full, locked, gone, damaged); False when what was asked was wrong."""
    wrong = (DataError, IntegrityError, ProgrammingError)
    return isinstance(error, (DatabaseError, InterfaceError)) and not isinstance(error, wrong)


def prepare_folder(data: Path) -> None:
    """Make the data folder, for its owner only; raises StoreError with what to do."""
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        data.chmod(0o700)
        if not os.access(data, os.R_OK | os.W_OK | os.X_OK):
            raise PermissionError(13, "Permission denied")
    except OSError as error:
        raise StoreError(
            f"cannot use the data folder {data}: {error.strerror}; choose another with --data DIR"
        ) from None


def lock_folder(data: Path, wait_s: float = 0.0) -> IO[str]:
    """Take the data folder for this process until the file is closed; raises StoreInUse and StoreError.

    `wait_s` is how long to wait for a command that is at the files for a moment.
    """
    try:
        file = (data / LOCK_FILE).open("a+", encoding="ascii", errors="replace")
    except OSError as error:
        raise StoreError(f"cannot lock the data folder {data}: {error.strerror}") from None
    give_up_at_s = time.monotonic() + wait_s
    while not _try_to_lock(file):
        if time.monotonic() < give_up_at_s:
            time.sleep(LOCK_POLL_S)
            continue
        file.seek(0)
        holder = file.read().strip() or "unknown"
        file.close()
        raise StoreInUse(
            f"another collector (process {holder}) uses {data}; stop it or choose another folder with --data DIR"
        ) from None
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


def _try_to_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _create_engine(url: Any) -> Engine:
    if url.get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True)
    engine = create_engine(url, connect_args={"check_same_thread": False})

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        # SQLAlchemy says BEGIN itself below; the driver's own guesses would leave reads outside transactions.
        connection.isolation_level = None
        for pragma in (
            f"busy_timeout={BUSY_TIMEOUT_MS}",
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            "wal_autocheckpoint=4000",
            "journal_size_limit=67108864",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # Taking the write lock at once turns a late upgrade that could fail into a wait.
        writing = connection.get_execution_options().get(_WRITING)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    return engine


def newest_schema() -> str:
    """The revision of the newest migration: what its file begins with."""
    return max(path.stem for path in (MIGRATIONS / "versions").glob("[0-9]*.py")).partition("_")[0]


def _migrate(engine: Engine) -> None:
    with engine.connect() as connection, connection.begin():
        if engine.dialect.name == "postgresql":
            # Two collectors that start at once: the second finds the work done.
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"))
        current = None
        if inspect(connection).has_table("alembic_version"):
            current = connection.scalar(text("SELECT version_num FROM alembic_version"))
        if current != newest_schema():
            _upgrade(connection, current)


def _upgrade(connection: Connection, current: str | None) -> None:
    # Imported where there is something to do: a fifth of a second that most starts and commands need not spend.
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if current is not None and current not in known:
        raise StoreTooNew(
            f"the database is at schema {current}, which this version does not know; install the Gengfu that wrote it"
        )
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except SQLAlchemyError as error:
        raise StoreError(f"cannot bring the database to the present schema: {error}") from error
