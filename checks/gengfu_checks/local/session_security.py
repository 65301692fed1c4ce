"""Sessions that are open to whoever sits down: automatic login, and a screen that does not lock.

Items: `autologin`, and `screen_lock` where something is known of it. Linux: `session_linux`. Windows: Winlogon, the
machine's inactivity limit, and the screen saver of everybody who is logged on, in the registry; the password that
automatic login keeps there is never read. macOS: the login window, and the screen saver where a profile manages it.
What users set for themselves is not seen on Linux and macOS.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import psutil

from gengfu_checks.codes import CHECK_NEEDS_RIGHTS, CHECK_PROGRAM_FAILED
from gengfu_checks.errors import CannotMeasure
from gengfu_checks.local import session_linux, windows_registry
from gengfu_checks.local.plain_text import plain
from gengfu_checks.local.session_linux import Autologin, Lock
from gengfu_checks.local.small_file import read_small, unknown
from gengfu_checks.local.structured import parse_plist
from gengfu_checks.local.windows_security import registry_value
from gengfu_checks.model import (
    CheckKind,
    Context,
    Fact,
    Measurement,
    Metric,
    Problem,
    Setting,
    SettingType,
    Status,
)

AUTOLOGIN = "session_security.autologin"
LOCK_OFF = "session_security.lock_off"
LOCK_LATE = "session_security.lock_late"

MAX_NAME_CHARS = 64
MAX_USERS = 200
LOGIN_WINDOW = Path("/Library/Preferences/com.apple.loginwindow.plist")
MANAGED_SCREENSAVER = Path("/Library/Managed Preferences/com.apple.screensaver.plist")

_WINLOGON = r"SOFTWARE\Microsoft\Windows NT\CurrentVersion\Winlogon"
_SYSTEM_POLICY = r"SOFTWARE\Microsoft\Windows\CurrentVersion\Policies\System"
_USER_POLICY = r"Software\Policies\Microsoft\Windows\Control Panel\Desktop"
_USER_DESKTOP = r"Control Panel\Desktop"
_PERSON = ("S-1-5-21-", "S-1-12-1-")  # of a machine or domain, of Entra ID

Read = Callable[[str, str, str], Any]
"""Reads a value of the registry by hive, key and name; None when it is not there."""


def judge_autologin(found: Autologin | None, *, allowed: bool) -> Measurement:
    """The item `autologin`."""
    if found is None:
        return Measurement("autologin", {"autologin": 0.0})
    facts: dict[str, Fact] = {"by": found.by, "account": plain(found.account, MAX_NAME_CHARS)}
    problem = None if allowed else Problem(Status.WARNING, AUTOLOGIN)
    return Measurement("autologin", {"autologin": 1.0}, facts, problem)


def judge_lock(found: Lock, within_s: float) -> Measurement:
    """The item `screen_lock`; it is judged when `within_s` is not 0."""
    metrics = {"locks": float(found.after_s is not None)}
    if found.after_s is not None:
        metrics["lock_after_seconds"] = found.after_s
    problem = None
    if within_s and found.after_s is None:
        problem = Problem(Status.WARNING, LOCK_OFF)
    elif within_s and found.after_s is not None and found.after_s > within_s:
        problem = Problem(Status.WARNING, LOCK_LATE, {"limit_s": within_s})
    return Measurement("screen_lock", metrics, {"enforced": found.enforced}, problem)


def windows_autologin(read: Read) -> Autologin | None:
    """Automatic login of Windows. AutoAdminLogon is a text, "1" when it is on."""
    if str(read("HKEY_LOCAL_MACHINE", _WINLOGON, "AutoAdminLogon")) != "1":
        return None
    account = read("HKEY_LOCAL_MACHINE", _WINLOGON, "DefaultUserName")
    return Autologin("winlogon", account) if isinstance(account, str) and account else None


def windows_lock(read: Read, users: Iterable[str]) -> Lock | None:
    """How sessions of Windows lock: by the machine's limit, else by the weakest screen saver of those logged on.

    None when there is no limit and nobody is logged on.
    """
    limit = read("HKEY_LOCAL_MACHINE", _SYSTEM_POLICY, "InactivityTimeoutSecs")
    if isinstance(limit, int) and limit > 0:
        return Lock(float(limit), enforced=True)
    locks = [_user_lock(read, user) for user in users]
    if not locks:
        return None
    after_s = [lock.after_s for lock in locks if lock.after_s is not None]
    return Lock(max(after_s) if len(after_s) == len(locks) else None, all(lock.enforced for lock in locks))


def _user_lock(read: Read, user: str) -> Lock:
    """The screen saver of one user: each value by policy, else the user's own."""
    found: dict[str, str] = {}
    enforced = True
    for name in ("ScreenSaveActive", "ScreenSaverIsSecure", "ScreenSaveTimeOut"):
        value = read("HKEY_USERS", rf"{user}\{_USER_POLICY}", name)
        enforced = enforced and value is not None
        value = read("HKEY_USERS", rf"{user}\{_USER_DESKTOP}", name) if value is None else value
        found[name] = str(value)
    seconds = found["ScreenSaveTimeOut"]
    is_on = found["ScreenSaveActive"] == "1" and found["ScreenSaverIsSecure"] == "1"
    is_number = seconds.isascii() and seconds.isdecimal() and len(seconds) <= 9 and int(seconds) > 0
    return Lock(float(seconds) if is_on and is_number else None, enforced)


