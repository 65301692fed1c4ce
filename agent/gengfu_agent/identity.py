"""Who this agent is: the files of its identity in the state folder.

    agent.json          agent id, asset, addresses of the collector; written last: with it the agent is enrolled
    credentials.json    private key, certificate and its validity; one file, so that the pair changes in one step
    roots.pem           the roots that the collector's certificate must lead to
    binding_key.pem     private key made at enrolment, good for one thing: to ask for a new certificate
    pending_key.pem     private key for which a certificate has been asked and not yet received

The folder is 0700 and every file 0600. Files are replaced by a rename after their content is on the disk.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from gengfu_agent.errors import IdentityDamaged, NotEnrolled
from gengfu_proto.names import AGENT_ID_PATTERN

AGENT_FILE = "agent.json"
CREDENTIALS_FILE = "credentials.json"
ROOTS_FILE = "roots.pem"
BINDING_KEY_FILE = "binding_key.pem"
PENDING_KEY_FILE = "pending_key.pem"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Agent:
    """What does not change by itself after enrolment. Addresses are HOST:PORT."""

    agent_id: str
    asset: str
    enrol_address: str
    stream_address: str


@dataclass(frozen=True, slots=True)
class Credentials:
    """A private key and its certificate (leaf first), valid from and to, in seconds since the epoch."""

    key_pem: bytes
    certificate_pem: bytes
    not_before_s: float
    not_after_s: float

    def __repr__(self) -> str:
        return f"Credentials(not_before_s={self.not_before_s}, not_after_s={self.not_after_s})"


class Identity:
    """The identity in one state folder. Every method reads or writes files; OSErrors of writing are passed on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def is_enrolled(self) -> bool:
        """Whether there is an identity."""
        return (self.folder / AGENT_FILE).exists()

    def agent(self) -> Agent:
        """Return what enrolment laid down; raises NotEnrolled or IdentityDamaged."""
        try:
            values = self._read_json(AGENT_FILE)
        except FileNotFoundError:
            raise NotEnrolled(
                f"this machine is not enrolled ({self.folder} holds no {AGENT_FILE}): "
                "run gengfu-agent enrol --collector HOST:PORT --token TOKEN"
            ) from None
        agent = self._build(AGENT_FILE, lambda: Agent(**{name: str(value) for name, value in values.items()}))
        if AGENT_ID_PATTERN.fullmatch(agent.agent_id) is None:
            raise self._damaged(AGENT_FILE, "the agent id is not one")
        return agent

    def credentials(self) -> Credentials:
        """Return key and certificate; raises IdentityDamaged."""
        try:
            values = self._read_json(CREDENTIALS_FILE)
        except FileNotFoundError:
            raise self._damaged(CREDENTIALS_FILE, "it is missing") from None
        return self._build(
            CREDENTIALS_FILE,
            lambda: Credentials(
                key_pem=values["key_pem"].encode(),
                certificate_pem=values["certificate_pem"].encode(),
                not_before_s=float(values["not_before_s"]),
                not_after_s=float(values["not_after_s"]),
            ),
        )

    def roots_pem(self) -> bytes:
        """Return the roots; raises IdentityDamaged."""
        return self._read(ROOTS_FILE)

    def binding_key_pem(self) -> bytes:
        """Return the binding key; raises IdentityDamaged."""
        return self._read(BINDING_KEY_FILE)

    def binding_key(self, make: Callable[[], bytes]) -> bytes:
        """Return the binding key; if there is none, one that is made and kept now."""
        if not (self.folder / BINDING_KEY_FILE).exists():
            self.write(BINDING_KEY_FILE, make())
        return self.binding_key_pem()

    def pending_key(self, make: Callable[[], bytes]) -> bytes:
        """Return the key to ask a certificate for: that of a request without an answer, or one made and kept now."""
        if not (self.folder / PENDING_KEY_FILE).exists() or self._read(PENDING_KEY_FILE) == self._present_key():
            self.write(PENDING_KEY_FILE, make())
        return self._read(PENDING_KEY_FILE)

    def store_agent(self, agent: Agent) -> None:
        """From now on this folder is enrolled."""
        self.write(AGENT_FILE, json.dumps(asdict(agent), indent=1).encode())

    def store_credentials(self, credentials: Credentials) -> None:
        """Replace key and certificate in one step."""
        values = asdict(credentials)
        values["key_pem"] = credentials.key_pem.decode()
        values["certificate_pem"] = credentials.certificate_pem.decode()
        self.write(CREDENTIALS_FILE, json.dumps(values, indent=1).encode())

    def store_roots(self, roots_pem: bytes) -> None:
        """Replace the roots."""
        self.write(ROOTS_FILE, roots_pem)

    def forget_pending_key(self) -> None:
        """Its certificate is stored: the next one gets a new key."""
        (self.folder / PENDING_KEY_FILE).unlink(missing_ok=True)

    def write(self, name: str, data: bytes) -> None:
        """Replace a file of the folder in one step, 0600, on the disk when this returns."""
        write_private(self.folder / name, data)

    def _present_key(self) -> bytes | None:
        return self.credentials().key_pem if (self.folder / CREDENTIALS_FILE).exists() else None

    def _read(self, name: str) -> bytes:
        try:
            return (self.folder / name).read_bytes()
        except OSError as error:
            raise self._damaged(name, error.strerror or str(error)) from error

    def _read_json(self, name: str) -> dict[str, Any]:
        try:
            values = json.loads((self.folder / name).read_bytes())
        except FileNotFoundError:
            raise
        except (OSError, ValueError) as error:
            raise self._damaged(name, str(error)) from error
        if not isinstance(values, dict):
            raise self._damaged(name, "it does not hold what it should")
        return values

    def _build(self, name: str, build: Callable[[], T]) -> T:
        try:
            return build()
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._damaged(name, f"it does not hold what it should: {error}") from error

    def _damaged(self, name: str, why: str) -> IdentityDamaged:
        return IdentityDamaged(
            f"{self.folder / name}: {why}; restore the file, or remove {self.folder} and enrol this machine again"
        )


def make_private_folder(folder: Path) -> None:
    """Create the state folder, or take everybody else's rights on it away. OSErrors are passed on."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)


def write_private(path: Path, data: bytes) -> None:
    """Replace a file in one step, 0600; its content and its name are on the disk when this returns."""
    building = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(building, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        building.replace(path)
    except OSError:
        with suppress(FileNotFoundError):
            building.unlink()
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """What was renamed or removed in a folder stays so when the power fails. OSErrors are passed on."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
