"""X.509 as pure functions: every certificate that Gengfu makes, and the reading of what others send.

Keys, serial numbers and the time are passed in. Only ECDSA on P-256 with SHA-256 is made or accepted. Every error of
reading what a machine sent is a UsageError whose text may be shown to that machine.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeGuard

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gengfu_collector.errors import Refused, UsageError
from gengfu_collector.times import to_ms, utc
from gengfu_proto.names import COLLECTOR_NAME, RECOVERY_PREFIX, agent_id_of, agent_uri

DAY_S = 86_400
ROOT_LIFETIME_S = 20 * 365 * DAY_S
ISSUING_LIFETIME_S = 5 * 365 * DAY_S
SERVER_LIFETIME_S = 90 * DAY_S
AGENT_LIFETIME_S = 30 * DAY_S
CLOCK_SKEW_MS = 300_000
"""Certificates are valid from this long before they are made, for machines whose clocks are a little slow."""

MAX_CSR_BYTES = 4096
MAX_KEY_BYTES = 256
MAX_SIGNATURE_BYTES = 80
MAX_PEER_CERTIFICATE_BYTES = 16_384
SERIAL_BITS = 128

_UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.ExtensionNotFound,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""Everything that the library raises for bytes that are not what they should be."""
_NOT_P256 = "must be an EC key on the curve P-256"


@dataclass(frozen=True, slots=True)
class Credential:
    """A private key and the certificate of its public half."""

    key: ec.EllipticCurvePrivateKey = field(repr=False)
    certificate: x509.Certificate

    @property
    def not_before_ms(self) -> int:
        return to_ms(self.certificate.not_valid_before_utc)

    @property
    def not_after_ms(self) -> int:
        return to_ms(self.certificate.not_valid_after_utc)

    @property
    def half_life_ms(self) -> int:
        """Half of the time for which the certificate is valid."""
        return (self.not_after_ms - self.not_before_ms) // 2

    def is_due(self, now_ms: int) -> bool:
        """True when half of its life is over, or has not begun: then a new one should be made."""
        return not self.not_before_ms <= now_ms < self.not_before_ms + self.half_life_ms


@dataclass(frozen=True, slots=True)
class PeerIdentity:
    """What the certificate of a connected agent says. `serial` is lower-case hex, as in the table `certificate`."""

    uid: str
    serial: str
    not_before_ms: int
    not_after_ms: int

    def is_valid(self, now_ms: int) -> bool:
        """False when the certificate has expired since the handshake, or the clock was turned back before it began."""
        return self.not_before_ms <= now_ms < self.not_after_ms


def root_certificate(key: ec.EllipticCurvePrivateKey, number: int, serial: int, now_ms: int) -> Credential:
    """A self-signed root, the collector's `number`th. No path limit: a root also vouches for the root after it."""
    tag = key_hash(key.public_key()).hex()[:8]
    name = _name(f"Gengfu root {number} {tag}")
    builder = _builder(name, name, key.public_key(), serial, now_ms, now_ms + ROOT_LIFETIME_S * 1000)
    return Credential(key, _as_authority(builder, None).sign(key, hashes.SHA256()))


def cross_certificate(root: Credential, by: Credential, serial: int, now_ms: int) -> x509.Certificate:
    """The key of a root, vouched for by the root before it: leads machines from the old root to the new one."""
    subject = root.certificate.subject
    return _as_authority(
        _signed_builder(subject, root.key.public_key(), by, serial, now_ms, ROOT_LIFETIME_S), None
    ).sign(by.key, hashes.SHA256())


def issuing_certificate(key: ec.EllipticCurvePrivateKey, root: Credential, serial: int, now_ms: int) -> Credential:
    """The authority that signs agents and servers, and no other authority."""
    tag = key_hash(key.public_key()).hex()[:8]
    name = _name(f"Gengfu issuing {tag}")
    builder = _signed_builder(name, key.public_key(), root, serial, now_ms, ISSUING_LIFETIME_S)
    return Credential(key, _as_authority(builder, 0).sign(root.key, hashes.SHA256()))


def server_certificate(
    key: ec.EllipticCurvePrivateKey, issuing: Credential, names: Iterable[str], serial: int, now_ms: int
) -> Credential:
    """The certificate of both listeners, for `gengfu-collector` and any further DNS names and addresses."""
    builder = _signed_builder(_name(COLLECTOR_NAME), key.public_key(), issuing, serial, now_ms, SERVER_LIFETIME_S)
    builder = _as_leaf(builder, server_names(names), ExtendedKeyUsageOID.SERVER_AUTH)
    return Credential(key, builder.sign(issuing.key, hashes.SHA256()))


def agent_certificate(
    public_key: ec.EllipticCurvePublicKey,
    uid: str,
    issuing: Credential,
    serial: int,
    now_ms: int,
    lifetime_s: int = AGENT_LIFETIME_S,
) -> x509.Certificate:
    """The certificate of an agent. Its one name is the URI of its uid."""
    builder = _signed_builder(_name(uid), public_key, issuing, serial, now_ms, lifetime_s)
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(agent_uri(uid))])
    return _as_leaf(builder, names, ExtendedKeyUsageOID.CLIENT_AUTH).sign(issuing.key, hashes.SHA256())


