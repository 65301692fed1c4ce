"""What an agent is told to do, as plain values and on the wire."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError

from gengfu_checks.model import (
    CODE_PATTERN,
    METRIC_PATTERN,
    Direction,
    ItemLimits,
    SettingValue,
    Threshold,
)
from gengfu_proto.convert.facts import MAX_ITEM_CHARACTERS, MAX_NAME_CHARACTERS
from gengfu_proto.convert.report import CHECK_NAME_PATTERN, MAX_EVERY_S
from gengfu_proto.errors import LimitExceeded, MalformedMessage
from gengfu_proto.text import clean
from gengfu_proto.v1 import plan_pb2, report_pb2

MAX_PLAN_BYTES = 512 * 1024
MAX_CHECKS = 500
MAX_SETTINGS = 64
MAX_SETTING_CHARACTERS = 4_096
MAX_LIST_TEXTS = 500
MIN_EVERY_S = 1.0
MIN_INVENTORY_EVERY_S = 60.0
MAX_TIMEOUT_S = 86_400.0
MAX_FLUSH_AFTER_S = 86_400.0


@dataclass(frozen=True, slots=True)
class PlannedCheck:
    """One check of a plan. `settings` hold durations as seconds; `thresholds` are complete."""

    name: str
    kind: str
    every_s: float
    timeout_s: float
    settings: Mapping[str, SettingValue] = field(default_factory=dict)
    thresholds: tuple[Threshold, ...] = ()
    target: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that one agent does. Equal contents have equal versions."""

    checks: tuple[PlannedCheck, ...]
    flush_after_s: float = 5.0
    version: str = ""
    inventory_every_s: float = 0.0
    """How often to look at hardware and software; 0 is never."""


def encode_plan(plan: Plan) -> bytes:
    """Return the serialised plan with its version, which is a hash of everything else in it."""
    message = plan_pb2.Plan(
        checks=[_encode_check(check) for check in plan.checks],
        flush_after_ms=round(plan.flush_after_s * 1000),
        inventory_every_ms=round(plan.inventory_every_s * 1000),
    )
    message.version = hashlib.sha256(message.SerializeToString(deterministic=True)).hexdigest()[:12]
    return message.SerializeToString(deterministic=True)


def decode_plan(data: bytes) -> Plan:
    """Return a plan with checked names and sane numbers; raises MalformedMessage or LimitExceeded.

    Whether a check exists and takes these settings is for the agent's own catalogue to say.
    """
    if len(data) > MAX_PLAN_BYTES:
        raise LimitExceeded(f"plan of {len(data)} bytes, at most {MAX_PLAN_BYTES} are allowed")
    try:
        message = plan_pb2.Plan.FromString(data)
    except DecodeError as error:
        raise MalformedMessage(f"not a plan: {error}") from None
    if len(message.checks) > MAX_CHECKS:
        raise LimitExceeded(f"plan of {len(message.checks)} checks, at most {MAX_CHECKS} are allowed")
    checks = tuple(_decode_check(check) for check in message.checks)
    if len({check.name for check in checks}) != len(checks):
        raise MalformedMessage("a plan names one check twice")
    version = clean(message.version, MAX_NAME_CHARACTERS, "plan version")
    return Plan(
        checks=checks,
        flush_after_s=min(message.flush_after_ms / 1000, MAX_FLUSH_AFTER_S),
        version=version,
        inventory_every_s=_inventory_every_s(message.inventory_every_ms),
    )


def _inventory_every_s(every_ms: int) -> float:
    return min(max(every_ms / 1000, MIN_INVENTORY_EVERY_S), MAX_EVERY_S) if every_ms else 0.0


def _encode_check(check: PlannedCheck) -> plan_pb2.PlannedCheck:
    return plan_pb2.PlannedCheck(
        name=check.name,
        kind=check.kind,
        every_ms=round(check.every_s * 1000),
        timeout_ms=round(check.timeout_s * 1000),
        settings={name: _encode_setting(value) for name, value in sorted(check.settings.items())},
        thresholds=[_encode_threshold(threshold) for threshold in check.thresholds],
        target=check.target,
    )


