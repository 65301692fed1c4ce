"""Certificates hold what they should and no more; what others send is judged without ever breaking the judge."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st
from machines import DAY_MS, NAMES_IT_MAY_NOT_HAVE, Machine, csr_der, new_serial, public_der

from gengfu_collector.errors import UsageError
from gengfu_collector.gateway import certificates as x
from gengfu_collector.gateway.certificates import Credential
from gengfu_collector.times import to_ms, utc

NOW_MS = 1_780_000_000_000
UID = "abcdefgh23456777"


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


ROOT = x.root_certificate(new_key(), 1, new_serial(), NOW_MS)
ISSUING = x.issuing_certificate(new_key(), ROOT, new_serial(), NOW_MS)
MACHINE = Machine()
CSR = MACHINE.csr
AGENT = x.agent_certificate(x.read_csr(CSR), UID, ISSUING, new_serial(), NOW_MS)
AGENT_DER = AGENT.public_bytes(serialization.Encoding.DER)


def leaf_with(names: list[x509.GeneralName], *usage: x509.ObjectIdentifier) -> bytes:
    """A leaf that this collector's own issuing authority would never make."""
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(ISSUING.certificate.subject)
        .public_key(MACHINE.key.public_key())
        .serial_number(new_serial())
        .not_valid_before(utc(NOW_MS))
        .not_valid_after(utc(NOW_MS + DAY_MS))
        .add_extension(x509.ExtendedKeyUsage(usage or [ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(ISSUING.key, hashes.SHA256())
        .public_bytes(serialization.Encoding.DER)
    )


def test_an_agents_certificate_holds_its_one_name_whatever_the_request_says() -> None:
    names = AGENT.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.UniformResourceIdentifier(f"gengfu://agent/{UID}")]
    assert AGENT.subject.rfc4514_string() == f"CN={UID}"
    for forbidden in NAMES_IT_MAY_NOT_HAVE:
        assert forbidden.encode() not in AGENT_DER
    assert AGENT.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert list(AGENT.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [
        ExtendedKeyUsageOID.CLIENT_AUTH
    ]
    assert AGENT.public_key() == MACHINE.key.public_key()
    assert to_ms(AGENT.not_valid_before_utc) == NOW_MS - 300_000
    assert to_ms(AGENT.not_valid_after_utc) == NOW_MS + 30 * DAY_MS


def test_a_certificate_leads_back_to_its_agent_in_both_encodings() -> None:
    expected = x.PeerIdentity(UID, f"{AGENT.serial_number:032x}", NOW_MS - 300_000, NOW_MS + 30 * DAY_MS)
    assert x.uid_of(AGENT_DER) == x.uid_of(AGENT.public_bytes(serialization.Encoding.PEM)) == expected
    assert expected.is_valid(NOW_MS)
    assert not expected.is_valid(NOW_MS + 30 * DAY_MS)
    assert not expected.is_valid(NOW_MS - DAY_MS)


AGENT_URI = x509.UniformResourceIdentifier(f"gengfu://agent/{UID}")


@pytest.mark.parametrize(
    "certificate",
    [
        b"",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        b"x" * 20_000,
        ROOT.certificate.public_bytes(serialization.Encoding.DER),
        x.server_certificate(new_key(), ISSUING, (), 7, NOW_MS).certificate.public_bytes(serialization.Encoding.DER),
        leaf_with([AGENT_URI, x509.UniformResourceIdentifier("gengfu://agent/other")]),
        leaf_with([AGENT_URI, x509.DNSName("gengfu-collector")]),
        leaf_with([x509.DNSName(f"gengfu://agent/{UID}")]),
        leaf_with([x509.UniformResourceIdentifier("spiffe://agent/abc")]),
        leaf_with([x509.UniformResourceIdentifier("gengfu://agent/../x")]),
        leaf_with([x509.UniformResourceIdentifier("gengfu://agent/")]),
        leaf_with([AGENT_URI], ExtendedKeyUsageOID.SERVER_AUTH),
        leaf_with([AGENT_URI], ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH),
    ],
)
def test_what_is_not_an_agents_certificate_names_no_agent(certificate: bytes) -> None:
    with pytest.raises(UsageError):
        x.uid_of(certificate)


def test_the_same_leaf_with_its_one_proper_name_is_an_agents() -> None:
    assert x.uid_of(leaf_with([AGENT_URI])).uid == UID


@pytest.mark.filterwarnings("ignore:Parsed a serial number which wasn't positive")
@given(st.data())
def test_a_damaged_certificate_or_request_never_breaks_the_reader(data: st.DataObject) -> None:
    whole, read = data.draw(st.sampled_from([(AGENT_DER, x.uid_of), (CSR, x.read_csr), (b"", x.read_public_key)]))
    whole = whole or MACHINE.binding_der
    position = data.draw(st.integers(0, len(whole) - 1))
    junk = data.draw(st.binary(min_size=1, max_size=4))
    cut = data.draw(st.booleans())
    damaged = whole[:position] + junk + (b"" if cut else whole[position + len(junk) :])
    with contextlib.suppress(UsageError):
        read(damaged)


def every_flipped_bit(whole: bytes) -> Iterator[bytes]:
    for position, bit in itertools.product(range(len(whole)), range(8)):
        yield whole[:position] + bytes([whole[position] ^ 1 << bit]) + whole[position + 1 :]


def test_a_request_with_any_bit_flipped_is_refused_but_for_bits_that_say_nothing() -> None:
    accepted = []
    for changed in every_flipped_bit(CSR):
        with contextlib.suppress(UsageError):
            accepted.append(x.read_csr(changed))
    # DER's count of unused bits at the end of the signature, where these bits are zero by chance.
    assert len(accepted) < 8
    assert all(key == MACHINE.key.public_key() for key in accepted)


@pytest.mark.filterwarnings("ignore:Parsed a serial number which wasn't positive")
def test_a_certificate_with_any_bit_flipped_is_read_or_refused() -> None:
    outcomes = set()
    for changed in every_flipped_bit(AGENT_DER):
        try:
            outcomes.add(x.uid_of(changed).uid != UID)
        except UsageError:
            outcomes.add(None)
    assert outcomes == {True, False, None}


def other_keys() -> list[object]:
    return [
        ec.generate_private_key(ec.SECP384R1()),
        ec.generate_private_key(ec.SECP256K1()),
        rsa.generate_private_key(65537, 2048),
        ed25519.Ed25519PrivateKey.generate(),
    ]


def test_only_p256_keys_are_taken() -> None:
    for key in other_keys():
        request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
        signed = request.sign(key, algorithm)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="curve P-256"):
            x.read_csr(signed.public_bytes(serialization.Encoding.DER))
        with pytest.raises(UsageError, match=r"curve P-256|256 bytes"):
            x.read_public_key(public_der(key))
    with pytest.raises(UsageError):
        x.read_public_key(public_der(dsa.generate_private_key(1024)))
    assert x.read_public_key(MACHINE.binding_der) == MACHINE.binding_key.public_key()


def test_a_request_signed_by_another_key_is_refused() -> None:
    other = csr_der(new_key())
    forged = CSR[:-20] + other[-20:]
    with pytest.raises(UsageError):
        x.read_csr(forged)


def test_sizes_are_bounded_before_anything_is_read() -> None:
    with pytest.raises(UsageError, match="4096 bytes"):
        x.read_csr(b"\x30" * 4097)
    with pytest.raises(UsageError, match="256 bytes"):
        x.read_public_key(b"\x30" * 257)
    assert not x.proves_recovery(MACHINE.binding_der, b"n", b"c", b"\x30" * 10_000)


def test_recovery_is_proven_only_by_the_binding_key_for_this_nonce_and_request() -> None:
    nonce = bytes(32)
    signature = MACHINE.sign_recovery(nonce, CSR)
    assert x.proves_recovery(MACHINE.binding_der, nonce, CSR, signature)
    assert not x.proves_recovery(Machine().binding_der, nonce, CSR, signature)
    assert not x.proves_recovery(MACHINE.binding_der, bytes(31) + b"\x01", CSR, signature)
    assert not x.proves_recovery(MACHINE.binding_der, nonce, CSR + b"\x00", signature)
    assert not x.proves_recovery(MACHINE.binding_der, nonce, CSR, b"")
    bare = MACHINE.binding_key.sign(nonce + CSR, ec.ECDSA(hashes.SHA256()))
    assert not x.proves_recovery(MACHINE.binding_der, nonce, CSR, bare)


def test_nothing_outlives_what_vouches_for_it() -> None:
    late_ms = ISSUING.not_after_ms - 10 * DAY_MS
    certificate = x.agent_certificate(MACHINE.key.public_key(), UID, ISSUING, new_serial(), late_ms)
    assert certificate.not_valid_after_utc == ISSUING.certificate.not_valid_after_utc


def test_a_certificate_is_due_past_half_of_its_life_and_before_its_beginning() -> None:
    server = x.server_certificate(new_key(), ISSUING, (), new_serial(), NOW_MS)
    half_ms = server.not_before_ms + (90 * DAY_MS + 300_000) // 2
    assert not server.is_due(half_ms - 1)
    assert server.is_due(half_ms)
    assert not server.is_due(server.not_before_ms)
    assert server.is_due(server.not_before_ms - 1)


def test_the_servers_names_are_the_fixed_one_and_those_given() -> None:
    server = x.server_certificate(new_key(), ISSUING, ["192.0.2.7", "::1", "gengfu.example", "192.0.2.7"], 7, NOW_MS)
    names = server.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in names] == ["gengfu-collector", "192.0.2.7", "::1", "gengfu.example"]


