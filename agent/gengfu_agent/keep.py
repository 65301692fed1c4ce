"""What checks keep from run to run beyond the life of the agent: cursors, counts. One JSON file in the state folder.

What a run leaves is written after its findings are in the spool. An agent that is killed in between runs the check
again from what was kept before, and comes to the same: nothing is missed and nothing counts twice.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gengfu_agent.identity import write_private
from gengfu_checks.model import MAX_KEEP_BYTES

KEEP_FILE = "keep.json"
MAX_FILE_BYTES = 4 * 1024 * 1024
"""Of all checks together; what does not fit any more lives as long as the process."""

EMPTY = "{}"

_log = logging.getLogger(__name__)


def encode(keep: object) -> str:
    """The JSON of what a check leaves; raises ValueError or TypeError for what cannot be kept."""
    if not isinstance(keep, dict) or not all(isinstance(name, str) for name in keep):
        raise TypeError("what a check keeps has to be a dictionary with texts as keys")
    text = json.dumps(keep, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    size_bytes = len(text.encode("utf-8"))  # raises UnicodeEncodeError, a ValueError, for half a character
    if size_bytes > MAX_KEEP_BYTES:
        raise ValueError(f"what a check keeps takes {size_bytes} bytes, more than {MAX_KEEP_BYTES}")
    return text


def decode(text: str) -> dict[str, Any]:
    """What `encode` was given."""
    keep: dict[str, Any] = json.loads(text)
    return keep


class Keeps:
    """What all checks of one agent keep. May be used from any thread.

    A check is known by its name; one of another kind under the same name begins with nothing.
    """

    def __init__(self, path: Path) -> None:
        """Read the file. What is not there or cannot be understood is empty: checks begin anew then."""
        self._path = path
        self._lock = threading.Lock()
        self._kept = _read(path)

    def get(self, check: str, kind: str) -> str:
        """The JSON of what a check left last."""
        with self._lock:
            return self._kept.get(check, {}).get(kind, EMPTY)

    def put(self, left: Mapping[tuple[str, str], str]) -> None:
        """Keep what checks (name, kind) left. On the disk when this returns, unless that fails, which is logged."""
        with self._lock:
            before = dict(self._kept)
            self._kept |= {check: {kind: text} for (check, kind), text in left.items()}
            if self._kept != before:
                self._write()

    def forget_others(self, names: Iterable[str]) -> None:
        """Keep what belongs to these checks only; the file follows with the next write."""
        wanted = set(names)
        with self._lock:
            self._kept = {name: kept for name, kept in self._kept.items() if name in wanted}

    def _write(self) -> None:
        data = json.dumps(self._kept, ensure_ascii=False).encode("utf-8")
        try:
            if len(data) > MAX_FILE_BYTES:
                raise OSError(f"more than {MAX_FILE_BYTES} bytes")
            write_private(self._path, data)
        except OSError as error:
            _log.warning("keep_not_written", extra={"reason": str(error)})


def _read(path: Path) -> dict[str, dict[str, str]]:
    try:
        with path.open("rb") as stream:
            kept = json.loads(stream.read(MAX_FILE_BYTES + 1))
        if not _is_sound(kept):
            raise ValueError("not a table of checks")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        _log.warning("keep_unreadable", extra={"reason": str(error)})
        return {}
    sound: dict[str, dict[str, str]] = kept
    return sound


def _is_sound(kept: object) -> bool:
    if not isinstance(kept, dict):
        return False
    texts = [text for kinds in kept.values() if isinstance(kinds, dict) for text in kinds.values()]
    whole = all(isinstance(kinds, dict) for kinds in kept.values()) and all(isinstance(text, str) for text in texts)
    return whole and all(isinstance(json.loads(text), dict) for text in texts)
