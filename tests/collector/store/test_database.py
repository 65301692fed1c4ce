"""The data folder and its lock, transactions, and numbers that are given out once."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sqlalchemy import insert, select

from gengfu_collector.errors import StoreError, StoreInUse
from gengfu_collector.store import sequences
from gengfu_collector.store.database import LOCK_FILE, Database, lock_folder, prepare_folder
from gengfu_collector.store.schema import sequence

HOLD = """
import sys
from pathlib import Path
from gengfu_collector.store.database import lock_folder
held = lock_folder(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_the_folder_is_for_its_owner_alone(tmp_path: Path) -> None:
    data = tmp_path / "new" / "data"
    prepare_folder(data)
    assert data.stat().st_mode & 0o777 == 0o700
    data.chmod(0o755)
    prepare_folder(data)
    assert data.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_cannot_be_made_is_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match=r"cannot use the data folder .*file/data: .*; choose another with --data DIR"):
        prepare_folder(tmp_path / "file" / "data")


def test_one_process_holds_the_folder_and_the_next_hears_which(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(StoreInUse, match=rf"\(process {holder.pid}\) uses {tmp_path}"):
        lock_folder(tmp_path)
    holder.kill()
    holder.communicate()
    with lock_folder(tmp_path):
        pass


def test_a_lock_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).mkdir()
    with pytest.raises(StoreError, match="cannot lock the data folder"):
        lock_folder(tmp_path)


def test_what_fails_is_rolled_back(any_database: Database) -> None:
    def spoil() -> None:
        with any_database.write() as connection:
            connection.execute(insert(sequence).values(name="lost", next=1))
            raise ArithmeticError

    with pytest.raises(ArithmeticError):
        spoil()
    with any_database.read() as connection:
        assert connection.execute(select(sequence)).all() == []


def test_a_reader_sees_one_moment(any_database: Database) -> None:
    with any_database.write() as connection:
        sequences.take(connection, "one")
    with any_database.read() as reader:
        before = reader.execute(select(sequence)).all()
        with any_database.write() as connection:
            sequences.take(connection, "one")
            sequences.take(connection, "two")
        assert reader.execute(select(sequence)).all() == before
    with any_database.read() as reader:
        assert len(reader.execute(select(sequence)).all()) == 2


def test_a_number_is_given_out_once_and_comes_back_only_with_its_transaction(any_database: Database) -> None:
    with any_database.write() as connection:
        assert [sequences.take(connection, "ticket", count) for count in (1, 3, 1)] == [1, 2, 5]

    def take_and_fail() -> None:
        with any_database.write() as connection:
            assert sequences.take(connection, "ticket") == 6
            raise ArithmeticError

    with pytest.raises(ArithmeticError):
        take_and_fail()
    with any_database.write() as connection:
        assert sequences.take(connection, "ticket") == 6


def test_many_at_once_get_different_numbers_from_the_first_on(any_database: Database) -> None:
    taken: list[int] = []
    together = threading.Barrier(4)

    def work() -> None:
        together.wait()
        for _ in range(5):
            with any_database.write() as connection:
                taken.append(sequences.take(connection, "fresh", 2))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(1, 41, 2))
