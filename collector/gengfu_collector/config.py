"""What the collector is told from outside, settled before it starts. No file is needed.

The command line wins over the environment, that over `collector.toml` in the data folder, that over defaults.
"""

from __future__ import annotations

import ipaddress
import logging
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import tzinfo
from itertools import combinations
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from gengfu_collector.errors import UsageError
from gengfu_collector.fleet.time_zone import time_zone
from gengfu_collector.fleet.toml_table import Table, read_file, shown, unknown_word
from gengfu_proto.names import ENROL_PORT, HTTP_PORT, STREAM_PORT

CONFIG_FILE = "collector.toml"
INSPECTION_FOLDER = "inspection"
DATABASE_VARIABLE = "GENGFU_DATABASE_URL"
SYSTEM_DATA = Path("/var/lib/gengfu")
LOCAL_DATA = Path("gengfu-data")

LOG_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
DATABASE_DRIVERS = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg", "postgresql+psycopg": "postgresql+psycopg"}

_KEYS = (
    "listen", "inspection", "time_zone", "log_level", "database", "retention", "certificates", "limits",
)  # fmt: skip
_RETENTION_KEYS = ("report_days", "inventory_days")
_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_LONGEST_PORT = 5


class Secret:
    """A text that no message, log or repr shows; `reveal` gives it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(***)"


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen. Port 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Listeners:
    """The three doors: people and Prometheus, agents, machines that want to become agents."""

    http: Address = Address("127.0.0.1", HTTP_PORT)
    stream: Address = Address("0.0.0.0", STREAM_PORT)  # noqa: S104 - agents come from everywhere, by mutual TLS
    enrol: Address = Address("0.0.0.0", ENROL_PORT)  # noqa: S104 - guarded by the token


@dataclass(frozen=True, slots=True)
class Limits:
    """What the collector takes on before it refuses: streams at once, attempts to enrol from everywhere together."""

    agents: int = 20_000
    enrolments_per_minute: int = 600


@dataclass(frozen=True, slots=True)
class CollectorConfig:
    """The whole configuration. `inspection` is None where there is no such folder."""

    data: Path
    listen: Listeners = Listeners()
    inspection: Path | None = None
    database_url: Secret | None = None
    report_days: int = 14
    inventory_days: int = 400
    """How long changes of inventories are kept."""
    certificate_days: int = 30
    limits: Limits = Limits()
    log_level: str = "info"
    zone: tzinfo = field(default_factory=time_zone)
    """In which people write hours."""


@dataclass(frozen=True, slots=True)
class CommandLine:
    """What was given as options; None where nothing was."""

    http: str | None = None
    stream: str | None = None
    enrol: str | None = None
    inspection: Path | None = None
    log_level: str | None = None


def default_data_folder(working_folder: Path, system_folder: Path = SYSTEM_DATA) -> Path:
    """Return where data is when nobody says: `gengfu-data` here, or the system's folder where only that exists."""
    local = working_folder / LOCAL_DATA
    return system_folder if system_folder.is_dir() and not local.exists() else local


def load_config(data: Path, options: CommandLine, environment: Mapping[str, str]) -> CollectorConfig:
    """Return the configuration of a data folder.

    Raises ConfigurationError (with file and line) or UsageError (naming the option or variable). Neither shows secrets.
    """
    path = data / CONFIG_FILE
    file = _read(path)
    file.require_known(_KEYS)
    default = CollectorConfig(data)
    return CollectorConfig(
        data=data,
        listen=_listeners(file.table("listen"), options),
        inspection=_inspection(file, data, options.inspection),
        database_url=_database_url(file.table("database"), path, environment.get(DATABASE_VARIABLE)),
        report_days=_days(file.table("retention"), "report_days", default.report_days, _RETENTION_KEYS),
        inventory_days=_days(file.table("retention"), "inventory_days", default.inventory_days, _RETENTION_KEYS),
        certificate_days=_days(file.table("certificates"), "agent_days", default.certificate_days, ("agent_days",)),
        limits=_limits(file.table("limits")),
        log_level=_log_level(file, options.log_level) or default.log_level,
        zone=_zone(file),
    )


def _read(path: Path) -> Table:
    try:
        path.lstat()
    except FileNotFoundError:
        return Table(str(path), {}, {})
    except OSError as error:
        raise UsageError(f"cannot look into the data folder {path.parent}: {error.strerror}") from None
    return read_file(path, str(path))


