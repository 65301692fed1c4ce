"""The collector's own certificate authority: a root, an issuing authority and a server certificate in one folder.

    root-1.pem, root-2.pem ...   key, self-signed certificate, and from the second on the same key vouched for by the
                                 root before it
    issuing.pem                  key and certificate; the root that signed it is the one in use
    server.pem                   key and certificate of both listeners

A file holds a key and what belongs to it, and is replaced as a whole. A root with a higher number than the one in use
is a next root: trusted and told to every agent already, but nothing is signed by it until `use_next_root`.
"""

from __future__ import annotations

import logging
import os
import secrets
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gengfu_collector.errors import Refused, StoreError
from gengfu_collector.gateway import certificates as x
from gengfu_collector.gateway.certificates import Credential
from gengfu_collector.times import iso, to_ms

AUTHORITY_FOLDER = "ca"
ISSUING_FILE = "issuing.pem"
SERVER_FILE = "server.pem"
WARN_AT_DAYS = (7, 30, 90, 180)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Root:
    """One root; `cross` is its key vouched for by the root before it."""

    number: int
    credential: Credential
    cross: x509.Certificate | None = None

    def signed(self, certificate: x509.Certificate) -> bool:
        """True when this root's key signed that certificate."""
        return _signed_by(certificate, self.credential)


@dataclass(frozen=True, slots=True)
class Issued:
    """A new agent certificate; `pem` is the leaf, then the issuing certificate."""

    serial: str
    not_before_ms: int
    not_after_ms: int
    pem: bytes


@dataclass(frozen=True, slots=True)
class ExpiryWarning:
    """A certificate that comes to its end. `threshold_days` is the last of 180, 90, 30, 7 that was passed."""

    certificate: str  # "root-1", "issuing", "server"
    not_after_ms: int
    days_left: int  # negative: expired
    threshold_days: int


@dataclass(frozen=True, slots=True)
class _Present:
    """Everything at one moment. Replaced as a whole, so that any thread may read it."""

    roots: tuple[Root, ...]
    issuing: Credential
    server: Credential

    @property
    def root(self) -> Root:
        return next(root for root in self.roots if root.signed(self.issuing.certificate))

    @property
    def bundle(self) -> bytes:
        return x.to_pem([root.credential.certificate for root in self.roots])

    @property
    def server_chain(self) -> bytes:
        # Bridges before roots: a verifier takes the first certificate that fits, and should not stop at a root that it
        # does not trust. The roots are there for machines that know no more than a pin.
        roots = self.roots[self.root.number - 1 :: -1]
        bridges = [root.cross for root in roots if root.cross is not None]
        selves = [root.credential.certificate for root in roots]
        return x.to_pem([self.server.certificate, self.issuing.certificate, *bridges, *selves])


