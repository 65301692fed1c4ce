"""Certificates of this machine that end: files of its services, and the machine's store on Windows and macOS.

Items are files, or certificates of a store. In a file with a chain the certificate that ends first counts. Trust
bundles are left out: files with many certificates, what the system's own certificate packages bring, and authorities
in the folders of trust. Sources: files in PEM or DER; `Cert:\\LocalMachine\\My` (Microsoft Learn, "about_Certificate_
Provider"); `security find-certificate` (security(1) of macOS).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import psutil

from gengfu_checks.codes import CHECK_NEEDS_RIGHTS, CHECK_PROGRAM_FAILED
from gengfu_checks.errors import CannotMeasure, SettingError
from gengfu_checks.local.asked_seldom import asked_seldom
from gengfu_checks.local.certificate_file import Certificate, certificates_in, count_in
from gengfu_checks.local.file_age import Budget, find, parse_path
from gengfu_checks.local.plain_text import plain
from gengfu_checks.local.programs import failed, run_program
from gengfu_checks.local.structured import powershell_rows
from gengfu_checks.local.utc_time import day, utc_s
from gengfu_checks.model import (
    CheckKind,
    Context,
    Direction,
    Fact,
    Measurement,
    Metric,
    Problem,
    Setting,
    SettingType,
    Status,
    Threshold,
)

ENDS_SOON = "certificates.ends_soon"
EXPIRED = "certificates.expired"
NOT_YET_VALID = "certificates.not_yet_valid"
UNREADABLE = "certificates.unreadable"
TOO_MANY = "certificates.too_many"

DEFAULT_PATHS = (
    *(f"/etc/{folder}/*.{ending}"
      for server in ("nginx", "apache2", "httpd", "haproxy", "postfix", "dovecot", "openvpn")
      for folder in (server, f"{server}/*")
      for ending in ("crt", "pem", "cer")),
    *(f"/etc/{folder}/*.{ending}" for folder in ("ldap", "mysql") for ending in ("crt", "pem")),
    "/etc/letsencrypt/live/*/cert.pem",
    "/etc/ssl/*.crt",
    "/etc/ssl/*.pem",
    "/etc/ssl/certs/*.crt",
    "/etc/ssl/certs/*.pem",
    "/etc/pki/tls/certs/*.crt",
    "/etc/pki/tls/certs/*.pem",
    "/etc/cups/ssl/*.crt",
    "/etc/kubernetes/pki/*.crt",
    "/etc/kubernetes/pki/etcd/*.crt",
    "/var/lib/kubelet/pki/kubelet-client-current.pem",
    "/etc/gitlab/ssl/*.crt",
)  # fmt: skip
DEFAULT_EXCLUDE = ("*/ssl-cert-snakeoil.pem", "*/localhost.crt", "*/dhparam*.pem")
TRUST_FOLDERS = ("/etc/ssl/certs/", "/etc/pki/tls/certs/")
"""Authorities lie here because they are trusted, not because this machine shows them."""
SYSTEM_FOLDERS = ("/usr/share/", "/usr/local/share/ca-certificates/", "/etc/pki/ca-trust/", "/etc/ca-certificates/")
"""What the system's certificate packages bring, and links lead to."""

MAX_FILES = 200
MAX_FILE_BYTES = 1024 * 1024
MAX_CHAIN = 8
"""A file with more certificates is a bundle of what is trusted."""
MAX_OUTPUT_BYTES = 4 * 1024 * 1024
NOT_YET_SLACK_S = 86400.0
ASK_WINDOWS_AGAIN_S = 3600.0
"""Starting PowerShell costs more than all the rest."""
SHARE_OF_LIFE = 0.25
"""With more of its life than this left no certificate is told: those that live for days are renewed late on purpose."""