def _encode_setting(value: SettingValue) -> plan_pb2.SettingValue:
    if isinstance(value, bool):
        return plan_pb2.SettingValue(boolean=value)
    if isinstance(value, int):
        return plan_pb2.SettingValue(integer=value)
    if isinstance(value, float):
        return plan_pb2.SettingValue(number=value)
    if isinstance(value, str):
        return plan_pb2.SettingValue(text=value)
    return plan_pb2.SettingValue(text_list=plan_pb2.TextList(texts=value))


def _encode_threshold(threshold: Threshold) -> plan_pb2.Threshold:
    return plan_pb2.Threshold(
        metric=threshold.metric,
        code=threshold.code,
        direction=_WIRE_DIRECTIONS[threshold.direction],
        warning=threshold.warning,
        critical=threshold.critical,
        hysteresis=threshold.hysteresis,
        items=[
            plan_pb2.ItemLimits(item=item, warning=limits.warning, critical=limits.critical)
            for item, limits in threshold.items.items()
        ],
    )


_WIRE_DIRECTIONS = {Direction.ABOVE: report_pb2.DIRECTION_ABOVE, Direction.BELOW: report_pb2.DIRECTION_BELOW}


def _decode_check(message: plan_pb2.PlannedCheck) -> PlannedCheck:
    if len(message.settings) > MAX_SETTINGS:
        raise LimitExceeded(f"check with {len(message.settings)} settings, at most {MAX_SETTINGS} are allowed")
    for text, pattern, what in (
        (message.name, CHECK_NAME_PATTERN, "check name"),
        (message.kind, METRIC_PATTERN, "check kind"),
    ):
        if len(text) > MAX_NAME_CHARACTERS or pattern.fullmatch(text) is None:
            raise MalformedMessage(f"{text[:MAX_NAME_CHARACTERS]!r} is not a {what}")
    if message.every_ms < MIN_EVERY_S * 1000 or message.timeout_ms == 0:
        raise MalformedMessage(f"check {message.name}: runs at most every {MIN_EVERY_S:g} s and needs a timeout")
    return PlannedCheck(
        name=message.name,
        kind=message.kind,
        every_s=min(message.every_ms / 1000, MAX_EVERY_S),
        timeout_s=min(message.timeout_ms / 1000, MAX_TIMEOUT_S),
        settings={name: _decode_setting(name, value) for name, value in message.settings.items()},
        thresholds=tuple(_decode_threshold(threshold) for threshold in message.thresholds),
        target=clean(message.target, MAX_ITEM_CHARACTERS, "target"),
    )


def _decode_setting(name: str, message: plan_pb2.SettingValue) -> SettingValue:
    match message.WhichOneof("value"):
        case "text":
            return clean(message.text, MAX_SETTING_CHARACTERS, f"setting {name}")
        case "integer":
            return message.integer
        case "number" if math.isfinite(message.number):
            return message.number
        case "boolean":
            return message.boolean
        case "text_list" if len(message.text_list.texts) <= MAX_LIST_TEXTS:
            texts = message.text_list.texts
            return tuple(clean(text, MAX_SETTING_CHARACTERS, f"setting {name}") for text in texts)
    raise MalformedMessage(f"setting {name!r} has no value that can be read")


def _decode_threshold(message: plan_pb2.Threshold) -> Threshold:
    if METRIC_PATTERN.fullmatch(message.metric) is None or CODE_PATTERN.fullmatch(message.code) is None:
        raise MalformedMessage("a threshold names a metric and a code")
    below = message.direction == report_pb2.DIRECTION_BELOW
    numbers = [message.hysteresis, *_limits(message), *(n for item in message.items for n in _limits(item))]
    if not all(number is None or math.isfinite(number) for number in numbers):
        raise MalformedMessage(f"threshold {message.metric}: a limit is not a finite number")
    return Threshold(
        metric=message.metric,
        code=message.code,
        direction=Direction.BELOW if below else Direction.ABOVE,
        warning=_limits(message)[0],
        critical=_limits(message)[1],
        hysteresis=max(message.hysteresis, 0.0),
        items={clean(i.item, MAX_ITEM_CHARACTERS, "item"): ItemLimits(*_limits(i)) for i in message.items},
    )


def _limits(message: plan_pb2.Threshold | plan_pb2.ItemLimits) -> tuple[float | None, float | None]:
    return (
        message.warning if message.HasField("warning") else None,
        message.critical if message.HasField("critical") else None,
    )
