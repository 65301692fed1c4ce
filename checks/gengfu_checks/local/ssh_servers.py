"""SSH servers that run on this machine, and what each lets in.

By command lines (proc(5)), which everybody may read: OpenSSH shows `sshd: /usr/sbin/sshd -D -f FILE [listener] ...`.
One that was started with another file, port or option is judged by these. Linux; elsewhere the usual file counts.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from gengfu_checks.errors import CannotMeasure
from gengfu_checks.local import sshd_settings
from gengfu_checks.local.programs import find_program, run_program
from gengfu_checks.local.sshd_settings import Settings

CONFIGURATION = Path("/etc/ssh/sshd_config")
PROC = Path("/proc")
MAX_PROCESSES = 20_000
MAX_SERVERS = 8
MAX_COMMAND_BYTES = 4096
MAX_OUTPUT_BYTES = 256 * 1024
# A connection by root from an address of nobody (RFC 5737), for `Match User root`.
ROOT = "user=root,host=host.invalid,addr=192.0.2.1"

_LISTENER = " [listener]"
_CHILD_OPTIONS = ("-R", "-i")
_KEPT_OPTIONS = ("-f", "-o", "-p")


@dataclass(frozen=True, slots=True)
class Access:
    """The settings of one server, for everybody and for root."""

    general: Settings
    root: Settings


def running(proc: Path = PROC) -> list[tuple[str, ...]]:
    """The options `-f`, `-o` and `-p` with their values of each SSH server of the system that runs, without doubles."""
    found: dict[tuple[str, ...], None] = {}
    processes = (entry for entry in proc.iterdir() if entry.name.isdecimal())
    for entry, _ in zip(processes, range(MAX_PROCESSES), strict=False):
        try:
            if (entry / "comm").read_bytes().strip() != b"sshd" or entry.stat().st_uid != 0 or _is_elsewhere(entry):
                continue
            with (entry / "cmdline").open("rb") as stream:
                words = _words(stream.read(MAX_COMMAND_BYTES).decode("utf-8", "replace"))
        except OSError:  # it has ended
            continue
        if words is not None:
            found[tuple(_options(words))] = None
    return list(found)[:MAX_SERVERS]


def access(options: tuple[str, ...], within_s: float) -> Access | None:
    """What a server with these options lets in: root asks `sshd -T`, others read its files. None for no such file.

    Raises CannotMeasure when a file may not be read.
    """
    sshd = find_program("sshd") if not psutil.WINDOWS and os.geteuid() == 0 else None
    if sshd is not None:
        general = _asked([sshd, "-T", *options], within_s / 2)
        if general is not None:
            return Access(general, _asked([sshd, "-T", "-C", ROOT, *options], within_s / 2) or general)
    return _read(options)


def named_ports(options: tuple[str, ...]) -> frozenset[int]:
    """The ports of a server whose files may not be read."""
    given = "".join(f"port {v}\n" for name, v in zip(options[::2], options[1::2], strict=True) if name == "-p")
    return sshd_settings.ports(sshd_settings.effective(given))


def _asked(argv: list[str], within_s: float) -> Settings | None:
    """What `sshd -T` prints, every setting that there is; None when it fails: the files say nearly the same."""
    try:
        output = run_program(argv, within_s, MAX_OUTPUT_BYTES)
    except CannotMeasure:
        return None
    settings = sshd_settings.effective(output.stdout.decode("utf-8", "replace"))
    return settings if output.exit_code == 0 and "permitrootlogin" in settings else None


def _read(options: tuple[str, ...]) -> Access | None:
    path, others = _configuration(), []
    for name, value in zip(options[::2], options[1::2], strict=True):
        if name == "-f":
            path = Path(value)
        else:
            others += [name, value]
    general = sshd_settings.from_files(path, others)
    root = sshd_settings.from_files(path, others, "root")
    return Access(general, root) if general is not None and root is not None else None


def _configuration() -> Path:
    if psutil.WINDOWS:
        return Path(os.environ.get("PROGRAMDATA", r"C:\ProgramData")) / "ssh" / "sshd_config"
    return CONFIGURATION


def _is_elsewhere(process: Path) -> bool:
    """Whether a process has another network, as in a container; only root may know."""
    try:
        return (process / "ns/net").readlink() != Path("/proc/self/ns/net").readlink()
    except PermissionError:
        return False


def _words(command: str) -> list[str] | None:
    """The words of a server that listens; None for one that serves a connection."""
    if command.startswith("sshd: "):
        title, listener, _ = command.removeprefix("sshd: ").replace("\0", " ").partition(_LISTENER)
        return title.split()[1:] if listener else None
    words = command.rstrip("\0").split("\0")
    return words[1:] if words[0].endswith("/sshd") and not set(_CHILD_OPTIONS) & set(words) else None


def _options(words: list[str]) -> Iterator[str]:
    """The options that are kept, each followed by its value, of which a title has lost the quotes."""
    joined: list[tuple[str, str]] = []
    for word in words:
        if word.startswith("-"):
            joined.append((word[:2], word[2:]))
        elif joined:
            joined[-1] = (joined[-1][0], f"{joined[-1][1]} {word}".strip())
    for name, value in joined:
        if name in _KEPT_OPTIONS and value:
            yield from (name, value)
