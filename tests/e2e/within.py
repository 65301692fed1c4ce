"""Commands of ours run within the test's own process: starting a Python for each costs more than all that it does."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext, redirect_stderr, redirect_stdout
from unittest import mock

NOBODYS_MASK = 0o022


def run_within(
    main: Callable[[], object], *words: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command line (`main` reads sys.argv) as in a process of its own, with a pipe for what it says.

    `environment` is all that it has, where something is given: only in a process without other threads. An exception
    that a process would die of is raised.
    """
    output, said = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    surroundings = nullcontext() if environment is None else mock.patch.dict(os.environ, environment, clear=True)
    mask = os.umask(NOBODYS_MASK)
    try:
        with (
            mock.patch.object(sys, "argv", ["program", *words]),
            surroundings,
            redirect_stdout(output),
            redirect_stderr(said),
        ):
            code = _exit_code(main, said)
    finally:
        os.umask(mask)
    texts = [stream.buffer.getvalue().decode() for stream in (output, said)]  # type: ignore[attr-defined]
    return subprocess.CompletedProcess(words, code, *texts)


def _exit_code(main: Callable[[], object], said: io.TextIOWrapper) -> int:
    try:
        left_with = main()
    except SystemExit as left:
        left_with = left.code
    if left_with is None or isinstance(left_with, int):
        return left_with or 0
    print(left_with, file=said)
    return 1
