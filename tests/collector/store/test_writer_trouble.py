"""What the writer says of a database that refuses, and that nothing ends its thread."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError

from gengfu_collector.store.database import Database
from gengfu_collector.store.writer import Writer


def refuse(_connection: Connection) -> None:
    raise OperationalError("INSERT", {}, Exception("database or disk is full"))


def test_a_refusal_is_remembered_for_a_while(database: Database) -> None:
    writer = Writer(database, lambda _error: None)
    assert writer.refused_within(60) == ""
    with pytest.raises(OperationalError):
        writer.call(refuse).result(10)
    assert writer.refused_within(60) == "database or disk is full"
    assert writer.refused_within(0) == ""
    writer.close()


def test_a_job_that_cannot_be_told_its_end_does_not_end_the_writer(database: Database) -> None:
    class Deaf:
        def run(self, connection: Connection) -> None:
            connection.execute(text("SELECT 1"))

        def undo(self) -> None:
            """Nothing was changed."""

        def committed(self) -> None:
            raise RuntimeError("nobody listens")

        def failed(self, error: BaseException) -> None:
            raise RuntimeError("nobody listens") from error

    errors: list[BaseException] = []
    writer = Writer(database, errors.append)
    writer.submit(Deaf())
    assert writer.call(lambda connection: connection.execute(text("SELECT 2")).scalar()).result(10) == 2
    assert [str(error) for error in errors] == ["nobody listens"]
    writer.close()
