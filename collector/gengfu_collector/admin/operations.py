"""Everything that the command line can ask for, in one table.

An operation takes a Desk, who asks, and JSON values; it returns JSON values.

Those that only read look at the store; those that change something go through the intake's writer and are durable when
they return.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from gengfu_checks.model import Status
from gengfu_collector.admin import inventory, listings
from gengfu_collector.admin.desk import Desk
from gengfu_collector.errors import Refused, UsageError
from gengfu_collector.fleet import agents, assets, compliance, events, tokens
from gengfu_collector.fleet.inspection import load_inspection
from gengfu_collector.fleet.plan_words import ENGLISH
from gengfu_collector.fleet.review import diff, review
from gengfu_collector.fleet.standards import CHECK_KIND
from gengfu_collector.gateway.authority import Authority
from gengfu_collector.gateway.messages import DrainReason
from gengfu_collector.gateway.refusals import BLOCKED_RETRY_MS
from gengfu_collector.intake import by_hand, copies
from gengfu_collector.intake.work import UnitOfWork
from gengfu_collector.store.schema import agent
from gengfu_collector.times import iso
from gengfu_proto.convert.report import FindingShape

T = TypeVar("T")
Operation = Callable[..., Awaitable[Any]]


async def perform(desk: Desk, name: str, arguments: Mapping[str, Any], actor: str) -> Any:
    """Do what is asked; raises CollectorError."""
    operation = OPERATIONS.get(name)
    if operation is None:
        raise UsageError(f"this collector has no operation {name!r}; is it older than the command line?")
    return await operation(desk, actor, **arguments)


async def _write(desk: Desk, function: Callable[[UnitOfWork], T]) -> T:
    return await asyncio.wrap_future(desk.intake.execute(function))


def _reading(function: Callable[..., Any]) -> Operation:
    async def operation(desk: Desk, _actor: str, **arguments: Any) -> Any:
        def read() -> Any:
            with desk.database.read() as connection:
                return function(connection, **arguments)

        return await asyncio.to_thread(read)

    return operation


def _on_ticket(function: Callable[..., None]) -> Operation:
    async def operation(desk: Desk, actor: str, number: str, **texts: str) -> Any:
        await _write(desk, lambda work: function(work, number, actor, **texts))
        return await _reading(listings.ticket_details)(desk, actor, number=number)

    return operation


async def _token_create(
    desk: Desk, actor: str, uses: int, ttl_s: int, asset_class: str, labels: dict[str, str]
) -> dict[str, str]:
    line = await _write(
        desk,
        lambda work: tokens.create(
            work.connection,
            pin=desk.authority.pin,
            uses=uses,
            ttl_s=ttl_s,
            asset_class=asset_class,
            labels=labels,
            actor=actor,
            now_ms=work.now_ms,
        ),
    )
    return {"token": line}


async def _token_list(desk: Desk, actor: str) -> Any:
    now_ms = desk.now_ms()
    return await _reading(lambda c: [found.as_json(now_ms) for found in tokens.every(c)])(desk, actor)


async def _token_revoke(desk: Desk, actor: str, token_id: int) -> Any:
    found = await _write(desk, lambda work: tokens.revoke(work.connection, token_id, actor=actor, now_ms=work.now_ms))
    return found.as_json(desk.now_ms())


async def _agent_list(desk: Desk, actor: str) -> Any:
    return await _reading(agents.listing)(desk, actor, connected=desk.connected())


async def _agent_show(desk: Desk, actor: str, uid: str) -> Any:
    listed = [found for found in await _agent_list(desk, actor) if found["id"] == uid]
    return {**(listed[0] if listed else {}), **await _reading(agents.details)(desk, actor, uid=uid)}


def _on_agent(function: Callable[..., agents.Agent], *, ends_stream: bool = False) -> Operation:
    async def operation(desk: Desk, actor: str, uid: str) -> Any:
        def act(work: UnitOfWork) -> agents.Agent:
            found = function(work.connection, uid, actor=actor, now_ms=work.now_ms)
            work.forget(found.id)
            return found

        found = await _write(desk, act)
        if ends_stream:
            desk.end_stream(found.id, DrainReason.BLOCKED, BLOCKED_RETRY_MS, f"blocked by {actor}")
        return await _agent_show(desk, actor, uid)

    return operation


async def _agent_unblock(desk: Desk, actor: str, uid: str) -> Any:
    """Let a blocked agent in, and copies of it that were kept out: each is judged anew when it comes."""

    def act(work: UnitOfWork) -> None:
        found = agents.find(work.connection, uid)
        released = copies.release(work, work.agent(found.id), f"copies let in by {actor}", actor)
        if not (released and found.state == agents.ACTIVE):
            agents.unblock(work.connection, uid, actor=actor, now_ms=work.now_ms)
            # It asks again within twice the time that it was sent away for, and is not missed before that.
            record, back_at_ms = work.agent(found.id), work.now_ms + 2 * BLOCKED_RETRY_MS
            absence = desk.inspection().for_asset(record.asset_class, record.labels).absence
            work.update(agent, found.id, absent_after_ms=absence.absent_after_ms(back_at_ms))
        work.forget(found.id)

    await _write(desk, act)
    return await _agent_show(desk, actor, uid)


async def _root_list(desk: Desk, _actor: str) -> Any:
    found = desk.authority.roots()
    return [{"name": name, "in_use": in_use, "expires_at": iso(end_ms)} for name, end_ms, in_use in found]


def _on_roots(act: Callable[[Authority, int], str], kind: str) -> Operation:
    async def operation(desk: Desk, actor: str) -> Any:
        name = act(desk.authority, desk.now_ms())
        data = {"root": name}
        await _write(
            desk, lambda work: events.record(work.connection, kind, actor=actor, now_ms=work.now_ms, data=data)
        )
        return {"name": name, "agents_told": desk.tell_roots(), "roots": await _root_list(desk, actor)}

    return operation


async def _asset_list(desk: Desk, actor: str, retired: bool = True) -> Any:
    return await _reading(lambda c: [found.as_json() for found in assets.every(c, retired=retired)])(desk, actor)


async def _asset_show(desk: Desk, actor: str, name: str) -> Any:
    def show(connection: Any) -> Any:
        found = assets.find(connection, name)
        return {**found.details(), "subjects": listings.subjects(connection, found.id)}

    return await _reading(show)(desk, actor)


def _on_asset(function: Callable[..., assets.Asset]) -> Operation:
    async def operation(desk: Desk, actor: str, name: str, **arguments: Any) -> Any:
        def act(work: UnitOfWork) -> assets.Asset:
            found = function(work.connection, name, **arguments, actor=actor, now_ms=work.now_ms)
            for record in [r for r in work.memory.agents.values() if r.asset_id == found.id]:
                work.set(record, "asset", found.name)
                work.set(record, "asset_class", found.asset_class)
                work.set(record, "labels", found.labels)
            return found

        found = await _write(desk, act)
        for shown in desk.intake.live.agents.values():
            if shown.asset == name:
                shown.asset, shown.asset_class, shown.labels = found.name, found.asset_class, found.labels
                shown.version += 1
        await desk.give_orders()
        return found.details()

    return operation


async def _asset_retire(desk: Desk, actor: str, name: str, reason: str) -> Any:
    def act(work: UnitOfWork) -> tuple[assets.Asset, int, list[int]]:
        asset_id = assets.find(work.connection, name).id
        ended, agent_ids = by_hand.retire(work, asset_id, reason, actor)
        found = assets.retire(work.connection, name, reason, actor=actor, now_ms=work.now_ms)
        return found, ended, agent_ids

    found, ended, agent_ids = await _write(desk, act)
    for agent_id in agent_ids:
        desk.end_stream(agent_id, DrainReason.BLOCKED, BLOCKED_RETRY_MS, "the asset is retired")
        desk.intake.live.agents.pop(agent_id, None)
    return {**found.details(), "faults_closed": ended}


async def _config_diff(desk: Desk, actor: str, folder: str, language: str = ENGLISH) -> Any:
    new = await asyncio.to_thread(load_inspection, Path(folder) if folder else None, desk.inspection().zone)
    found = await _reading(lambda c: assets.every(c, retired=False))(desk, actor)
    difference = diff(desk.inspection(), new, [(one.name, one.asset_class, one.labels) for one in found])
    return {**difference.as_json(), "lines": difference.lines(language)}


async def _compliance(desk: Desk, actor: str, standard: str = "", asset: str = "") -> Any:
    inspection = desk.inspection()

    def measured(connection: Any) -> list[compliance.Machine]:
        return compliance.machines(connection, inspection, standard, asset)

    found: list[compliance.Machine] = await _reading(measured)(desk, actor)
    told = _told_rules(desk, asset) if asset else {}
    rules = [rule for machine in found if asset for rule in compliance.rules_json(machine)]
    return {
        **compliance.as_json(found),
        "rules": [{**told.get(f"{rule['standard']}/{rule['rule']}", {}), **rule} for rule in rules],
    }


def _told_rules(desk: Desk, asset: str) -> dict[str, dict[str, Any]]:
    """What the agent of an asset said of its rules since this collector runs, by item."""
    runs = (run for agent in desk.intake.live.agents.values() if agent.asset == asset for run in agent.runs.values())
    findings = (part for run in runs if run.shape.kind == CHECK_KIND for part in run.shape.findings)
    return {part.item: _told(part) for part in findings}


def _told(part: FindingShape) -> dict[str, Any]:
    """The evidence for a rule, or why there is none."""
    if part.status is Status.UNKNOWN:
        return {"why_unknown": {"code": part.code, "facts": dict(part.facts)}}
    return {name: part.facts[name] for name in _RULE_FACTS if name in part.facts}


async def _inventory_accept(desk: Desk, actor: str, name: str, category: str = "") -> Any:
    return await _write(desk, lambda work: inventory.accept(work, name, category, actor))


async def _inventory_refresh(desk: Desk, actor: str, name: str) -> Any:
    found = await _reading(assets.find)(desk, actor, name=name)
    if not desk.inspection().for_asset(found.asset_class, found.labels, name).inventory.every_s:
        raise Refused(f"no inventory is taken of {name!r}: its profiles do not ask for one")
    agent_id = await _reading(inventory.agent_of)(desk, actor, name=name)
    if agent_id is None or not desk.ask_inventory(agent_id):
        raise Refused(f"the agent of {name!r} is not connected; it tells its inventory when it comes back")
    return {"asset": name, "asked": True}


async def _reload(desk: Desk, actor: str, language: str = ENGLISH) -> Any:
    desk.reload()
    sent = await desk.give_orders()
    found = await _reading(lambda c: assets.every(c, retired=False))(desk, actor)
    warnings = review(desk.inspection(), [one.name for one in found]).warnings(language)
    return {"plans_sent": sent, "running": desk.running, "warnings": warnings}


async def _status(desk: Desk, _actor: str) -> Any:
    return {"running": desk.running, "connected": len(desk.connected()), "waiting_reports": desk.intake.waiting}


_RULE_FACTS = ("what", "expected", "found", "owner", "excepted_until")
OPERATIONS: dict[str, Operation] = {
    "status": _status,
    "reload": _reload,
    "config.diff": _config_diff,
    "compliance": _compliance,
    "token.create": _token_create,
    "token.list": _token_list,
    "token.revoke": _token_revoke,
    "agent.list": _agent_list,
    "agent.show": _agent_show,
    "agent.block": _on_agent(agents.block, ends_stream=True),
    "agent.unblock": _agent_unblock,
    "agent.allow": _on_agent(agents.allow),
    "root.list": _root_list,
    "root.prepare": _on_roots(Authority.prepare_next_root, "root_prepared"),
    "root.use": _on_roots(Authority.use_next_root, "root_used"),
    "asset.list": _asset_list,
    "asset.show": _asset_show,
    "asset.rename": _on_asset(assets.rename),
    "asset.classify": _on_asset(assets.classify),
    "asset.label": _on_asset(assets.set_labels),
    "asset.retire": _asset_retire,
    "ticket.list": _reading(listings.tickets),
    "ticket.show": _reading(listings.ticket_details),
    "ticket.events": _reading(listings.ticket_events),
    "ticket.acknowledge": _on_ticket(by_hand.acknowledge),
    "ticket.comment": _on_ticket(by_hand.comment),
    "ticket.resolve": _on_ticket(by_hand.resolve),
    "ticket.close": _on_ticket(by_hand.close),
    "fault.list": _reading(listings.faults),
    "inventory.show": _reading(inventory.show),
    "inventory.changes": _reading(inventory.changes),
    "inventory.software": _reading(inventory.software),
    "inventory.accept": _inventory_accept,
    "inventory.refresh": _inventory_refresh,
    "ledger.verify": _reading(listings.ledger),
    "ledger.dead_letters": _reading(listings.dead_letters),
}
