"""Updates asked of a real apt, dpkg and dnf, each with a small archive and a root of its own.

Recordings: `apt/dist-upgrade-2.6.1` is what apt 2.6.1 said in a root that debootstrap made of Debian 12 as it was
released, once its security archive was added; `dnf/*-4.14` is what dnf 4.14 said of the archive made here. The lines
with Ubuntu's archives and of dnf5 are written after their manuals.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import time
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from gengfu_checks.errors import CannotMeasure
from gengfu_checks.local import updates
from gengfu_checks.local.os_release import Release
from gengfu_checks.local.updates import CHECK
from gengfu_checks.local.updates_apt import Apt, parse_simulation, read_status, release_date
from gengfu_checks.local.updates_rpm import (
    Advisory,
    Rpm,
    day_s,
    parse_advisories,
    parse_check_update,
    parse_issue_days,
    pending_of,
)
from gengfu_checks.model import Measurement
from gengfu_checks.threshold import judge

DAY_S = 86400.0

PACKAGE = """Package: {name}
Version: {version}
Architecture: all
Maintainer: Lab <lab@example.org>
Description: x
"""


def code(measurement: Measurement) -> str:
    return judge("updates", measurement, CHECK.thresholds, None, 0.0).code


def run(*argv: str | Path) -> str:
    """Run in the environment that checks give: without HOME, below which Debian's rpm would keep its database."""
    environment = {"LC_ALL": "C", "PATH": "/usr/bin:/bin:/usr/sbin:/sbin"}
    done = subprocess.run([str(word) for word in argv], capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


class AptRoot:
    """A root with alpha 1.0 and beta 1.0 installed, and an archive that has 1.1 of both, alpha for security."""

    def __init__(self, folder: Path, apt_get: str) -> None:
        self.folder, self.root = folder, folder / "root"
        for name in (
            "etc/apt",
            "var/lib/dpkg/info",
            "var/lib/dpkg/updates",
            "var/lib/apt/lists/partial",
            "var/cache/apt",
        ):
            (self.root / name).mkdir(parents=True)
        installed = "".join(self.installed(name) for name in ("alpha", "beta"))
        (self.root / "var/lib/dpkg/status").write_text(installed)
        (self.root / "var/lib/dpkg/info/alpha.list").touch()
        status = self.root / "var/lib/dpkg/status"
        options = {"Dir": self.root, "Dir::State::status": status, "APT::Sandbox::User": "root"}
        self.options = tuple(word for key, value in options.items() for word in ("-o", f"{key}={value}"))
        self.apt = Apt(apt_get, self.root, self.options)

    @staticmethod
    def installed(name: str, status: str = "install ok installed") -> str:
        return PACKAGE.format(name=name, version="1.0") + f"Status: {status}\n\n"

    def publish(self, name: str, label: str, made_at: float, versions: dict[str, str]) -> None:
        archive = self.folder / name
        archive.mkdir()
        entries = []
        for package, version in versions.items():
            text = PACKAGE.format(name=package, version=version)
            entries.append(f"{text}Filename: ./{package}.deb\nSize: 1\nSHA256: {'0' * 64}\n")
        packages = "\n".join(entries).encode()
        (archive / "Packages").write_bytes(packages)
        digest = hashlib.sha256(packages).hexdigest()
        (archive / "Release").write_text(
            f"Origin: Lab\nLabel: {label}\nSuite: lab\nCodename: lab\nDate: {formatdate(made_at, usegmt=True)}\n"
            f"SHA256:\n {digest} {len(packages)} Packages\n"
        )
        with (self.root / "etc/apt/sources.list").open("a") as stream:
            stream.write(f"deb [trusted=yes] file:{archive} ./\n")

    def refresh(self) -> None:
        run(self.apt.program, *self.options, "-q", "update")


@pytest.fixture
def apt_root(tmp_path: Path, requires_program: Callable[[str, str], str]) -> AptRoot:
    root = AptRoot(tmp_path, requires_program("apt-get", "it comes with Debian"))
    root.publish("security", "Lab-Security", time.time() - 3600, {"alpha": "1.1"})
    root.publish("main", "Lab", time.time() - 300 * DAY_S, {"beta": "1.1", "gamma": "1.0"})
    return root


@pytest.fixture
def measure_apt(bench: Any) -> Callable[[AptRoot], Measurement]:
    instance = bench(CHECK)

    def measure(root: AptRoot) -> Measurement:
        instance.now_s = time.time()
        return updates.measure_apt(instance.context(), root.apt)

    return measure


def test_a_real_apt(apt_root: AptRoot, measure_apt: Callable[[AptRoot], Measurement]) -> None:
    assert code(measure_apt(apt_root)) == "updates.no_lists"
    apt_root.refresh()
    before = sorted(path for path in (apt_root.root / "var").rglob("*"))
    found = measure_apt(apt_root)
    assert code(found) == "ok"
    assert found.facts == {"manager": "apt", "security_updates": "alpha"}
    assert found.metrics["pending_updates"] == 2.0
    assert found.metrics["pending_security_updates"] == 1.0
    assert found.metrics["archive_age_seconds"] == pytest.approx(3600, abs=60)
    assert found.metrics["lists_age_seconds"] < 60
    assert found.metrics["last_update_age_seconds"] < 60
    assert sorted(path for path in (apt_root.root / "var").rglob("*")) == before, "asking writes nothing"


@pytest.mark.parametrize("content", [None, b"", b"\0" * 5000])
def test_a_status_that_a_power_cut_emptied_is_no_system_without_updates(
    apt_root: AptRoot, measure_apt: Callable[[AptRoot], Measurement], content: bytes | None
) -> None:
    apt_root.refresh()
    status = apt_root.root / "var/lib/dpkg/status"
    status.unlink() if content is None else status.write_bytes(content)
    with pytest.raises(CannotMeasure) as caught:
        measure_apt(apt_root)
    assert "names no package" in str(caught.value.facts["reason"])


def test_an_update_that_has_waited_since_the_last_installation(
    apt_root: AptRoot, measure_apt: Callable[[AptRoot], Measurement]
) -> None:
    apt_root.refresh()
    old_s = time.time() - 40 * DAY_S
    os.utime(apt_root.root / "var/lib/dpkg/info/alpha.list", (old_s, old_s))
    assert code(measure_apt(apt_root)) == "updates.security_waits"
    status = apt_root.root / "var/lib/dpkg/status"
    status.write_text(status.read_text().replace("1.0", "1.1"))
    found = measure_apt(apt_root)
    assert (code(found), found.metrics["pending_updates"]) == ("ok", 0.0)


def test_a_held_package_is_counted_and_does_not_wait(
    apt_root: AptRoot, measure_apt: Callable[[AptRoot], Measurement]
) -> None:
    apt_root.refresh()
    status = apt_root.root / "var/lib/dpkg/status"
    status.write_text(AptRoot.installed("alpha", "hold ok installed") + AptRoot.installed("beta"))
    found = measure_apt(apt_root)
    assert (found.metrics["held_packages"], found.metrics["pending_security_updates"]) == (1.0, 0.0)


def test_a_mirror_that_no_longer_syncs(tmp_path: Path, apt_root: AptRoot, measure_apt: Any) -> None:
    root = AptRoot(tmp_path / "other", apt_root.apt.program)
    root.publish("security", "Lab-Security", time.time() - 60 * DAY_S, {"alpha": "1.0"})
    root.refresh()
    assert code(measure_apt(root)) == "updates.archive_old"


def test_the_archive_of_a_release_that_has_ended_stands_still(
    tmp_path: Path, apt_root: AptRoot, measure_apt: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = AptRoot(tmp_path / "other", apt_root.apt.program)
    root.publish("security", "Lab-Security", time.time() - 60 * DAY_S, {"alpha": "1.0"})
    root.refresh()
    monkeypatch.setattr(updates.os_release, "read_release", lambda: Release("debian", "9", "Debian 9"))
    assert code(measure_apt(root)) == "ok"


def test_without_a_security_archive_no_age_is_made_up(tmp_path: Path, apt_root: AptRoot, measure_apt: Any) -> None:
    root = AptRoot(tmp_path / "other", apt_root.apt.program)
    root.publish("main", "Lab", time.time() - 300 * DAY_S, {"alpha": "1.1"})
    root.refresh()
    found = measure_apt(root)
    assert code(found) == "ok"
    assert not {"archive_age_seconds", "lists_age_seconds", "pending_security_updates"} & set(found.metrics)
    stamp = root.root / "var/lib/apt/periodic/update-success-stamp"
    stamp.parent.mkdir()
    stamp.touch()
    os.utime(root.root / "var/lib/apt/lists", (0, 0))
    assert measure_apt(root).metrics["lists_age_seconds"] < 60


def test_a_real_dpkg_that_was_interrupted(
    apt_root: AptRoot, measure_apt: Any, tmp_path: Path, requires_program: Callable[[str, str], str]
) -> None:
    dpkg, dpkg_deb = (requires_program(name, "it comes with Debian") for name in ("dpkg", "dpkg-deb"))
    tree = tmp_path / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(PACKAGE.format(name="alpha", version="1.1"))
    run(dpkg_deb, "--root-owner-group", "-b", tree, tmp_path / "alpha.deb")
    run(dpkg, f"--root={apt_root.root}", "--force-not-root", "--log=/dev/null", "--unpack", tmp_path / "alpha.deb")
    assert read_status(apt_root.root / "var/lib/dpkg/status")[0] == ["alpha"]
    apt_root.refresh()
    found = measure_apt(apt_root)
    assert code(found) == "updates.interrupted"
    assert found.problem is not None
    assert found.problem.facts == {"packages": "alpha"}


def test_a_dpkg_killed_while_it_wrote(apt_root: AptRoot, measure_apt: Any) -> None:
    apt_root.refresh()
    (apt_root.root / "var/lib/dpkg/updates/0001").write_text("half a")
    found = measure_apt(apt_root)
    assert found.problem is not None
    assert found.problem.facts["packages"] == "dpkg journal"


@pytest.mark.parametrize("body", ["exit 100", "exec sleep 1000", "exec yes"])
def test_an_apt_that_fails_is_unknown(apt_root: AptRoot, bench: Any, tmp_path: Path, body: str) -> None:
    apt_root.refresh()
    script = tmp_path / "apt-get"
    script.write_text(f"#!/bin/sh\n{body}\n")
    script.chmod(0o755)
    instance = bench(CHECK)
    context = instance.context()
    context.deadline_s = 0.5 if "sleep" in body else 60.0
    with pytest.raises(CannotMeasure) as caught:
        updates.measure_apt(context, Apt(str(script), apt_root.root))
    assert caught.value.code == "check.program_failed"


def test_rubbish_of_apt_and_dpkg_is_no_update(tmp_path: Path) -> None:
    assert parse_simulation("Inst\nInst (x)\nInst a [1] 2\n\x00Inst b [1] (2 x)\n") == []
    status = tmp_path / "status"
    status.write_bytes(b"Status: \nStatus: a b c d\nPackage: \xff\nStatus: install reinstreq half-installed\n")
    assert read_status(status) == (["\ufffd"], 0)
    assert release_date("Date: yesterday\n") is None
    assert release_date("Date: Fri, 20 Nov 2026 00:12:41 UTC\n") == 1795133561.0


def test_what_a_real_debian_said(samples: Path) -> None:
    updates_there = parse_simulation((samples / "apt/dist-upgrade-2.6.1").read_text())
    names = [update.name for update in updates_there]
    assert names == ["perl-base", "liblzma5", "libapt-pkg6.0", "apt", "libpcre2-8-0", "tzdata"]
    assert all(update.security for update in updates_there)


def test_ubuntus_archives_and_new_packages() -> None:
    """Written after apt-get(8) and the names that Ubuntu gives its archives."""
    text = """
Inst libssl3 [3.0.2-0ubuntu1.10] (3.0.2-0ubuntu1.12 Ubuntu:22.04/jammy-updates, Ubuntu:22.04/jammy-security [amd64])
Inst bash [5.1-6] (5.1-6ubuntu1.1 Ubuntu:22.04/jammy-updates [amd64]) []
Inst linux-image-5.15.0-99-generic (5.15.0-99.109 Ubuntu:22.04/jammy-security [amd64])
Remv old [1]
"""
    assert [(update.name, update.security) for update in parse_simulation(text)] == [("libssl3", True), ("bash", False)]


SPEC = """Name: {name}
Version: {version}
Release: 1
Summary: x
License: x
BuildArch: noarch
%description
x
%files
"""
UPDATEINFO = """<?xml version="1.0" encoding="UTF-8"?>
<updates><update from="lab@example.org" status="final" type="security" version="1">
<id>LAB-2026-0001</id><title>alpha</title><severity>Important</severity><release>lab</release>
<issued date="2026-09-01 08:00:00"/><updated date="2026-09-02 09:00:00"/>
<summary>s</summary><description>d</description>
<pkglist><collection short="lab"><name>lab</name>
<package name="alpha" version="1.1" release="1" epoch="0" arch="noarch" src="alpha-1.1-1.src.rpm">
<filename>alpha-1.1-1.noarch.rpm</filename></package></collection></pkglist></update></updates>
"""


@pytest.fixture(scope="module")
def rpm_root(tmp_path_factory: pytest.TempPathFactory, requires_program: Callable[[str, str], str]) -> Rpm:
    """alpha and beta 1.0 installed, 1.1 of both in the archive, alpha with an advisory; lists fetched by makecache."""
    dnf, rpm, build = (requires_program(n, "apt-get install dnf rpm") for n in ("dnf", "rpm", "rpmbuild"))
    create, modify = (
        requires_program(f"{name}_c", "apt-get install createrepo-c") for name in ("createrepo", "modifyrepo")
    )
    folder = tmp_path_factory.mktemp("rpm")
    root, archive = folder / "root", folder / "archive"
    archive.mkdir()
    for name, version in (("alpha", "1.0"), ("beta", "1.0"), ("alpha", "1.1"), ("beta", "1.1")):
        spec = folder / f"{name}-{version}.spec"
        spec.write_text(SPEC.format(name=name, version=version))
        defines = {"_topdir": folder / "top", "_rpmdir": folder / version}
        run(build, "-bb", *(word for key, value in defines.items() for word in ("--define", f"{key} {value}")), spec)
    for path in (folder / "1.1").rglob("*.rpm"):
        path.rename(archive / path.name)
    (folder / "updateinfo.xml").write_text(UPDATEINFO)
    run(create, "-q", archive)
    run(modify, folder / "updateinfo.xml", archive / "repodata")
    (folder / "repos").mkdir()
    (folder / "repos/lab.repo").write_text(f"[lab]\nname=lab\nbaseurl=file://{archive}\n")
    config = folder / "dnf.conf"
    places = f"reposdir={folder}/repos\nlogdir=/var/log\ncachedir=/var/cache/dnf\npersistdir=/var/lib/dnf\n"
    config.write_text(f"[main]\ngpgcheck=0\nplugins=0\n{places}")
    rpm_options = (f"--root={root}",)
    run(rpm, *rpm_options, "--nodeps", "-i", *(folder / "1.0").rglob("*.rpm"))
    found = Rpm(dnf, rpm, root, (f"--config={config}", f"--installroot={root}", "--releasever=9"), rpm_options)
    run(dnf, "-q", *found.dnf_options, "makecache")
    return found


def test_a_real_dnf(rpm_root: Rpm, bench: Any) -> None:
    instance = bench(CHECK)
    instance.now_s = time.time()
    found = updates.measure_rpm(instance.context(), rpm_root)
    assert found.facts == {"manager": "dnf", "security_updates": "alpha.noarch"}
    assert found.metrics["pending_updates"] == 2.0
    assert found.metrics["pending_security_updates"] == 1.0
    issued_s = day_s("2026-09-02") or 0.0
    assert found.metrics["security_waiting_seconds"] == pytest.approx(max(0.0, instance.now_s - issued_s), abs=1)
    assert found.metrics["lists_age_seconds"] < 120
    assert found.metrics["last_update_age_seconds"] < 120


def test_a_real_dnf_without_lists(rpm_root: Rpm, bench: Any, tmp_path: Path) -> None:
    instance = bench(CHECK)
    found = updates.measure_rpm(instance.context(), Rpm(rpm_root.dnf, rpm_root.rpm, tmp_path, (), rpm_root.rpm_options))
    assert code(found) == "updates.no_lists"


def test_a_dnf_that_fails_is_unknown(rpm_root: Rpm, bench: Any, tmp_path: Path) -> None:
    script = tmp_path / "dnf"
    script.write_text("#!/bin/sh\nexit 1\n")
    script.chmod(0o755)
    broken = Rpm(str(script), rpm_root.rpm, rpm_root.root, (), rpm_root.rpm_options)
    with pytest.raises(CannotMeasure) as caught:
        updates.measure_rpm(bench(CHECK).context(), broken)
    assert caught.value.facts["reason"] == "check-update ended with exit code 1"


def test_what_a_real_dnf_said(samples: Path) -> None:
    packages = parse_check_update((samples / "dnf/check-update-4.14").read_text())
    advisories = parse_advisories((samples / "dnf/updateinfo-list-4.14").read_text())
    days = parse_issue_days((samples / "dnf/updateinfo-info-4.14").read_text())
    assert packages == ["alpha.noarch", "beta.noarch"]
    assert advisories == [Advisory("LAB-2026-0001", "alpha.noarch")]
    assert days == {"LAB-2026-0001": day_s("2026-09-02")}
    security = [update for update in pending_of(packages, advisories, days) if update.security]
    assert [(update.name, update.published_at) for update in security] == [("alpha.noarch", day_s("2026-09-02"))]


def test_columns_that_yum_breaks_and_obsoletes() -> None:
    text = "a-very-long-name.x86_64\n      1.0-1.el7   updates\nb.noarch 2-1 base\nObsoleting Packages\nc.noarch 1 x\n"
    assert parse_check_update(text) == ["a-very-long-name.x86_64", "b.noarch"]
    assert parse_check_update("Error: rubbish and more words") == []


def test_the_columns_of_dnf5() -> None:
    """Written after dnf5-advisory(8): name, type, severity, package and the time of issue."""
    text = (
        "Name            Type     Severity                Package              Issued\n"
        "RHSA-2026:1234  security Important openssl-libs-3.2.2-6.el10.x86_64   2026-10-05 00:00:00\n"
    )
    assert parse_advisories(text) == [Advisory("RHSA-2026:1234", "openssl-libs.x86_64", day_s("2026-10-05"))]


def test_the_oldest_advisory_of_a_package_counts() -> None:
    advisories = [Advisory("A", "k.x86_64"), Advisory("B", "k.x86_64"), Advisory("C", "other.x86_64")]
    pending = pending_of(["k.x86_64", "vim.x86_64"], advisories, {"A": 200.0, "B": 100.0})
    assert [(update.security, update.published_at) for update in pending] == [(True, 100.0), (False, None)]
