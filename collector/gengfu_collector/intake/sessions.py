"""Sessions: what a Welcome gives an agent's folder, so that the next Hello shows where it stood last. Pure.

serial, 8 bytes      counts the sessions of one agent, as far as the database remembers
nonce, 16 bytes      tells apart those of equal serial: the database may have been put back in between
proof, 16 bytes      that a collector of this database gave it to this agent
instance             the process that it was given to
"""

from __future__ import annotations

import hmac

NONCE_BYTES = 16
MAX_INSTANCE_BYTES = 16
_SERIAL_BYTES = 8
_HEAD_BYTES = _SERIAL_BYTES + NONCE_BYTES
_PROOF_BYTES = 16


def new_session(key: bytes, uid: str, serial: int, nonce: bytes, instance: bytes) -> bytes:
    """The session of a Welcome to this process of this agent."""
    head, instance = serial.to_bytes(_SERIAL_BYTES, "big") + nonce, instance[:MAX_INSTANCE_BYTES]
    return head + _proof(key, uid, head, instance) + instance


def is_of_process(session: bytes, instance: bytes) -> bool:
    """True when this session was given to this process."""
    return bool(instance) and session[_HEAD_BYTES + _PROOF_BYTES :] == instance[:MAX_INSTANCE_BYTES]


def serial_of(key: bytes, uid: str, session: bytes) -> int:
    """The serial of a session; 0 when it was not given to this agent with this key."""
    head, proof = session[:_HEAD_BYTES], session[_HEAD_BYTES : _HEAD_BYTES + _PROOF_BYTES]
    given = hmac.compare_digest(proof, _proof(key, uid, head, session[_HEAD_BYTES + _PROOF_BYTES :]))
    return int.from_bytes(head[:_SERIAL_BYTES], "big") if given else 0


def _proof(key: bytes, uid: str, head: bytes, instance: bytes) -> bytes:
    return hmac.digest(key, b"\0".join((uid.encode(), head + instance)), "sha256")[:_PROOF_BYTES]
