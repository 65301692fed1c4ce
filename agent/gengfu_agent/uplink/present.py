"""Which records tell the present state: they go first, and may open and close faults. Pure.

A record is live while it is fresh, and for as long as it holds the latest run of some check. A record is named by its
key (epoch, seq); keys ascend in the order of appending.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

Key = tuple[int, int]

DEFAULT_FRESH_MS = 90_000


@dataclass(frozen=True, slots=True)
class _Record:
    checks: tuple[str, ...]
    appended_at_ms: int
    age_base_ms: int


class Present:
    """The live records that are not acknowledged yet. Times are of one clock that cannot be set."""

    def __init__(self, fresh_ms: int = DEFAULT_FRESH_MS) -> None:
        self._fresh_ms = fresh_ms
        self._records: dict[Key, _Record] = {}
        self._latest: dict[str, tuple[int, Key]] = {}

    def add(self, key: Key, checks: tuple[str, ...], appended_at_ms: int, age_base_ms: int) -> None:
        """Take in a record of this process. `age_base_ms` orders records whatever numbers they get.

        One that holds no run of a check tells no present state: it keeps its place in the order of all records.
        """
        if not checks:
            return
        self._records[key] = _Record(checks, appended_at_ms, age_base_ms)
        for check in checks:
            if age_base_ms >= self._latest.get(check, (age_base_ms, key))[0]:
                self._latest[check] = (age_base_ms, key)

    def remove(self, keys: Iterable[Key]) -> None:
        """These are acknowledged, rejected or dropped."""
        for key in keys:
            self._records.pop(key, None)

    def name_epoch(self, epoch: int) -> None:
        """Records of the unnamed epoch 0 are of this one."""

        def named(key: Key) -> Key:
            return (epoch, key[1]) if key[0] == 0 else key

        self._records = {named(key): record for key, record in self._records.items()}
        self._latest = {check: (base, named(key)) for check, (base, key) in self._latest.items()}

    def expire(self, now_ms: int) -> list[Key]:
        """Forget what is not live any more, and return it in order: it is backlog from now on."""
        gone = [key for key, record in self._records.items() if not self._is_live(key, record, now_ms)]
        self.remove(gone)
        return sorted(gone)

    def live(self) -> list[Key]:
        """What is live, in the order of appending."""
        return sorted(self._records)

    def is_latest(self, key: Key) -> bool:
        """True when this record is live and holds nothing but the latest runs of its checks."""
        record = self._records.get(key)
        return record is not None and all(self._latest[check][1] == key for check in record.checks)

    def is_superseded(self, checks: Iterable[str], age_base_ms: int) -> bool:
        """True when some of these checks have a run in a record that was appended after `age_base_ms`."""
        return any(self._latest.get(check, (age_base_ms,))[0] > age_base_ms for check in checks)

    def __contains__(self, key: Key) -> bool:
        return key in self._records

    def _is_live(self, key: Key, record: _Record, now_ms: int) -> bool:
        if now_ms - record.appended_at_ms < self._fresh_ms:
            return True
        return any(self._latest[check][1] == key for check in record.checks)
