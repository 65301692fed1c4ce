"""Which TCP ports of this machine can be reached from outside: sockets that listen on more than the loopback.

Linux: /proc/net/tcp and tcp6 (proc(5)), which need no rights and name no process. Elsewhere psutil.
"""

from __future__ import annotations

import ipaddress
import sys
from pathlib import Path

import psutil

from gengfu_checks.local.small_file import needs_rights, read_small, read_small_text

MAX_TABLE_BYTES = 4 * 1024 * 1024
TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_LISTEN = b"0A"


def open_ports() -> frozenset[int]:
    """The ports. Raises CannotMeasure where the system does not tell without more rights."""
    if psutil.LINUX:
        tables = (read_small(path, MAX_TABLE_BYTES) or b"" for path in TABLES)
        return frozenset(port for table in tables for port in ports_in(table))
    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.AccessDenied as error:
        raise needs_rights("administrator", "listening sockets") from error
    listening = (c.laddr for c in connections if c.status == psutil.CONN_LISTEN and c.laddr)
    return frozenset(address.port for address in listening if not _is_loopback(address.ip))


def ports_by_program() -> dict[str, frozenset[int]]:
    """The open ports of programs by their names, as far as this process is told whose they are: on Linux, only root is
    told of those of others."""
    if not psutil.LINUX:
        return {}
    found: dict[str, set[int]] = {}
    for connection in psutil.net_connections(kind="tcp"):
        address = connection.laddr
        if connection.status != psutil.CONN_LISTEN or not connection.pid or not address or _is_loopback(address.ip):
            continue
        name = (read_small_text(Path(f"/proc/{connection.pid}/comm")) or "").strip()
        found.setdefault(name, set()).add(address.port)
    return {name: frozenset(ports) for name, ports in found.items()}


def ports_in(table: bytes, byteorder: str = sys.byteorder) -> set[int]:
    """The ports in the text of one table; lines of another form are left out."""
    ports = set()
    for line in table.split(b"\n")[1:]:
        fields = line.split(maxsplit=4)
        if len(fields) < 4 or fields[3] != _LISTEN:
            continue
        address, _, port = fields[1].partition(b":")
        try:
            where = _address(bytes.fromhex(address.decode("ascii")), byteorder)
            number = int(port, 16)
        except ValueError:
            continue
        if not _is_loopback(where) and 0 < number < 65536:
            ports.add(number)
    return ports


def _address(raw: bytes, byteorder: str) -> str:
    """The kernel prints each 32-bit word of an address in the order of its processor."""
    words = [raw[start : start + 4] for start in range(0, len(raw), 4)]
    data = b"".join(word[::-1] if byteorder == "little" else word for word in words)
    return str(ipaddress.ip_address(data))


def _is_loopback(text: str) -> bool:
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