# Only certificates with their private key are the machine's own. Times are written out as UTC.
PIPELINE = (
    r"Get-ChildItem Cert:\LocalMachine\My|Where-Object HasPrivateKey|ForEach-Object{[pscustomobject]@{"
    "Thumbprint=$_.Thumbprint;Subject=$_.GetNameInfo('SimpleName',$false);Issuer=$_.GetNameInfo('SimpleName',$true);"
    "Begins=$_.NotBefore.ToUniversalTime().ToString('s')+'Z';"
    "Ends=$_.NotAfter.ToUniversalTime().ToString('s')+'Z'}}"
)
SECURITY = "/usr/bin/security"
SYSTEM_KEYCHAIN = "/Library/Keychains/System.keychain"


@dataclass(frozen=True, slots=True)
class Found:
    """A certificate and the item that it is told as."""

    item: str
    certificate: Certificate
    superseded: bool = False
    """The same store holds a newer one for the same name."""


def judge(found: Found, now_s: float, forget_s: float) -> Measurement:
    """The measurement of a certificate. One that ended long ago is in nobody's use any more and is not told."""
    certificate = found.certificate
    left_s = certificate.not_after - now_s
    facts: dict[str, Fact] = {"subject": certificate.subject or "?", "ends": day(certificate.not_after)}
    if certificate.issuer:
        facts["issuer"] = certificate.issuer
    is_told = not found.superseded and left_s > -forget_s
    problem = None
    if is_told and left_s <= 0:
        problem = Problem(Status.CRITICAL, EXPIRED)
    elif is_told and certificate.not_before > now_s + NOT_YET_SLACK_S:
        problem = Problem(Status.WARNING, NOT_YET_VALID, {"begins": day(certificate.not_before)})
    life_s = certificate.not_after - certificate.not_before
    is_young = left_s > life_s * SHARE_OF_LIFE
    unjudged = frozenset(("left_seconds",)) if is_young or not is_told else frozenset[str]()
    return Measurement(found.item, {"left_seconds": left_s}, facts, problem, unjudged)


def in_store(certificates: Sequence[tuple[str, Certificate]]) -> list[Found]:
    """Certificates of a store with their items; of those for one name only the one that ends last counts."""
    last: dict[tuple[str, str], float] = {}
    for _, certificate in certificates:
        key = _key(certificate)
        last[key] = max(certificate.not_after, last.get(key, certificate.not_after))
    found = [
        Found(item, certificate, bool(certificate.subject) and certificate.not_after < last[_key(certificate)])
        for item, certificate in certificates
    ]
    return list({each.item: each for each in found}.values())


def windows_certificates(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, Certificate]]:
    """The certificates in the rows of the pipeline; rows without dates are left out."""
    certificates = []
    for row in rows:
        begins, ends = utc_s(row.get("Begins")), utc_s(row.get("Ends"))
        if begins is None or ends is None:
            continue
        subject, issuer = (plain(str(row.get(name) or ""), 100) for name in ("Subject", "Issuer"))
        item = plain(f"My: {subject} {str(row.get('Thumbprint') or '')[:8]}".strip())
        certificates.append((item, Certificate(subject, issuer, begins, ends)))
    return certificates


def measure(context: Context) -> Iterator[Measurement]:
    """Yield a measurement for each certificate; nothing where there is none."""
    yield from _files(context)
    timeout_s = context.deadline_s * 0.8
    store: list[Found] = []
    if psutil.WINDOWS:
        rows = asked_seldom(context, ASK_WINDOWS_AGAIN_S, lambda: powershell_rows(PIPELINE, timeout_s))
        store = in_store(windows_certificates(rows))
    elif psutil.MACOS:
        store = in_store(_keychain(timeout_s))
    for found in store[:MAX_FILES]:
        yield judge(found, context.now(), context.settings["forget_after"])


def _files(context: Context) -> Iterator[Measurement]:
    found, failures, overflow = _candidates(context.settings["paths"])
    looked_at = [path for path in found if _is_wanted(path, context.settings["exclude"])]
    for path in looked_at[:MAX_FILES]:
        try:
            yield from _file(path, context)
        except FileNotFoundError:
            continue
        except OSError as error:
            failures[path] = error
    if overflow or len(looked_at) > MAX_FILES:
        yield Measurement(problem=Problem(Status.UNKNOWN, TOO_MANY, {"limit_files": MAX_FILES}))
    for path, failure in list(failures.items())[:MAX_FILES]:
        yield _refused(path, failure)