def server_names(names: Iterable[str]) -> x509.SubjectAlternativeName:
    """The names of a server certificate: the fixed one first, then those given, each once."""
    wanted = dict.fromkeys([COLLECTOR_NAME, *names])
    return x509.SubjectAlternativeName([_general_name(name) for name in wanted])


def key_hash(public_key: ec.EllipticCurvePublicKey) -> bytes:
    """SHA-256 of the DER SubjectPublicKeyInfo."""
    der = public_key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).digest()


def pin_of(certificate: x509.Certificate) -> bytes:
    """SHA-256 of the DER: what an enrolment token says of the root."""
    return certificate.fingerprint(hashes.SHA256())


def to_pem(certificates: Sequence[x509.Certificate]) -> bytes:
    """The certificates one after another."""
    return b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in certificates)


def read_csr(csr_der: bytes) -> ec.EllipticCurvePublicKey:
    """The key of a certificate request, proven to be in the hands of who made it. Names are not looked at."""
    if not 0 < len(csr_der) <= MAX_CSR_BYTES:
        raise UsageError(f"the certificate request must have 1 to {MAX_CSR_BYTES} bytes of DER")
    try:
        request = x509.load_der_x509_csr(csr_der)
        key = request.public_key()
        # The kind of key first: checking a signature may cost as much as the sender of another kind likes.
        if not _is_p256(key):
            raise UsageError(f"the key in the certificate request {_NOT_P256}")
        if not request.is_signature_valid:
            raise UsageError("the certificate request is not signed by its own key: make a new one")
    except _UNREADABLE:
        raise UsageError("the certificate request is not a PKCS #10 request in DER: make a new one") from None
    return key


def read_public_key(der: bytes) -> ec.EllipticCurvePublicKey:
    """A P-256 key from its SubjectPublicKeyInfo."""
    if not 0 < len(der) <= MAX_KEY_BYTES:
        raise UsageError(f"the binding key must have 1 to {MAX_KEY_BYTES} bytes of DER")
    try:
        key = serialization.load_der_public_key(der)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise UsageError("the binding key is not a SubjectPublicKeyInfo in DER") from None
    if not _is_p256(key):
        raise UsageError(f"the binding key {_NOT_P256}")
    return key


def proves_recovery(binding_key_der: bytes, nonce: bytes, csr_der: bytes, signature: bytes) -> bool:
    """True when the binding key has signed this request for this nonce."""
    if len(signature) > MAX_SIGNATURE_BYTES:
        return False
    message = RECOVERY_PREFIX + nonce + csr_der
    try:
        read_public_key(binding_key_der).verify(signature, message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def peer_identity(auth_context: Mapping[str, Iterable[bytes]]) -> PeerIdentity:
    """Whom the other end of a gRPC call has proven to be; raises Refused and UsageError."""
    chain = auth_context.get("x509_pem_cert")
    if not chain:
        raise Refused("no client certificate")
    return uid_of(bytes(next(iter(chain))))


def uid_of(certificate: bytes) -> PeerIdentity:
    """Whom a peer's certificate (PEM or DER) names. TLS has proven who signed it; here purpose and name are judged."""
    if len(certificate) > MAX_PEER_CERTIFICATE_BYTES:
        raise UsageError(f"the certificate is longer than {MAX_PEER_CERTIFICATE_BYTES} bytes")
    is_pem = certificate.lstrip().startswith(b"-----BEGIN")
    try:
        leaf = x509.load_pem_x509_certificate(certificate) if is_pem else x509.load_der_x509_certificate(certificate)
        usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        names = list(leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except _UNREADABLE:
        raise UsageError("this is not the certificate of an agent") from None
    uid = agent_id_of(names[0].value) if len(names) == 1 and isinstance(names[0], _Uri) else None
    if uid is None or list(usage) != [ExtendedKeyUsageOID.CLIENT_AUTH]:
        raise UsageError("this is not the certificate of an agent: it does not name exactly one")
    return PeerIdentity(
        uid, serial_text(leaf.serial_number), to_ms(leaf.not_valid_before_utc), to_ms(leaf.not_valid_after_utc)
    )


def serial_text(serial: int) -> str:
    """A serial number as the store, people and logs write it."""
    return f"{serial:032x}"


_Uri = x509.UniformResourceIdentifier


def _is_p256(key: object) -> TypeGuard[ec.EllipticCurvePublicKey]:
    return isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    serial: int,
    now_ms: int,
    not_after_ms: int,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(serial)
        .not_valid_before(utc(now_ms - CLOCK_SKEW_MS).replace(microsecond=0))
        .not_valid_after(utc(not_after_ms).replace(microsecond=0))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _signed_builder(
    subject: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    by: Credential,
    serial: int,
    now_ms: int,
    lifetime_s: int,
) -> x509.CertificateBuilder:
    # Nothing outlives what vouches for it.
    not_after_ms = min(now_ms + lifetime_s * 1000, by.not_after_ms)
    builder = _builder(subject, by.certificate.subject, public_key, serial, now_ms, not_after_ms)
    return builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(by.key.public_key()), critical=False
    )


def _as_authority(builder: x509.CertificateBuilder, path_length: int | None) -> x509.CertificateBuilder:
    return builder.add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True).add_extension(
        _key_usage(authority=True), critical=True
    )


def _as_leaf(
    builder: x509.CertificateBuilder, names: x509.SubjectAlternativeName, purpose: x509.ObjectIdentifier
) -> x509.CertificateBuilder:
    return (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(names, critical=False)
    )


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )
