"""docs/promises.md: every promise has a test or says that it has none, and every test that it names is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

PROMISES = [*(f"P{n}" for n in range(1, 11)), *(f"F{n}" for n in range(1, 9)), *(f"S{n}" for n in range(1, 10))]
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
NAMES_CLASSES = {("pickle", "load"), ("pickle", "loads"), ("marshal", "load"), ("marshal", "loads"), ("yaml", "load")}


@pytest.fixture
def text(checkout: Path) -> str:
    return (checkout / "docs/promises.md").read_text(encoding="utf-8")


def names_in(path: Path) -> set[str]:
    """Functions, classes and other names that a module has at its top."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return found


def test_every_test_that_is_named_exists(text: str, checkout: Path) -> None:
    named = set(TEST.findall(text))
    assert len(named) > 80
    files = {file for file, _ in named}
    known = {(file, name) for file in files if (checkout / file).exists() for name in names_in(checkout / file)}
    assert sorted(named - known) == []


@pytest.mark.parametrize("promise", PROMISES)
def test_every_promise_has_a_test_or_says_that_it_has_none(text: str, promise: str) -> None:
    begin = re.search(rf"\b{promise}\. ", text)
    assert begin is not None
    paragraph = re.split(r"\n\*\*|\n## ", text[begin.start() :])[0]
    assert TEST.search(paragraph) or "Not built" in paragraph


def test_nothing_that_names_classes_is_deserialised(checkout: Path) -> None:
    found = []
    for folder in ("checks", "proto", "agent", "collector"):
        for path in sorted((checkout / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if (
                    isinstance(node, ast.Attribute)
                    and isinstance(node.value, ast.Name)
                    and (node.value.id, node.attr) in NAMES_CLASSES
                ):
                    found.append(f"{path.relative_to(checkout)}:{node.lineno}")
    assert found == []
