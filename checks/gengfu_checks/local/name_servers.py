"""Which name servers this machine has been told to ask.

Linux and macOS: resolv.conf(5); where it names the stub of systemd-resolved, also the servers behind that stub.
Windows: Get-DnsClientServerAddress (module DnsClient), written after its documentation.
"""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gengfu_checks.local.structured import powershell_rows

RESOLV_CONF = Path("/etc/resolv.conf")
RESOLVED_CONF = Path("/run/systemd/resolve/resolv.conf")
STUBS = frozenset(("127.0.0.53", "127.0.0.54"))
PIPELINE = "Get-DnsClientServerAddress | Select-Object InterfaceAlias,ServerAddresses"
MAX_SERVERS = 8
MAX_BYTES = 65536

_SITE_LOCAL_DEFAULTS = ipaddress.IPv6Network("fec0:0:0:ffff::/64")
"""What Windows puts where nobody has configured a server; deprecated, nobody answers there."""


def parse_resolv_conf(text: str) -> list[str]:
    """Return the addresses of `nameserver` lines in their order; what is no address is left out."""
    lines = (line.split() for line in text.splitlines() if not line.lstrip().startswith(("#", ";")))
    return _addresses(words[1] for words in lines if len(words) > 1 and words[0] == "nameserver")


def parse_windows(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the addresses of the rows of PIPELINE. A single one may come as a text instead of a list."""
    found: list[str] = []
    for row in rows:
        addresses = row.get("ServerAddresses")
        addresses = [addresses] if isinstance(addresses, str) else addresses
        found += _addresses(a for a in addresses if isinstance(a, str)) if isinstance(addresses, list) else []
    return list(dict.fromkeys(a for a in found if not _is_default(a)))


def read_resolv_conf(paths: Sequence[Path] = (RESOLV_CONF, RESOLVED_CONF)) -> list[str]:
    """Return the servers of resolv.conf, then those behind a stub of systemd-resolved among them, without doubles."""
    first, behind = paths
    servers = parse_resolv_conf(_text(first))
    if not STUBS.isdisjoint(servers):
        servers += parse_resolv_conf(_text(behind))
    return list(dict.fromkeys(servers))


def is_behind_stub(path: Path = RESOLV_CONF) -> bool:
    """Whether resolv.conf names the stub of systemd-resolved and nobody else."""
    servers = set(parse_resolv_conf(_text(path)))
    return bool(servers) and servers <= STUBS


def leads_nowhere(path: Path = RESOLV_CONF) -> bool:
    """Whether resolv.conf is a link to a file that nobody writes any more (systemd-resolved that is off or removed)."""
    return path.is_symlink() and not path.exists()


def read_windows(timeout_s: float) -> list[str]:
    """Return the servers of all links. Raises CannotMeasure."""
    return parse_windows(powershell_rows(PIPELINE, timeout_s))


def _text(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return stream.read(MAX_BYTES).decode("utf-8", "replace")
    except FileNotFoundError:
        return ""


def _addresses(words: Iterable[str]) -> list[str]:
    found = []
    for word in words:
        with contextlib.suppress(ValueError):
            found.append(str(ipaddress.ip_address(word)))
    return found


def _is_default(address: str) -> bool:
    parsed = ipaddress.ip_address(address)
    return isinstance(parsed, ipaddress.IPv6Address) and parsed in _SITE_LOCAL_DEFAULTS
