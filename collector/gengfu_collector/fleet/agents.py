"""The agents: who they are and what they may. Every function works inside the caller's transaction.

An agent is known by its uid: in certificates, on the command line, in JSON (as `id`). Errors: NotFound, Refused.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, func, insert, select, update

from gengfu_collector.errors import NotFound, Refused
from gengfu_collector.fleet import assets
from gengfu_collector.fleet.events import record
from gengfu_collector.store.schema import agent, agent_copy, asset, certificate, ledger
from gengfu_collector.store.sequences import take
from gengfu_collector.times import iso
from gengfu_proto.text import clean

ACTIVE = "active"
BLOCKED = "blocked"
QUARANTINED = "quarantined"
RETIRED = "retired"
RECOVERIES = 3
"""How often a machine may come back by its binding key before an engineer is asked."""

MAX_MACHINE_ID_CHARACTERS = 128
MAX_HOSTNAME_CHARACTERS = 256
MAX_VERSION_CHARACTERS = 64
MAX_PLATFORM_CHARACTERS = 64
_UID_BYTES = 10

RandomBytes = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class Agent:
    """What decides about an agent. `id` is the row's number, `uid` the name that the outside knows."""

    id: int
    uid: str
    asset_id: int
    asset: str
    state: str
    recoveries_left: int
    binding_key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Machine:
    """What a machine says of itself. Hostile: cleaned, and refused (LimitExceeded) beyond the limits."""

    hostname: str
    machine_id: str
    version: str
    platform: str

    def __post_init__(self) -> None:
        limits = {
            "hostname": MAX_HOSTNAME_CHARACTERS,
            "machine_id": MAX_MACHINE_ID_CHARACTERS,
            "version": MAX_VERSION_CHARACTERS,
            "platform": MAX_PLATFORM_CHARACTERS,
        }
        for name, limit in limits.items():
            object.__setattr__(self, name, clean(getattr(self, name), limit, name))


def enrol(
    connection: Connection,
    machine: Machine,
    binding_key: bytes,
    *,
    asset_class: str,
    labels: Mapping[str, str],
    actor: str,
    now_ms: int,
    random_bytes: RandomBytes = secrets.token_bytes,
) -> Agent:
    """Make an asset, named after the machine, and its agent. `binding_key` is DER, checked by the caller."""
    uid = base64.b32encode(random_bytes(_UID_BYTES)).decode().lower()
    made = assets.create(connection, machine.hostname, asset_class, labels, fallback=uid, now_ms=now_ms)
    enrolled = Agent(take(connection, "agent"), uid, made.id, made.name, ACTIVE, RECOVERIES, binding_key)
    connection.execute(
        insert(agent).values(
            id=enrolled.id,
            uid=uid,
            asset_id=made.id,
            state=ACTIVE,
            enrolled_at_ms=now_ms,
            binding_key=binding_key,
            recoveries_left=RECOVERIES,
            machine_id=machine.machine_id,
            hostname=machine.hostname,
            version=machine.version,
            platform=machine.platform,
        )
    )
    data = {"agent": uid, "asset": made.name, "hostname": machine.hostname}
    record(connection, "enrolled", actor=actor, now_ms=now_ms, asset_id=made.id, data=data)
    return enrolled


def find(connection: Connection, uid: str) -> Agent:
    """The agent with this uid; raises NotFound."""
    return _only(connection, _agents().where(agent.c.uid == uid), f"there is no agent {uid!r}")


def get(connection: Connection, agent_id: int) -> Agent:
    """The agent with this row number; raises NotFound."""
    return _only(connection, _agents().where(agent.c.id == agent_id), f"there is no agent number {agent_id}")


def require_active(found: Agent) -> Agent:
    """The agent itself; raises Refused, with what to do, when it may not come in."""
    if found.state == ACTIVE:
        return found
    remedy = {
        BLOCKED: f"an engineer can let it in with gengfu-collector agent unblock {found.uid}",
        QUARANTINED: "two machines use its identity: enrol the copy anew with a token of its own",
        RETIRED: "its asset is out of service: enrol the machine anew with a new token",
    }
    raise Refused(f"agent {found.uid} is {found.state}; {remedy.get(found.state, 'ask an engineer')}")


def block(connection: Connection, uid: str, *, actor: str, now_ms: int) -> Agent:
    """Keep an agent out until it is unblocked. Its certificates stay as they are: who it is does not change."""
    return _move(connection, uid, (ACTIVE, QUARANTINED), BLOCKED, "blocked", actor, now_ms)


def unblock(connection: Connection, uid: str, *, actor: str, now_ms: int) -> Agent:
    """Let a blocked agent in again."""
    return _move(connection, uid, (BLOCKED,), ACTIVE, "unblocked", actor, now_ms)


