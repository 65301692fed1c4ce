"""Write a kept set of messages: `python tests/proto/keep.py NAME` fills tests/proto/kept/NAME.

A set holds every message of the contract as it is now with every field filled, one .bin for each (for each member of
a oneof, where there is one), what they mean in meaning.json, and the numbers of all enum values in enums.json. Sets are
made once and never changed: `test_kept_messages` reads each of them with today's code.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, FileDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from gengfu_proto.v1 import enrolment_pb2, plan_pb2, report_pb2, stream_pb2

KEPT = Path(__file__).resolve().parent / "kept"
FILES: tuple[FileDescriptor, ...] = tuple(m.DESCRIPTOR for m in (enrolment_pb2, plan_pb2, report_pb2, stream_pb2))

# Values that a change of type would show: beyond the signed range, negative, not a whole number, not ASCII.
_NUMBERS = {
    FieldDescriptor.TYPE_UINT32: 2**32 - 1,
    FieldDescriptor.TYPE_UINT64: 2**64 - 1,
    FieldDescriptor.TYPE_SINT64: -(2**62),
    FieldDescriptor.TYPE_DOUBLE: 0.1,
    FieldDescriptor.TYPE_BOOL: True,
}


def descriptors() -> list[Descriptor]:
    """Every message of the contract, nested ones included, map entries left out."""
    found: list[Descriptor] = []
    waiting = [message for file in FILES for message in file.message_types_by_name.values()]
    while waiting:
        message = waiting.pop()
        waiting.extend(message.nested_types)
        if not message.GetOptions().map_entry:
            found.append(message)
    return sorted(found, key=lambda message: message.full_name)


def enums() -> list[EnumDescriptor]:
    """Every enum of the contract."""
    return [enum for file in FILES for enum in file.enum_types_by_name.values()]


def meaning(message: Message) -> dict[str, Any]:
    """The message as plain values, by field names."""
    return MessageToDict(message, preserving_proto_field_name=True)


def filled(descriptor: Descriptor) -> Iterator[tuple[str, Message]]:
    """The message with every field set, once for each member of its oneof, with the name of that variant."""
    choices = [field for oneof in descriptor.oneofs if len(oneof.fields) > 1 for field in oneof.fields]
    variants: list[FieldDescriptor | None] = [*choices] or [None]
    for choice in variants:
        message = GetMessageClass(descriptor)()
        for field in descriptor.fields:
            if choice is None or field is choice or field.containing_oneof is not choice.containing_oneof:
                _fill(message, field)
        yield descriptor.name if choice is None else f"{descriptor.name}.{choice.name}", message


def _fill(message: Message, field: FieldDescriptor) -> None:
    target = getattr(message, field.name)
    if field.message_type is None:
        if field.is_repeated:
            target.extend([_scalar(field), _scalar(field)])
        else:
            setattr(message, field.name, _scalar(field))
    elif field.message_type.GetOptions().map_entry:
        for name, value in filled(field.message_type.fields_by_name["value"].message_type):  # type: ignore[arg-type]
            target[name].CopyFrom(value)
    elif field.is_repeated:
        target.extend(part for _, part in filled(field.message_type))
    else:
        target.CopyFrom(next(filled(field.message_type))[1])
        target.SetInParent()


def _scalar(field: FieldDescriptor) -> object:
    if field.type == FieldDescriptor.TYPE_STRING:
        return f"{field.name} 更夫"
    if field.type == FieldDescriptor.TYPE_BYTES:
        return field.name.encode() + b"\x00\xff"
    if field.enum_type is not None:
        return field.enum_type.values[-1].number
    return _NUMBERS[field.type]


def keep(name: str) -> int:
    """Write the set of this name and return how many messages it holds."""
    folder = KEPT / name
    folder.mkdir(parents=True)
    messages = {variant: message for descriptor in descriptors() for variant, message in filled(descriptor)}
    for variant, message in messages.items():
        (folder / f"{variant}.bin").write_bytes(message.SerializeToString(deterministic=True))
    _write_json(folder / "meaning.json", {variant: meaning(message) for variant, message in messages.items()})
    _write_json(folder / "enums.json", {e.name: {v.name: v.number for v in e.values} for e in enums()})
    return len(messages)


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def main() -> int:
    """Keep a set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", metavar="NAME", help="a name that has no set yet: a set is never written again")
    name = parser.parse_args().name
    if (KEPT / name).exists():
        parser.error(f"there is a set {name} already")
    print(f"{keep(name)} messages kept in {KEPT / name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
