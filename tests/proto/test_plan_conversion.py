"""Plans to the wire and back; nothing that arrives raises anything but MessageError."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import PLANS, any_message, damaged

from gengfu_checks.model import Threshold
from gengfu_proto.convert import plan as wire
from gengfu_proto.convert.facts import MAX_ITEM_CHARACTERS, MAX_NAME_CHARACTERS
from gengfu_proto.convert.plan import (
    MAX_FLUSH_AFTER_S,
    MAX_TIMEOUT_S,
    Plan,
    PlannedCheck,
    decode_plan,
    encode_plan,
)
from gengfu_proto.convert.report import MAX_EVERY_S, decode_shape, encode_run
from gengfu_proto.errors import LimitExceeded, MalformedMessage, MessageError
from gengfu_proto.v1 import plan_pb2

SLOW_TO_BUILD = settings(suppress_health_check=[HealthCheck.too_slow])
DISK = PlannedCheck("disk", "disk", 60.0, 10.0)


def message(**fields: object) -> bytes:
    """A plan of one check, which is in order but for what is given."""
    one = plan_pb2.PlannedCheck(name="disk", kind="disk", every_ms=60_000, timeout_ms=10_000)
    one.MergeFrom(plan_pb2.PlannedCheck(**fields))  # type: ignore[arg-type]
    return plan_pb2.Plan(version="v", checks=[one]).SerializeToString()


@given(PLANS)
@SLOW_TO_BUILD
def test_a_plan_comes_back_as_it_went(plan: Plan) -> None:
    back = decode_plan(encode_plan(plan))
    assert dataclasses.replace(back, version="") == plan
    for before, after in zip(plan.checks, back.checks, strict=True):
        assert [type(after.settings[name]) for name in before.settings] == [type(v) for v in before.settings.values()]
        assert [list(t.items) for t in after.thresholds] == [list(t.items) for t in before.thresholds]


@given(PLANS, PLANS)
@SLOW_TO_BUILD
def test_the_version_changes_when_and_only_when_the_content_does(one: Plan, other: Plan) -> None:
    versions = [decode_plan(encode_plan(plan)).version for plan in (one, other)]
    assert (versions[0] == versions[1]) == (encode_plan(one) == encode_plan(other))
    assert encode_plan(dataclasses.replace(one, version="told otherwise")) == encode_plan(one)


def test_settings_in_another_order_are_the_same_plan() -> None:
    first = dataclasses.replace(DISK, settings={"a": 1, "b": "x"})
    second = dataclasses.replace(DISK, settings={"b": "x", "a": 1})
    assert encode_plan(Plan((first,))) == encode_plan(Plan((second,)))


def read(data: bytes) -> None:
    """What an agent does with a plan that it was sent."""
    try:
        plan = decode_plan(data)
    except MessageError as error:
        said = str(error)
    else:
        assert all(check.every_s >= wire.MIN_EVERY_S and check.timeout_s > 0 for check in plan.checks)
        return
    assert said


@given(st.binary(max_size=200))
def test_rubbish_is_refused_as_such(data: bytes) -> None:
    read(data)


@given(st.data())
@settings(max_examples=300)
def test_damaged_plans_are_read_or_refused(data: st.DataObject) -> None:
    check = dataclasses.replace(
        DISK, settings={"paths": ("/", "/home"), "deep": True}, thresholds=(Threshold("used_ratio", "disk.full"),)
    )
    read(data.draw(damaged(encode_plan(Plan((check,))))))


@given(any_message(plan_pb2.Plan.DESCRIPTOR))
@SLOW_TO_BUILD
def test_well_formed_plans_of_any_content_are_read_or_refused(plan: plan_pb2.Plan) -> None:
    read(plan.SerializeToString())


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (message(name="../../etc"), "not a check name"),
        (message(name="n" * 129), "not a check name"),
        (message(kind="Disk; rm"), "not a check kind"),
        (message(every_ms=999), "at most every 1 s"),
        (
            plan_pb2.Plan(checks=[plan_pb2.PlannedCheck(name="a", kind="a", every_ms=1000)]).SerializeToString(),
            "timeout",
        ),
        (message(settings={"a": plan_pb2.SettingValue()}), "setting 'a' has no value"),
        (message(settings={"a": plan_pb2.SettingValue(number=math.nan)}), "setting 'a' has no value"),
        (message(thresholds=[plan_pb2.Threshold(metric="A B", code="x.y")]), "names a metric and a code"),
        (message(thresholds=[plan_pb2.Threshold(metric="a", code="x y")]), "names a metric and a code"),
        (message(thresholds=[plan_pb2.Threshold(metric="a", code="b", warning=math.nan)]), "not a finite number"),
        (message(thresholds=[plan_pb2.Threshold(metric="a", code="b", hysteresis=math.inf)]), "not a finite number"),
        (
            message(
                thresholds=[
                    plan_pb2.Threshold(metric="a", code="b", items=[plan_pb2.ItemLimits(item="/", critical=-math.inf)])
                ]
            ),
            "not a finite number",
        ),
    ],
)
def test_each_thing_wrong_with_a_plan_is_said(data: bytes, said: str) -> None:
    with pytest.raises(MalformedMessage, match=said):
        decode_plan(data)


def test_one_name_twice_is_refused() -> None:
    with pytest.raises(MalformedMessage, match="one check twice"):
        decode_plan(encode_plan(Plan((DISK, DISK))))


def test_a_negative_hysteresis_counts_as_none() -> None:
    (check,) = decode_plan(message(thresholds=[plan_pb2.Threshold(metric="a", code="b", hysteresis=-1)])).checks
    assert check.thresholds[0].hysteresis == 0.0


def with_checks(count: int) -> bytes:
    checks = [plan_pb2.PlannedCheck(name=f"c{i}", kind="disk", every_ms=1000, timeout_ms=1) for i in range(count)]
    return plan_pb2.Plan(checks=checks).SerializeToString()


@pytest.mark.parametrize(
    ("build", "limit"),
    [
        (with_checks, wire.MAX_CHECKS),
        (lambda n: message(settings={f"s{i}": plan_pb2.SettingValue(integer=i) for i in range(n)}), wire.MAX_SETTINGS),
        (lambda n: message(settings={"s": plan_pb2.SettingValue(text="x" * n)}), wire.MAX_SETTING_CHARACTERS),
        (lambda n: message(target="t" * n), MAX_ITEM_CHARACTERS),
        (lambda n: plan_pb2.Plan(version="v" * n).SerializeToString(), MAX_NAME_CHARACTERS),
    ],
    ids=["checks", "settings", "setting", "target", "version"],
)
def test_a_limit_is_allowed_and_one_more_is_refused(build: Callable[[int], bytes], limit: int) -> None:
    decode_plan(build(limit))
    with pytest.raises(LimitExceeded, match="at most"):
        decode_plan(build(limit + 1))


def test_a_list_longer_than_the_limit_is_refused() -> None:
    def with_texts(count: int) -> bytes:
        return message(settings={"s": plan_pb2.SettingValue(text_list=plan_pb2.TextList(texts=["x"] * count))})

    assert decode_plan(with_texts(wire.MAX_LIST_TEXTS)).checks[0].settings == {"s": ("x",) * wire.MAX_LIST_TEXTS}
    with pytest.raises(MessageError):
        decode_plan(with_texts(wire.MAX_LIST_TEXTS + 1))


def test_a_plan_of_too_many_bytes_is_refused_before_it_is_read() -> None:
    with pytest.raises(LimitExceeded, match=f"at most {wire.MAX_PLAN_BYTES}"):
        decode_plan(b"\xff" * (wire.MAX_PLAN_BYTES + 1))


def test_periods_beyond_reason_are_shortened_so_that_findings_can_be_told() -> None:
    most = 2**64 - 1
    largest = plan_pb2.Plan(
        checks=[{"name": "x", "kind": "cpu", "every_ms": most, "timeout_ms": most}],
        flush_after_ms=most,
        inventory_every_ms=most,
    )
    plan = decode_plan(largest.SerializeToString())
    (check,) = plan.checks
    assert (check.every_s, plan.inventory_every_s) == (MAX_EVERY_S, MAX_EVERY_S)
    assert (check.timeout_s, plan.flush_after_s) == (MAX_TIMEOUT_S, MAX_FLUSH_AFTER_S)
    assert decode_shape(encode_run("x", "cpu", check.every_s, [], {}, 0.1).shape).every_s == MAX_EVERY_S
