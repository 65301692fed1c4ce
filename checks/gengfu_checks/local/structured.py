"""Asking programs that answer in JSON or as property lists, and PowerShell, for rows.

These are the collecting half of checks that work on several systems: one documented call, its answer as plain values.
What the values mean is judged by pure functions of the check. Every function raises CannotMeasure
(`check.program_failed`) when there is no usable answer.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from gengfu_checks.local.programs import failed, run_program

MAX_ANSWER_BYTES = 4 * 1024 * 1024
# Objects become one array whatever their number, times ISO 8601, text UTF-8 whatever the console's code page.
_POWERSHELL_FRAME = (
    "$ErrorActionPreference='Stop';$ProgressPreference='SilentlyContinue';"
    "[Console]::OutputEncoding=[Text.UTF8Encoding]::new($false);"
    "ConvertTo-Json -Compress -Depth 4 -InputObject @(%s)"
)


def parse_json(program: str, text: bytes) -> Any:
    """The value of a JSON text that a program printed. Not-a-number and numbers beyond any type are refused."""
    try:
        return json.loads(text.decode("utf-8-sig", "replace"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise failed(program, f"its answer is not JSON: {error}") from error


def parse_plist(program: str, text: bytes) -> Any:
    """The value of a property list (macOS) that a program printed."""
    # Here, not above: only macOS has any, and the XML parser would weigh on every agent.
    import plistlib
    from xml.parsers.expat import ExpatError

    try:
        return plistlib.loads(text)
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, ExpatError) as error:
        raise failed(program, f"its answer is not a property list: {type(error).__name__}") from error


def run_json(
    argv: Sequence[str], timeout_s: float, *, exit_codes: Sequence[int] = (0,), max_bytes: int = MAX_ANSWER_BYTES
) -> Any:
    """Run a program that prints JSON; `argv[0]` is an absolute path."""
    output = run_program(argv, timeout_s, max_bytes)
    if output.exit_code not in exit_codes:
        raise failed(argv[0], f"ended with {output.exit_code}")
    return parse_json(argv[0], output.stdout)


def run_plist(argv: Sequence[str], timeout_s: float, *, max_bytes: int = MAX_ANSWER_BYTES) -> Any:
    """Run a program of macOS that prints a property list; `argv[0]` is an absolute path."""
    output = run_program(argv, timeout_s, max_bytes)
    if output.exit_code != 0:
        raise failed(argv[0], f"ended with {output.exit_code}")
    return parse_plist(argv[0], output.stdout)


def powershell() -> str | None:
    """The path of the PowerShell that every Windows has, or None elsewhere."""
    if not psutil.WINDOWS:
        return None
    path = Path(os.environ.get("SYSTEMROOT", r"C:\Windows")) / "System32/WindowsPowerShell/v1.0/powershell.exe"
    return str(path) if path.is_file() else None


def powershell_argv(program: str, pipeline: str) -> list[str]:
    """The command line that runs a pipeline, a constant of the check, and prints its objects as one JSON array."""
    text = _POWERSHELL_FRAME % pipeline
    encoded = base64.b64encode(text.encode("utf-16-le")).decode("ascii")
    return [program, "-NoLogo", "-NoProfile", "-NonInteractive", "-EncodedCommand", encoded]


def powershell_rows(pipeline: str, timeout_s: float, *, max_bytes: int = MAX_ANSWER_BYTES) -> list[dict[str, Any]]:
    """The objects of a PowerShell pipeline as dictionaries. `pipeline` is a constant, never made from outside data."""
    program = powershell() or "powershell.exe"
    if not Path(program).is_absolute():
        raise failed(program, "is not on this machine")
    return rows_of(program, run_json(powershell_argv(program, pipeline), timeout_s, max_bytes=max_bytes))


def rows_of(program: str, answer: Any) -> list[dict[str, Any]]:
    """An answer that has to be an array of objects; null members (an empty pipeline) are left out."""
    rows = [row for row in answer if row is not None] if isinstance(answer, list) else None
    if rows is None or not all(isinstance(row, dict) for row in rows):
        raise failed(program, "its answer is not a list of objects")
    return rows


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")
