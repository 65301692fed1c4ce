"""Structured logs: an event in a few fixed words, and fields. JSON lines for machines, short lines for a terminal.

Standard `logging` underneath, so records of libraries come out in the same form. Whatever a field holds, a record is
one line: characters that cannot be printed are escaped, long values are cut.

    log = logger(__name__)
    log.warning("agent refused", agent=uid, reason="blocked")
"""

from __future__ import annotations

import json
import logging
import math
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import islice
from typing import IO, Final

from gengfu_collector.errors import UsageError

LEVELS: Final = ("debug", "info", "warning", "error")

MAX_FIELDS = 32
MAX_PARTS = 32
MAX_VALUE_CHARACTERS = 1_024
MAX_TRACEBACK_CHARACTERS = 8_192

SPARING_BURST = 100.0
SPARING_PER_S = 1.0

_FIELDS = "gengfu_fields"
_OWN_LOGGERS = "gengfu_collector"


class Logger:
    """Logs events with fields. Names of fields are Python names; values not plain, nor lists of such, become text."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, event: str, **fields: object) -> None:
        """What only a developer wants to see."""
        self._log(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: object) -> None:
        """What happens in the normal course."""
        self._log(logging.INFO, event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Something was refused or will go wrong."""
        self._log(logging.WARNING, event, fields)

    def error(self, event: str, **fields: object) -> None:
        """Something that should work did not."""
        self._log(logging.ERROR, event, fields)

    def exception(self, event: str, error: BaseException, **fields: object) -> None:
        """An error that nobody expected, with its traceback."""
        self._log(logging.ERROR, event, fields, error)

    def _log(self, level: int, event: str, fields: dict[str, object], error: BaseException | None = None) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, "%s", event, extra={_FIELDS: fields}, exc_info=error)


class SparingLogger(Logger):
    """For what strangers can bring about as often as they like: of each event a hundred records at once, then one a
    second, which says how many were left out before it. For one thread. Metrics count them all."""

    def __init__(self, name: str, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        super().__init__(name)
        self._monotonic_s = monotonic_s
        self._allowed: dict[str, tuple[float, float, int]] = {}

    def _log(self, level: int, event: str, fields: dict[str, object], error: BaseException | None = None) -> None:
        now_s = self._monotonic_s()
        allowed, looked_at_s, left_out = self._allowed.get(event, (SPARING_BURST, now_s, 0))
        allowed = min(SPARING_BURST, allowed + (now_s - looked_at_s) * SPARING_PER_S)
        if allowed < 1.0:
            self._allowed[event] = allowed, now_s, left_out + 1
            return
        self._allowed[event] = allowed - 1.0, now_s, 0
        super()._log(level, event, fields | {"left_out": left_out} if left_out else fields, error)


def logger(name: str) -> Logger:
    """The logger of a module: `logger(__name__)`."""
    return Logger(name)


def sparing_logger(name: str) -> SparingLogger:
    """A logger of a module for what strangers bring about."""
    return SparingLogger(name)


def configure_logging(level: str, stream: IO[str]) -> None:
    """Send every record from `level` up to the stream, in the form that suits it; raises UsageError.

    Libraries are heard from warnings up. May be called again: the last call counts.
    """
    if level not in LEVELS:
        raise UsageError(f"{level!r} is not a log level; use one of {', '.join(LEVELS)}")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TerminalFormatter() if stream.isatty() else JsonFormatter())
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[level.upper()]))
    logging.getLogger(_OWN_LOGGERS).setLevel(level.upper())


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC), level, event, logger, then the fields, then traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": _time(record).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "event": _bounded(record.getMessage()),
            "logger": record.name,
        }
        entry |= {f"{name}_" if name in entry else name: value for name, value in _fields(record).items()}
        if text := _traceback(record):
            entry["traceback"] = text
        return escape(json.dumps(entry, ensure_ascii=False, allow_nan=False))


class TerminalFormatter(logging.Formatter):
    """Time (local), level, event, fields; a traceback below, set in by a bar so that it cannot pass for a record."""

    def format(self, record: logging.LogRecord) -> str:
        when = _time(record).astimezone().strftime("%H:%M:%S")
        fields = "".join(f"  {name}={_shown(value)}" for name, value in _fields(record).items())
        lines = [escape(f"{when} {record.levelname:7} {_bounded(record.getMessage())}{fields}")]
        lines += [f"    | {escape(line)}" for line in _traceback(record).splitlines()]
        return "\n".join(lines)


def escape(text: str) -> str:
    """The text with every character that cannot be printed as a JSON escape, so that it is one harmless line."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def _time(record: logging.LogRecord) -> datetime:
    return datetime.fromtimestamp(record.created, UTC)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    fields: dict[str, object] = getattr(record, _FIELDS, {})
    return {name: _plain(value) for name, value in islice(fields.items(), MAX_FIELDS)}


def _plain(value: object) -> object:
    if value is None or isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value[:MAX_PARTS]]
    return _bounded(str(value))


def _bounded(text: str) -> str:
    return text if len(text) <= MAX_VALUE_CHARACTERS else text[: MAX_VALUE_CHARACTERS - 1] + "…"


def _shown(value: object) -> str:
    text = str(value)
    if text and text.isprintable() and not any(c in ' "=\\' for c in text):
        return text
    return json.dumps(text, ensure_ascii=False)


def _traceback(record: logging.LogRecord) -> str:
    if record.exc_info is None or record.exc_info[1] is None:
        return ""
    text = "".join(traceback.format_exception(record.exc_info[1]))
    # The end tells what went wrong.
    return text if len(text) <= MAX_TRACEBACK_CHARACTERS else "…" + text[-MAX_TRACEBACK_CHARACTERS + 1 :]
