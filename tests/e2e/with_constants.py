"""Starts one of our programs with constants of its modules replaced: times that nobody wants to wait for in a test.

python with_constants.py gengfu_collector.cli:main MODULE:NAME=NUMBER ... -- ARGUMENTS

NAME is that of a number, or of a field (`OBJECT.FIELD`) of a frozen dataclass or, for its default, of the class itself.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import sys
from typing import Any


def replace(constant: str) -> None:
    """Replace one constant; exits where there is none."""
    module_name, _, rest = constant.partition(":")
    name, _, text = rest.partition("=")
    module = importlib.import_module(module_name)
    name, _, field = name.partition(".")
    before: Any = getattr(module, name, None)
    number = float(text) if "." in text else int(text)
    if isinstance(before, int | float) and not field:
        after: object = number
    elif field in _fields(before):
        is_object = dataclasses.is_dataclass(before) and not isinstance(before, type)
        after = _with(before, field, number) if is_object else functools.partial(before, **{field: number})
    else:
        sys.exit(f"there is no constant {constant}")
    setattr(module, name, after)


def _fields(of: Any) -> set[str]:
    """Fields of a dataclass, of an object of one, or of one with a default replaced already."""
    known = of.func if isinstance(of, functools.partial) else of
    return {part.name for part in dataclasses.fields(known)} if dataclasses.is_dataclass(known) else set()


def _with(before: Any, field: str, number: float) -> object:
    changed: object = dataclasses.replace(before, **{field: number})
    return changed


def main() -> None:
    """Replace, then be the program."""
    divider = sys.argv.index("--")
    program, *constants = sys.argv[1:divider]
    sys.argv[:] = [program, *sys.argv[divider + 1 :]]
    for constant in constants:
        replace(constant)
    module_name, _, function = program.partition(":")
    sys.exit(getattr(importlib.import_module(module_name), function)())


if __name__ == "__main__":
    main()
