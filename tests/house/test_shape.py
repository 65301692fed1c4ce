"""Size of functions and files: past these limits something wants to be two things."""

from __future__ import annotations

import ast
import statistics
from pathlib import Path

import pytest

MAX_FUNCTION_LINES = 60
MAX_MEDIAN_FUNCTION_LINES = 12
MAX_FILE_LINES = 400


@pytest.fixture(scope="module")
def modules(checkout: Path) -> dict[str, str]:
    found = {}
    for folder in ("checks", "proto", "agent", "collector", "deploy"):
        for path in sorted((checkout / folder).rglob("*.py")):
            name = path.relative_to(checkout).as_posix()
            if "_pb2" not in name and "/migrations/" not in name:
                found[name] = path.read_text(encoding="utf-8")
    return found


def function_lengths(source: str) -> list[tuple[str, int]]:
    """Lines of each function by its name and line, its docstring left out."""
    lengths = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if ast.get_docstring(node) is not None:
                lines -= (node.body[0].end_lineno or 0) - node.body[0].lineno + 1
            lengths.append((f"{node.name} at line {node.lineno}", lines))
    return lengths


def test_no_function_is_long(modules: dict[str, str]) -> None:
    lengths = [(f"{name}: {where}", n) for name, text in modules.items() for where, n in function_lengths(text)]
    assert [where for where, n in lengths if n > MAX_FUNCTION_LINES] == []
    assert statistics.median(n for _, n in lengths) <= MAX_MEDIAN_FUNCTION_LINES


def test_no_file_is_long(modules: dict[str, str]) -> None:
    assert {name: n for name, text in modules.items() if (n := text.count("\n")) > MAX_FILE_LINES} == {}


def test_files_of_tests_have_names_of_their_own(checkout: Path) -> None:
    """Two of one name in different folders: pytest would run one of them and call the other an error."""
    names = [path.name for path in (checkout / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
