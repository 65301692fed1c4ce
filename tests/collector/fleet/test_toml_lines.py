"""The locator against documents whose writer knows where it wrote each key."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from gengfu_collector.fleet.toml_lines import KeyPath, key_lines, line_of

NAMES = st.sampled_from(
    ["a", "b", "every", "x-y", "name_2", "7", "ключ", "检查", "a.b", 'q"q', "k'k", "", "[x]", "a = 1"]
)
SCALARS = st.sampled_from(
    [
        "1", "-0.5", "true", "inf", '"text"', '""', "''", '"# no comment"', "'[no.table]'", r'"quo\"te = \\"',
        "1979-05-27 07:32:00Z", "07:32:00", "1979-05-27", '"""one"""', "'''one'''", '""""two quotes""""', '"""a\\""""',
        '"""\nevery = 1\n[[profile]]\n# "x\n"""', "'''\n[a]\nb = 2\n'''", '"""\\\n   folded"""', "''''''",
        '"""""a"""""',
    ]
)  # fmt: skip
COMMENTS = st.sampled_from(["", " # every = 1", "\t# [[profile]] \"'"])
GAPS = st.sampled_from(["", "\n", "# a = 1\n", "\n\n   # '''\n"])


class Writer:
    """Writes TOML and the line of everything it writes."""

    def __init__(self, draw: DrawFn) -> None:
        self.draw = draw
        self.text = ""
        self.lines: dict[KeyPath, int] = {}

    @property
    def line(self) -> int:
        return self.text.count("\n") + 1

    def names(self, most: int) -> list[str]:
        return self.draw(st.lists(NAMES, max_size=most, unique=True))

    def key(self, name: str) -> str:
        forms = [
            '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"',
            '"' + "".join(f"\\U{ord(c):08x}" for c in name) + '"',
        ]
        if name and name.isascii() and name.replace("-", "").replace("_", "").isalnum():
            forms += [name, name, name]
        if "'" not in name:
            forms.append(f"'{name}'")
        return self.draw(st.sampled_from(forms))

    def value(self, path: KeyPath, depth: int) -> None:
        form = self.draw(st.integers(0, 5)) if depth else 5
        if form == 0:
            self.array(path, depth - 1)
        elif form == 1:
            self.inline_table(path, depth - 1)
        else:
            self.text += self.draw(SCALARS)

    def array(self, path: KeyPath, depth: int) -> None:
        self.text += "["
        for i in range(self.draw(st.integers(0, 3))):
            self.text += "," if i else ""
            self.text += self.draw(st.sampled_from(["", " ", "\n", " # ], [\n\t"]))
            self.lines[(*path, i)] = self.line
            self.value((*path, i), depth)
            self.text += self.draw(st.sampled_from(["", " ", "\n"]))
        self.text += self.draw(st.sampled_from(["]", " ]", "\n]"]))

    def inline_table(self, path: KeyPath, depth: int) -> None:
        self.text += "{"
        for i, name in enumerate(self.names(3)):
            self.text += ", " if i else " "
            self.pair(path, name, depth)
        self.text += " }"

    def pair(self, path: KeyPath, name: str, depth: int) -> None:
        path = (*path, name)
        self.lines[path] = self.line
        self.text += self.key(name)
        for further in self.draw(st.lists(NAMES, max_size=2)) if self.draw(st.booleans()) else []:
            path = (*path, further)
            self.lines[path] = self.line
            self.text += self.draw(st.sampled_from([".", " . "])) + self.key(further)
        self.text += self.draw(st.sampled_from([" = ", "=", "\t= "]))
        self.value(path, depth)

    def body(self, path: KeyPath, names: list[str]) -> None:
        for name in names:
            self.text += self.draw(GAPS) + self.draw(st.sampled_from(["", "  "]))
            self.pair(path, name, 2)
            self.text += self.draw(COMMENTS) + "\n"

    def header(self, path: KeyPath, brackets: str) -> None:
        dotted = self.draw(st.sampled_from([".", " . "])).join(self.key(name) for name in path if isinstance(name, str))
        end = brackets.translate({ord("["): "]"})
        self.text += self.draw(GAPS) + self.draw(st.sampled_from(["", "\t"]))
        self.lines.update({path[: i + 1]: self.line for i in range(len(path)) if path[: i + 1] not in self.lines})
        self.text += brackets + self.draw(st.sampled_from(["", " "])) + dotted + end + self.draw(COMMENTS) + "\n"

    def tables(self, path: KeyPath, names: list[str], depth: int) -> None:
        for name in names:
            inner = self.names(4)
            count = self.draw(st.integers(0, len(inner)))
            table = (*path, name)
            if self.draw(st.booleans()):
                for i in range(self.draw(st.integers(1, 3))):
                    self.element(table, i, inner[:count], inner[count:], depth)
            else:
                self.table(table, inner[:count], inner[count:], depth)

    def element(self, table: KeyPath, i: int, pairs: list[str], tables: list[str], depth: int) -> None:
        self.header(table, "[[")
        self.lines[(*table, i)] = self.text[: self.text.rstrip("\n").rfind("\n") + 1].count("\n") + 1
        self.body((*table, i), pairs)
        if depth:
            self.tables((*table, i), tables, depth - 1)

    def table(self, table: KeyPath, pairs: list[str], tables: list[str], depth: int) -> None:
        """Write the header first, or last, or not at all where inner tables imply it."""
        order = self.draw(st.sampled_from(["first", "first", "last", "never"])) if depth and tables else "first"
        if order == "first":
            self.header(table, "[")
            self.body(table, pairs)
        if depth:
            self.tables(table, tables, depth - 1)
        if order == "last":
            self.lines.pop(table)
            self.header(table, "[")
            self.body(table, pairs)


