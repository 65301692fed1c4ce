"""Who gets a certificate: the rules of enrolment, recovery and renewal, inside the caller's transaction.

An answer that was lost on its way is given again: the same key asked for twice has the same certificate twice. Errors:
UsageError (the request is wrong), NotFound (token or agent unknown), Refused (known, but not now), Overloaded.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import ColumnElement, Connection, delete, func, insert, or_, select

from gengfu_collector.errors import NotFound, Overloaded
from gengfu_collector.fleet import agents, tokens
from gengfu_collector.fleet.agents import Agent, Machine
from gengfu_collector.fleet.events import record
from gengfu_collector.gateway.authority import Authority
from gengfu_collector.gateway.certificates import key_hash, proves_recovery, read_csr, read_public_key
from gengfu_collector.store.schema import certificate

MAX_VALID_CERTIFICATES = 20
"""Of one agent at a time. It needs two, now and then three."""

NOT_PROVEN = "this machine has not proven to be that agent: enrol it anew with a new token"


@dataclass(frozen=True, slots=True)
class Issue:
    """What an agent is told: who it is, and its certificate (PEM, leaf first)."""

    agent: Agent
    certificate_pem: bytes


@dataclass(frozen=True, slots=True)
class EnrolmentRequest:
    """What a new machine asks for."""

    token_secret: str = field(repr=False)
    csr_der: bytes
    binding_key_der: bytes
    machine: Machine


@dataclass(frozen=True, slots=True)
class RecoveryRequest:
    """What a machine sends whose certificate has expired; its nonce was checked to be one of ours, and fresh."""

    uid: str
    nonce: bytes
    csr_der: bytes
    signature: bytes
    machine_id: str


def enrol(authority: Authority, connection: Connection, request: EnrolmentRequest, now_ms: int) -> Issue:
    """Let a machine in by a token. The same token with the same key: the same answer, and no use is counted."""
    token = tokens.find(connection, request.token_secret)
    key = read_csr(request.csr_der)
    read_public_key(request.binding_key_der)
    stored = _stored(connection, certificate.c.token_id == token.id, key, now_ms)
    if stored is not None:
        agents.require_active(stored.agent)
        return stored
    tokens.use(connection, token, now_ms)
    agent = agents.enrol(
        connection,
        request.machine,
        request.binding_key_der,
        asset_class=token.asset_class,
        labels=token.labels,
        actor=f"token {token.id}",
        now_ms=now_ms,
    )
    return _issue(authority, connection, agent, key, now_ms, token_id=token.id)


def renew(authority: Authority, connection: Connection, agent_id: int, csr_der: bytes, now_ms: int) -> bytes:
    """A new certificate (PEM, leaf first) for an agent that holds a valid one; gives it its recoveries back.

    `agent_id` is the row's number. That the request came over the agent's own stream is the caller's to know.
    """
    agent = agents.require_active(agents.get(connection, agent_id))
    key = read_csr(csr_der)
    # Past half of its life a certificate is no answer to the wish for a new one, whatever the key.
    until_ms = now_ms + authority.agent_lifetime_s * 500
    stored = _stored(connection, certificate.c.agent_id == agent.id, key, until_ms)
    if stored is not None:
        return stored.certificate_pem
    issue = _issue(authority, connection, agent, key, now_ms)
    agents.restore_recoveries(connection, agent)
    return issue.certificate_pem


def recover(authority: Authority, connection: Connection, request: RecoveryRequest, now_ms: int) -> Issue:
    """A new certificate for a machine that proves to hold an agent's binding key, a limited number of times."""
    agent = _proven(connection, request)
    agents.require_active(agent)
    key = read_csr(request.csr_der)
    stored = _stored(connection, certificate.c.agent_id == agent.id, key, now_ms)
    if stored is not None:
        return stored
    agents.use_recovery(connection, agent)
    data = {"agent": agent.uid, "machine_id": request.machine_id, "recoveries_left": agent.recoveries_left - 1}
    record(connection, "recovered", actor="binding key", now_ms=now_ms, asset_id=agent.asset_id, data=data)
    return _issue(authority, connection, agent, key, now_ms)


def _proven(connection: Connection, request: RecoveryRequest) -> Agent:
    """The agent; one text for an unknown agent and a wrong signature, so that nobody can list agents by asking."""
    try:
        agent = agents.find(connection, request.uid)
    except NotFound:
        raise NotFound(NOT_PROVEN) from None
    if not proves_recovery(agent.binding_key, request.nonce, request.csr_der, request.signature):
        raise NotFound(NOT_PROVEN)
    return agent


def _stored(
    connection: Connection, whose: ColumnElement[bool], key: ec.EllipticCurvePublicKey, until_ms: int
) -> Issue | None:
    """What was issued for this key already, if it stays valid past `until_ms`."""
    row = connection.execute(
        select(certificate.c.agent_id, certificate.c.pem)
        .where(whose, certificate.c.key_hash == key_hash(key), certificate.c.not_after_ms > until_ms)
        .order_by(certificate.c.not_after_ms.desc())
        .limit(1)
    ).one_or_none()
    return None if row is None else Issue(agents.get(connection, row.agent_id), row.pem)


def _issue(
    authority: Authority,
    connection: Connection,
    agent: Agent,
    key: ec.EllipticCurvePublicKey,
    now_ms: int,
    token_id: int | None = None,
) -> Issue:
    """Sign, and store what was signed in place of what has expired."""
    digest = key_hash(key)
    connection.execute(
        delete(certificate).where(
            or_(certificate.c.agent_id == agent.id, certificate.c.key_hash == digest),
            certificate.c.not_after_ms <= now_ms,
        )
    )
    valid = connection.scalar(select(func.count()).where(certificate.c.agent_id == agent.id)) or 0
    if valid >= MAX_VALID_CERTIFICATES:
        raise Overloaded(f"agent {agent.uid} holds {valid} valid certificates: wait until one of them has expired")
    issued = authority.issue(agent.uid, key, now_ms)
    connection.execute(
        insert(certificate).values(
            serial=issued.serial,
            agent_id=agent.id,
            token_id=token_id,
            key_hash=digest,
            not_before_ms=issued.not_before_ms,
            not_after_ms=issued.not_after_ms,
            pem=issued.pem,
        )
    )
    return Issue(agent, issued.pem)
