"""Facts, names and items on the wire: what every kind of report is made of."""

from __future__ import annotations

import hashlib
import math
import re

from gengfu_checks.model import Fact
from gengfu_proto.errors import LimitExceeded, MalformedMessage
from gengfu_proto.text import clean, shorten
from gengfu_proto.v1 import report_pb2

MAX_NAME_CHARACTERS = 128
MAX_ITEM_CHARACTERS = 256
MAX_FACT_CHARACTERS = 1_024


def encode_item(item: str) -> str:
    """Return the name of a thing as it can be sent."""
    if len(item) <= MAX_ITEM_CHARACTERS and clean(item, MAX_ITEM_CHARACTERS, "item") == item:
        return item
    # Two items that differ only in what the wire cannot hold (a file name need not be valid Unicode) stay two.
    mark = hashlib.sha256(item.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    shown = shorten(item, MAX_ITEM_CHARACTERS - len(mark) - 1)
    return f"{clean(shown, MAX_ITEM_CHARACTERS, 'item')}~{mark}"


def encode_fact(name: str, value: Fact, most_characters: int = MAX_FACT_CHARACTERS) -> report_pb2.Fact:
    """Return a fact, its text cut to what is allowed."""
    if isinstance(value, bool):
        return report_pb2.Fact(name=name, boolean=value)
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return report_pb2.Fact(name=name, integer=value)
    if isinstance(value, (int, float)):
        return report_pb2.Fact(name=name, number=float(value))
    return report_pb2.Fact(name=name, text=clean(shorten(value, most_characters), most_characters, "fact"))


def decode_fact(message: report_pb2.Fact, most_characters: int = MAX_FACT_CHARACTERS) -> Fact:
    """Return the clean value of a fact; raises MessageError."""
    match message.WhichOneof("value"):
        case "text":
            return clean(message.text, most_characters, "fact")
        case "integer":
            return message.integer
        case "number" if math.isfinite(message.number):
            return message.number
        case "boolean":
            return message.boolean
    raise MalformedMessage(f"fact {message.name!r} has no value that can be read")


def matching(pattern: re.Pattern[str], text: str, what: str) -> str:
    """Return the text if it is such a name; raises MessageError."""
    if len(text) > MAX_NAME_CHARACTERS:
        raise LimitExceeded(f"{what} of {len(text)} characters, at most {MAX_NAME_CHARACTERS} are allowed")
    if pattern.fullmatch(text) is None:
        raise MalformedMessage(f"{text!r} is not a {what}")
    return text
