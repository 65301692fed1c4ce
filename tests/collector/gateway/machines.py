"""What a machine does to get and use an identity, for the gateway's tests: keys, requests, signatures, channels."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gengfu_collector.gateway.authority import Authority
from gengfu_proto import limits
from gengfu_proto.names import COLLECTOR_NAME, RECOVERY_PREFIX

DAY_MS = 86_400_000
NAMES_IT_MAY_NOT_HAVE = ("gengfu://agent/somebody-else", "admin")


def key_pem(key: Any) -> bytes:
    return key.private_bytes(  # type: ignore[no-any-return]
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def public_der(key: Any) -> bytes:
    return key.public_key().public_bytes(  # type: ignore[no-any-return]
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def csr_der(key: Any) -> bytes:
    """A request that asks for names which the collector must not give."""
    uri, common_name = NAMES_IT_MAY_NOT_HAVE
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.DER)
    )


class Machine:
    """Its keys. `key` is for the next certificate."""

    def __init__(self) -> None:
        self.binding_key = ec.generate_private_key(ec.SECP256R1())
        self.key = ec.generate_private_key(ec.SECP256R1())

    @property
    def csr(self) -> bytes:
        return csr_der(self.key)

    @property
    def binding_der(self) -> bytes:
        return public_der(self.binding_key)

    def sign_recovery(self, nonce: bytes, csr: bytes) -> bytes:
        return self.binding_key.sign(RECOVERY_PREFIX + nonce + csr, ec.ECDSA(hashes.SHA256()))


def issue(authority: Authority, uid: str, now_ms: int) -> tuple[bytes, bytes]:
    """A certificate chain and its key, both PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    return authority.issue(uid, key.public_key(), now_ms).pem, key_pem(key)


def channel(
    port: int,
    roots_pem: bytes,
    certificate: tuple[bytes, bytes] | None = None,
    options: Mapping[str, int] | None = None,
) -> grpc.aio.Channel:
    """A channel of its own to 127.0.0.1; `certificate` is chain and key."""
    chain, key = certificate or (None, None)
    defaults: dict[str, Any] = {
        **dict(limits.COMMON_CHANNEL_OPTIONS),
        "grpc.ssl_target_name_override": COLLECTOR_NAME,
        "grpc.use_local_subchannel_pool": 1,
        "grpc.enable_retries": 0,
    }
    return grpc.aio.secure_channel(
        f"127.0.0.1:{port}",
        grpc.ssl_channel_credentials(roots_pem, key, chain),
        options=list((defaults | dict(options or {})).items()),
    )


def first_certificate(pem: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem)


def new_serial() -> int:
    return secrets.randbits(127) + 1
