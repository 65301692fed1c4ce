"""Certificates: files made by openssl and by the library cryptography, and what a machine store tells.

The rows of Windows are built after Microsoft Learn (Certificate Provider, X509Certificate2); they are no recording.
`security find-certificate -p` prints plain PEM (security(1) of macOS), which is made here by openssl.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from gengfu_checks.errors import SettingError
from gengfu_checks.local import certificates
from gengfu_checks.local.certificate_file import certificates_in, count_in, parse_der
from gengfu_checks.local.certificates import CHECK, DEFAULT_PATHS, PIPELINE, in_store, windows_certificates
from gengfu_checks.local.certificates import judge as measured
from gengfu_checks.local.utc_time import utc_s
from gengfu_checks.model import Measurement
from gengfu_checks.threshold import judge

DAY_S = 86400.0
NOW_S = 1_800_000_000.0
KEY = ec.generate_private_key(ec.SECP256R1())


def name(**parts: str) -> x509.Name:
    oids = {"cn": NameOID.COMMON_NAME, "o": NameOID.ORGANIZATION_NAME, "c": NameOID.COUNTRY_NAME}
    return x509.Name([x509.NameAttribute(oids[key], value) for key, value in parts.items()])


def make(
    left_days: float,
    life_days: float = 365,
    subject: x509.Name | None = None,
    dns_name: str | None = None,
    authority: bool = False,
) -> x509.Certificate:
    ends = datetime.fromtimestamp(NOW_S, UTC) + timedelta(days=left_days)
    builder = x509.CertificateBuilder(
        issuer_name=name(o="Lab", cn="Lab CA"),
        subject_name=name(cn="www.example.org") if subject is None else subject,
        public_key=KEY.public_key(),
        serial_number=7,
        not_valid_before=ends - timedelta(days=life_days),
        not_valid_after=ends,
    )
    if dns_name is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(dns_name)]), critical=True)
    if authority:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    return builder.sign(KEY, hashes.SHA256())


def pem(*made: x509.Certificate) -> bytes:
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in made)


def code(measurement: Measurement) -> str:
    return judge("certificates", measurement, CHECK.thresholds, None, NOW_S).code


@pytest.fixture
def look(bench: Any, tmp_path: Path) -> Callable[..., dict[str, Measurement]]:
    """`look()` measures every file in the folder of the test."""

    def run(**settings: object) -> dict[str, Measurement]:
        instance = bench(CHECK, **({"paths": [f"{tmp_path}/*"]} | settings))
        instance.now_s = NOW_S
        return {Path(item).name: measurement for item, measurement in instance.run().items()}

    return run


@pytest.mark.parametrize(
    ("left_days", "life_days", "expected", "status"),
    [
        (200, 365, "ok", "ok"),
        (22, 365, "ok", "ok"),
        (20, 365, "certificates.ends_soon", "warning"),
        (6, 365, "certificates.ends_soon", "critical"),
        (-1, 365, "certificates.expired", "critical"),
        (-364, 365, "certificates.expired", "critical"),
        (-366, 365, "ok", "ok"),  # nobody can be using it
        (20, 90, "certificates.ends_soon", "warning"),
        (12, 45, "ok", "ok"),  # renewed late on purpose
        (10, 45, "certificates.ends_soon", "warning"),
        (3, 6, "ok", "ok"),
        (1, 6, "certificates.ends_soon", "critical"),
        (-0.01, 1, "certificates.expired", "critical"),
        (400, 365, "certificates.not_yet_valid", "warning"),
    ],
)
def test_what_is_told_of_a_file(
    look: Any, tmp_path: Path, left_days: float, life_days: float, expected: str, status: str
) -> None:
    (tmp_path / "site.crt").write_bytes(pem(make(left_days, life_days)))
    found = look()["site.crt"]
    finding = judge("certificates", found, CHECK.thresholds, None, NOW_S)
    assert (finding.code, finding.status.word) == (expected, status)
    assert found.metrics == {"left_seconds": pytest.approx(left_days * DAY_S, abs=1)}
    assert (found.facts["subject"], found.facts["issuer"]) == ("www.example.org", "Lab CA")


def test_the_first_of_a_chain_to_end_counts(look: Any, tmp_path: Path) -> None:
    chain = pem(make(300), make(5, 3650, name(cn="Intermediate"), authority=True))
    (tmp_path / "fullchain.pem").write_bytes(b"-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n" + chain)
    found = look()["fullchain.pem"]
    assert (code(found), found.facts["subject"]) == ("certificates.ends_soon", "Intermediate")


def test_der_is_read_too(look: Any, tmp_path: Path) -> None:
    (tmp_path / "site.cer").write_bytes(make(5).public_bytes(Encoding.DER))
    assert code(look()["site.cer"]) == "certificates.ends_soon"


def test_what_is_no_certificate_is_passed_over(look: Any, tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_bytes(b"-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n")
    (tmp_path / "request.pem").write_bytes(
        b"-----BEGIN CERTIFICATE REQUEST-----\nMAA=\n-----END CERTIFICATE REQUEST-----\n"
    )
    (tmp_path / "empty").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "gone").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    assert look() == {}


def test_a_damaged_certificate_is_unknown_and_the_others_are_told(look: Any, tmp_path: Path) -> None:
    whole = pem(make(5))
    (tmp_path / "good.crt").write_bytes(whole)
    (tmp_path / "cut.crt").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "swapped.crt").write_bytes(whole.replace(b"MI", b"AA", 1))
    found = look()
    assert {item: code(measurement) for item, measurement in found.items()} == {
        "good.crt": "certificates.ends_soon",
        "cut.crt": "certificates.unreadable",
        "swapped.crt": "certificates.unreadable",
    }


def test_bundles_links_and_excluded_files_are_left_out(
    look: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bundle.crt").write_bytes(pem(*[make(5)] * 9))
    (tmp_path / "ssl-cert-snakeoil.pem").write_bytes(pem(make(5)))
    monkeypatch.setattr(certificates, "SYSTEM_FOLDERS", (f"{tmp_path}/system/",))
    (tmp_path / "system").mkdir()
    (tmp_path / "system/root.crt").write_bytes(pem(make(5)))
    (tmp_path / "root.pem").symlink_to(tmp_path / "system/root.crt")
    assert look() == {}


def test_an_authority_counts_unless_it_lies_where_trust_is_kept(
    look: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ca.crt").write_bytes(pem(make(5, authority=True)))
    assert code(look()["ca.crt"]) == "certificates.ends_soon"
    monkeypatch.setattr(certificates, "TRUST_FOLDERS", (f"{tmp_path}/",))
    (tmp_path / "host.crt").write_bytes(pem(make(5)))
    assert set(look()) == {"host.crt"}


def test_one_file_with_two_names_is_told_once(look: Any, tmp_path: Path) -> None:
    (tmp_path / "a.crt").write_bytes(pem(make(5)))
    (tmp_path / "b.crt").symlink_to("a.crt")
    assert len(look()) == 1


def test_too_many_files_are_said(look: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificates, "MAX_FILES", 2)
    for index in range(3):
        (tmp_path / f"{index}.crt").write_bytes(pem(make(300)))
    found = look()
    assert sorted(map(code, found.values())) == ["certificates.too_many", "ok", "ok"]


def test_what_may_not_be_read_is_said(look: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "good.crt").write_bytes(pem(make(300)))

    def denied(*_: object) -> Any:
        raise PermissionError(13, "denied", "/etc/letsencrypt/live")

    plain_find = certificates.find
    monkeypatch.setattr(
        certificates, "find", lambda base, *rest: (denied if "live" in str(base) else plain_find)(base, *rest)
    )
    found = look(paths=["/etc/letsencrypt/live/*/cert.pem", f"{tmp_path}/*.crt"])
    assert {item: code(measurement) for item, measurement in found.items()} == {
        "good.crt": "ok",
        "live": "check.needs_rights",
    }


def test_a_folder_whose_disk_fails_is_unknown(look: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Any:
        raise OSError(5, "Input/output error", "/etc/nginx")

    monkeypatch.setattr(certificates, "find", fail)
    found = look(paths=["/etc/nginx/*.crt"])["nginx"]
    assert (code(found), found.problem and found.problem.facts["error"]) == (
        "certificates.unreadable",
        "Input/output error",
    )


def test_a_path_that_is_none_is_refused(look: Any) -> None:
    with pytest.raises(SettingError, match="not an absolute path"):
        look(paths=["certs/*.pem"])


def test_names_without_a_common_name(tmp_path: Path) -> None:
    subjects = {
        "alt.example.org": make(1, subject=x509.Name([]), dns_name="alt.example.org"),
        "Müller GmbH": make(1, subject=name(c="DE", o="Müller GmbH"), dns_name="x.example.org"),
        "": make(1, subject=x509.Name([])),
        "更夫": make(1, subject=name(o="x", cn="更夫")),
        "a\\x0ab": make(1, subject=name(cn="a\nb")),
    }
    assert [parse_der(made.public_bytes(Encoding.DER)).subject for made in subjects.values()] == list(subjects)


def test_openssl_reads_the_same(tmp_path: Path, requires_program: Callable[[str, str], str]) -> None:
    openssl = requires_program("openssl", "apt-get install openssl")
    path = tmp_path / "made.pem"
    argv = [
        openssl,
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-keyout",
        "/dev/null",
        "-days",
        "30000",
    ]
    subprocess.run([*argv, "-subj", "/O=Lab/CN=far.example.org", "-out", path], check=True, capture_output=True)
    told = subprocess.run(
        [openssl, "x509", "-in", path, "-noout", "-enddate", "-startdate", "-dateopt", "iso_8601"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    [found] = certificates_in(path.read_bytes())
    times = {
        key: utc_s(value.replace(" ", "T")) for key, _, value in (line.partition("=") for line in told.split("\n"))
    }
    assert (found.not_before, found.not_after) == (times["notBefore"], times["notAfter"])
    assert (found.subject, found.is_authority) == ("far.example.org", True)


@given(st.binary(max_size=300))
def test_no_bytes_break_the_reader(data: bytes) -> None:
    for text in (data, b"\x30\x82" + data):
        count_in(text)
        try:
            certificates_in(text)
        except ValueError:
            continue


@given(st.integers(0, 2000), st.integers(0, 255))
def test_no_changed_byte_breaks_the_reader(at: int, value: int) -> None:
    der = bytearray(DER)
    der[at % len(der)] = value
    try:
        found = parse_der(bytes(der))
    except ValueError:
        return
    assert measured(certificates.Found("x", found), NOW_S, 0.0).item == "x"


DER = make(5, dns_name="www.example.org", authority=True).public_bytes(Encoding.DER)


WINDOWS_ROWS = [
    {
        "Thumbprint": "0A1B2C3D4E5F60718293A4B5C6D7E8F901234567",
        "Subject": "pc-17.example.org",
        "Issuer": "Example Issuing CA",
        "Begins": "2026-01-01T00:00:00Z",
        "Ends": "2027-01-20T00:00:00Z",
    },
    {
        "Thumbprint": "99887766554433221100FFEEDDCCBBAA99887766",
        "Subject": "pc-17.example.org",
        "Issuer": "Example Issuing CA",
        "Begins": "2027-01-01T00:00:00Z",
        "Ends": "2028-01-01T00:00:00Z",
    },
    {"Thumbprint": None, "Subject": None, "Issuer": "x", "Begins": None, "Ends": None},
]


def test_a_windows_store_and_what_took_over() -> None:
    store = in_store(windows_certificates(WINDOWS_ROWS))
    found = {each.item: measured(each, NOW_S, 365 * DAY_S) for each in store}
    assert {item: code(measurement) for item, measurement in found.items()} == {
        "My: pc-17.example.org 0A1B2C3D": "ok",
        "My: pc-17.example.org 99887766": "ok",
    }
    [alone] = in_store(windows_certificates(WINDOWS_ROWS[:1]))
    assert code(measured(alone, NOW_S, 365 * DAY_S)) == "certificates.ends_soon"


def test_the_windows_pipeline_is_one_constant() -> None:
    assert PIPELINE.count("(") == PIPELINE.count(")")
    assert PIPELINE.count("{") == PIPELINE.count("}")


def test_a_keychain_is_read_as_pem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script stands in for macOS's program and prints what openssl and cryptography made."""
    script = tmp_path / "security"
    script.write_text(f"#!/bin/sh\n[ $# = 4 ] && cat {tmp_path}/printed\n")
    script.chmod(0o755)
    monkeypatch.setattr(certificates, "SECURITY", str(script))
    (tmp_path / "printed").write_bytes(pem(make(5), make(300, subject=name(cn="com.apple.systemdefault"))))
    store = in_store(certificates._keychain(5.0))
    assert [code(measured(each, NOW_S, DAY_S)) for each in store] == ["certificates.ends_soon", "ok"]
    assert store[0].item.startswith("System.keychain: www.example.org ")


def test_this_machine_with_the_defaults(bench: Any) -> None:
    instance = bench(CHECK)
    instance.now_s = datetime.now(UTC).timestamp()
    for item, measurement in instance.run().items():
        assert item.startswith("/")
        assert measurement.facts
    assert all(path.startswith(("/etc/", "/var/")) for path in DEFAULT_PATHS)
