"""Reading the files in which Linux keeps accounts: passwd(5), shadow(5), group(5), sudoers(5). Pure.

Lines of another form are left out. Of a password nothing is kept but whether there is one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

ADMINISTRATORS_GROUPS = ("sudo", "wheel", "admin")

_NO_SHELLS = ("/nologin", "/false", "/sync", "/shutdown", "/halt", "/git-shell")
# What may stand in the place of a password and is none: nothing was ever set.
_NO_PASSWORD = frozenset(("x", "NP"))
# A user as sudoers writes one: ann, %wheel, #1000, %#27, +netgroup, "domain admins", domain\ admins.
_SUDO_USER = re.compile(r'[%+#:]{0,3}(?:"[^"]{1,128}"|(?:\\.|[^\s,=!"\\]){1,128})')
_SUDO_LIST = re.compile(rf"({_SUDO_USER.pattern}(?:\s*,\s*{_SUDO_USER.pattern})*)(?:\s+(.*))?", re.DOTALL)
_SUDO_RUN_AS = re.compile(r"\([^()]*\)")
_SUDO_ALL = re.compile(r"\s*(?:[A-Z_]+:\s*)*ALL\s*")  # tags: ALL
_SUDO_OTHER = re.compile(r"Defaults\b|(?:Host|Runas|Cmnd|Cmd)_Alias\b|[@#]include|#(?!\d)")
_MAX_ALIASES = 500


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
    """What is known of a password: `state` is set, empty, locked, or none where there never was one (keys may do).

    `changed_s` is when it was set, `account_ends_s` when nobody can log in any more, since the epoch.
    """

    state: str
    changed_s: float | None = None
    account_ends_s: float | None = None


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
            ends_s = int(fields[7]) * 86400.0 if len(fields) >= 8 and _is_id(fields[7]) else None
            changed_s = days * 86400.0 if days else None
            passwords.setdefault(fields[0], Password(password_state(fields[1]), changed_s, ends_s))
    return passwords


def password_state(field: str) -> str:
    """`set`, `empty`, `locked` or `none` for the password field of shadow or of an old passwd.

    `!$6$...` is a password that somebody locked, `!`, `!!` and `*` stand where none was ever set.
    """
    if field == "":
        return "empty"
    if field in _NO_PASSWORD or not field.strip("!*"):
        return "none"
    return "locked" if field[0] in "!*" else "set"


def parse_group(text: str) -> dict[str, tuple[int, tuple[str, ...]]]:
    """Number and members of each group."""
    groups: dict[str, tuple[int, tuple[str, ...]]] = {}
    for fields in _fields(text):
        if len(fields) == 4 and _is_id(fields[2]):
            members = tuple(name.strip() for name in fields[3].split(",") if name.strip())
            groups.setdefault(fields[0], (int(fields[2]), members))
    return groups


def sudoers(text: str) -> set[str]:
    """Users and (%) groups that may run everything, by the text of sudoers and its drop-ins; aliases of users are
    followed, those of commands are not."""
    lines = [line.strip() for line in text.replace("\\\n", " ").splitlines()]
    aliases: dict[str, set[str]] = {}
    granted: set[str] = set()
    for line in lines:
        if line.startswith("User_Alias"):
            for definition in line.removeprefix("User_Alias").split(":")[:_MAX_ALIASES]:
                name, _, members = definition.partition("=")
                aliases[name.strip()] = _sudo_users(members.strip())[0]
            continue
        left, equals, right = line.partition("=")
        if equals and _SUDO_OTHER.match(line) is None:
            users, hosts = _sudo_users(left.strip())
            commands = _SUDO_RUN_AS.sub("", right).partition("#")[0].split(",")
            if hosts and any(map(_SUDO_ALL.fullmatch, commands)):
                granted |= users
    return _without_aliases(granted, aliases)


def _sudo_users(text: str) -> tuple[set[str], str]:
    """The users that a list begins with, and what follows it."""
    match = _SUDO_LIST.match(text)
    if match is None:
        return set(), ""
    users = (word.replace('"', "") for word in _SUDO_USER.findall(match[1]))
    return {re.sub(r"\\(.)", r"\1", user) for user in users}, (match[2] or "").strip()


def _without_aliases(names: set[str], aliases: Mapping[str, set[str]]) -> set[str]:
    done: set[str] = set()
    todo = list(names)
    while todo:
        name = todo.pop()
        if name not in done:
            done.add(name)
            todo += aliases.get(name, ())
    return done - aliases.keys()


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
    for line in text.splitlines():
        if line and not line.startswith(("#", "+", "-")):
            yield line.split(":")


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 10
