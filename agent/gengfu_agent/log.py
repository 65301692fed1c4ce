"""Structured logs: one JSON object a line on standard error, from standard `logging` records and their `extra`.

_log.warning("uplink_ended", extra={"reason": reason})
"""

from __future__ import annotations

import json
import logging
import math
import sys
import traceback
from datetime import UTC, datetime
from typing import TextIO

MAX_VALUE_CHARACTERS = 1_024
MAX_TRACEBACK_CHARACTERS = 8_192

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """time (UTC), level, event, logger, then the fields, then the traceback if there is one. All of it ASCII, so that
    nothing in a field can pass for anything else."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        entry: dict[str, object] = {
            "time": time,
            "level": record.levelname.lower(),
            "event": record.getMessage()[:MAX_VALUE_CHARACTERS],
            "logger": record.name,
        }
        entry |= {name: _plain(value) for name, value in vars(record).items() if name not in _OWN and name not in entry}
        if record.exc_info and record.exc_info[1] is not None:
            lines = traceback.format_exception(record.exc_info[1])
            entry["traceback"] = "".join(lines)[-MAX_TRACEBACK_CHARACTERS:]
        return json.dumps(entry, allow_nan=False)


def begin(level: str, stream: TextIO | None = None) -> None:
    """Write every record from `level` ("debug", "info", "warning", "error") up to standard error from now on."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


def _plain(value: object) -> object:
    if value is None or isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value[:32]]
    return str(value)[:MAX_VALUE_CHARACTERS]
