"""What can be read of inventories, as JSON values. Field names are fixed for good."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, func, select

from gengfu_collector.admin.client import MAX_LISTED
from gengfu_collector.errors import UsageError
from gengfu_collector.fleet import assets
from gengfu_collector.fleet.inventory import CATEGORIES
from gengfu_collector.intake import inventory as intake_inventory
from gengfu_collector.intake.work import UnitOfWork
from gengfu_collector.store.documents import from_text
from gengfu_collector.store.schema import agent, asset, inventory, inventory_change, inventory_entry
from gengfu_collector.times import iso


def show(connection: Connection, name: str, category: str = "") -> dict[str, Any]:
    """What an asset is made of and what is installed on it; raises NotFound, also when nothing is known yet."""
    found = assets.find(connection, name)
    row = connection.execute(select(inventory).where(inventory.c.asset_id == found.id)).one_or_none()
    columns = inventory_entry.c
    query = select(inventory_entry).where(columns.asset_id == found.id).order_by(columns.key)
    if category:
        _require_category(category)
        query = query.where(columns.category == category)
    entries = sorted(connection.execute(query), key=lambda entry: _rank(entry.category))
    return {
        "asset": found.name,
        "class": found.asset_class,
        "known": row is not None and row.first_at_ms is not None,
        "looked_at": iso(row.looked_at_ms) if row else None,
        "measured_at": iso(row.measured_at_ms) if row else None,
        "changed_at": iso(row.changed_at_ms) if row else None,
        "cpu_seconds": row.cpu_ms / 1000 if row else None,
        "unread": [_unread(part) for part in from_text(row.unread)] if row else [],
        "entries": [
            {
                "category": entry.category,
                "name": entry.name,
                "key": entry.key,
                "facts": from_text(entry.facts),
                "since": iso(entry.since_at_ms),
            }
            for entry in entries
        ],
    }


def changes(
    connection: Connection, asset_name: str = "", since_ms: int = 0, category: str = "", open_only: bool = False
) -> list[dict[str, Any]]:
    """Changes of inventories, newest first."""
    columns = inventory_change.c
    query = select(inventory_change, asset.c.name.label("asset_name")).join(asset, asset.c.id == columns.asset_id)
    if asset_name:
        query = query.where(columns.asset_id == assets.find(connection, asset_name).id)
    if category:
        _require_category(category)
        query = query.where(columns.category == category)
    if open_only:
        query = query.where(columns.drift == "open")
    rows = connection.execute(query.where(columns.at_ms >= since_ms).order_by(columns.id.desc()).limit(MAX_LISTED + 1))
    return [_change(row) for row in rows]


def software(connection: Connection, name: str = "") -> list[dict[str, Any]]:
    """Installed software of all assets in service: how many have each version. `name` is a glob (* and ?)."""
    columns = inventory_entry.c
    count = func.count(func.distinct(columns.asset_id))
    query = (
        select(columns.name, columns.version, count.label("assets"))
        .join(asset, asset.c.id == columns.asset_id)
        .where(columns.category == "software", asset.c.state == assets.ACTIVE)
        .group_by(columns.name, columns.version)
        .order_by(count.desc(), columns.name, columns.version)
        .limit(MAX_LISTED + 1)
    )
    if name:
        query = query.where(columns.name.ilike(_like(name), escape="\\"))
    return [{"name": row.name, "version": row.version, "assets": row.assets} for row in connection.execute(query)]


def accept(work: UnitOfWork, name: str, category: str, actor: str) -> dict[str, Any]:
    """The open changes of an asset are as they should be; raises NotFound."""
    if category:
        _require_category(category)
    found = assets.find(work.connection, name)
    agent_id = agent_of(work.connection, name)
    accepted = 0 if agent_id is None else intake_inventory.accept(work, work.agent(agent_id), actor, category)
    return {"asset": found.name, "changes_accepted": accepted}


def agent_of(connection: Connection, name: str) -> int | None:
    """Row id of the newest agent of an asset; raises NotFound."""
    of_asset = agent.c.asset_id == assets.find(connection, name).id
    return connection.scalar(select(agent.c.id).where(of_asset).order_by(agent.c.id.desc()).limit(1))


def _require_category(category: str) -> None:
    if category not in CATEGORIES:
        raise UsageError(f"there is no category {category!r}; allowed are {', '.join(CATEGORIES)}")


def _rank(category: str) -> int:
    return CATEGORIES.index(category) if category in CATEGORIES else len(CATEGORIES)


def _unread(part: list[Any]) -> dict[str, Any]:
    category, code, facts = part
    return {"category": category, "code": code, "facts": facts}


def _change(row: Row[Any]) -> dict[str, Any]:
    return {
        "id": row.id,
        "at": iso(row.at_ms),
        "measured_at": iso(row.measured_at_ms),
        "asset": row.asset_name,
        "change": row.kind,
        "category": row.category,
        "name": row.name,
        "key": row.key,
        "before": None if row.before is None else from_text(row.before),
        "after": None if row.after is None else from_text(row.after),
        "severity": row.severity or None,
        "drift": row.drift or None,
    }


def _like(glob: str) -> str:
    """A glob as a pattern of LIKE."""
    escaped = glob.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return escaped.replace("*", "%").replace("?", "_")
