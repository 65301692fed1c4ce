"""The check of sessions: files as display managers document them, dconf 0.40 (Debian 12) as another eye on its files,
registry and property lists by stand-ins.

GDM, LightDM, SDDM, getty: files built after their manuals. Windows: names, types and values of the registry after
Microsoft Learn (AutoAdminLogon; Interactive logon: Machine inactivity limit) and the STIG baseline V-92961 of MITRE,
read here from a dictionary. macOS: keys of the payload com.apple.screensaver after Apple's documentation of profiles.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gengfu_checks.local import session_security
from gengfu_checks.local.session_linux import Autologin, Lock, autologin, lock
from gengfu_checks.local.session_security import (
    CHECK,
    judge_autologin,
    judge_lock,
    mac_autologin,
    mac_lock,
    windows_autologin,
    windows_lock,
)
from gengfu_checks.model import Measurement

ANN = r"S-1-5-21-1004336348-1177238915-682003330-1001"
BOB = r"S-1-12-1-111-222-333-444"


@pytest.fixture
def put(tmp_path: Path) -> Callable[[str, str], None]:
    """`put("etc/sddm.conf", text)` writes a file below tmp_path."""

    def write(name: str, text: str) -> None:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    return write


def manager(root: Path, name: str) -> None:
    link = root / "etc/systemd/system/display-manager.service"
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(f"/lib/systemd/system/{name}.service")


@pytest.mark.parametrize(
    ("name", "files", "expected"),
    [
        (
            "gdm3",
            {"etc/gdm3/daemon.conf": "[daemon]\nAutomaticLoginEnable=True\nAutomaticLogin=ann\n"},
            Autologin("gdm", "ann"),
        ),
        (
            "gdm3",
            {"etc/gdm3/daemon.conf": "[daemon]\n#  AutomaticLoginEnable = true\n#  AutomaticLogin = user1\n"},
            None,
        ),
        ("gdm", {"etc/gdm/custom.conf": "[daemon]\nAutomaticLoginEnable=false\nAutomaticLogin=ann\n"}, None),
        ("gdm", {"etc/gdm/custom.conf": "[daemon]\nTimedLoginEnable=true\nTimedLogin=bob\n"}, Autologin("gdm", "bob")),
        ("gdm", {"etc/gdm/custom.conf": "[x]\nAutomaticLoginEnable=true\nAutomaticLogin=ann\n"}, None),
        (
            "lightdm",
            {"etc/lightdm/lightdm.conf.d/50-x.conf": "[Seat:*]\nautologin-user=ann\nautologin-user-timeout=0\n"},
            Autologin("lightdm", "ann"),
        ),
        (
            "lightdm",
            {
                "usr/share/lightdm/lightdm.conf.d/50-x.conf": "[SeatDefaults]\nautologin-user=ann\n",
                "etc/lightdm/lightdm.conf": "[Seat:*]\nautologin-user=\n",
            },
            None,
        ),
        (
            "lightdm",
            {"etc/lightdm/lightdm.conf": "[Seat:*]\nautologin-guest=true\n"},
            Autologin("lightdm", "guest"),
        ),
        (
            "sddm",
            {"etc/sddm.conf.d/autologin.conf": "[Autologin]\nUser=ann\nSession=plasma\n"},
            Autologin("sddm", "ann"),
        ),
        ("sddm", {"etc/sddm.conf": "[Autologin]\nRelogin=false\nSession=\nUser=\n"}, None),
        ("sddm", {"etc/gdm3/daemon.conf": "[daemon]\nAutomaticLoginEnable=True\nAutomaticLogin=ann\n"}, None),
        (
            "",
            {
                "etc/systemd/system/getty@tty1.service.d/autologin.conf": (
                    "[Service]\nExecStart=\nExecStart=-/sbin/agetty -o '-p -- \\\\u' --autologin ann %I $TERM\n"
                )
            },
            Autologin("getty", "ann"),
        ),
        (
            "",
            {"etc/systemd/system/serial-getty@.service.d/x.conf": "ExecStart=-/usr/sbin/agetty --autologin=root %I\n"},
            Autologin("getty", "root"),
        ),
        (
            "",
            {
                "etc/systemd/system/getty@tty1.service.d/x.conf": "ExecStart = -/sbin/agetty \\\n"
                "    --noclear \\\n    --autologin root %I $TERM\n"
            },
            Autologin("getty", "root"),
        ),
        (
            "",
            {"etc/systemd/system/getty@tty1.service.d/x.conf": "#ExecStart=-/sbin/agetty --autologin ann %I\n"},
            None,
        ),
        ("gdm3", {}, None),
        ("", {}, None),
    ],
)
def test_automatic_login(
    tmp_path: Path, put: Callable[[str, str], None], name: str, files: dict[str, str], expected: Autologin | None
) -> None:
    if name:
        manager(tmp_path, name)
    for path, text in files.items():
        put(path, text)
    assert autologin(tmp_path) == expected


def code(measurement: Measurement) -> str:
    return measurement.problem.code if measurement.problem else "ok"


def test_what_is_said_of_it(bench: Any, tmp_path: Path, put: Callable[[str, str], None]) -> None:
    manager(tmp_path, "sddm")
    put("etc/sddm.conf", "[Autologin]\nUser=ann\x1b\n")
    (found,) = session_security.measure(bench(CHECK).context(), tmp_path)
    assert code(found) == "session_security.autologin"
    assert found.facts == {"by": "sddm", "account": "ann\\x1b"}
    (found,) = session_security.measure(bench(CHECK, autologin_allowed=True).context(), tmp_path)
    assert (code(found), found.metrics) == ("ok", {"autologin": 1.0})
    assert code(judge_autologin(None, allowed=False)) == "ok"


def test_this_machine_lets_nobody_in_by_itself(bench: Any) -> None:
    assert bench(CHECK).run()["autologin"].metrics["autologin"] in (0.0, 1.0)
    assert CHECK.usable() is None


SESSION, SCREENSAVER = "[org/gnome/desktop/session]", "[org/gnome/desktop/screensaver]"
KEYS = "/org/gnome/desktop/screensaver/lock-enabled\n/org/gnome/desktop/session/idle-delay\n"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            {"local.d/00": f"{SESSION}\nidle-delay=uint32 600\n{SCREENSAVER}\nlock-delay=uint32 10\n"},
            Lock(610.0, False),
        ),
        (
            {"local.d/00": f"{SESSION}\nidle-delay=uint32 600\n", "local.d/10": f"{SESSION}\nidle-delay=uint32 900\n"},
            Lock(900.0, False),
        ),
        (
            {"local.d/00": f"{SESSION}\nidle-delay=uint32 600\n", "site.d/00": f"{SESSION}\nidle-delay=uint32 900\n"},
            Lock(600.0, False),
        ),
        ({"other.d/00": f"{SESSION}\nidle-delay=uint32 900\n", "local.d/00": ""}, Lock(300.0, False)),
        ({"local.d/00": f"{SCREENSAVER}\nlock-enabled=false\n"}, Lock(None, False)),
        ({"local.d/00": f"{SESSION}\nidle-delay=uint32 0\n"}, Lock(None, False)),
        ({"local.d/00": f"{SESSION}\nidle-delay=uint32 60\n", "local.d/locks/x": KEYS}, Lock(60.0, True)),
    ],
)
def test_screen_lock_of_gnome_as_dconf_itself_reads_it(
    tmp_path: Path,
    put: Callable[[str, str], None],
    requires_program: Callable[[str, str], str],
    files: dict[str, str],
    expected: Lock,
) -> None:
    dconf = requires_program("dconf", "apt-get install dconf-cli")
    manager(tmp_path, "gdm3")
    for name, text in files.items():
        put(f"etc/dconf/db/{name}", text)
    put("etc/dconf/profile/user", "user-db:user\nsystem-db:local\nsystem-db:site # of the site\n")
    databases = tmp_path / "etc/dconf/db"
    (databases / "site.d").mkdir(exist_ok=True)
    subprocess.run([dconf, "update", str(databases)], check=True)
    found = lock(tmp_path)
    assert found == expected
    put("profile", f"file-db:{databases}/local\nfile-db:{databases}/site\n")

    def read(key: str) -> str:
        environment = {"DCONF_PROFILE": str(tmp_path / "profile"), "HOME": str(tmp_path)}
        argv = [dconf, "read", f"/org/gnome/desktop/{key}"]
        return subprocess.run(argv, env=environment, capture_output=True, text=True, check=True).stdout.strip()

    idle = int((read("session/idle-delay") or "uint32 300").removeprefix("uint32 "))
    delay = int((read("screensaver/lock-delay") or "uint32 0").removeprefix("uint32 "))
    locks_itself = read("screensaver/lock-enabled") != "false" and idle > 0
    assert found.after_s == (idle + delay if locks_itself else None)


def test_settings_that_were_never_made_into_a_database_do_not_count(
    tmp_path: Path, put: Callable[[str, str], None]
) -> None:
    manager(tmp_path, "gdm3")
    put("etc/dconf/profile/user", "user-db:user\nsystem-db:local\n")
    put("etc/dconf/db/local.d/00", f"{SESSION}\nidle-delay=uint32 0\n")
    assert lock(tmp_path) is None
    put("usr/share/glib-2.0/schemas/org.gnome.desktop.screensaver.gschema.xml", "")
    assert lock(tmp_path) is None  # programs of other desktops bring the schemas
    put("usr/bin/gnome-session", "")
    assert lock(tmp_path) == Lock(300.0, enforced=False)
    (tmp_path / "etc/systemd/system/display-manager.service").unlink()
    assert lock(tmp_path) is None  # nobody has a session to lock


OVERRIDES = "usr/share/glib-2.0/schemas"


@pytest.mark.parametrize(
    ("desktop", "files", "expected"),
    [
        ("gnome-session", {f"{OVERRIDES}/10_a.gschema.override": "[org.gnome.desktop.session]\nidle-delay=60\n"}, 60.0),
        (
            "gnome-shell",
            {
                f"{OVERRIDES}/10_a.gschema.override": "[org.gnome.desktop.screensaver]\nlock-enabled=true\n",
                f"{OVERRIDES}/90_b.gschema.override": "[org.gnome.desktop.screensaver:ubuntu]\nlock-enabled = false\n",
            },
            None,
        ),
        ("startplasma-x11", {}, 305.0),
        ("startplasma-x11", {"etc/xdg/kscreenlockerrc": "[Daemon]\nAutolock=false\n"}, None),
        ("startplasma-wayland", {"etc/xdg/kscreenlockerrc": "[Daemon]\nTimeout=2.5\nLockGrace=0\n"}, 150.0),
        ("xfce4-session", {}, "nothing is known"),
    ],
)
def test_screen_lock_by_what_the_desktop_brings(
    tmp_path: Path, put: Callable[[str, str], None], desktop: str, files: dict[str, str], expected: object
) -> None:
    manager(tmp_path, "sddm")
    put(f"usr/bin/{desktop}", "")
    for name, text in files.items():
        put(name, text)
    found = lock(tmp_path)
    assert (found.after_s if found else "nothing is known") == expected


def test_of_two_desktops_the_weaker_lock_counts(tmp_path: Path, put: Callable[[str, str], None]) -> None:
    manager(tmp_path, "sddm")
    put("usr/bin/gnome-shell", "")
    put("usr/bin/startplasma-x11", "")
    put("etc/xdg/kscreenlockerrc", "[Daemon]\nAutolock[$i]=true\nTimeout[$i]=20\n")
    assert lock(tmp_path) == Lock(1205.0, enforced=True)
    put("etc/xdg/kscreenlockerrc", "[Daemon][$i]\nAutolock=false\n")
    assert lock(tmp_path) == Lock(None, enforced=True)
    put("etc/xdg/kscreenlockerrc", "[Daemon]\nTimeout[$i]=1\n")
    assert lock(tmp_path) == Lock(300.0, enforced=False)


@given(st.text(max_size=100))
def test_any_text_is_survived(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    root = Path(tmp_path_factory.getbasetemp()) / "any"
    for name in ("etc/dconf/profile/user", "etc/dconf/db/local", "etc/dconf/db/local.d/00", "etc/sddm.conf"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"system-db:local\n[Autologin]\n{text}", "utf-8", "surrogatepass")
    manager(root, "sddm")
    autologin(root)
    lock(root)


@pytest.mark.parametrize(
    ("found", "within_s", "expected"),
    [
        (Lock(300.0, True), 900.0, "ok"),
        (Lock(900.0, True), 900.0, "ok"),
        (Lock(901.0, True), 900.0, "session_security.lock_late"),
        (Lock(None, False), 900.0, "session_security.lock_off"),
        (Lock(None, False), 0.0, "ok"),
        (Lock(9000.0, False), 0.0, "ok"),
    ],
)
def test_lock_within(found: Lock, within_s: float, expected: str) -> None:
    measured = judge_lock(found, within_s)
    assert code(measured) == expected
    after = {} if found.after_s is None else {"lock_after_seconds": found.after_s}
    assert measured.metrics == {"locks": float(found.after_s is not None), **after}
    assert measured.facts["enforced"] is found.enforced


def registry(values: dict[str, Any]) -> Callable[[str, str, str], Any]:
    def read(hive: str, key: str, name: str) -> Any:
        assert "password" not in name.lower()
        user = key.partition("\\")[0] if hive == "HKEY_USERS" else ""
        place = f"{user} policy {name}" if "Policies" in key and user else f"{user} {name}".strip()
        return values.get(place)

    return read


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, None),
        ({"AutoAdminLogon": "0", "DefaultUserName": "ann"}, None),
        ({"AutoAdminLogon": "1", "DefaultUserName": "ann"}, Autologin("winlogon", "ann")),
        ({"AutoAdminLogon": 1, "DefaultUserName": "ann"}, Autologin("winlogon", "ann")),
        ({"AutoAdminLogon": "1"}, None),
        ({"AutoAdminLogon": "1", "DefaultUserName": ""}, None),
    ],
)
def test_automatic_login_of_windows(values: dict[str, Any], expected: Autologin | None) -> None:
    assert windows_autologin(registry(values)) == expected


def saver(user: str, seconds: str, secure: str = "1", active: str = "1", place: str = "") -> dict[str, str]:
    names = {"ScreenSaveActive": active, "ScreenSaverIsSecure": secure, "ScreenSaveTimeOut": seconds}
    return {f"{user} {place}{name}": value for name, value in names.items()}


@pytest.mark.parametrize(
    ("values", "users", "expected"),
    [
        ({"InactivityTimeoutSecs": 900}, [ANN], Lock(900.0, True)),
        ({"InactivityTimeoutSecs": 0} | saver(ANN, "600"), [ANN], Lock(600.0, False)),
        ({}, [], None),
        ({}, [ANN], Lock(None, False)),
        (saver(ANN, "600", place="policy "), [ANN], Lock(600.0, True)),
        (saver(ANN, "600", place="policy ") | saver(BOB, "900"), [ANN, BOB], Lock(900.0, False)),
        (saver(ANN, "600", secure="0"), [ANN], Lock(None, False)),
        (saver(ANN, "600", active="0"), [ANN], Lock(None, False)),
        (saver(ANN, "rubbish"), [ANN], Lock(None, False)),
        (saver(ANN, "600") | saver(BOB, "600", secure="0"), [ANN, BOB], Lock(None, False)),
        (saver(ANN, "9999") | {f"{ANN} policy ScreenSaveTimeOut": "60"}, [ANN], Lock(60.0, False)),
    ],
)
def test_screen_lock_of_windows(values: dict[str, Any], users: list[str], expected: Lock | None) -> None:
    assert windows_lock(registry(values), users) == expected


def test_macos() -> None:
    assert mac_autologin({"autoLoginUser": "ann"}) == Autologin("loginwindow", "ann")
    assert mac_autologin({"lastUserName": "ann"}) is None
    assert mac_autologin([]) is None
    assert mac_lock({}) is None
    assert mac_lock({"askForPassword": True, "idleTime": 600, "askForPasswordDelay": 5}) == Lock(605.0, True)
    assert mac_lock({"askForPassword": True, "idleTime": 600}) == Lock(600.0, True)
    assert mac_lock({"askForPassword": 0, "idleTime": 600}) == Lock(None, True)
    assert mac_lock({"askForPassword": True}) == Lock(None, True)
    assert mac_lock({"askForPassword": True, "idleTime": 0}) == Lock(None, True)
