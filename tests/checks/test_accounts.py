"""The accounts check on files that the real tools wrote: useradd, usermod (passwd 4.13), utmpdump (util-linux 2.38).

Windows: rows built after Get-LocalUser and Get-LocalGroupMember at Microsoft Learn, in the form that the check's own
pipeline gives them. macOS: the property list of `dscl -plist` built after dscl(1). Records with 64-bit times are built
after bits/utmp.h of glibc 2.36 for aarch64; no such processor is here.
"""

from __future__ import annotations

import os
import re
import sqlite3
import struct
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gengfu_checks.errors import CannotMeasure
from gengfu_checks.local import account_windows, accounts, login_records
from gengfu_checks.local.account_files import administrators, parse_group, parse_passwd, parse_shadow, sudoers
from gengfu_checks.local.account_judge import Account, Policy, Rules, fits, judge_inactive, judge_passwords, listed
from gengfu_checks.local.accounts import CHECK, Files, judge_mac_group
from gengfu_checks.local.small_file import MAX_BYTES
from gengfu_checks.model import Measurement, Status
from gengfu_checks.threshold import judge

DAY_S = 86400.0
NOW_S = 1_800_000_000.0
LOGIN_DEFS = "# comment\nUID_MIN\t\t\t 1000\nPASS_MAX_DAYS\t99999\n"


@pytest.fixture
def root(tmp_path: Path, requires_program: Callable[[str, str], str]) -> Callable[..., None]:
    """`root("useradd", "-m", "ann")` runs a tool of passwd on a system below tmp_path; root exists there already."""
    etc = tmp_path / "etc"
    etc.mkdir()
    (etc / "passwd").write_text("root:x:0:0:root:/root:/bin/bash\nwww:x:33:33::/var/www:/usr/sbin/nologin\n")
    (etc / "shadow").write_text("root:*:19000:0:99999:7:::\nwww:*:19000:0:99999:7:::\n")
    (etc / "group").write_text("root:x:0:\nsudo:x:27:\nstaff:x:50:\nwww:x:33:\n")
    (etc / "gshadow").write_text("root:*::\nsudo:*::\nstaff:*::\nwww:*::\n")
    (etc / "login.defs").write_text(LOGIN_DEFS)
    if os.geteuid() != 0:
        pytest.skip("useradd asks for root")

    def run(tool: str, *arguments: str) -> None:
        path = requires_program(tool, "apt-get install passwd")
        subprocess.run([path, "--prefix", str(tmp_path), *arguments], check=True, capture_output=True)

    return run


def look(bench: Any, folder: Path, now_s: float = NOW_S, **settings: object) -> dict[str, Measurement]:
    instance = bench(CHECK, **settings)
    instance.now_s = now_s
    return measured(instance, folder)


def measured(instance: Any, folder: Path) -> dict[str, Measurement]:
    files = Files(folder / "etc", folder / "log", folder / "lastlog2.db", wide=False)
    return {m.item: m for m in accounts.measure_linux(instance.context(), files)}


def problem(measurement: Measurement) -> tuple[str, Any]:
    found = judge("accounts", measurement, CHECK.thresholds, None, 0.0)
    return found.code, found.facts.get("accounts")


@pytest.mark.parametrize(
    ("name", "item"), [("group", "administrators"), ("sudoers", "administrators"), ("shadow", "passwords")]
)
def test_half_a_file_is_not_judged(bench: Any, tmp_path: Path, name: str, item: str) -> None:
    etc = tmp_path / "etc"
    etc.mkdir()
    (etc / "passwd").write_text("root:x:0:0:root:/root:/bin/bash\n")
    (etc / "shadow").write_text("root:*:19000:0:99999:7:::\n")
    assert {m.problem for m in look(bench, tmp_path).values()} == {None}
    (etc / name).write_bytes(b"#" * MAX_BYTES + b"\n")
    found = look(bench, tmp_path)[item].problem
    assert found is not None
    assert (found.status, found.code) == (Status.UNKNOWN, "check.not_usable")
    assert found.facts == {"reason": f"{etc / name} is larger than 1048576 bytes"}
    (etc / "passwd").write_bytes(b"#" * MAX_BYTES + b"\n")
    with pytest.raises(CannotMeasure, match=r"not_usable"):
        look(bench, tmp_path)


@pytest.mark.parametrize("lost", [None, b"", bytes(range(256)) * 40])
def test_files_that_do_not_name_root_are_damaged(bench: Any, tmp_path: Path, lost: bytes | None) -> None:
    etc = tmp_path / "etc"
    etc.mkdir()
    (etc / "passwd").write_text("root:x:0:0:root:/root:/bin/bash\n")
    if lost is not None:
        (etc / "shadow").write_bytes(lost)
    found = look(bench, tmp_path)["passwords"].problem
    assert found is not None
    assert found.facts == {"reason": f"{etc / 'shadow'} has no account of root: it is damaged or lost"}
    (etc / "passwd").write_bytes(lost or b"")
    with pytest.raises(CannotMeasure, match=r"not_usable"):
        look(bench, tmp_path)


def test_more_drop_ins_of_sudoers_than_are_read_are_not_passed_over(bench: Any, tmp_path: Path) -> None:
    folder = tmp_path / "etc/sudoers.d"
    folder.mkdir(parents=True)
    (tmp_path / "etc/passwd").write_text("root::0:0:root:/root:/bin/bash\n")
    for number in range(101):
        (folder / f"part-{number:03}").write_text("")
    found = look(bench, tmp_path)["administrators"].problem
    assert found is not None
    assert found.facts == {"reason": f"{folder} holds more than 100 files"}


def test_who_is_administrator(bench: Any, root: Callable[..., None], tmp_path: Path) -> None:
    root("useradd", "-s", "/bin/bash", "-G", "sudo", "ann")
    root("useradd", "-s", "/bin/bash", "-g", "sudo", "bob")
    root("useradd", "-s", "/bin/bash", "carl")
    root("useradd", "-s", "/bin/bash", "dora")
    (tmp_path / "etc/sudoers").write_text(
        "Defaults env_reset\nroot ALL=(ALL:ALL) ALL\n%staff ALL=(ALL) NOPASSWD: ALL\n"
    )
    (tmp_path / "etc/sudoers.d").mkdir()
    (tmp_path / "etc/sudoers.d/90-dora").write_text(
        "%admin ALL=(ALL) ALL\n%linux-admins ALL=(ALL) ALL\ndora ALL=(ALL) NOPASSWD:ALL\n"
    )
    (tmp_path / "etc/sudoers.d/old.bak").write_text("carl ALL=(ALL) ALL\n")
    found = look(bench, tmp_path)["administrators"]
    assert found.facts == {"administrators": "%linux-admins, ann, bob, dora, root"}
    assert found.metrics == {"administrators": 5.0}
    assert found.problem is None
    found = look(bench, tmp_path, administrators=["a*", "DORA", "%*"])["administrators"]
    assert problem(found) == ("accounts.unexpected_administrator", "bob")
    assert look(bench, tmp_path, administrators=["ann", "bob", "dora", "%linux-*"])["administrators"].problem is None


def test_a_second_root_is_critical(bench: Any, root: Callable[..., None], tmp_path: Path) -> None:
    root("useradd", "-o", "-u", "0", "-s", "/bin/bash", "toor")
    found = look(bench, tmp_path, administrators=["*"])["administrators"]
    assert problem(found) == ("accounts.second_root", "toor")
    assert found.problem is not None
    assert found.problem.status is Status.CRITICAL
    root("usermod", "-s", "/usr/sbin/nologin", "toor")
    assert look(bench, tmp_path)["administrators"].problem is None


def test_empty_and_old_passwords(bench: Any, root: Callable[..., None], tmp_path: Path) -> None:
    secret = "$6$salt$notarealhash"
    for name in ("ann", "bob", "carl", "dora"):
        root("useradd", "-s", "/bin/bash", name)  # a new account is locked
    root("usermod", "-p", secret, "bob")
    found = look(bench, tmp_path, now_s=time.time())["passwords"]
    assert found.problem is None
    assert found.metrics["accounts_with_password"] == 1.0
    assert 0 <= found.metrics["oldest_password_age_seconds"] < 2 * DAY_S
    assert found.facts == {"max_days": 99999}
    later_s = time.time() + 100 * DAY_S
    old = look(bench, tmp_path, later_s, max_password_age="90d")["passwords"]
    assert problem(old) == ("accounts.password_old", "bob")
    ignored = look(bench, tmp_path, later_s, max_password_age="90d", ignore=["bob"])["passwords"]
    assert problem(ignored) == ("accounts.password_policy", None)  # new ones never expire
    (tmp_path / "etc/login.defs").write_text("PASS_MAX_DAYS 90\n")
    assert look(bench, tmp_path, time.time(), max_password_age="90d")["passwords"].problem is None
    root("usermod", "-p", "", "carl")
    assert problem(look(bench, tmp_path)["passwords"]) == ("accounts.empty_password", "carl")
    root("usermod", "-s", "/bin/false", "carl")
    assert look(bench, tmp_path)["passwords"].problem is None
    for measurement in look(bench, tmp_path).values():
        assert secret not in repr(measurement)


def test_the_length_that_pwquality_asks_for(bench: Any, root: Callable[..., None], tmp_path: Path) -> None:
    assert look(bench, tmp_path, min_password_length=10)["passwords"].problem is None  # not known
    (tmp_path / "etc/security").mkdir()
    (tmp_path / "etc/security/pwquality.conf").write_text("# minlen = 20\n")
    assert problem(look(bench, tmp_path, min_password_length=10)["passwords"])[0] == "accounts.password_policy"
    # The order is that of libpwquality 1.4.5 (Debian 12), asked here for what it reads from such files.
    (tmp_path / "etc/security/pwquality.conf.d").mkdir()
    (tmp_path / "etc/security/pwquality.conf.d/10.conf").write_text("minlen = 20\n")
    (tmp_path / "etc/security/pwquality.conf.d/50.conf").write_text("minlen = 14\n")
    assert look(bench, tmp_path)["passwords"].facts["min_length"] == 14
    (tmp_path / "etc/security/pwquality.conf").write_text("# minlen = 8\nminlen = 12\n")
    assert look(bench, tmp_path, min_password_length=12)["passwords"].problem is None
    assert problem(look(bench, tmp_path, min_password_length=13)["passwords"])[0] == "accounts.password_policy"
    (tmp_path / "etc/pam.d").mkdir()
    stack = "# password requisite pam_pwquality.so minlen=6\npassword requisite pam_pwquality.so retry=3 minlen=16\n"
    (tmp_path / "etc/pam.d/common-password").write_text(stack)
    assert look(bench, tmp_path)["passwords"].facts["min_length"] == 16


