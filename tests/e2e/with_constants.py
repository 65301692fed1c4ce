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
    before, number = getattr(module, name, None), float(text) if "." in text else int(text)
    if isinstance(before, int | float) and not field:
        after: object = number
    elif dataclasses.is_dataclass(before) and field in {part.name for part in dataclasses.fields(before)}:
        after = (
            functools.partial(before, **{field: number}) if isinstance(before, type) else _with(before, field, number)
        )
    else:
        sys.exit(f"there is no constant {constant}")
    setattr(module, name, after)


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
