"""Keys, requests and signatures: made by a helper process, so that the long-running agent never loads `cryptography`.

Questions and answers are JSON over standard input and output; a private key is never on a command line. Keys are P-256,
in PEM (PKCS #8); everything binary is base64.
"""

from __future__ import annotations

import base64
import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gengfu_agent.errors import KeysUnavailable
from gengfu_proto.names import agent_id_of

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

HELPER_TIMEOUT_S = 60.0
MAX_ROOTS = 16


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """What a certificate says: when it is valid (seconds since the epoch), and of which agent, "" for none."""

    not_before_s: float
    not_after_s: float
    agent_id: str


def new_key() -> bytes:
    """Return a new private key."""
    return str(_ask("new_key")["key"]).encode()


def public_key_der(key_pem: bytes) -> bytes:
    """Return the SubjectPublicKeyInfo of a private key."""
    return _binary(_ask("public_key", key=key_pem.decode())["public_key"])


def certificate_request_der(key_pem: bytes) -> bytes:
    """Return a CSR for this key. It names nothing: the collector writes the certificate's names."""
    return _binary(_ask("certificate_request", key=key_pem.decode())["csr"])


def sign(key_pem: bytes, data: bytes) -> bytes:
    """Return the ECDSA-SHA256 signature of `data`."""
    return _binary(_ask("sign", key=key_pem.decode(), data=_text(data))["signature"])


def certificate_facts(certificate_pem: bytes) -> CertificateFacts:
    """Return what the first certificate of a chain says; raises KeysUnavailable when it is none."""
    return CertificateFacts(**_ask("certificate_facts", certificate=certificate_pem.decode("ascii", "replace")))


def check_credentials(key_pem: bytes, certificate_pem: bytes, roots_pem: bytes) -> CertificateFacts:
    """Return what the certificate says if it fits the key and leads to a root; else raises KeysUnavailable."""
    return CertificateFacts(
        **_ask(
            "check_credentials",
            key=key_pem.decode(),
            certificate=certificate_pem.decode("ascii", "replace"),
            roots=roots_pem.decode("ascii", "replace"),
        )
    )


def check_roots(roots_pem: bytes) -> int:
    """Return how many root certificates these are; raises KeysUnavailable when they are none or no roots."""
    return int(_ask("check_roots", roots=roots_pem.decode("ascii", "replace"))["count"])


def _ask(operation: str, **parameters: str) -> dict[str, Any]:
    command = [sys.executable, "-P", "-m", "gengfu_agent.keys"]
    question = json.dumps({"operation": operation, **parameters}).encode()
    try:
        done = subprocess.run(command, input=question, capture_output=True, timeout=HELPER_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KeysUnavailable(f"the helper process for keys did not answer: {error}") from error
    if done.returncode != 0:
        words = done.stderr.decode(errors="replace").strip().splitlines()
        raise KeysUnavailable(words[-1] if words else f"the helper process for keys ended with {done.returncode}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _binary(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


# From here on: the helper process.


def _new_key() -> dict[str, Any]:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return {"key": pem.decode()}


def _public_key(key: str) -> dict[str, Any]:
    return {"public_key": _text(_spki(_load_key(key).public_key()))}


def _certificate_request(key: str) -> dict[str, Any]:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(_load_key(key), hashes.SHA256())
    return {"csr": _text(request.public_bytes(serialization.Encoding.DER))}


def _sign(key: str, data: str) -> dict[str, Any]:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    return {"signature": _text(_load_key(key).sign(_binary(data), ec.ECDSA(hashes.SHA256())))}


def _certificate_facts(certificate: str) -> dict[str, Any]:
    leaf = _load_chain(certificate)[0]
    return {
        "not_before_s": leaf.not_valid_before_utc.timestamp(),
        "not_after_s": leaf.not_valid_after_utc.timestamp(),
        "agent_id": _agent_id(leaf),
    }


def _check_credentials(key: str, certificate: str, roots: str) -> dict[str, Any]:
    chain = _load_chain(certificate)
    if _spki(chain[0].public_key()) != _spki(_load_key(key).public_key()):
        raise ValueError("the certificate is of another key")
    for below, above in itertools.pairwise(chain):
        below.verify_directly_issued_by(above)
    if not any(_issued(chain[-1], root) for root in _load_chain(roots)):
        raise ValueError("the certificate does not lead to a root that this agent trusts")
    return _certificate_facts(certificate)


def _check_roots(roots: str) -> dict[str, Any]:
    from cryptography import x509

    found = _load_chain(roots)
    if len(found) > MAX_ROOTS:
        raise ValueError(f"{len(found)} root certificates, at most {MAX_ROOTS} are allowed")
    for root in found:
        if not root.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            raise ValueError("a certificate among the roots is not one of an authority")
        root.verify_directly_issued_by(root)
    return {"count": len(found)}


def _load_key(pem: str) -> ec.EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = serialization.load_pem_private_key(pem.encode(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("not a private key on an elliptic curve")
    return key


def _load_chain(pem: str) -> list[x509.Certificate]:
    from cryptography import x509

    return x509.load_pem_x509_certificates(pem.encode())


def _spki(public_key: Any) -> bytes:
    from cryptography.hazmat.primitives import serialization

    data: bytes = public_key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return data


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _agent_id(certificate: x509.Certificate) -> str:
    from cryptography import x509

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ""
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    return next((agent_id for agent_id in map(agent_id_of, uris) if agent_id), "")


_OPERATIONS: dict[str, Callable[..., dict[str, Any]]] = {
    "new_key": _new_key,
    "public_key": _public_key,
    "certificate_request": _certificate_request,
    "sign": _sign,
    "certificate_facts": _certificate_facts,
    "check_credentials": _check_credentials,
    "check_roots": _check_roots,
}


def main() -> int:
    """Answer one question from standard input on standard output; errors go to standard error in one line."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.x509 import ExtensionNotFound

    question = json.load(sys.stdin)
    operation = _OPERATIONS[question.pop("operation")]
    try:
        answer = operation(**question)
    except InvalidSignature:
        sys.stderr.write("a certificate does not bear the signature of the one above it\n")
        return 1
    except (ValueError, TypeError, ExtensionNotFound) as error:
        sys.stderr.write(f"{' '.join(str(error).split())}\n")
        return 1
    json.dump(answer, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
