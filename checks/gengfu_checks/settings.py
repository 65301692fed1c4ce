"""Turning what people write into what checks take: durations, settings, threshold overrides."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from gengfu_checks.codes import THRESHOLD_BREACHED
from gengfu_checks.errors import SettingError
from gengfu_checks.model import (
    CheckKind,
    Direction,
    ItemLimits,
    Setting,
    SettingType,
    SettingValue,
    Threshold,
)

_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)")
_THRESHOLD_KEYS = ("warning", "critical", "hysteresis", "direction", "items")
_LIMIT_KEYS = ("warning", "critical")


def parse_duration_s(value: object) -> float:
    """Return seconds of `90`, `"90s"`, `"15m"`, `"24h"`, `"7d"`, `"2w"`; raises SettingError."""
    seconds = _finite(value)
    if isinstance(value, str):
        match = _DURATION.fullmatch(value.strip())
        seconds = _finite(float(match.group(1)) * _UNIT_SECONDS[match.group(2)]) if match else None
    if seconds is not None and seconds >= 0:
        return seconds
    raise SettingError(f'{value!r} is not a duration: write seconds or a number with ms, s, m, h, d or w, like "30s"')


def resolve_settings(kind: CheckKind, given: Mapping[str, object]) -> dict[str, SettingValue | None]:
    """Return every setting of a check with its value: given, else default. Durations come as seconds.

    Raises SettingError for unknown, missing and ill-typed settings.
    """
    known = {setting.name: setting for setting in kind.settings}
    for key in given:
        if key not in known:
            allowed = ", ".join(sorted(known)) or "none"
            raise SettingError(f"check {kind.name} has no setting {key!r}; allowed: {allowed}", key=key)
    resolved: dict[str, SettingValue | None] = {}
    for setting in kind.settings:
        if setting.name in given:
            resolved[setting.name] = _typed(setting, given[setting.name])
        elif setting.required:
            raise SettingError(
                f"check {kind.name} needs the setting {setting.name!r}: {setting.help}", key=setting.name
            )
        elif setting.type is SettingType.DURATION and setting.default is not None:
            resolved[setting.name] = parse_duration_s(setting.default)
        else:
            resolved[setting.name] = setting.default
    return resolved


def parse_assignment(kind: CheckKind, text: str) -> tuple[str, SettingValue]:
    """Return name and typed value of a command line's `key=value`; lists are separated by commas."""
    key, separator, value = text.partition("=")
    if not separator:
        raise SettingError(f"{text!r}: write key=value")
    setting = next((s for s in kind.settings if s.name == key), None)
    if setting is None:
        allowed = ", ".join(sorted(s.name for s in kind.settings)) or "none"
        raise SettingError(f"check {kind.name} has no setting {key!r}; allowed: {allowed}", key=key)
    return key, _typed(setting, _from_text(setting, value))


def resolve_thresholds(kind: CheckKind, given: Mapping[str, Mapping[str, object]]) -> tuple[Threshold, ...]:
    """Return the thresholds of a check with overrides by metric name; raises SettingError.

    An override replaces single keys (`warning`, `critical`, `hysteresis`, `direction`, `items`) of the default. False
    switches a level off. A metric without a default threshold can be given one; it then carries the code
    `threshold.breached`. Limits on the wrong side of each other are refused.
    """
    defaults = {threshold.metric: threshold for threshold in kind.thresholds}
    metrics = {metric.name for metric in kind.metrics}
    for name in given:
        if name not in metrics:
            allowed = ", ".join(sorted(metrics))
            raise SettingError(f"check {kind.name} has no metric {name!r}; allowed: {allowed}", key=name)
    resolved = [_override(threshold, given.get(name, {})) for name, threshold in defaults.items()]
    resolved += [
        _override(Threshold(name, THRESHOLD_BREACHED), table) for name, table in given.items() if name not in defaults
    ]
    return tuple(resolved)


