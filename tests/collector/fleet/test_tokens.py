"""Tokens: told once, stored as a hash, counted exactly, also when two machines want the last use at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, inspect, select, text

from gengfu_collector.errors import NotFound, Refused, UsageError
from gengfu_collector.fleet import tokens
from gengfu_collector.store.database import Database
from gengfu_collector.store.schema import metadata
from gengfu_proto.token import parse_token

NOW_MS = 1_780_000_000_000
PIN = bytes(range(32))


def create(connection: Connection, *, uses: int = 1, ttl_s: int = 3600, asset_class: str = "terminal") -> str:
    """A token's secret."""
    line = tokens.create(
        connection,
        pin=PIN,
        uses=uses,
        ttl_s=ttl_s,
        asset_class=asset_class,
        labels={"site": "hq"},
        actor="li",
        now_ms=NOW_MS,
    )
    token = parse_token(line)
    assert token.pin == PIN
    return token.secret


def test_a_token_carries_class_and_labels_and_is_listed_without_its_secret(any_database: Database) -> None:
    with any_database.write() as connection:
        secret = create(connection, uses=2)
    with any_database.write() as connection:
        found = tokens.find(connection, secret)
        tokens.use(connection, found, NOW_MS)
        assert (found.asset_class, dict(found.labels)) == ("terminal", {"site": "hq"})
        assert [token.as_json(NOW_MS) for token in tokens.every(connection)] == [
            {
                "id": found.id,
                "class": "terminal",
                "labels": {"site": "hq"},
                "state": "usable",
                "uses_left": 1,
                "created_at": "2026-05-28T20:26:40.000Z",
                "expires_at": "2026-05-28T21:26:40.000Z",
            }
        ]


def test_the_secret_stands_nowhere_in_the_database(any_database: Database) -> None:
    with any_database.write() as connection:
        secret = create(connection)
    with any_database.read() as connection:
        names = inspect(connection).get_table_names()
        assert set(metadata.tables) <= set(names)
        dump = "".join(str(row) for name in names for row in connection.execute(text(f'SELECT * FROM "{name}"')))
    assert "token_created" in dump
    assert secret not in dump
    assert secret.upper() not in dump


def test_each_use_counts_and_after_the_last_one_it_is_used_up(any_database: Database) -> None:
    with any_database.write() as connection:
        secret = create(connection, uses=2)
        for _ in range(2):
            tokens.use(connection, tokens.find(connection, secret), NOW_MS)
        with pytest.raises(Refused, match=r"used up.*token create"):
            tokens.use(connection, tokens.find(connection, secret), NOW_MS)
        assert tokens.every(connection)[0].state(NOW_MS) == "used_up"


def test_a_token_expires_to_the_millisecond(database: Database) -> None:
    with database.write() as connection:
        found = tokens.find(connection, create(connection, uses=9, ttl_s=3600))
        tokens.use(connection, found, NOW_MS + 3_599_999)
        with pytest.raises(Refused, match=r"expired.*token create"):
            tokens.use(connection, found, NOW_MS + 3_600_000)
        assert found.state(NOW_MS + 3_600_000) == "expired"


def test_a_revoked_token_lets_nobody_in(any_database: Database) -> None:
    with any_database.write() as connection:
        secret = create(connection, uses=9)
        found = tokens.find(connection, secret)
        revoked = tokens.revoke(connection, found.id, actor="li", now_ms=NOW_MS + 1)
        assert revoked == tokens.every(connection)[0]
        with pytest.raises(Refused, match="expired"):
            tokens.use(connection, tokens.find(connection, secret), NOW_MS + 1)
        with pytest.raises(Refused, match="expired already"):
            tokens.revoke(connection, found.id, actor="li", now_ms=NOW_MS + 2)
        with pytest.raises(NotFound, match="no token 77"):
            tokens.revoke(connection, 77, actor="li", now_ms=NOW_MS)


@given(st.one_of(st.text(max_size=100), st.text(alphabet="abcdefghijklmnopqrstuvwxyz234567", min_size=32, max_size=32)))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_not_the_secret_is_unknown_with_one_text(database: Database, wrong: str) -> None:
    with database.read() as connection, pytest.raises(NotFound) as caught:
        tokens.find(connection, wrong)
    assert str(caught.value) == tokens.UNKNOWN_TOKEN


def test_tokens_that_may_not_be_are_refused(database: Database) -> None:
    with database.write() as connection:
        for uses in (0, -1, 100_001):
            with pytest.raises(UsageError, match="1 to 100000 times"):
                create(connection, uses=uses)
        for ttl_s in (0, 59, 400 * 86_400):
            with pytest.raises(UsageError, match="60 to 31622400 seconds"):
                create(connection, ttl_s=ttl_s)
        with pytest.raises(UsageError, match="allowed are terminal, server"):
            create(connection, asset_class="ups")
        assert tokens.every(connection) == []


def test_tokens_long_past_their_end_are_forgotten(database: Database) -> None:
    with database.write() as connection:
        create(connection)
        late_ms = NOW_MS + 3_600_000 + tokens.KEPT_AFTER_EXPIRY_MS + 1
        tokens.create(
            connection, pin=PIN, uses=1, ttl_s=60, asset_class="server", labels={}, actor="li", now_ms=late_ms
        )
        assert [token.asset_class for token in tokens.every(connection)] == ["server"]


@pytest.mark.parametrize("locked", [True, False])
def test_of_many_who_want_the_last_uses_at_once_exactly_so_many_win(any_database: Database, locked: bool) -> None:
    """`locked`: as enrolment does it. Otherwise everybody has read the token before anybody counts."""
    with any_database.write() as connection:
        secret = create(connection, uses=3)
        known = tokens.find(connection, secret)
    start = threading.Barrier(8)

    def want() -> bool:
        start.wait()
        try:
            with any_database.write() as connection:
                tokens.use(connection, tokens.find(connection, secret) if locked else known, NOW_MS)
        except Refused:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = [future.result() for future in [pool.submit(want) for _ in range(8)]]
    assert won.count(True) == 3
    with any_database.read() as connection:
        left = connection.execute(select(metadata.tables["token"].c.uses_left)).scalar_one()
    assert left == 0