def parse_address(text: str) -> Address:
    """Return the parts of `HOST:PORT`, `1.2.3.4:PORT` or `[IPV6]:PORT`; raises ValueError."""
    host, separator, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if separator and _is_port(port) and (_is_ipv6(host[1:-1]) if bracketed else _HOST_NAME.fullmatch(host)):
        return Address(host[1:-1] if bracketed else host, int(port))
    raise ValueError(f"{shown(text)} is not an address: write HOST:PORT like 127.0.0.1:8420 or [::1]:8420")


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _LONGEST_PORT and int(text) <= 65_535


def _is_ipv6(text: str) -> bool:
    try:
        return bool(ipaddress.IPv6Address(text))
    except ValueError:
        return False


def _listeners(table: Table, options: CommandLine) -> Listeners:
    table.require_known(("http", "stream", "enrol"))
    default = Listeners()
    found = Listeners(
        http=_address(table, "http", options.http) or default.http,
        stream=_address(table, "stream", options.stream) or default.stream,
        enrol=_address(table, "enrol", options.enrol) or default.enrol,
    )
    for pair in combinations(("stream", "enrol", "http"), 2):
        first, second = (getattr(found, key) for key in pair)
        if first == second and first.port:
            message = "http, stream and enrol must listen on different addresses or ports"
            # Where both are told, what was written last is named; those built in differ.
            for key in pair:
                if getattr(options, key) is not None:
                    raise UsageError(f"--{key}: {message}")
            raise table.error(message, max(table.data.keys() & set(pair), key=table.line))
    return found


def _address(table: Table, key: str, option: str | None) -> Address | None:
    try:
        if option is not None:
            return parse_address(option)
        text = table.text(key)
        return None if text is None else parse_address(text)
    except ValueError as error:
        if option is not None:
            raise UsageError(f"--{key}: {error}") from None
        raise table.error(f"{key}: {error}", key) from None


def _inspection(file: Table, data: Path, option: Path | None) -> Path | None:
    """A folder that was named must be there; the usual one need not."""
    text = file.text("inspection")
    if option is not None:
        if not option.is_dir():
            raise UsageError(f"--inspection: there is no folder {option}")
        return option
    if text is None:
        usual = data / INSPECTION_FOLDER
        return usual if usual.is_dir() else None
    folder = data / text
    if not folder.is_dir():
        raise file.error(f"inspection: there is no folder {folder}", "inspection")
    return folder


def _database_url(table: Table, path: Path, variable: str | None) -> Secret | None:
    """No message may show the value: it can hold a password."""
    table.require_known(("url",))
    form = "is not the address of a database: write postgresql://USER:PASSWORD@HOST/NAME or sqlite:////PATH"
    if variable:
        url = _parse_database_url(variable)
        if url is None:
            raise UsageError(f"{DATABASE_VARIABLE} {form}")
    elif "url" not in table.data:
        return None
    else:
        url = _parse_database_url(table.data["url"])
        if url is None:
            raise table.error(f"url {form}", "url")
        if url.password is not None and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise table.error(f"url holds a password and others may read this file: chmod 600 {path}", "url")
    return Secret(url.render_as_string(hide_password=False))


def _parse_database_url(value: object) -> URL | None:
    try:
        url = make_url(value) if isinstance(value, str) else None
    except (ArgumentError, ValueError):
        return None
    if url is None or url.drivername not in DATABASE_DRIVERS:
        return None
    return url.set(drivername=DATABASE_DRIVERS[url.drivername])


def _days(table: Table, key: str, default: int, known: Sequence[str]) -> int:
    table.require_known(known)
    return table.integer(key, 1, 3_650) or default


def _limits(table: Table) -> Limits:
    table.require_known(("agents", "enrolments_per_minute"))
    default = Limits()
    return Limits(
        agents=table.integer("agents", 1, 1_000_000) or default.agents,
        enrolments_per_minute=table.integer("enrolments_per_minute", 1, 100_000) or default.enrolments_per_minute,
    )


def _log_level(file: Table, option: str | None) -> str | None:
    if option is not None and option not in LOG_LEVELS:
        raise UsageError(f"--log-level: {unknown_word('level', option, LOG_LEVELS)}")
    in_file = file.choice("log_level", LOG_LEVELS)
    return option or in_file


def _zone(file: Table) -> tzinfo:
    try:
        return time_zone(file.text("time_zone") or "")
    except ValueError as error:
        raise file.error(f"time_zone: {error}", "time_zone") from None
