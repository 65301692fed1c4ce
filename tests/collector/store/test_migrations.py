"""The schema in the code and the one that migrations make; starts that are killed, late or too many."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text

from gengfu_collector.errors import StoreError, StoreTooNew
from gengfu_collector.store.database import DATABASE_FILE, Database, newest_schema, open_database
from gengfu_collector.store.schema import metadata

KILLED_HALF_WAY = """
import os, signal, sys
from pathlib import Path
from alembic import op
from gengfu_collector.store.database import open_database
made, create_table = [], op.create_table
def create(name, *columns, **more):
    if len(made) == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    made.append(name)
    return create_table(name, *columns, **more)
op.create_table = create
open_database(Path(sys.argv[1]))
"""


def test_migrations_make_what_the_schema_says(any_database: Database) -> None:
    with any_database.read() as connection:
        # Of SQLite's empty texts Alembic thinks that they are no defaults.
        options = {"compare_type": True, "compare_server_default": not any_database.is_sqlite}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []
        assert context.get_current_revision() == newest_schema()


def test_unique_indexes_over_part_of_a_table_are_as_the_schema_says(any_database: Database) -> None:
    """What keeps faults and tickets single; Alembic does not compare the condition of an index."""
    with any_database.read() as connection:
        found = {
            index["name"]: str(condition)
            for table in ("fault", "ticket")
            for index in inspect(connection).get_indexes(table)
            for name, condition in index["dialect_options"].items()
            if index["unique"] and name.endswith("_where")
        }
    assert set(found) == {"uq_fault_open_subject_id", "uq_ticket_unresolved_subject_id"}
    assert "'open'" in found["uq_fault_open_subject_id"]
    assert all(f"'{state}'" in found["uq_ticket_unresolved_subject_id"] for state in ("open", "acknowledged"))


@pytest.mark.parametrize("tables_before", [1, 9])
def test_a_first_start_that_is_killed_half_way_leaves_nothing(tmp_path: Path, tables_before: int) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED_HALF_WAY, str(tmp_path), str(tables_before)], check=False)
    assert killed.returncode == -signal.SIGKILL
    with closing(sqlite3.connect(tmp_path / DATABASE_FILE)) as plain, plain:
        assert plain.execute("SELECT name FROM sqlite_master").fetchall() == []
    plain.close()
    database = open_database(tmp_path)
    with database.read() as connection:
        assert {table.name for table in metadata.sorted_tables} <= set(inspect(connection).get_table_names())
    database.close()


def test_opening_again_changes_nothing(tmp_path: Path) -> None:
    open_database(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / DATABASE_FILE)) as plain, plain:
        before = plain.execute("SELECT sql FROM sqlite_master ORDER BY name").fetchall()
        open_database(tmp_path).close()
        assert plain.execute("SELECT sql FROM sqlite_master ORDER BY name").fetchall() == before
    plain.close()


def test_two_collectors_may_start_at_once_on_an_empty_postgresql(postgres_server: Any, tmp_path: Path) -> None:
    url = postgres_server.new_database()
    together, failed = threading.Barrier(4), []

    def start() -> None:
        together.wait()
        try:
            open_database(tmp_path, url).close()
        except StoreError as error:
            failed.append(str(error))

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def test_a_newer_database_is_refused_and_left_alone(any_database: Database, tmp_path: Path) -> None:
    url = any_database.engine.url.render_as_string(hide_password=False)
    with any_database.write() as connection:
        (present,) = connection.scalars(text("SELECT version_num FROM alembic_version"))
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    try:
        with pytest.raises(StoreTooNew, match=r"schema 9999.*install the Gengfu that wrote it"):
            open_database(tmp_path, url)
    finally:
        with any_database.write() as connection:
            (left,) = connection.scalars(text("SELECT version_num FROM alembic_version"))
            connection.execute(text("UPDATE alembic_version SET version_num = :present"), {"present": present})
    assert left == "9999"


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / DATABASE_FILE).write_bytes(os.urandom(8192))
    with pytest.raises(StoreError, match=f"cannot open the database .*{DATABASE_FILE}: file is not a database"):
        open_database(tmp_path)


def test_a_database_that_does_not_answer_is_told_in_one_line_without_the_password(tmp_path: Path) -> None:
    url = f"postgresql+psycopg://gengfu:geheim@/gengfu?host={tmp_path}"
    with pytest.raises(StoreError, match="cannot open the database postgresql") as caught:
        open_database(tmp_path, url)
    assert "geheim" not in str(caught.value)
    assert "\n" not in str(caught.value)
