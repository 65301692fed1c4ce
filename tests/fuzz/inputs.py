"""Making inputs: bytes by changing good ones, values and messages by filling in what a parser asks for."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

MAX_BYTES = 64 * 1024
TESTS = Path(__file__).resolve().parent.parent
NUMBERS = (
    0,
    1,
    -1,
    2,
    7,
    127,
    128,
    255,
    256,
    65_535,
    2**31 - 1,
    2**31,
    -(2**31),
    2**32,
    2**53 + 1,
    2**63,
    2**64,
    10**400,
)
FLOATS = (0.0, -0.0, 0.5, 1e308, -1e308, 5e-324, float("inf"), float("-inf"), float("nan"), 1e17)
TEXTS = (
    "",
    "\0",
    "\x1b[31m",
    "\u202e",
    "\ud800",
    "\N{ARABIC-INDIC DIGIT FIVE}",
    "²",
    "nan",
    "inf",
    "1e999",
    "-",
    "0x10",
    "1_0",
    "٣",
    "/Date(-62135596800000)/",
    "9999-12-31T23:59:59.9999999Z",
    "0001-01-01T00:00:00",
    "1970-01-01T00:00:00+99:99",
    "%s%n",
    "x" * 5_000,
    " " * 3_000,
)
JOINTS = (b"\n", b"\r\n", b"\0", b" ", b":", b"=", b",", b"\t", b"|", b"\xff", b"\xed\xa0\x80", b"[", b"{", b'"')


class Inputs:
    """Inputs of one target. The same seed makes the same ones."""

    def __init__(self, random: Random, samples: Iterable[bytes], words: Iterable[str]) -> None:
        self._random = random
        self.samples = [sample[:MAX_BYTES] for sample in samples] or [b""]
        self._words = sorted({*words}) or ["x"]
        self._tokens = [word.encode("utf-8", "surrogatepass") for word in self._words] + list(JOINTS)

    def is_turn(self, of: int) -> bool:
        """True once in so many."""
        return self._random.randrange(of) == 0

    def data(self) -> bytes:
        """A sample, changed in a few places; seldom nothing but noise."""
        random = self._random
        if random.random() < 0.02:
            return random.randbytes(random.randrange(200))
        data = bytearray(random.choice(self.samples))
        for _ in range(random.choice((1, 1, 1, 2, 2, 3, 5, 10))):
            self._change(data)
        return bytes(data[:MAX_BYTES])

    def _change(self, data: bytearray) -> None:
        random = self._random
        at = random.randrange(len(data) + 1)
        end = min(len(data), at + random.choice((1, 1, 2, 4, 16, 100)))
        match random.randrange(9):
            case 0 if data:
                data[at % len(data)] ^= 1 << random.randrange(8)
            case 1:
                data[at:at] = random.choice(self._tokens)
            case 2:
                data[at:end] = random.choice(self._tokens)
            case 3:
                del data[at:end]
            case 4:
                data[at:at] = bytes(data[at:end]) * random.choice((1, 2, 50))
            case 5:
                del data[at:]
            case 6:
                other = random.choice(self.samples)
                begin = random.randrange(len(other) + 1)
                data[at:end] = other[begin : begin + random.choice((1, 8, 64, 512))]
            case 7:
                self._other_number(data)
            case _:
                data[at:at] = random.choice(TEXTS).encode("utf-8", "surrogatepass")

    def _other_number(self, data: bytearray) -> None:
        found = list(re.finditer(rb"\d+", data[:4_096]))
        if found:
            number = self._random.choice(found)
            data[number.start() : number.end()] = str(self._random.choice(NUMBERS)).encode()

    def text(self) -> str:
        """`data` as the text that a program's output is read as."""
        return self.data().decode("utf-8", "replace")

    def value(self, depth: int = 4) -> Any:
        """What a JSON document or a property list may hold; keys are words that the parser knows."""
        random = self._random
        kinds = 11 if depth else 8
        match random.randrange(kinds):
            case 0:
                return random.choice((None, True, False))
            case 1:
                return random.choice(NUMBERS)
            case 2:
                return random.choice(FLOATS)
            case 3:
                return random.choice(TEXTS)
            case 4:
                return str(random.choice(NUMBERS))
            case 5 | 6 | 7:
                return random.choice(self._words)
            case 8:
                return [self.value(depth - 1) for _ in range(random.randrange(4))]
            case _:
                return self.table(depth - 1)

    def table(self, depth: int = 3) -> dict[str, Any]:
        """An object with keys that the parser knows."""
        count = min(self._random.choice((0, 1, 3, 8, 20, 60)), len(self._words))
        return {key: self.value(depth) for key in self._random.sample(self._words, count)}

    def rows(self) -> list[dict[str, Any]]:
        """What a PowerShell pipeline says."""
        return [self.table(2) for _ in range(self._random.choice((0, 1, 1, 1, 2, 5)))]

    def message(self, kind: type[Message]) -> bytes:
        """A message of this kind, well formed and senseless."""
        made = kind()
        self._fill(made, 4)
        return made.SerializeToString()

    def _fill(self, message: Message, depth: int) -> None:
        for field in message.DESCRIPTOR.fields:
            if self._random.random() < 0.35:
                continue
            if field.message_type is not None and depth == 0:
                continue
            if field.is_repeated:
                self._fill_many(message, field, depth)
            elif field.message_type is not None:
                part = getattr(message, field.name)
                part.SetInParent()
                self._fill(part, depth - 1)
            else:
                setattr(message, field.name, self._scalar(field))

    def _fill_many(self, message: Message, field: FieldDescriptor, depth: int) -> None:
        for _ in range(self._random.choice((0, 1, 1, 2, 3, 30 if depth < 3 else 3))):
            part = getattr(message, field.name)
            if field.message_type is not None and field.message_type.GetOptions().map_entry:
                return
            if field.message_type is not None:
                self._fill(part.add(), depth - 1)
            else:
                part.append(self._scalar(field))

    def _scalar(self, field: FieldDescriptor) -> Any:
        random = self._random
        match field.cpp_type:
            case FieldDescriptor.CPPTYPE_STRING if field.type == FieldDescriptor.TYPE_BYTES:
                return random.choice((b"", random.randbytes(16), b"x" * 300, self.data()))
            case FieldDescriptor.CPPTYPE_STRING:
                return random.choice((*self._words, *TEXTS)).encode("utf-8", "replace").decode()
            case FieldDescriptor.CPPTYPE_BOOL:
                return random.random() < 0.5
            case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
                return random.choice(FLOATS)
            case FieldDescriptor.CPPTYPE_ENUM:
                return random.choice((0, 1, 2, 3, 4, 99))
            case FieldDescriptor.CPPTYPE_UINT32:
                return random.choice((0, 1, 2, 2**32 - 1))
            case FieldDescriptor.CPPTYPE_INT32:
                return random.choice((0, 1, -1, 2**31 - 1))
            case FieldDescriptor.CPPTYPE_UINT64:
                return random.choice((0, 1, 2, 1_000, 60_000, 2**40, 2**63, 2**64 - 1))
            case _:
                return random.choice((0, 1, -1, 2**63 - 1, -(2**63)))


@cache
def constants_in(path: Path) -> tuple[str | bytes, ...]:
    """Every text and every bytes that stand in a module as they are, documentation left out."""
    tree = ast.parse(path.read_text("utf-8"))
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    found = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in docs)
    return tuple(node.value for node in found if isinstance(node.value, str | bytes))


def words_of(module: Path) -> list[str]:
    """The words that a module compares with: keys, commands, units."""
    return [text for text in constants_in(module) if isinstance(text, str) and 0 < len(text) <= 60]


def samples_of(name: str) -> Iterator[bytes]:
    """The samples in the tests of a module: what its tests feed to it, and recordings of its programs."""
    for path in sorted((TESTS / "checks").glob("*.py")):
        if name.split("_")[0] in path.name:
            for text in constants_in(path):
                if len(text) >= 24:
                    yield text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")


def recordings(folders: Sequence[str]) -> Iterator[bytes]:
    """Files of tests/checks/fixtures/FOLDER."""
    for folder in folders:
        for path in sorted((TESTS / "checks" / "fixtures" / folder).glob("*")):
            yield path.read_bytes()
