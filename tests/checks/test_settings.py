"""Durations, settings and threshold overrides as people write them."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gengfu_checks.codes import THRESHOLD_BREACHED
from gengfu_checks.errors import SettingError
from gengfu_checks.model import (
    CheckKind,
    Direction,
    ItemLimits,
    Metric,
    Setting,
    SettingType,
    Threshold,
)
from gengfu_checks.settings import parse_assignment, parse_duration_s, resolve_settings, resolve_thresholds

KIND = CheckKind(
    name="sample",
    measure=lambda _: [],
    metrics=(Metric("used_ratio", "Share used"), Metric("free_bytes", "Free"), Metric("count", "Things")),
    codes=(),
    settings=(
        Setting("path", SettingType.TEXT, "what to look at", required=True),
        Setting("retries", SettingType.INTEGER, "how often", default=3, minimum=0),
        Setting("share", SettingType.NUMBER, "how much", default=0.5, minimum=0),
        Setting("deep", SettingType.BOOLEAN, "look inside", default=False),
        Setting("hold", SettingType.DURATION, "how long", default="15m"),
        Setting("skip", SettingType.TEXT_LIST, "what to leave out", default=("tmpfs",)),
        Setting("mode", SettingType.TEXT, "how", default="fast", choices=("fast", "slow")),
    ),
    thresholds=(
        Threshold("used_ratio", "sample.full", warning=0.8, critical=0.9, hysteresis=0.02),
        Threshold("free_bytes", "sample.full", Direction.BELOW, warning=2e9, critical=1e9),
    ),
)


@given(st.integers(0, 10**6), st.sampled_from([("ms", 0.001), ("s", 1), ("m", 60), ("h", 3600), ("d", 86400)]))
def test_a_duration_is_its_number_times_its_unit(count: int, unit: tuple[str, float]) -> None:
    assert parse_duration_s(f"{count}{unit[0]}") == pytest.approx(count * unit[1])
    assert parse_duration_s(f" {count} {unit[0]} ") == pytest.approx(count * unit[1])


@pytest.mark.parametrize(("text", "seconds"), [(90, 90.0), (1.5, 1.5), ("1.5h", 5400.0), ("2w", 1209600.0), (0, 0.0)])
def test_durations_people_write(text: object, seconds: float) -> None:
    assert parse_duration_s(text) == seconds


@pytest.mark.parametrize(
    "bad",
    ["", "15", "15 x", "-5m", "5m5s", "m", -1, True, None, math.nan, math.inf, 10**400, "9" * 400 + "d", [], "1e3s"],
)
def test_what_is_no_duration_is_refused(bad: object) -> None:
    with pytest.raises(SettingError, match="is not a duration"):
        parse_duration_s(bad)


def test_defaults_stand_in_for_what_is_not_given() -> None:
    assert resolve_settings(KIND, {"path": "/"}) == {
        "path": "/",
        "retries": 3,
        "share": 0.5,
        "deep": False,
        "hold": 900.0,
        "skip": ("tmpfs",),
        "mode": "fast",
    }


def test_given_settings_come_typed() -> None:
    resolved = resolve_settings(KIND, {"path": "/", "share": 1, "hold": "90s", "skip": ["a", "b"]})
    assert (resolved["share"], resolved["hold"], resolved["skip"]) == (1.0, 90.0, ("a", "b"))
    assert isinstance(resolved["share"], float)
    assert resolve_settings(KIND, {"path": "/", "skip": "a"})["skip"] == ("a",)


@pytest.mark.parametrize(
    ("given_settings", "key", "says"),
    [
        ({}, "path", "needs the setting 'path'"),
        ({"path": "/", "pth": 1}, "pth", "allowed: deep, hold, mode, path"),
        ({"path": 1}, "path", "a text"),
        ({"path": "/", "retries": "3"}, "retries", "an integer"),
        ({"path": "/", "retries": True}, "retries", "an integer"),
        ({"path": "/", "retries": -1}, "retries", "below the least value 0"),
        ({"path": "/", "share": math.nan}, "share", "a number"),
        ({"path": "/", "share": 10**400}, "share", "a number"),
        ({"path": "/", "deep": "yes"}, "deep", "a boolean"),
        ({"path": "/", "hold": "15"}, "hold", "is not a duration"),
        ({"path": "/", "skip": ["a", 1]}, "skip", "a list of texts"),
        ({"path": "/", "mode": "medium"}, "mode", "fast, slow"),
    ],
)
def test_a_bad_setting_is_refused_by_name(given_settings: Mapping[str, object], key: str, says: str) -> None:
    with pytest.raises(SettingError, match=says) as caught:
        resolve_settings(KIND, given_settings)
    assert caught.value.key == key


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("path=/a=b", ("path", "/a=b")),
        ("retries=7", ("retries", 7)),
        ("share=0.25", ("share", 0.25)),
        ("deep=yes", ("deep", True)),
        ("hold=90", ("hold", 90.0)),
        ("hold=2h", ("hold", 7200.0)),
        ("skip=a, b,,c", ("skip", ("a", "b", "c"))),
    ],
)
def test_assignments_of_a_command_line(text: str, parsed: tuple[str, object]) -> None:
    assert parse_assignment(KIND, text) == parsed


@pytest.mark.parametrize(
    "text", ["path", "pth=/", "retries=x", "retries=-1", "share=nan", "deep=si", "hold=²", "mode=x"]
)
def test_bad_assignments_are_refused(text: str) -> None:
    with pytest.raises(SettingError):
        parse_assignment(KIND, text)


def test_thresholds_without_overrides_are_the_defaults() -> None:
    assert resolve_thresholds(KIND, {}) == KIND.thresholds


def test_an_override_replaces_only_what_it_names() -> None:
    used, free = resolve_thresholds(KIND, {"used_ratio": {"warning": 0.7, "items": {"/mnt/*": {"critical": 0.99}}}})
    assert used == Threshold(
        "used_ratio",
        "sample.full",
        warning=0.7,
        critical=0.9,
        hysteresis=0.02,
        items={"/mnt/*": ItemLimits(None, 0.99)},
    )
    assert free == KIND.thresholds[1]


def test_a_value_that_cannot_be_used_is_refused_where_it_is_read() -> None:
    kind = CheckKind(
        "sample", lambda _: (), (), (), settings=(Setting("number", SettingType.TEXT, "a number", verify=int),)
    )
    assert resolve_settings(kind, {"number": "12"}) == {"number": "12"}
    with pytest.raises(SettingError, match="setting number: invalid literal") as refused:
        resolve_settings(kind, {"number": "twelve"})
    assert refused.value.key == "number"


def test_false_switches_a_level_off() -> None:
    used = resolve_thresholds(KIND, {"used_ratio": {"warning": False, "items": {"/": {"critical": False}}}})[0]
    assert (used.warning, used.critical, used.items["/"]) == (None, 0.9, ItemLimits(None, None))


def test_a_metric_without_a_threshold_can_be_given_one() -> None:
    added = resolve_thresholds(KIND, {"count": {"direction": "below", "warning": 3}})[-1]
    assert added == Threshold("count", THRESHOLD_BREACHED, Direction.BELOW, warning=3.0)


@pytest.mark.parametrize(
    ("given_thresholds", "says"),
    [
        ({"used": {"warning": 1}}, "no metric 'used'; allowed: count, free_bytes, used_ratio"),
        ({"used_ratio": {"warn": 1}}, "unknown key 'warn'"),
        ({"used_ratio": {"warning": "90%"}}, "a number in base units"),
        ({"used_ratio": {"warning": True}}, "a number in base units"),
        ({"used_ratio": {"critical": 10**400}}, "a number in base units"),
        ({"used_ratio": {"hysteresis": False}}, "hysteresis is a number"),
        ({"used_ratio": {"hysteresis": -0.1}}, "hysteresis is not negative"),
        ({"used_ratio": {"direction": "up"}}, '"above" or "below"'),
        ({"used_ratio": {"warning": 0.95}}, "warning 0.95 lies beyond critical 0.9"),
        ({"free_bytes": {"warning": 1e8}}, "warning 1e.08 lies beyond critical 1e.09"),
        ({"used_ratio": {"items": {"/": {"warning": 0.9, "critical": 0.8}}}}, "lies beyond"),
        ({"used_ratio": {"items": {"/": {"warn": 0.9}}}}, "takes only warning and critical"),
        ({"used_ratio": {"items": ["/"]}}, "items is a table"),
    ],
)
def test_a_bad_threshold_is_refused(given_thresholds: Mapping[str, Mapping[str, object]], says: str) -> None:
    with pytest.raises(SettingError, match=says):
        resolve_thresholds(KIND, given_thresholds)
