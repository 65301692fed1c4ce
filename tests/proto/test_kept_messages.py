"""Messages of every version that was ever given out are read by the code of today, and mean what they meant."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from keep import KEPT, descriptors, enums, meaning

SETS = sorted(path.name for path in KEPT.iterdir())
NAMES = {descriptor.name: descriptor for descriptor in descriptors()}

# Absence of these means their first value; every other enum tells absence from a value.
ENUMS_WITHOUT_UNSPECIFIED = {"Status", "MetricType", "Direction"}


def kept_messages() -> list[tuple[str, str]]:
    return [(name, path.stem) for name in SETS for path in sorted((KEPT / name).glob("*.bin"))]


def read(name: str, variant: str) -> Message:
    cls = GetMessageClass(NAMES[variant.partition(".")[0]])
    message: Message = cls.FromString((KEPT / name / f"{variant}.bin").read_bytes())
    return message


def load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", SETS)
def test_a_set_is_whole(name: str) -> None:
    variants = {variant for set_name, variant in kept_messages() if set_name == name}
    assert variants == set(load(KEPT / name / "meaning.json"))
    assert len(variants) > 50


@pytest.mark.parametrize(("name", "variant"), kept_messages())
def test_a_kept_message_still_means_what_it_meant(name: str, variant: str) -> None:
    assert meaning(read(name, variant)) == load(KEPT / name / "meaning.json")[variant]


@pytest.mark.parametrize("name", SETS)
def test_numbers_of_enum_values_never_change(name: str) -> None:
    now = {enum.name: {value.name: value.number for value in enum.values} for enum in enums()}
    for enum, values in load(KEPT / name / "enums.json").items():
        assert values.items() <= now[enum].items()


def test_every_field_is_filled_in_some_kept_message() -> None:
    seen = {key for name, variant in kept_messages() for key in filled_fields(read(name, variant))}
    fields = {(message.full_name, field.number) for message in descriptors() for field in message.fields}
    assert fields - seen == set(), "new fields: python tests/proto/keep.py NAME keeps a set with them"


def filled_fields(message: Message) -> Iterator[tuple[str, int]]:
    for field, value in message.ListFields():
        yield message.DESCRIPTOR.full_name, field.number
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            parts = list(value.values())
        else:
            parts = list(value) if field.is_repeated else [value]
        for part in parts:
            yield from filled_fields(part)


def test_numbers_kept_for_trials_are_not_used() -> None:
    used = [f"{m.name}.{f.name} = {f.number}" for m in descriptors() for f in m.fields if f.number >= 100]
    assert used == []


def test_an_enum_tells_absence_from_a_value() -> None:
    without = {enum.name for enum in enums() if not enum.values_by_number[0].name.endswith("_UNSPECIFIED")}
    assert without == ENUMS_WITHOUT_UNSPECIFIED


@pytest.mark.parametrize(("name", "variant"), kept_messages())
def test_fields_of_a_later_version_are_passed_over(name: str, variant: str) -> None:
    data = (KEPT / name / f"{variant}.bin").read_bytes()
    later = data + b"\xc2\x3e\x03new"  # field 1000, three bytes long
    message = GetMessageClass(NAMES[variant.partition(".")[0]]).FromString(later)
    assert meaning(message) == meaning(read(name, variant))
