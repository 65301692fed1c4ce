"""What an SSH server lets in, by `sshd -T` or by its files: sshd(8), sshd_config(5).

The first value of a keyword counts. What stands in `Match` blocks holds for some connections only and is not looked at,
but for `Match all` and, where it is asked what holds for one user, for `Match User`. Groups (AllowGroups, DenyGroups)
are not followed.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from gengfu_checks.local.small_file import read_small_text

MAX_FILES = 64
MAX_DEPTH = 8
MAX_LINES = 10_000
_LINE = re.compile(r"\s*([A-Za-z]+)(?:\s*=\s*|\s+)(\S.*)")
_LISTS = frozenset(("port", "listenaddress", "allowusers", "denyusers"))
# systemd.unit(5): where units lie, those of generators included (Ubuntu makes one of sshd_config).
_UNIT_FOLDERS = ("etc/systemd/system", "run/systemd/system", "run/systemd/generator", "usr/lib/systemd/system")
_SOCKETS = ("ssh.socket", "sshd.socket")
_BY_PASSWORD = frozenset(("password", "keyboard-interactive", "any"))

Settings = Mapping[str, tuple[str, ...]]
"""Keywords in lower case with their values; only those of lists have more than one."""


def effective(printed: str) -> Settings:
    """The settings that `sshd -T` printed."""
    return _first(_pair(line) for line in printed.splitlines()[:MAX_LINES])


def from_files(path: Path, options: Sequence[str] = (), user: str = "") -> Settings | None:
    """The settings in a file and in those that it includes; None when it is not there.

    `options` are those of the command line (`-p`, `-o`, each followed by its value), which count before the files. With
    a `user`, what `Match` blocks for this user alone say counts before all else. Raises CannotMeasure when a file may
    not be read: nobody knows what stands in it.
    """
    if read_small_text(path) is None:
        return None
    given = [_option(*pair) for pair in zip(options[::2], options[1::2], strict=True)]
    found = list(_lines(path, _Reading(path.parent, user, [MAX_FILES]), MAX_DEPTH))
    if any(keyword == "port" for keyword, _ in given):
        found = [line for line in found if line[0] != "port"]
    general = _first([*given, *((keyword, value) for keyword, value, is_matched in found if not is_matched)])
    return general | _first((keyword, value) for keyword, value, is_matched in found if is_matched)


def _option(name: str, value: str) -> tuple[str, str]:
    return ("port", value) if name == "-p" else _pair(value)


def lets_in_by_password(settings: Settings) -> bool:
    """Whether a password is enough to log in, asked for in either of the two ways.

    Of the chains of AuthenticationMethods one has to ask for nothing else.
    """
    chains = _value(settings, "authenticationmethods", "any").split()
    if not any({method.partition(":")[0] for method in chain.split(",")} <= _BY_PASSWORD for chain in chains):
        return False
    if _value(settings, "passwordauthentication", "yes") == "yes":
        return True
    old_name = _value(settings, "challengeresponseauthentication", "yes")
    interactive = _value(settings, "kbdinteractiveauthentication", old_name)
    return interactive == "yes" and _value(settings, "usepam", "no") == "yes"


def lets_in_root(settings: Settings) -> str:
    """`no`, `by_key` or `by_password`."""
    root = _value(settings, "permitrootlogin", "prohibit-password")
    allowed = _users(settings, "allowusers")
    is_shut_out = "root" in _users(settings, "denyusers") or (allowed and not any(_may_be_root(u) for u in allowed))
    if root == "no" or is_shut_out:
        return "no"
    return "by_password" if root == "yes" and lets_in_by_password(settings) else "by_key"


def lets_in_empty(settings: Settings) -> bool:
    """Whether accounts with an empty password are let in."""
    return _value(settings, "permitemptypasswords", "no") == "yes" and lets_in_by_password(settings)


def ports(settings: Settings) -> frozenset[int]:
    """The ports that the server listens on."""
    named = [*settings.get("port", ()), *map(_port_of, settings.get("listenaddress", ()))]
    return frozenset(_numbers(named)) or frozenset((22,))


def socket_ports(root: Path = Path("/")) -> frozenset[int]:
    """The ports on which systemd listens for sshd (systemd.socket(5)), which are none of sshd's own settings.

    What a later file takes back is among them, too: only ports that can be reached count in the end.
    """
    found: set[int] = set()
    for folder in _UNIT_FOLDERS:
        for name in _SOCKETS:
            for path in (root / folder / name, *sorted((root / folder / f"{name}.d").glob("*.conf"))[:MAX_FILES]):
                for line in (read_small_text(path) or "").splitlines()[:MAX_LINES]:
                    keyword, equals, value = line.strip().partition("=")
                    if equals and keyword.rstrip() == "ListenStream" and value.strip():
                        found |= _numbers([value.strip(), _port_of(value)])
    return frozenset(found)


def _numbers(texts: Iterable[str]) -> set[int]:
    return {int(text) for text in texts if text.isascii() and text.isdecimal() and len(text) <= 5}


def _port_of(address: str) -> str:
    """The port of `host:port` or `[host]:port`, "" where there is none."""
    host, colon, port = address.split()[0].rpartition(":")
    return port if colon and (host.endswith("]") or ":" not in host) else ""


def _users(settings: Settings, keyword: str) -> list[str]:
    return [user for value in settings.get(keyword, ()) for user in value.split()]


def _may_be_root(pattern: str) -> bool:
    """Whether an entry of AllowUsers lets root in from somewhere: `root@192.0.2.*`, `*`."""
    return not pattern.startswith("!") and fnmatchcase("root", pattern.partition("@")[0])


def _value(settings: Settings, keyword: str, default: str) -> str:
    return settings.get(keyword, (default,))[0].lower()


def _first(pairs: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for keyword, value in pairs:
        if keyword and value and (keyword in _LISTS or keyword not in found):
            found[keyword] = (*found.get(keyword, ()), value)
    return found


@dataclass(frozen=True, slots=True)
class _Reading:
    """What reading files needs: the folder that names in them begin from, the user asked for, files still allowed."""

    folder: Path
    user: str
    left: list[int]


def _lines(path: Path, reading: _Reading, depth: int) -> Iterator[tuple[str, str, bool]]:
    """Keywords and values of a file in order, those of included files in their place, and whether they stand in a Match
    for the user; without what is in others."""
    reading.left[0] -= 1
    is_general, is_for_user = True, False
    for line in (read_small_text(path) or "").splitlines()[:MAX_LINES]:
        keyword, value = _pair(line)
        if keyword == "match":
            is_for_user = bool(reading.user) and _is_for(value, reading.user)
            is_general = value.lower() == "all" and not is_for_user
        elif keyword == "include" and (is_general or is_for_user):
            for name in _included(value, reading.folder):
                if depth > 0 and reading.left[0] > 0:
                    for key, text, is_matched in _lines(Path(name), reading, depth - 1):
                        yield key, text, is_matched or is_for_user
        elif is_general or is_for_user:
            yield keyword, value, is_for_user


def _included(value: str, folder: Path) -> Iterator[str]:
    for pattern in value.split():
        yield from sorted(glob.glob(str(folder / pattern.strip('"'))))  # noqa: PTH207 - absolute patterns too


def _is_for(match: str, user: str) -> bool:
    """Whether a Match is for every connection of a user: `all`, or `User` and nothing else."""
    criterion, _, patterns = match.strip().partition(" ")
    wanted = [pattern.strip() for pattern in patterns.split(",")]
    if criterion.lower() != "user" or any(" " in pattern for pattern in wanted):
        return match.strip().lower() == "all"
    if any(fnmatchcase(user, pattern[1:]) for pattern in wanted if pattern.startswith("!")):
        return False
    return any(fnmatchcase(user, pattern) for pattern in wanted)


def _pair(line: str) -> tuple[str, str]:
    match = _LINE.match(line)
    if match is None:
        return "", ""
    value = match[2].split(" #", 1)[0].strip()
    is_quoted = len(value) > 1 and value[0] == value[-1] == '"'
    return match[1].lower(), value[1:-1] if is_quoted else value
