"""Reading small files of the system's configuration: bounded, never waiting, and saying when a right is missing."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from gengfu_checks.codes import CHECK_NEEDS_RIGHTS, CHECK_NOT_USABLE
from gengfu_checks.errors import CannotMeasure
from gengfu_checks.model import Problem, Status

MAX_BYTES = 1024 * 1024


def read_small(path: Path, max_bytes: int = MAX_BYTES, *, item: str = "") -> bytes | None:
    """The first `max_bytes` bytes of a regular file; None when there is no such file, or when it is something else.

    Raises CannotMeasure (`check.needs_rights`, for `item`) when it may not be read, and OSError when the disk fails.
    """
    stream = open_regular(path, item=item)
    if stream is None:
        return None
    with stream:
        return stream.read(max_bytes)


def open_regular(path: Path, *, item: str = "") -> BinaryIO | None:
    """A regular file, open for reading; None and errors are those of `read_small`."""
    try:
        # A pipe in the place of a file must not hold the agent up.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        raise needs_rights("read access", str(path), item=item) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    return os.fdopen(descriptor, "rb")


def read_small_text(path: Path, max_bytes: int = MAX_BYTES) -> str | None:
    """The same as text, and whole: `check.not_usable` when the file is larger. What is not UTF-8 becomes surrogates."""
    data = read_small(path, max_bytes + 1)
    if data is None:
        return None
    if len(data) > max_bytes:
        raise CannotMeasure(CHECK_NOT_USABLE, {"reason": f"{path} is larger than {max_bytes} bytes"})
    return data.decode("utf-8", "surrogateescape")


def needs_rights(needs: str, target: str, *, item: str = "") -> CannotMeasure:
    """The error for what only somebody with more rights may see."""
    return CannotMeasure(CHECK_NEEDS_RIGHTS, {"needs": needs, "target": target}, item=item)


def unknown(error: CannotMeasure) -> Problem:
    """What could not be measured as the problem of one item, so that the rest of the check goes on."""
    return Problem(Status.UNKNOWN, error.code, error.facts)
