"""Mapped network drives of Windows, by Get-SmbMapping (module SmbShare), written after its documentation.

A service sees the mappings of its own session and the global ones, not those of the person at the desk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from gengfu_checks.local.plain_text import plain
from gengfu_checks.local.structured import powershell_rows
from gengfu_checks.model import Fact, Measurement, Problem, Status

UNREACHABLE = "network_share.unreachable"
MAX_MAPPINGS = 128
PIPELINE = "Get-SmbMapping | Select-Object LocalPath,RemotePath,@{n='Status';e={[string]$_.Status}}"

# Status of MSFT_SmbMapping. Disconnected is what an idle drive is; it connects again when somebody uses it.
_STATUS = {
    "0": "OK", "1": "Paused", "2": "Disconnected", "3": "NetworkError", "4": "Connecting", "5": "Reconnecting",
    "6": "Unavailable",
}  # fmt: skip
_WELL = frozenset(("OK", "Paused", "Disconnected", "Connecting", "Reconnecting"))
_BAD = frozenset(("NetworkError", "Unavailable"))


def mappings(rows: Iterable[Mapping[str, Any]]) -> Iterator[Measurement]:
    """Yield what the rows of PIPELINE mean. Rows without a path or with a status that nobody knows are left out."""
    seen: set[str] = set()
    for row in rows:
        local, remote = row.get("LocalPath"), row.get("RemotePath")
        item = plain(local if isinstance(local, str) and local else str(remote or ""))
        status = _STATUS.get(str(row.get("Status")), str(row.get("Status")))
        if not item or item in seen or status not in _WELL | _BAD or len(seen) >= MAX_MAPPINGS:
            continue
        seen.add(item)
        facts: dict[str, Fact] = {"source": plain(str(remote or "")), "fstype": "smb"}
        problem = Problem(Status.CRITICAL, UNREACHABLE, {"error": status}) if status in _BAD else None
        yield Measurement(item, {"reachable": float(problem is None)}, facts, problem)


def measure_mappings(timeout_s: float) -> Iterator[Measurement]:
    """Measure the mapped drives of this session. Raises CannotMeasure."""
    return mappings(powershell_rows(PIPELINE, timeout_s))