def record(kind: int, user: str, seconds: int, pid: int = 7) -> str:
    """A line of utmpdump's text form."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S,000000+00:00", time.gmtime(seconds))
    return (
        f"[{kind}] [{pid:05d}] [ts/0] [{user:<8}] [pts/0       ] [192.0.2.1           ] [192.0.2.1      ] [{stamp}]\n"
    )


@pytest.fixture
def utmp(requires_program: Callable[[str, str], str]) -> Callable[[Path, str], None]:
    """`utmp(path, lines)` writes records with the real utmpdump."""
    tool = requires_program("utmpdump", "apt-get install util-linux")

    def write(path: Path, lines: str) -> None:
        path.parent.mkdir(exist_ok=True)
        done = subprocess.run([tool, "-r"], input=lines.encode(), capture_output=True, check=True, env={"TZ": "UTC"})
        path.write_bytes(done.stdout)

    return write


needs_this_layout = pytest.mark.skipif(
    login_records.has_wide_times(), reason="utmpdump writes this processor's own records"
)


@needs_this_layout
def test_records_that_utmpdump_wrote(utmp: Callable[[Path, str], None], tmp_path: Path) -> None:
    lines = record(7, "ann", 1_700_000_000) + record(7, "ann", 1_700_500_000) + record(8, "ann", 1_700_600_000)
    utmp(tmp_path / "wtmp", lines + record(2, "reboot", 1_700_700_000) + record(7, "bob", 1_900_000_000))
    data = (tmp_path / "wtmp").read_bytes()
    assert len(data) == 5 * login_records.record_bytes(wide=False)
    assert login_records.wtmp_logins(data, NOW_S, wide=False) == {"ann": 1_700_500_000.0}
    assert login_records.wtmp_logins(data[:1000], NOW_S, wide=False) == {"ann": 1_700_500_000.0}
    assert login_records.read_wtmp(tmp_path / "absent", NOW_S, wide=False) == {}


@needs_this_layout
def test_lastlog_is_read_as_the_real_lastlog_reads_it(
    root: Callable[..., None], requires_program: Callable[[str, str], str], tmp_path: Path
) -> None:
    root("useradd", "-u", "1500", "-s", "/bin/bash", "ann")
    path = tmp_path / "var/log/lastlog"
    path.parent.mkdir(parents=True)
    with path.open("wb") as stream:
        stream.seek(1500 * 292)
        stream.write(struct.pack("<i32s256s", 1_700_000_000, b"pts/0", b"192.0.2.1"))
    assert login_records.read_lastlog(path, [0, 1500, 70_000], NOW_S, wide=False) == {1500: 1_700_000_000.0}
    program = requires_program("lastlog", "apt-get install login")
    argv = [program, "-R", str(tmp_path), "-u", "ann"]
    # Inside its new root lastlog finds no time zone data and shows UTC.
    done = subprocess.run(argv, capture_output=True, text=True, env={"LC_ALL": "C", "TZ": "UTC"})
    assert done.returncode == 0, done.stderr
    assert "Nov 14 22:13:20 +0000 2023" in done.stdout


def test_accounts_that_nobody_uses(
    bench: Any, root: Callable[..., None], utmp: Callable[[Path, str], None], tmp_path: Path
) -> None:
    if login_records.has_wide_times():
        pytest.skip("utmpdump writes this processor's own records")
    for name in ("ann", "bob", "carl", "new", "left", "key", "gone"):
        root("useradd", "-s", "/bin/bash", name)
        if name != "key":
            root("usermod", "-p", "$6$x$y", name)
    root("usermod", "-L", "carl")
    root("usermod", "-e", "1", "left")  # as chage -E 1 does
    root("usermod", "-e", "2099-01-01", "ann")
    shadow = (tmp_path / "etc/shadow").read_text()
    (tmp_path / "etc/shadow").write_text(re.sub("(gone:.*):.*:$", r"\1:0:", shadow, flags=re.MULTILINE))  # chage -E 0
    root("usermod", "-p", "$6$x$y", "root")
    long_ago = int(NOW_S - 200 * DAY_S)
    people = ("ann", "bob", "carl", "root", "left", "key", "gone")
    utmp(tmp_path / "log/wtmp", "".join(record(7, name, long_ago) for name in people))
    with closing(sqlite3.connect(tmp_path / "lastlog2.db")) as database, database:
        database.execute("CREATE TABLE Lastlog2(Name TEXT PRIMARY KEY, Time INTEGER, TTY TEXT, RemoteHost TEXT)")
        database.execute("INSERT INTO Lastlog2 VALUES('bob', ?, '', '')", (int(NOW_S - 3 * DAY_S),))
    database.close()
    found = look(bench, tmp_path)["inactive"]
    assert problem(found) == ("accounts.inactive", "ann, key")
    assert found.metrics == {"inactive_accounts": 2.0}
    assert look(bench, tmp_path, inactive_after=0)["inactive"].problem is None
    assert look(bench, tmp_path, ignore=["a?n", "key"])["inactive"].problem is None
    (tmp_path / "etc/login.defs").write_text("UID_MIN 5000\n")  # below it are accounts of the system
    assert look(bench, tmp_path)["inactive"].problem is None


def test_failed_logins_are_counted_from_run_to_run(
    bench: Any, root: Callable[..., None], utmp: Callable[[Path, str], None], tmp_path: Path
) -> None:
    instance = bench(CHECK)
    seen = []
    for count in (5, 5, 104, 205, 2):
        utmp(tmp_path / "log/btmp", record(6, "guess", 1_700_000_000) * count)
        item = measured(instance, tmp_path)["failed_logins"]
        seen.append((item.metrics.get("recent_failed_logins"), problem(item)[0]))
    assert seen == [(None, "ok"), (0, "ok"), (99, "ok"), (101, "accounts.failed_logins"), (2, "ok")]
    (tmp_path / "log/btmp").unlink()
    assert "failed_logins" not in measured(instance, tmp_path)


def test_without_rights_each_item_says_so_and_the_rest_goes_on(
    bench: Any, root: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "etc/sudoers").write_text("dora ALL=(ALL) ALL\n")
    real_open = os.open

    def refuse(path: Any, *arguments: Any, **keywords: Any) -> int:
        if str(path).endswith(("/shadow", "/sudoers")):
            raise PermissionError(13, "Permission denied", str(path))
        return real_open(path, *arguments, **keywords)

    monkeypatch.setattr(os, "open", refuse)
    found = look(bench, tmp_path)
    assert problem(found["passwords"])[0] == "check.needs_rights"
    assert found["passwords"].problem is not None
    assert found["passwords"].problem.facts["target"] == str(tmp_path / "etc/shadow")
    assert found["administrators"].facts == {"administrators": "root"}
    assert "inactive" not in found


def test_this_machine(bench: Any) -> None:
    found = bench(CHECK).run()
    assert "root" in found["administrators"].facts["administrators"]
    assert CHECK.usable() is None


def test_old_passwd_files_without_shadow() -> None:
    entries = parse_passwd(
        "a::1000:1::/:/bin/sh\nb:hash:1001:1::/:/bin/sh\nc:*:1002:1::/:/bin/sh\nd:x:1003:1::/:/bin/sh"
    )
    found = accounts.linux_accounts(entries, {}, 1000, {}, NOW_S)
    assert [(account.name, account.credential) for account in found] == [("a", "empty"), ("b", "set"), ("c", "")]


def test_lines_of_another_form_are_left_out() -> None:
    assert parse_passwd("+::::::\n\nshort:x\nbad:x:-1:0::/:/bin/sh\nok:x:5:5::/:/bin/sh\nok:x:0:0::/:/bin/sh\n") == [
        parse_passwd("ok:x:5:5::/:/bin/sh")[0]
    ]
    assert parse_shadow("x\nann:!$6$x:19000:::::\nann::1:::::")["ann"].state == "locked"
    assert parse_group("sudo:x:27:ann, bob,\nbad\n") == {"sudo": (27, ("ann", "bob"))}


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("ann ALL=(ALL:ALL) ALL", {"ann"}),
        ("ann ALL=(ALL) NOPASSWD: ALL", {"ann"}),
        ("ann\tALL = NOPASSWD:SETENV: ALL", {"ann"}),
        ("%wheel ALL=(ALL) ALL", {"%wheel"}),
        ("ann host1,host2=(root) ALL", {"ann"}),
        ("ann ALL=(ALL) \\\n ALL", {"ann"}),
        ("ann, %ops,bob ALL=(ALL) ALL", {"ann", "%ops", "bob"}),
        (r"%domain\ admins ALL=(ALL) NOPASSWD: ALL", {"%domain admins"}),
        (r"%EXAMPLE\\ops ALL=(ALL) ALL", {r"%EXAMPLE\ops"}),
        ('"%domain admins" ALL=(ALL) ALL', {"%domain admins"}),
        ("#1000 ALL=(ALL) ALL # why", {"#1000"}),
        ("ann ALL=(root, db : db) /bin/ls, NOPASSWD: ALL", {"ann"}),
        ("User_Alias OPS = ann, MORE : MORE = %x\nOPS ALL=(ALL) ALL", {"ann", "%x"}),
        ("User_Alias OPS = OPS\nOPS ALL=(ALL) ALL", set()),
        ("ann ALL=(ALL) ALLOWED", set()),
        ("Cmnd_Alias SHELLS = ALL\nHost_Alias ANY = ALL", set()),
        ("ann ALL=(ALL) /usr/bin/systemctl", set()),
        ("# ann ALL=(ALL) ALL", set()),
        ("Defaults !ALL", set()),
        ("@includedir /etc/sudoers.d", set()),
    ],
)
def test_sudoers(line: str, names: set[str]) -> None:
    assert sudoers(line) == names


@given(st.text(max_size=200))
def test_any_text_is_survived(text: str) -> None:
    entries, groups = parse_passwd(text), parse_group(text)
    parse_shadow(text)
    administrators(entries, groups, sudoers(text))


@given(st.binary(max_size=1000), st.booleans())
def test_any_records_are_survived(data: bytes, wide: bool) -> None:
    assert all(0 < time_s <= NOW_S for time_s in login_records.wtmp_logins(data, NOW_S, wide=wide).values())


def test_records_of_processors_with_wide_times(tmp_path: Path) -> None:
    assert login_records.record_bytes(wide=True) == 400
    assert login_records.has_wide_times("aarch64")
    assert not login_records.has_wide_times("x86_64")
    head = struct.pack("<h2xi32s4s32s256s4s", 7, 1, b"tty1", b"1", b"ann", b"", b"")
    data = head + struct.pack("<qqq16s20s4x", 3, 1_700_000_000, 5, b"", b"")
    assert login_records.wtmp_logins(data, NOW_S, wide=True) == {"ann": 1_700_000_000.0}
    (tmp_path / "lastlog").write_bytes(struct.pack("<q32s256s", 1_700_000_000, b"", b""))
    assert login_records.read_lastlog(tmp_path / "lastlog", [0], NOW_S, wide=True) == {0: 1_700_000_000.0}


def test_a_broken_lastlog2_says_nothing(tmp_path: Path) -> None:
    assert login_records.read_lastlog2(tmp_path / "absent", NOW_S) == {}
    (tmp_path / "db").write_bytes(b"rubbish" * 1000)
    assert login_records.read_lastlog2(tmp_path / "db", NOW_S) == {}


def user(name: str, sid: int, **values: Any) -> dict[str, Any]:
    usual = {"Enabled": True, "PasswordLastSet": int(NOW_S - 10 * DAY_S), "LastLogon": int(NOW_S - DAY_S)}
    return {"Name": name, "SID": f"S-1-5-21-1004336348-1177238915-682003330-{sid}"} | usual | values


def test_windows() -> None:
    users = [
        user("Administrator", 500, LastLogon=int(NOW_S - 900 * DAY_S)),
        user("Guest", 501, Enabled=True, PasswordLastSet=None, LastLogon=None),
        user("DefaultAccount", 503, Enabled=False),
        user("ann", 1001),
        user("bob", 1002, LastLogon=int(NOW_S - 200 * DAY_S), PasswordLastSet=int(NOW_S - 400 * DAY_S)),
        user("gone", 1003, Enabled=False, LastLogon=int(NOW_S - 900 * DAY_S)),
        user("never", 1004, LastLogon=None, PasswordLastSet="rubbish"),
        user("zero", 1005, LastLogon=0, PasswordLastSet=0),
        {"Name": None},
    ]
    members = [{"Name": "PC7\\Administrator"}, {"Name": "EXAMPLE\\Domain Admins"}, {"Name": "PC7\\ann"}, {}]
    rules = Rules(("administrator", "EXAMPLE\\Domain Admins"), (), 180 * DAY_S, 365 * DAY_S)
    found = {m.item: m for m in account_windows.judge(users, members, rules, NOW_S)}
    assert problem(found["administrators"]) == ("accounts.unexpected_administrator", "PC7\\ann")
    assert problem(found["guest"]) == ("accounts.guest", None)
    assert problem(found["inactive"]) == ("accounts.inactive", "bob")
    assert problem(found["passwords"]) == ("accounts.password_old", "bob")
    users[1]["Enabled"] = False
    found = {m.item: m for m in account_windows.judge(users, members, Rules(), NOW_S)}
    assert [m.problem for m in found.values()] == [None] * 4


def test_macos() -> None:
    answer = {"dsAttrTypeStandard:GroupMembership": ["root", "ann"]}
    assert judge_mac_group(answer, "/usr/bin/dscl", Rules()).facts == {"administrators": "ann, root"}
    found = judge_mac_group(answer, "/usr/bin/dscl", Rules(administrators=("bob",)))
    assert problem(found) == ("accounts.unexpected_administrator", "ann")
    with pytest.raises(CannotMeasure):
        judge_mac_group([], "/usr/bin/dscl", Rules())


def test_names_are_bounded_and_clean() -> None:
    many = [f"user{i:03}" for i in range(50)]
    assert listed(many).endswith("user011 (+38)")
    assert listed(["a\x1b[31m\n"]) == "a\\x1b[31m\\x0a"
    assert len(listed(["x" * 1000])) == 64
    assert fits("EXAMPLE\\Ann", ["ann"])
    assert not fits("annette", ["ann"])


@given(st.lists(st.builds(Account, st.text(max_size=5), st.booleans(), st.sampled_from(["set", "empty", ""]))))
def test_no_time_known_is_no_problem_but_for_empty_passwords(people: list[Account]) -> None:
    rules = Rules((), (), 1.0, 1.0)
    assert judge_inactive(people, rules, NOW_S).problem is None
    empty = any(account.credential == "empty" for account in people)
    assert (judge_passwords(people, Policy(), rules, NOW_S).problem is not None) == empty
    used = [replace(account, last_login_s=NOW_S) for account in people]
    assert judge_inactive(used, rules, NOW_S).problem is None
