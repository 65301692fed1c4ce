"""Times as people and programs read them."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gengfu_collector.times import iso, to_ms, utc


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (1_780_000_000_007, "2026-05-28T20:26:40.007Z"),
        (2**63 - 1, "9999-12-31T23:59:59.999Z"),
        (-(2**63), "0001-01-01T00:00:00.000Z"),
        (None, None),
    ],
)
def test_iso_is_utc_with_milliseconds_and_z(ms: int | None, text: str | None) -> None:
    assert iso(ms) == text


@given(st.integers(-62_135_596_800_000, 253_402_300_799_999))
def test_every_moment_of_the_calendar_comes_back(ms: int) -> None:
    assert to_ms(utc(ms)) == ms
    assert to_ms(datetime.fromisoformat(iso(ms))) == ms


@given(st.integers())
def test_whatever_a_machine_claims_its_time_can_be_written(ms: int) -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", iso(ms))
    assert utc(ms).tzinfo is UTC