class Authority:
    """Signs agents and the collector itself. `issue`, `bundle` and the credentials may be used from any thread;
    `renew`, `prepare_next_root` and `use_next_root` from one at a time."""

    def __init__(self, folder: Path, names: Sequence[str], agent_lifetime_s: int, present: _Present) -> None:
        self._folder = folder
        self._names = tuple(names)
        self._agent_lifetime_s = agent_lifetime_s
        self._present = present

    @classmethod
    def open(
        cls, data: Path, now_ms: int, *, names: Sequence[str] = (), agent_lifetime_s: int = x.AGENT_LIFETIME_S
    ) -> Authority:
        """Open the authority of a data folder, making on the first start what is missing. Raises StoreError.

        `names`: DNS names and addresses for the server certificate besides the fixed one.
        """
        folder = data / AUTHORITY_FOLDER
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            folder.chmod(0o700)
            present = _open(folder, names, now_ms)
        except OSError as error:
            raise StoreError(f"cannot use the certificate authority in {folder}: {error.strerror}") from None
        authority = cls(folder, names, agent_lifetime_s, present)
        authority.renew(now_ms)
        return authority

    @property
    def agent_lifetime_s(self) -> int:
        """How long an agent's certificate is valid."""
        return self._agent_lifetime_s

    @property
    def pin(self) -> bytes:
        """SHA-256 of the root in use, for tokens."""
        return x.pin_of(self._present.root.credential.certificate)

    def bundle(self) -> bytes:
        """Every root that agents should trust, next ones included, as PEM."""
        return self._present.bundle

    def issue(self, uid: str, public_key: ec.EllipticCurvePublicKey, now_ms: int) -> Issued:
        """Sign a certificate for an agent. Raises Refused while the authority itself is not valid by this clock."""
        issuing = self._present.issuing
        if not issuing.not_before_ms <= now_ms < issuing.not_after_ms:
            raise Refused(
                f"by the collector's clock ({iso(now_ms)}) its own issuing certificate is not valid: set its clock"
            )
        leaf = x.agent_certificate(public_key, uid, issuing, _new_serial(), now_ms, self._agent_lifetime_s)
        return Issued(
            serial=x.serial_text(leaf.serial_number),
            not_before_ms=to_ms(leaf.not_valid_before_utc),
            not_after_ms=to_ms(leaf.not_valid_after_utc),
            pem=x.to_pem([leaf, issuing.certificate]),
        )

    def renew(self, now_ms: int) -> tuple[str, ...]:
        """Replace what has passed half of its life; return the names of what was replaced. Call it every hour or so.

        Running listeners use the new server certificate from the next handshake on. Raises StoreError when the folder
        cannot be written: everything goes on with what there was, and the next call tries again.
        """
        renewed = []
        present = self._present
        if present.issuing.is_due(now_ms):
            present = replace(present, issuing=_make_issuing(self._folder, present.root, now_ms))
            renewed.append("issuing")
        if not self._server_is_good(present, now_ms):
            present = replace(present, server=_make_server(self._folder, present.issuing, self._names, now_ms))
            renewed.append("server")
        self._present = present
        for name in renewed:
            _log.info("renewed the %s certificate", name)
        return tuple(renewed)

    def prepare_next_root(self, now_ms: int) -> str:
        """Make the root that will follow, and return its name. From now on `bundle` holds it.

        Raises Refused when one is waiting already.
        """
        present = self._present
        newest = present.roots[-1]
        if newest is not present.root:
            raise Refused(f"root-{newest.number} is prepared already: put it to use first")
        root = _make_root(self._folder, newest.number + 1, newest, now_ms)
        self._present = replace(present, roots=(*present.roots, root))
        return f"root-{root.number}"

    def use_next_root(self, now_ms: int) -> str:
        """Sign with the prepared root from now on, and return its name; raises Refused when there is none.

        Machines that never heard of it still come in: the chain leads them from the root they know to the new one.
        """
        present = self._present
        newest = present.roots[-1]
        if newest is present.root:
            raise Refused("no next root is prepared: make one and leave the agents time to hear of it")
        issuing = _make_issuing(self._folder, newest, now_ms)
        self._present = replace(
            present, issuing=issuing, server=_make_server(self._folder, issuing, self._names, now_ms)
        )
        return f"root-{newest.number}"

    def roots(self) -> list[tuple[str, int, bool]]:
        """Name, end (not_after_ms) and whether it signs, of every root; agents trust them all."""
        present = self._present
        return [(f"root-{r.number}", r.credential.not_after_ms, r is present.root) for r in present.roots]

    def expiry_warnings(self, now_ms: int) -> list[ExpiryWarning]:
        """What of the chain in use is near its end; a threshold counts only past the half at which renewal is due."""
        present = self._present
        watched = (
            (f"root-{present.root.number}", present.root.credential),
            ("issuing", present.issuing),
            ("server", present.server),
        )
        warnings = (_warning(name, credential, now_ms) for name, credential in watched)
        return [warning for warning in warnings if warning is not None]

    def stream_credentials(self, on_handshake: Callable[[], object] = lambda: None) -> grpc.ServerCredentials:
        """TLS for the stream listener: clients must show a certificate of this authority.

        `on_handshake` is called on gRPC's threads whenever a handshake begins.
        """
        return self._credentials(on_handshake, require_client=True)

    def enrolment_credentials(self, on_handshake: Callable[[], object] = lambda: None) -> grpc.ServerCredentials:
        """TLS for the enrolment listener: clients show nothing. `on_handshake` as for streams."""
        return self._credentials(on_handshake, require_client=False)

    def _credentials(self, on_handshake: Callable[[], object], *, require_client: bool) -> grpc.ServerCredentials:
        def configuration(present: _Present) -> grpc.ServerCertificateConfiguration:
            return grpc.ssl_server_certificate_configuration(
                [(_key_pem(present.server.key), present.server_chain)],
                root_certificates=present.bundle if require_client else None,
            )

        present = self._present
        return grpc.dynamic_ssl_server_credentials(
            configuration(present),
            _Fetcher(present, lambda: self._present, configuration, on_handshake),  # type: ignore[arg-type]  # the stub forgets that None means "no change"
            require_client_authentication=require_client,
        )

    def _server_is_good(self, present: _Present, now_ms: int) -> bool:
        certificate = present.server.certificate
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return (
            not present.server.is_due(now_ms)
            and _signed_by(certificate, present.issuing)
            and names == x.server_names(self._names)
        )