def allow(connection: Connection, uid: str, *, actor: str, now_ms: int) -> Agent:
    """Let a machine come back by its binding key again, as often as a new one may."""
    found = find(connection, uid)
    record(connection, "recovery_allowed", actor=actor, now_ms=now_ms, asset_id=found.asset_id, data={"agent": uid})
    return restore_recoveries(connection, found)


def restore_recoveries(connection: Connection, found: Agent) -> Agent:
    """Give an agent all its recoveries back."""
    connection.execute(update(agent).where(agent.c.id == found.id).values(recoveries_left=RECOVERIES))
    return replace(found, recoveries_left=RECOVERIES)


def use_recovery(connection: Connection, found: Agent) -> None:
    """Count one recovery; raises Refused when none is left."""
    counted = connection.execute(
        update(agent)
        .where(agent.c.id == found.id, agent.c.recoveries_left > 0)
        .values(recoveries_left=agent.c.recoveries_left - 1)
    )
    if counted.rowcount == 0:
        raise Refused(
            f"agent {found.uid} has come back by its binding key {RECOVERIES} times: "
            f"an engineer must run gengfu-collector agent allow {found.uid}"
        )


def listing(connection: Connection, connected: Collection[str] = ()) -> list[dict[str, object]]:
    """Every agent by asset name: id, asset, state, connected, last_seen_at, version, epoch, high_water.

    `connected` holds the uids of the agents with an open stream; high_water is that of the present epoch.
    """
    query = (
        select(
            agent.c.uid,
            asset.c.name,
            agent.c.state,
            agent.c.last_seen_at_ms,
            agent.c.version,
            agent.c.epoch,
            func.coalesce(ledger.c.high_water, 0).label("high_water"),
        )
        .join(asset, asset.c.id == agent.c.asset_id)
        .outerjoin(ledger, and_(ledger.c.agent_id == agent.c.id, ledger.c.epoch == agent.c.epoch))
        .order_by(asset.c.name, agent.c.uid)
    )
    return [
        {
            "id": row.uid,
            "asset": row.name,
            "state": row.state,
            "connected": row.uid in connected,
            "last_seen_at": iso(row.last_seen_at_ms),
            "version": row.version,
            "epoch": row.epoch,
            "high_water": row.high_water,
        }
        for row in connection.execute(query)
    ]


def details(connection: Connection, uid: str) -> dict[str, object]:
    """What `show` adds to the list's fields; raises NotFound."""
    found = find(connection, uid)
    row = connection.execute(select(agent).where(agent.c.id == found.id)).one()
    until = select(func.max(certificate.c.not_after_ms)).where(certificate.c.agent_id == found.id)
    return {
        "hostname": row.hostname,
        "platform": row.platform,
        "machine_id": row.machine_id,
        "plan_version": row.plan_version,
        "enrolled_at": iso(row.enrolled_at_ms),
        "certificate_until": iso(connection.scalar(until)),
        "recoveries_left": row.recoveries_left,
        "copies": _copies(connection, found.id),
    }


def _copies(connection: Connection, agent_id: int) -> list[dict[str, object]]:
    """Machines that are kept out because they carry a copy of this agent, oldest first."""
    query = select(agent_copy).where(agent_copy.c.agent_id == agent_id, agent_copy.c.kept_out).order_by(agent_copy.c.id)
    return [
        {
            "hostname": row.hostname,
            "machine_id": row.machine_id,
            "first_seen_at": iso(row.first_seen_at_ms),
            "last_seen_at": iso(row.last_seen_at_ms),
        }
        for row in connection.execute(query)
    ]


def _agents() -> Select[Any]:
    return select(
        agent.c.id,
        agent.c.uid,
        agent.c.asset_id,
        asset.c.name,
        agent.c.state,
        agent.c.recoveries_left,
        agent.c.binding_key,
    ).join(asset, asset.c.id == agent.c.asset_id)


def _only(connection: Connection, query: Select[Any], missing: str) -> Agent:
    row: Row[Any] | None = connection.execute(query).one_or_none()
    if row is None:
        raise NotFound(f"{missing}: gengfu-collector agent list shows all")
    return Agent(
        id=row.id,
        uid=row.uid,
        asset_id=row.asset_id,
        asset=row.name,
        state=row.state,
        recoveries_left=row.recoveries_left,
        binding_key=row.binding_key,
    )


def _move(
    connection: Connection, uid: str, allowed: Collection[str], state: str, kind: str, actor: str, now_ms: int
) -> Agent:
    found = find(connection, uid)
    if found.state not in allowed:
        raise Refused(f"agent {uid} is {found.state}: only one that is {' or '.join(allowed)} can be {kind}")
    connection.execute(update(agent).where(agent.c.id == found.id).values(state=state))
    record(connection, kind, actor=actor, now_ms=now_ms, asset_id=found.asset_id, data={"agent": uid})
    return get(connection, found.id)
