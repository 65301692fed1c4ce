"""Automatic login and screen lock on Linux, by the files of display managers, getty and dconf.

Sources: the manuals of GDM (custom.conf), LightDM (lightdm.conf), SDDM (sddm.conf(5)), agetty(8), dconf(7),
glib-compile-schemas(1) for files of overrides, the schemas org.gnome.desktop.screensaver and .session with their
defaults, and kscreenlockersettings.kcfg of KDE's kscreenlocker with its own. What users set for themselves is in their
own folders, which an agent does not read. Of other desktops nothing is known.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gengfu_checks.local.setting_text import find_setting
from gengfu_checks.local.small_file import read_small_text

MAX_FILES = 64

_GDM = ("etc/gdm3/daemon.conf", "etc/gdm3/custom.conf", "etc/gdm/custom.conf")
_LIGHTDM = (
    "usr/share/lightdm/lightdm.conf.d/*.conf",
    "etc/xdg/lightdm/lightdm.conf.d/*.conf",
    "etc/lightdm/lightdm.conf.d/*.conf",
    "etc/lightdm/lightdm.conf",
)
_LIGHTDM_SECTIONS = ("Seat:*", "SeatDefaults", "Seat:seat0")
_SDDM = ("usr/lib/sddm/sddm.conf.d/*.conf", "etc/sddm.conf.d/*.conf", "etc/sddm.conf")
_GETTY = (
    "etc/systemd/system/*getty@*.service.d/*.conf",
    "etc/systemd/system/console-getty.service.d/*.conf",
    "etc/systemd/system/autovt@*.service.d/*.conf",
    "etc/systemd/system/*getty@*.service",
)
_DISPLAY_MANAGER = "etc/systemd/system/display-manager.service"
# The schemas lie on machines without GNOME, too: many programs bring them.
_GNOME = ("usr/bin/gnome-session", "usr/bin/gnome-shell")
_KDE = ("usr/bin/startplasma-wayland", "usr/bin/startplasma-x11")
_OVERRIDES = "usr/share/glib-2.0/schemas/*.gschema.override"
_OVERRIDDEN = ("", ":ubuntu", ":GNOME")
_KDE_LOCK = "etc/xdg/kscreenlockerrc"
_DCONF_PROFILE = "etc/dconf/profile/user"
_DCONF_DATABASE = re.compile(r"\s*system-db:([A-Za-z0-9_-]{1,64})\s*(?:#.*)?")
_SCREENSAVER, _SESSION = "org/gnome/desktop/screensaver", "org/gnome/desktop/session"
_GNOME_IDLE_S = 300.0
_KDE_TIMEOUT_MINUTES, _KDE_GRACE_S = "5", "5"
_NUMBER = re.compile(r"(?:uint32\s+)?([0-9]{1,9}(?:\.[0-9]{1,6})?)")


@dataclass(frozen=True, slots=True)
class Autologin:
    """Somebody is logged in without being asked: by which program, as which account."""

    by: str
    account: str


@dataclass(frozen=True, slots=True)
class Lock:
    """How a session locks by itself: after how long without use (None: never), and whether its user may change that."""

    after_s: float | None
    enforced: bool


def autologin(root: Path) -> Autologin | None:
    """The first automatic login in force below a root folder."""
    manager = _display_manager(root)
    found = {"gdm": _gdm, "lightdm": _lightdm, "sddm": _sddm}.get(manager, _none)(root)
    return found or _getty(root)


def _display_manager(root: Path) -> str:
    """The display manager that systemd starts; "" where none is. Files of others may be left over."""
    try:
        target = (root / _DISPLAY_MANAGER).readlink().name
    except OSError:
        return ""
    name = target.removesuffix(".service")
    return "gdm" if name == "gdm3" else name


def _none(root: Path) -> Autologin | None:  # noqa: ARG001 - like the others
    return None


def _gdm(root: Path) -> Autologin | None:
    for text in _texts(root, _GDM):
        for switch, name in (("AutomaticLoginEnable", "AutomaticLogin"), ("TimedLoginEnable", "TimedLogin")):
            account = str(find_setting(text, "ini", name, section="daemon") or "")
            if account and _is_true(find_setting(text, "ini", switch, section="daemon")):
                return Autologin("gdm", account)
    return None


def _lightdm(root: Path) -> Autologin | None:
    account, guest = "", False
    for text in _texts(root, _LIGHTDM):
        for section in _LIGHTDM_SECTIONS:
            named = find_setting(text, "ini", "autologin-user", section=section)
            as_guest = find_setting(text, "ini", "autologin-guest", section=section)
            account = account if named is None else str(named)
            guest = guest if as_guest is None else _is_true(as_guest)
    return Autologin("lightdm", "guest" if guest else account) if guest or account else None


def _sddm(root: Path) -> Autologin | None:
    account = ""
    for text in _texts(root, _SDDM):
        named = find_setting(text, "ini", "User", section="Autologin")
        account = account if named is None else str(named)
    return Autologin("sddm", account) if account else None


def _getty(root: Path) -> Autologin | None:
    for text in _texts(root, _GETTY):
        for line in text.replace("\\\n", " ").splitlines():
            keyword, _, value = line.partition("=")
            words = value.split()[:100]
            if keyword.strip() != "ExecStart" or not words or "getty" not in words[0]:
                continue
            for word, following in zip(words, [*words[1:], ""], strict=True):
                account = following if word in ("--autologin", "-a") else word.partition("--autologin=")[2]
                if account:
                    return Autologin("getty", account)
    return None


def lock(root: Path) -> Lock | None:
    """How sessions of GNOME and KDE lock unless their user wants it otherwise, the weaker of both; None where nobody
    has such sessions."""
    if not _display_manager(root):
        return None
    locks = [found for found in (_gnome_lock(root), _kde_lock(root)) if found is not None]
    return max(locks, key=lambda found: math.inf if found.after_s is None else found.after_s, default=None)


def _gnome_lock(root: Path) -> Lock | None:
    databases = _dconf_databases(root)
    if not databases and not _has_one(root, _GNOME):
        return None
    enabled, idle, delay = "true", str(int(_GNOME_IDLE_S)), "0"
    for text in _texts(root, (_OVERRIDES,)):
        for desktop in _OVERRIDDEN:
            screensaver, session = (name.replace("/", ".") + desktop for name in (_SCREENSAVER, _SESSION))
            enabled = _last(text, screensaver, "lock-enabled", enabled)
            delay = _last(text, screensaver, "lock-delay", delay)
            idle = _last(text, session, "idle-delay", idle)
    locked: set[str] = set()
    for name in databases:
        for text in _texts(root, (f"etc/dconf/db/{name}.d/*",)):
            enabled = _last(text, _SCREENSAVER, "lock-enabled", enabled)
            delay = _last(text, _SCREENSAVER, "lock-delay", delay)
            idle = _last(text, _SESSION, "idle-delay", idle)
        for text in _texts(root, (f"etc/dconf/db/{name}.d/locks/*",)):
            locked.update(line.strip() for line in text.splitlines())
    enforced = {f"/{_SCREENSAVER}/lock-enabled", f"/{_SESSION}/idle-delay"} <= locked
    return _lock_of(enabled != "false", _seconds(idle), _seconds(delay), enforced)


def _kde_lock(root: Path) -> Lock | None:
    """By kscreenlockerrc of the system. `[$i]` behind a key, the group or at the beginning means that users cannot
    change it."""
    if not _has_one(root, _KDE):
        return None
    text = read_small_text(root / _KDE_LOCK) or ""
    found = {"Autolock": "true", "Timeout": _KDE_TIMEOUT_MINUTES, "LockGrace": _KDE_GRACE_S}
    fixed = set()
    for key in found:
        for form in (key, f"{key}[$i]"):
            value = find_setting(text, "ini", form, section="Daemon")
            if value is not None:
                found[key] = str(value).lower()
                fixed |= {key} if form != key else set()
    enforced = text.startswith("[$i]") or "[Daemon][$i]" in text or {"Autolock", "Timeout"} <= fixed
    minutes = _seconds(found["Timeout"])
    idle_s = None if minutes is None else 60 * minutes
    return _lock_of(_is_true(found["Autolock"]), idle_s, _seconds(found["LockGrace"]), enforced)


def _lock_of(is_on: bool, idle_s: float | None, delay_s: float | None, enforced: bool) -> Lock:
    return Lock(idle_s + (delay_s or 0.0) if is_on and idle_s else None, enforced)


def _has_one(root: Path, names: Iterable[str]) -> bool:
    return any((root / name).exists() for name in names)


def _dconf_databases(root: Path) -> list[str]:
    """The system databases of the profile that `dconf update` has made, the one that counts most last."""
    profile = read_small_text(root / _DCONF_PROFILE) or ""
    matches = [_DCONF_DATABASE.fullmatch(line) for line in profile.splitlines()[:100]]
    names = [match[1] for match in matches if match]
    return [name for name in reversed(names) if (root / "etc/dconf/db" / name).is_file()]


def _last(text: str, section: str, key: str, before: str) -> str:
    value = find_setting(text, "ini", key, section=section)
    return before if value is None else str(value).lower()


def _seconds(value: str) -> float | None:
    match = _NUMBER.fullmatch(value.strip())
    return float(match[1]) if match else None


def _is_true(value: object) -> bool:
    return str(value).lower() in ("true", "1", "yes")


def _texts(root: Path, patterns: Iterable[str]) -> Iterator[str]:
    """The files that fit, pattern by pattern, each in order of names: the order in which their programs read them."""
    for pattern in patterns:
        for path in sorted(root.glob(pattern))[:MAX_FILES]:
            text = read_small_text(path)
            if text is not None:
                yield text