class _Fetcher:
    """Called by gRPC before every handshake, on its own threads; None leaves the configuration as it is."""

    def __init__(
        self,
        given: _Present,
        present: Callable[[], _Present],
        configuration: Callable[[_Present], grpc.ServerCertificateConfiguration],
        on_handshake: Callable[[], object],
    ) -> None:
        self._given = given
        self._present = present
        self._configuration = configuration
        self._on_handshake = on_handshake

    def __call__(self) -> grpc.ServerCertificateConfiguration | None:
        self._on_handshake()
        present = self._present()
        if present is self._given:
            return None
        made = self._configuration(present)
        self._given = present
        return made


def _open(folder: Path, names: Sequence[str], now_ms: int) -> _Present:
    roots = _load_roots(folder)
    if not roots:
        if (folder / ISSUING_FILE).exists():
            raise StoreError(f"{folder} has lost its root: put root-1.pem back from a backup")
        roots = (_make_root(folder, 1, None, now_ms),)
    issuing = _load(folder / ISSUING_FILE) or _make_issuing(folder, roots[-1], now_ms)
    if not any(root.signed(issuing.certificate) for root in roots):
        raise StoreError(f"{folder / ISSUING_FILE} was signed by none of the roots beside it: restore the folder")
    server = _load(folder / SERVER_FILE) or _make_server(folder, issuing, names, now_ms)
    return _Present(roots, issuing, server)


def _load_roots(folder: Path) -> tuple[Root, ...]:
    roots: list[Root] = []
    while loaded := _load_all(folder / f"root-{len(roots) + 1}.pem"):
        credential, others = loaded
        roots.append(Root(len(roots) + 1, credential, others[0] if others else None))
    return tuple(roots)


def _load(path: Path) -> Credential | None:
    loaded = _load_all(path)
    return loaded[0] if loaded else None


def _load_all(path: Path) -> tuple[Credential, list[x509.Certificate]] | None:
    """Key and certificates of one file, or None when there is no such file; raises StoreError when it is damaged."""
    try:
        pem = path.read_bytes()
    except FileNotFoundError:
        return None
    damaged = StoreError(f"{path} is damaged: put it back from a backup")
    try:
        key = serialization.load_pem_private_key(pem, password=None)
        first, *others = x509.load_pem_x509_certificates(pem)
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion):
        raise damaged from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != first.public_key():
        raise damaged
    return Credential(key, first), others


def _make_root(folder: Path, number: int, before: Root | None, now_ms: int) -> Root:
    credential = x.root_certificate(_new_key(), number, _new_serial(), now_ms)
    cross = x.cross_certificate(credential, before.credential, _new_serial(), now_ms) if before else None
    _store(folder / f"root-{number}.pem", credential, [cross] if cross else [])
    return Root(number, credential, cross)


def _make_issuing(folder: Path, root: Root, now_ms: int) -> Credential:
    issuing = x.issuing_certificate(_new_key(), root.credential, _new_serial(), now_ms)
    return _store(folder / ISSUING_FILE, issuing)


def _make_server(folder: Path, issuing: Credential, names: Sequence[str], now_ms: int) -> Credential:
    server = x.server_certificate(_new_key(), issuing, names, _new_serial(), now_ms)
    return _store(folder / SERVER_FILE, server)


def _store(path: Path, credential: Credential, others: Sequence[x509.Certificate] = ()) -> Credential:
    """Write a key (0600) with its certificates; a crash leaves the old file or the new one. Raises StoreError."""
    pem = _key_pem(credential.key) + x.to_pem([credential.certificate, *others])
    try:
        _replace(path, pem)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror}; the old certificate stays in use") from None
    return credential


def _replace(path: Path, data: bytes) -> None:
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _warning(name: str, credential: Credential, now_ms: int) -> ExpiryWarning | None:
    days_left = (credential.not_after_ms - now_ms) // (x.DAY_S * 1000)
    for threshold in WARN_AT_DAYS:
        if days_left < threshold and threshold * x.DAY_S * 1000 < credential.half_life_ms:
            return ExpiryWarning(name, credential.not_after_ms, days_left, threshold)
    return None


def _signed_by(certificate: x509.Certificate, by: Credential) -> bool:
    try:
        certificate.verify_directly_issued_by(by.certificate)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _new_serial() -> int:
    # The top bit is set so that every serial has the same length and none is zero.
    return secrets.randbits(x.SERIAL_BITS) | 1 << (x.SERIAL_BITS - 1)