def mac_autologin(window: Any) -> Autologin | None:
    """Automatic login of macOS by the property list of its login window."""
    account = window.get("autoLoginUser") if isinstance(window, dict) else None
    return Autologin("loginwindow", account) if isinstance(account, str) and account else None


def mac_lock(managed: Any) -> Lock | None:
    """The lock that a configuration profile asks for (payload com.apple.screensaver); None for no such profile."""
    if not isinstance(managed, dict) or "askForPassword" not in managed:
        return None
    idle, delay = managed.get("idleTime"), managed.get("askForPasswordDelay", 0)
    numbers = [value for value in (idle, delay) if isinstance(value, int) and not isinstance(value, bool)]
    is_on = bool(managed["askForPassword"]) and len(numbers) == 2 and isinstance(idle, int) and idle > 0
    return Lock(float(sum(numbers)) if is_on else None, enforced=True)


def _logged_on() -> list[str]:
    names = windows_registry.subkeys("HKEY_USERS", "")
    return [name for name in names if name.startswith(_PERSON) and not name.endswith("_Classes")][:MAX_USERS]


def _plist(path: Path) -> Any:
    data = read_small(path)
    return parse_plist(str(path), data) if data else {}


def _both(root: Path) -> tuple[Callable[[], Autologin | None], Callable[[], Lock | None]]:
    """How to ask this system for either."""
    if psutil.WINDOWS:
        return lambda: windows_autologin(registry_value), lambda: windows_lock(registry_value, _logged_on())
    if psutil.MACOS:
        return lambda: mac_autologin(_plist(LOGIN_WINDOW)), lambda: mac_lock(_plist(MANAGED_SCREENSAVER))
    return lambda: session_linux.autologin(root), lambda: session_linux.lock(root)


def measure(context: Context, root: Path = Path("/")) -> Iterator[Measurement]:
    """Measure this machine's settings; each item says for itself when it may not be read."""
    ask_autologin, ask_lock = _both(root)
    try:
        yield judge_autologin(ask_autologin(), allowed=context.settings["autologin_allowed"])
    except CannotMeasure as error:
        yield Measurement("autologin", problem=unknown(error))
    try:
        found = ask_lock()
    except CannotMeasure as error:
        yield Measurement("screen_lock", problem=unknown(error))
        return
    if found is not None:
        yield judge_lock(found, context.settings["lock_within"])


def usable() -> str | None:
    """Linux, Windows and macOS."""
    is_known = psutil.LINUX or psutil.WINDOWS or psutil.MACOS
    return None if is_known else f"not supported on {sys.platform}"


CHECK = CheckKind(
    name="session_security",
    measure=measure,
    metrics=(
        Metric("autologin", "1 when somebody is logged in at start without being asked"),
        Metric("locks", "1 when the screen of a session that nobody uses locks by itself"),
        Metric("lock_after_seconds", "Time without use after which the screen locks"),
    ),
    codes=(AUTOLOGIN, LOCK_OFF, LOCK_LATE, CHECK_NEEDS_RIGHTS, CHECK_PROGRAM_FAILED),
    settings=(
        Setting("autologin_allowed", SettingType.BOOLEAN, "the machine may log somebody in by itself (a kiosk)", False),
        Setting(
            "lock_within",
            SettingType.DURATION,
            "the screen has to lock after this long without use at the latest; 0 judges nothing",
            0.0,
        ),
    ),
    every_s=3600.0,
    timeout_s=20.0,
    usable=usable,
)