@st.composite
def documents(draw: DrawFn) -> tuple[str, dict[KeyPath, int]]:
    writer = Writer(draw)
    names = writer.names(6)
    count = draw(st.integers(0, len(names)))
    writer.body((), names[:count])
    writer.tables((), names[count:], 2)
    writer.text += draw(GAPS)
    return writer.text, writer.lines


def paths_of(value: object, path: KeyPath = ()) -> set[KeyPath]:
    found = {path} if path else set()
    if isinstance(value, dict):
        found |= {inner for key, element in value.items() for inner in paths_of(element, (*path, key))}
    elif isinstance(value, list):
        found |= {inner for i, element in enumerate(value) for inner in paths_of(element, (*path, i))}
    return found


@given(documents())
def test_every_key_is_found_where_it_was_written(document: tuple[str, dict[KeyPath, int]]) -> None:
    text, written = document
    assert paths_of(tomllib.loads(text)) == set(written)  # the writer wrote what it meant
    assert key_lines(text) == written
    assert key_lines(text.replace("\n", "\r\n")) == written


@given(st.lists(st.sampled_from([*"\"'=[]{}#\\\n .,ab1", '"""', "'''", "\r\n"]), max_size=30).map("".join))
def test_any_text_ends_in_lines_or_a_value_error(text: str) -> None:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        try:
            key_lines(text)
        except ValueError:
            return
    else:
        assert set(key_lines(text)) == paths_of(data)


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("profile", 1, "check", 0, "every"), 9),
        (("profile", 1, "check", 0, "set", "missing"), 8),
        (("profile", 0, "match", "site"), 3),
        (("profile", 7), 1),
        (("nothing",), 1),
    ],
)
def test_the_nearest_known_table_stands_in_for_a_missing_key(path: KeyPath, line: int) -> None:
    text = (
        "[[profile]]\n"
        'name = "front"\n'
        'match = { class = "terminal", site = "hq" }\n'
        "\n"
        "[[profile]]\n"
        'name = "back"\n'
        "\n"
        "  [[profile.check]]\n"
        '  every = "3x"\n'
    )
    assert line_of(key_lines(text), path) == line
