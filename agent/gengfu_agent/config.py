"""The agent's own file, `agent.toml` in its state folder. It is optional, and has the last word over any plan.

allow = ["cpu", "disk"]     # kinds of checks that may run here, "inventory" among them; all when it is left out
deny = ["process"]          # kinds that may not, whatever else is said
log_level = "info"          # debug, info, warning or error

[spool]
quota = "256MiB"            # how much may wait on the disk
keep = "7d"                 # and for how long
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gengfu_agent.errors import ConfigError
from gengfu_agent.plan import Allowed
from gengfu_agent.spool import DEFAULT_KEEP_S, DEFAULT_QUOTA_BYTES

CONFIG_FILE = "agent.toml"
LOG_LEVELS = ("debug", "info", "warning", "error")
LEAST_QUOTA_BYTES = 1024 * 1024

_KEYS = ("allow", "deny", "log_level", "spool")
_SPOOL_KEYS = ("quota", "keep")
_SIZE = re.compile(r"(\d+)\s*(B|KiB|MiB|GiB)")
_SIZE_BYTES = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}


@dataclass(frozen=True, slots=True)
class Config:
    """What the agent's own file says."""

    allowed: Allowed = field(default_factory=Allowed)
    log_level: str = "info"
    quota_bytes: int = DEFAULT_QUOTA_BYTES
    keep_s: float = DEFAULT_KEEP_S


def load_config(folder: Path) -> Config:
    """Return the configuration, the defaults when there is no file; raises ConfigError with file and line."""
    path = folder / CONFIG_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Config()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    import tomllib

    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: {error}") from None
    return _Reader(path, text).config(table)


class _Reader:
    """Turns the table into a Config; knows where a key stands."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._lines = text.splitlines()

    def config(self, table: Mapping[str, Any]) -> Config:
        self._require_keys(table, _KEYS, "")
        spool = table.get("spool", {})
        if not isinstance(spool, dict):
            raise self._error("spool", "spool is a table: [spool] with quota and keep")
        self._require_keys(spool, _SPOOL_KEYS, " in [spool]")
        level = table.get("log_level", "info")
        if level not in LOG_LEVELS:
            raise self._error("log_level", f"log_level is one of {', '.join(LOG_LEVELS)}, not {level!r}")
        return Config(
            allowed=Allowed(self._kinds(table, "allow"), self._kinds(table, "deny") or frozenset()),
            log_level=level,
            quota_bytes=self._quota(spool),
            keep_s=self._keep(spool),
        )

    def _kinds(self, table: Mapping[str, Any], key: str) -> frozenset[str] | None:
        value = table.get(key)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(kind, str) for kind in value):
            raise self._error(key, f'{key} is a list of check kinds, like ["cpu", "disk"]')
        return frozenset(value)

    def _quota(self, spool: Mapping[str, Any]) -> int:
        value = spool.get("quota", DEFAULT_QUOTA_BYTES)
        match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
        if match is not None:
            value = int(match[1]) * _SIZE_BYTES[match[2]]
        if isinstance(value, bool) or not isinstance(value, int) or value < LEAST_QUOTA_BYTES:
            raise self._error("quota", 'quota is a size of at least "1MiB", written with B, KiB, MiB or GiB')
        return value

    def _keep(self, spool: Mapping[str, Any]) -> float:
        if "keep" not in spool:
            return DEFAULT_KEEP_S
        from gengfu_checks.errors import SettingError
        from gengfu_checks.settings import parse_duration_s

        try:
            keep_s = parse_duration_s(spool["keep"])
        except SettingError as error:
            raise self._error("keep", f"keep: {error}") from None
        if keep_s <= 0:
            raise self._error("keep", "keep is longer than nothing")
        return keep_s

    def _require_keys(self, table: Mapping[str, Any], allowed: tuple[str, ...], where: str) -> None:
        for key in table:
            if key not in allowed:
                raise self._error(key, f"unknown key {key!r}{where}; allowed: {', '.join(allowed)}")

    def _error(self, key: str, message: str) -> ConfigError:
        stands = re.compile(rf"""\s*\[*\s*["']?{re.escape(key)}["']?\s*[=.\]]""")
        line = next((number for number, text in enumerate(self._lines, 1) if stands.match(text)), 1)
        return ConfigError(f"{self._path}:{line}: {message}")