def _candidates(patterns: Sequence[str]) -> tuple[list[str], dict[str, OSError], bool]:
    """The files that fit, each once whatever its names; what could not be looked at; whether there were too many."""
    budget, failures = Budget(), dict[str, OSError]()
    paths: dict[tuple[int, int], str] = {}
    for pattern in patterns:
        try:
            base, parts = parse_path(pattern)
        except SettingError as error:
            raise SettingError(f"setting paths: {error}", key="paths") from error
        try:
            for match in find(base, parts, budget):
                paths.setdefault(match.identity, match.path)
        except OSError as error:
            failures[str(error.filename or base)] = error
        except CannotMeasure:  # the budget is spent
            return list(paths.values()), failures, True
    return list(paths.values()), failures, False


def _is_wanted(path: str, exclude: Sequence[str]) -> bool:
    if any(fnmatchcase(path, pattern) for pattern in exclude):
        return False
    return not os.path.realpath(path).startswith(SYSTEM_FOLDERS)


def _file(path: str, context: Context) -> Iterator[Measurement]:
    with Path(path).open("rb") as stream:
        text = stream.read(MAX_FILE_BYTES)
    if not 1 <= count_in(text) <= MAX_CHAIN:
        return
    try:
        certificates = certificates_in(text)
    except ValueError as error:
        yield _unreadable(path, str(error))
        return
    if not certificates or (certificates[0].is_authority and path.startswith(TRUST_FOLDERS)):
        return
    first_to_end = min(certificates, key=lambda certificate: certificate.not_after)
    yield judge(Found(plain(path), first_to_end), context.now(), context.settings["forget_after"])


def _refused(path: str, error: OSError) -> Measurement:
    if not isinstance(error, PermissionError):
        return _unreadable(path, os.strerror(error.errno or 0))
    facts: dict[str, Fact] = {"needs": "read access", "target": plain(path)}
    return Measurement(plain(path), problem=Problem(Status.UNKNOWN, CHECK_NEEDS_RIGHTS, facts))


def _unreadable(path: str, error: str) -> Measurement:
    return Measurement(plain(path), problem=Problem(Status.UNKNOWN, UNREADABLE, {"error": plain(error, 100)}))


def _key(certificate: Certificate) -> tuple[str, str]:
    return certificate.subject, certificate.issuer


def _keychain(timeout_s: float) -> list[tuple[str, Certificate]]:
    argv = (SECURITY, "find-certificate", "-a", "-p", SYSTEM_KEYCHAIN)
    output = run_program(argv, timeout_s, MAX_OUTPUT_BYTES)
    if output.exit_code != 0:
        raise failed(SECURITY, f"find-certificate ended with exit code {output.exit_code}")
    try:
        certificates = certificates_in(output.stdout)
    except ValueError as error:
        raise failed(SECURITY, f"printed no certificates: {error}") from error
    return [(plain(f"System.keychain: {c.subject} {day(c.not_after)}"), c) for c in certificates]


CHECK = CheckKind(
    name="certificates",
    measure=measure,
    metrics=(Metric("left_seconds", "Time until the certificate ends, negative after that"),),
    codes=(EXPIRED, NOT_YET_VALID, UNREADABLE, TOO_MANY, CHECK_NEEDS_RIGHTS, CHECK_PROGRAM_FAILED),
    settings=(
        Setting("paths", SettingType.TEXT_LIST, "files with certificates, as absolute paths or globs", DEFAULT_PATHS),
        Setting("exclude", SettingType.TEXT_LIST, "files that do not matter, as globs", DEFAULT_EXCLUDE),
        Setting(
            "forget_after",
            SettingType.DURATION,
            "a certificate that ended longer ago than this is a leftover that nobody uses",
            "365d",
        ),
    ),
    thresholds=(
        Threshold("left_seconds", ENDS_SOON, direction=Direction.BELOW, warning=21 * 86400.0, critical=7 * 86400.0),
    ),
    every_s=900.0,
    timeout_s=60.0,
    gone_is_over=True,
)
