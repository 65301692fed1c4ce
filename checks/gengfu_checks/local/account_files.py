"""Reading the files in which Linux keeps accounts: passwd(5), shadow(5), group(5), sudoers(5). Pure.

Lines of another form are left out. Of a password nothing is kept but whether there is one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

MAX_LINES = 50_000
ADMINISTRATORS_GROUPS = ("sudo", "wheel", "admin")

_NO_SHELLS = ("/nologin", "/false", "/sync", "/shutdown", "/halt", "/git-shell")
# user or %group, hosts = (run as) tags: ALL
_SUDO_ALL = re.compile(r"(%?[A-Za-z_][A-Za-z0-9_.@-]{0,63})\s+\S+\s*=\s*(?:\([^()]*\)\s*)?(?:[A-Z_]+:\s*)*ALL")


@dataclass(frozen=True, slots=True)
class PasswdEntry:
    """A line of passwd; `second_field` is "x" where shadow holds the password."""

    name: str
    second_field: str
    uid: int
    gid: int
    shell: str

    @property
    def may_log_in(self) -> bool:
        """Whether its shell lets somebody in."""
        return not self.shell.endswith(_NO_SHELLS)


@dataclass(frozen=True, slots=True)
class Password:
    """What is known of a password: `state` is set, empty or locked; `changed_s` when, since the epoch."""

    state: str
    changed_s: float | None = None


def parse_passwd(text: str) -> list[PasswdEntry]:
    """The accounts of passwd, each name once (the first counts)."""
    entries: dict[str, PasswdEntry] = {}
    for fields in _fields(text):
        if len(fields) == 7 and _is_id(fields[2]) and _is_id(fields[3]):
            name = fields[0]
            entries.setdefault(name, PasswdEntry(name, fields[1], int(fields[2]), int(fields[3]), fields[6]))
    return list(entries.values())


def parse_shadow(text: str) -> dict[str, Password]:
    """The passwords of shadow by account."""
    passwords: dict[str, Password] = {}
    for fields in _fields(text):
        if len(fields) >= 3:
            days = int(fields[2]) if _is_id(fields[2]) else 0  # 0 asks for a change at the next login
            passwords.setdefault(fields[0], Password(password_state(fields[1]), days * 86400.0 if days else None))
    return passwords


def password_state(field: str) -> str:
    """`set`, `empty` or `locked` for the password field of shadow or of an old passwd."""
    return "empty" if field == "" else "locked" if field[0] in "!*" else "set"


def parse_group(text: str) -> dict[str, tuple[int, tuple[str, ...]]]:
    """Number and members of each group."""
    groups: dict[str, tuple[int, tuple[str, ...]]] = {}
    for fields in _fields(text):
        if len(fields) == 4 and _is_id(fields[2]):
            members = tuple(name.strip() for name in fields[3].split(",") if name.strip())
            groups.setdefault(fields[0], (int(fields[2]), members))
    return groups


def sudoers(text: str) -> set[str]:
    """Users and (%) groups that may run everything, by the plain lines of a sudoers file; aliases are not followed."""
    lines = text.replace("\\\n", " ").splitlines()[:MAX_LINES]
    matches = (_SUDO_ALL.match(line.strip()) for line in lines)
    return {match[1] for match in matches if match}


def administrators(
    entries: Iterable[PasswdEntry], groups: Mapping[str, tuple[int, tuple[str, ...]]], sudo: Iterable[str]
) -> set[str]:
    """Names of accounts that may become root: number 0, members of the groups for it, and those sudoers names."""
    granted = set(sudo)
    names = {name for name in granted if not name.startswith("%")} - {"ALL", "root"}
    accounts = list(entries)
    for group in {*ADMINISTRATORS_GROUPS, *(name[1:] for name in granted if name.startswith("%"))}:
        if group in groups:
            number, members = groups[group]
            names.update(members)
            names.update(entry.name for entry in accounts if entry.gid == number)
        elif group not in ADMINISTRATORS_GROUPS:
            names.add(f"%{group}")  # of a directory: who is in it is not known here
    names.update(entry.name for entry in accounts if entry.uid == 0)
    return names


def _fields(text: str) -> Iterator[list[str]]:
    for line in text.splitlines()[:MAX_LINES]:
        if line and not line.startswith(("#", "+", "-")):
            yield line.split(":")


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 10
