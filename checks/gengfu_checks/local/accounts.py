"""Accounts: who is administrator, empty and old passwords, accounts that nobody uses, guest, failed logins.

Items: `administrators`, `passwords`, `inactive`, `failed_logins` (Linux), `guest` (Windows, macOS). Only accounts of
the machine itself are seen, not those of a domain. Linux reads its files; shadow and btmp need rights, and an item that
cannot be had says so for itself. Windows: Get-LocalUser and Get-LocalGroupMember, asked every few hours; a domain
controller has no such accounts. macOS: the group `admin` by dscl and the guest of the login window.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from gengfu_checks.codes import CHECK_NEEDS_RIGHTS, CHECK_NOT_USABLE, CHECK_PROGRAM_FAILED
from gengfu_checks.errors import CannotMeasure
from gengfu_checks.local import account_judge as judged
from gengfu_checks.local import account_windows, login_records
from gengfu_checks.local.account_files import (
    PasswdEntry,
    Password,
    administrators,
    parse_group,
    parse_passwd,
    parse_shadow,
    password_state,
    sudoers,
)
from gengfu_checks.local.account_judge import Account, Policy, Rules
from gengfu_checks.local.programs import failed, find_program
from gengfu_checks.local.setting_text import find_setting
from gengfu_checks.local.small_file import read_small, read_small_text, unknown
from gengfu_checks.local.structured import parse_plist, powershell, powershell_rows, run_plist
from gengfu_checks.local.windows_security import windows_kind
from gengfu_checks.model import (
    CheckKind,
    Context,
    Measurement,
    Metric,
    MetricType,
    Setting,
    SettingType,
    Threshold,
)

MAX_SUDOERS_FILES = 100
MAX_DROP_INS = 50
ASK_WINDOWS_S = 6 * 3600.0
LOGIN_WINDOW = Path("/Library/Preferences/com.apple.loginwindow.plist")

_PASSWORD_STACKS = ("common-password", "system-auth", "password-auth")
_PAM_LENGTH = re.compile(
    r"^\s*-?password\s.{0,200}pam_(?:pwquality|cracklib)\.so\b.{0,300}\bminlen=(\d{1,4})", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Files:
    """Where Linux keeps what the check reads."""

    etc: Path = Path("/etc")
    log: Path = Path("/var/log")
    lastlog2: Path = Path("/var/lib/lastlog/lastlog2.db")
    wide: bool | None = None
    """Whether login records keep 64-bit times; None goes by the processor."""


def _rules(context: Context) -> Rules:
    settings = context.settings
    return Rules(
        administrators=tuple(settings["administrators"]),
        ignored=tuple(settings["ignore"]),
        inactive_after_s=settings["inactive_after"],
        max_password_age_s=settings["max_password_age"],
        min_password_length=settings["min_password_length"],
    )


def measure_linux(context: Context, files: Files) -> Iterator[Measurement]:
    """Each item by its own files, so that one without rights does not hide the others.

    Raises CannotMeasure where passwd itself is damaged or too large.
    """
    rules, now_s = _rules(context), context.now()
    entries = parse_passwd(read_small_text(files.etc / "passwd") or "")
    first_root = next((entry for entry in entries if entry.uid == 0), None)
    if first_root is None:
        raise _damaged(files.etc / "passwd")
    yield from _or_unknown("administrators", lambda: _administrators(entries, files, rules))
    try:
        shadow = parse_shadow(read_small_text(files.etc / "shadow") or "")
        if first_root.second_field == "x" and first_root.name not in shadow:
            raise _damaged(files.etc / "shadow")
        uid_min, policy = _uid_min(files), _policy(files)
    except CannotMeasure as error:
        yield Measurement("passwords", problem=unknown(error))
    else:
        logins = _last_logins(entries, files, now_s)
        accounts = linux_accounts(entries, shadow, uid_min, logins, now_s)
        yield judged.judge_passwords(accounts, policy, rules, now_s)
        yield judged.judge_inactive(accounts, rules, now_s)
    yield from _or_unknown("failed_logins", lambda: _failed_logins(context, files))


def _damaged(path: Path) -> CannotMeasure:
    """For a file that does not hold the account that every system has."""
    return CannotMeasure(CHECK_NOT_USABLE, {"reason": f"{path} has no account of root: it is damaged or lost"})


def _or_unknown(item: str, one: Callable[[], Measurement | None]) -> Iterator[Measurement]:
    try:
        measurement = one()
    except CannotMeasure as error:
        measurement = Measurement(item, problem=unknown(error))
    if measurement is not None:
        yield measurement


def _administrators(entries: list[PasswdEntry], files: Files, rules: Rules) -> Measurement:
    groups = parse_group(read_small_text(files.etc / "group") or "")
    names = administrators(entries, groups, _sudoers(files))
    roots = [entry.name for entry in entries if entry.uid == 0 and entry.name != "root" and entry.may_log_in]
    return judged.judge_administrators(names, roots, rules)


def _sudoers(files: Files) -> set[str]:
    """Who sudoers names, where it may be read: without that the groups have to do."""
    folder = files.etc / "sudoers.d"
    try:
        drop_ins = folder.iterdir() if folder.is_dir() else ()
        # sudo passes over names with a dot or a tilde at the end.
        paths = sorted(path for path in drop_ins if "." not in path.name and not path.name.endswith("~"))
        if len(paths) > MAX_SUDOERS_FILES:
            raise CannotMeasure(CHECK_NOT_USABLE, {"reason": f"{folder} holds more than {MAX_SUDOERS_FILES} files"})
        texts = [read_small_text(path) or "" for path in (files.etc / "sudoers", *paths)]
    except PermissionError:
        return set()
    except CannotMeasure as error:
        if error.code == CHECK_NEEDS_RIGHTS:
            return set()
        raise
    return sudoers("\n".join(texts))


def linux_accounts(
    entries: list[PasswdEntry], shadow: dict[str, Password], uid_min: int, logins: dict[str, float], now_s: float
) -> list[Account]:
    """The accounts with which somebody may log in: a shell, no lock on the password, and no end that has passed.

    A locked password still lets keys in, but such an account is one that somebody has dealt with. One that never had a
    password is for keys.
    """
    accounts = []
    for entry in entries:
        found = _password(entry, shadow)
        has_ended = found.account_ends_s is not None and now_s >= found.account_ends_s
        if entry.may_log_in and found.state != "locked" and not has_ended:
            of_person = uid_min <= entry.uid < 65534
            credential = "" if found.state == "none" else found.state
            accounts.append(Account(entry.name, of_person, credential, found.changed_s, logins.get(entry.name)))
    return accounts


def _password(entry: PasswdEntry, shadow: dict[str, Password]) -> Password:
    """What holds for login(1): shadow where passwd says x, else what passwd itself says."""
    if entry.second_field == "x":
        return shadow.get(entry.name, Password("locked"))
    return Password(password_state(entry.second_field))


def _uid_min(files: Files) -> int:
    return _number(read_small_text(files.etc / "login.defs") or "", "UID_MIN") or 1000


def _policy(files: Files) -> Policy:
    login_defs = read_small_text(files.etc / "login.defs") or ""
    return Policy(_number(login_defs, "PASS_MAX_DAYS"), _min_length(files))


def _min_length(files: Files) -> int | None:
    """The least length of new passwords: as PAM gives it to pwquality or cracklib, else by pwquality's own files, of
    which the main one counts most (pwquality.conf(5)); None where neither is there."""
    stack = "\n".join(read_small_text(files.etc / "pam.d" / name) or "" for name in _PASSWORD_STACKS)
    given = _PAM_LENGTH.search(stack)
    if given is not None:
        return int(given[1])
    quality = read_small_text(files.etc / "security/pwquality.conf")
    if quality is None:
        return None
    drop_ins = sorted((files.etc / "security/pwquality.conf.d").glob("*.conf"), reverse=True)[:MAX_DROP_INS]
    texts = [quality, *(read_small_text(path) or "" for path in drop_ins)]
    # 8 is pwquality's own default.
    return next((length for text in texts if (length := _number(text, "minlen")) is not None), 8)


def _number(text: str, key: str) -> int | None:
    value = str(find_setting(text, "text", key) or "")
    return int(value) if value.isascii() and value.isdecimal() and len(value) <= 9 else None


def _last_logins(entries: list[PasswdEntry], files: Files, now_s: float) -> dict[str, float]:
    """The last login of each account by all records there are; records that may not be read are passed over."""
    wide = login_records.has_wide_times() if files.wide is None else files.wide
    logins = login_records.read_lastlog2(files.lastlog2, now_s)
    try:
        by_uid = login_records.read_lastlog(files.log / "lastlog", (e.uid for e in entries), now_s, wide=wide)
        by_name = login_records.read_wtmp(files.log / "wtmp", now_s, wide=wide)
    except CannotMeasure:
        return logins
    for entry in entries:
        known = (logins.get(entry.name), by_uid.get(entry.uid), by_name.get(entry.name))
        times = [time_s for time_s in known if time_s is not None]
        if times:
            logins[entry.name] = max(times)
    return logins


def _failed_logins(context: Context, files: Files) -> Measurement | None:
    wide = login_records.has_wide_times() if files.wide is None else files.wide
    total = login_records.failed_logins(files.log / "btmp", wide=wide)
    if total is None:
        return None
    before: int | None = context.memory.get("failed_logins")
    context.memory["failed_logins"] = total
    return judged.failed_logins(total, before)


def _measure_windows(context: Context) -> list[Measurement]:
    """Asked seldom, since each question starts a PowerShell; judged anew in every run."""
    answer: dict[str, Any] | None = context.memory.get("windows")
    now_s = context.monotonic()
    if answer is None or now_s - answer["asked_s"] >= ASK_WINDOWS_S:
        within_s = context.deadline_s * 0.45
        users = powershell_rows(account_windows.USERS_PIPELINE, within_s)
        members = powershell_rows(account_windows.ADMINISTRATORS_PIPELINE, within_s)
        answer = {"asked_s": now_s, "users": users, "members": members}
        context.memory["windows"] = answer
    return account_windows.judge(answer["users"], answer["members"], _rules(context), context.now())


def _measure_mac(context: Context) -> Iterator[Measurement]:
    dscl = find_program("dscl")
    if dscl is None:
        raise failed("dscl", "is not on this machine")
    argv = [dscl, "-plist", ".", "-read", "/Groups/admin", "GroupMembership"]
    yield judge_mac_group(run_plist(argv, context.deadline_s * 0.8), dscl, _rules(context))
    data = read_small(LOGIN_WINDOW)
    window = parse_plist(str(LOGIN_WINDOW), data) if data else {}
    yield judged.judge_guest(isinstance(window, dict) and bool(window.get("GuestEnabled")))


def judge_mac_group(answer: Any, program: str, rules: Rules) -> Measurement:
    """The administrators by what `dscl -plist . -read /Groups/admin GroupMembership` answered."""
    members = answer.get("dsAttrTypeStandard:GroupMembership") if isinstance(answer, dict) else None
    if not isinstance(members, list):
        raise failed(program, "its answer names no members")
    names = [name for name in members if isinstance(name, str) and name]
    return judged.judge_administrators(names, (), rules)


def measure(context: Context) -> Iterator[Measurement]:
    """Measure the accounts of this machine."""
    try:
        if psutil.WINDOWS:
            yield from _measure_windows(context)
        elif psutil.MACOS:
            yield from _measure_mac(context)
        else:
            yield from measure_linux(context, Files())
    except CannotMeasure as error:
        yield Measurement("", problem=unknown(error))


def usable() -> str | None:
    """Linux, Windows without a domain controller, and macOS."""
    if psutil.WINDOWS:
        if windows_kind() == "domain_controller":
            return "a domain controller has no accounts of its own"
        return None if powershell() else "PowerShell is not on this machine"
    return None if psutil.LINUX or psutil.MACOS else f"not supported on {sys.platform}"


CHECK = CheckKind(
    name="accounts",
    measure=measure,
    metrics=(
        Metric("administrators", "Accounts and groups with an administrator's rights"),
        Metric("accounts_with_password", "Accounts that can log in with a password"),
        Metric("oldest_password_age_seconds", "Time since the password was changed that has stood longest"),
        Metric("inactive_accounts", "Accounts of people that nobody has used for a long time"),
        Metric("guest_enabled", "1 when guests may log in without an account"),
        Metric("failed_logins_total", "Failed logins in the current record", MetricType.COUNTER),
        Metric("recent_failed_logins", "Failed logins since the last run"),
    ),
    codes=(
        judged.SECOND_ROOT,
        judged.UNEXPECTED_ADMINISTRATOR,
        judged.EMPTY_PASSWORD,
        judged.PASSWORD_OLD,
        judged.PASSWORD_POLICY,
        judged.INACTIVE,
        judged.GUEST,
        CHECK_NEEDS_RIGHTS,
        CHECK_NOT_USABLE,
        CHECK_PROGRAM_FAILED,
    ),
    settings=(
        Setting(
            "administrators",
            SettingType.TEXT_LIST,
            "accounts and groups that may be administrators, as globs; without them nobody is judged but second roots",
            (),
        ),
        Setting("ignore", SettingType.TEXT_LIST, "accounts whose password and use are not judged, as globs", ()),
        Setting(
            "inactive_after",
            SettingType.DURATION,
            "an account that nobody has used for this long is a problem; 0 judges none",
            "180d",
        ),
        Setting(
            "max_password_age",
            SettingType.DURATION,
            "a password older than this is a problem, and so are new ones that may become older; 0 judges none",
            0.0,
        ),
        Setting(
            "min_password_length",
            SettingType.INTEGER,
            "the least length that pwquality has to ask of new passwords; 0 judges none",
            0,
            minimum=0,
        ),
    ),
    thresholds=(Threshold("recent_failed_logins", judged.FAILED_LOGINS, warning=100),),
    every_s=900.0,
    timeout_s=90.0,
    usable=usable,
)
