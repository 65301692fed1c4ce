"""The oracle: tells every check what it has found, and keeps its own account of that.

Every answer carries a number that no other answer to the same check carries, ascending. Checks come in three kinds, by
the beginning of their name:

    steady-*   always good; findings that change nothing, and may share a report
    toggle-*   good and bad in turn; every finding is a change, none ever becomes a fault (its rule asks for more)
    fault-*    bad from the moment the fault is induced until it is healed

At rest the number is 0: such findings do not count.
"""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

STEADY, TOGGLE, FAULT = "steady", "toggle", "fault"


class Source(NamedTuple):
    """One check of one agent."""

    agent: str
    check: str


class Oracle:
    """Answers on a Unix socket from threads of its own, from `start` to `stop`."""

    def __init__(self, socket_path: Path) -> None:
        self.socket_path = socket_path
        self._lock = threading.Lock()
        self._issued: dict[Source, list[bool]] = {}
        self._broken: set[Source] = set()
        self._resting = False
        self._server = _Server(str(socket_path), self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self.socket_path.unlink(missing_ok=True)

    def induce(self, source: Source) -> None:
        """From now on this check finds a fault."""
        with self._lock:
            self._broken.add(source)

    def heal(self, source: Source) -> None:
        """From now on it finds none."""
        with self._lock:
            self._broken.discard(source)

    def rest(self) -> None:
        """From now on nothing counts."""
        with self._lock:
            self._resting = True

    def issued(self) -> Mapping[Source, list[bool]]:
        """By check: for each number, beginning at 1, whether it was a bad one."""
        with self._lock:
            return {source: list(bad) for source, bad in self._issued.items()}

    def answer(self, source: Source) -> dict[str, object]:
        """What this check finds now."""
        with self._lock:
            if self._resting:
                return {"number": 0, "bad": source in self._broken}
            issued = self._issued.setdefault(source, [])
            bad = len(issued) % 2 == 1 if source.check.startswith(TOGGLE) else source in self._broken
            issued.append(bad)
            return {"number": len(issued), "bad": bad}


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, path: str, oracle: Oracle) -> None:
        self.oracle = oracle
        super().__init__(path, _Handler)


class _Handler(socketserver.StreamRequestHandler):
    server: _Server
    timeout = 5.0

    def handle(self) -> None:
        try:
            question = json.loads(self.rfile.readline())
            source = Source(str(question["agent"]), str(question["check"]))
            self.wfile.write(json.dumps(self.server.oracle.answer(source)).encode() + b"\n")
        except (OSError, ValueError):
            return  # a check that was killed while it asked; its number was issued, and may never be seen again