def test_another_eye_agrees(requires_program: Callable[[str, str], str], tmp_path: Path) -> None:
    openssl = requires_program("openssl", "apt-get install openssl")
    next_root = x.root_certificate(new_key(), 2, new_serial(), NOW_MS)
    cross = x.cross_certificate(next_root, ROOT, new_serial(), NOW_MS)
    next_issuing = x.issuing_certificate(new_key(), next_root, new_serial(), NOW_MS)
    server = x.server_certificate(new_key(), next_issuing, (), new_serial(), NOW_MS)
    too_deep = x.issuing_certificate(new_key(), ISSUING, new_serial(), NOW_MS)

    def verify(leaf: x509.Certificate, *between: x509.Certificate, purpose: str, root: Credential = ROOT) -> bool:
        for name, pem in (("root", [root.certificate]), ("between", between), ("leaf", [leaf])):
            (tmp_path / name).write_bytes(x.to_pem(list(pem)))
        command = [openssl, "verify", "-x509_strict", "-attime", str(NOW_MS // 1000 + 60), "-purpose", purpose]
        files = ["-CAfile", str(tmp_path / "root"), "-untrusted", str(tmp_path / "between"), str(tmp_path / "leaf")]
        return subprocess.run([*command, *files], capture_output=True, timeout=20).returncode == 0

    assert verify(AGENT, ISSUING.certificate, purpose="sslclient")
    assert not verify(AGENT, ISSUING.certificate, purpose="sslserver")
    assert not verify(AGENT, ISSUING.certificate, purpose="sslclient", root=next_root)
    assert verify(server.certificate, next_issuing.certificate, purpose="sslserver", root=next_root)
    assert verify(server.certificate, next_issuing.certificate, cross, purpose="sslserver")
    deep = x.agent_certificate(MACHINE.key.public_key(), UID, too_deep, new_serial(), NOW_MS)
    assert not verify(deep, too_deep.certificate, ISSUING.certificate, purpose="sslclient")


def test_lifetimes() -> None:
    def life(certificate: x509.Certificate) -> timedelta:
        return certificate.not_valid_after_utc - certificate.not_valid_before_utc - timedelta(minutes=5)

    server = x.server_certificate(new_key(), ISSUING, (), new_serial(), NOW_MS)
    assert life(ROOT.certificate) == timedelta(days=20 * 365)
    assert life(ISSUING.certificate) == timedelta(days=5 * 365)
    assert life(server.certificate) == timedelta(days=90)
    short = x.agent_certificate(MACHINE.key.public_key(), UID, ISSUING, new_serial(), NOW_MS, lifetime_s=3600)
    assert life(short) == timedelta(hours=1)


def test_a_private_key_shows_nowhere() -> None:
    assert "PrivateKey" not in repr(ROOT)