def _override(base: Threshold, table: Mapping[str, object]) -> Threshold:
    for key in table:
        if key not in _THRESHOLD_KEYS:
            raise SettingError(
                f"threshold {base.metric}: unknown key {key!r}; allowed: {', '.join(_THRESHOLD_KEYS)}",
                key=key,
            )
    direction = base.direction
    if "direction" in table:
        try:
            direction = Direction(table["direction"])
        except ValueError:
            raise SettingError(
                f'threshold {base.metric}: direction is "above" or "below", not {table["direction"]!r}',
                key="direction",
            ) from None
    items = dict(base.items)
    given_items = table.get("items", {})
    if not isinstance(given_items, Mapping):
        raise SettingError(
            f"threshold {base.metric}: items is a table of item = {{ warning = , critical = }}", key="items"
        )
    for item, limits in given_items.items():
        if not isinstance(limits, Mapping) or not set(limits) <= set(_LIMIT_KEYS):
            raise SettingError(f"threshold {base.metric}: item {item!r} takes only warning and critical", key=str(item))
        items[str(item)] = ItemLimits(
            _limit(base.metric, "warning", limits.get("warning"), None),
            _limit(base.metric, "critical", limits.get("critical"), None),
        )
    hysteresis = _limit(base.metric, "hysteresis", table.get("hysteresis"), base.hysteresis) or 0.0
    if hysteresis < 0:
        raise SettingError(f"threshold {base.metric}: hysteresis is not negative", key="hysteresis")
    result = Threshold(
        metric=base.metric,
        code=base.code,
        direction=direction,
        warning=_limit(base.metric, "warning", table.get("warning"), base.warning),
        critical=_limit(base.metric, "critical", table.get("critical"), base.critical),
        hysteresis=hysteresis,
        items=items,
    )
    for limits in (ItemLimits(result.warning, result.critical), *items.values()):
        _require_order(result, limits)
    return result


def _require_order(threshold: Threshold, limits: ItemLimits) -> None:
    if limits.warning is None or limits.critical is None:
        return
    ordered = (
        limits.warning <= limits.critical
        if threshold.direction is Direction.ABOVE
        else limits.warning >= limits.critical
    )
    if not ordered:
        raise SettingError(
            f"threshold {threshold.metric}: warning {limits.warning:g} lies beyond critical {limits.critical:g} "
            f"(direction {threshold.direction.value})",
            key=threshold.metric,
        )


def _limit(metric: str, key: str, value: object, default: float | None) -> float | None:
    if value is None:
        return default
    if value is False and key in _LIMIT_KEYS:
        return None
    number = _finite(value)
    if number is None:
        raise SettingError(
            f"threshold {metric}: {key} is a number in base units (or false to switch off), not {value!r}",
            key=key,
        )
    return number


def _typed(setting: Setting, value: object) -> SettingValue:
    result = _of_type(setting, value)
    if setting.choices and result not in setting.choices:
        raise SettingError(
            f"setting {setting.name}: {value!r} is not one of {', '.join(setting.choices)}", key=setting.name
        )
    if setting.minimum is not None and isinstance(result, (int, float)) and result < setting.minimum:
        raise SettingError(
            f"setting {setting.name}: {value!r} is below the least value {setting.minimum:g}",
            key=setting.name,
        )
    if setting.verify is not None:
        try:
            setting.verify(result)
        except ValueError as error:
            raise SettingError(f"setting {setting.name}: {error}", key=setting.name) from None
    return result


def _of_type(setting: Setting, value: Any) -> SettingValue:
    match setting.type:
        case SettingType.DURATION:
            try:
                return parse_duration_s(value)
            except SettingError as error:
                raise SettingError(f"setting {setting.name}: {error}", key=setting.name) from None
        case SettingType.TEXT if isinstance(value, str):
            return value
        case SettingType.BOOLEAN if isinstance(value, bool):
            return value
        case SettingType.INTEGER if isinstance(value, int) and not isinstance(value, bool):
            return value
        case SettingType.NUMBER if (number := _finite(value)) is not None:
            return number
        case SettingType.TEXT_LIST if isinstance(value, (list, tuple)) and all(isinstance(v, str) for v in value):
            return tuple(value)
        case SettingType.TEXT_LIST if isinstance(value, str):
            return (value,)
    raise SettingError(f"setting {setting.name} is {_article(setting.type)}, not {value!r}", key=setting.name)


def _finite(value: object) -> float | None:
    """A number (not a boolean) as a float; None for anything else and for what no finite float can hold."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _article(kind: SettingType) -> str:
    return ("an " if kind is SettingType.INTEGER else "a ") + kind.value


def _from_text(setting: Setting, text: str) -> object:
    try:
        match setting.type:
            case SettingType.INTEGER:
                return int(text)
            case SettingType.NUMBER:
                return float(text)
            case SettingType.BOOLEAN:
                return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[text.lower()]
            case SettingType.TEXT_LIST:
                return [part.strip() for part in text.split(",") if part.strip()]
            case SettingType.DURATION:
                return float(text) if text.replace(".", "", 1).isdigit() else text
    except (ValueError, KeyError):
        raise SettingError(
            f"setting {setting.name} is {_article(setting.type)}, not {text!r}", key=setting.name
        ) from None
    return text
