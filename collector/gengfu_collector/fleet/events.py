"""The record of what was done to assets, agents and tokens: one row an act, never changed."""

from __future__ import annotations

import json
from collections.abc import Mapping

from sqlalchemy import Connection, insert

from gengfu_collector.store.schema import event

MAX_ACTOR_CHARACTERS = 64


def record(
    connection: Connection,
    kind: str,
    *,
    actor: str,
    now_ms: int,
    asset_id: int | None = None,
    data: Mapping[str, object] | None = None,
) -> None:
    """Write down who (`actor`, cut to 64 characters) did what; `data` must be JSON."""
    text = json.dumps(data or {}, ensure_ascii=False, sort_keys=True)
    connection.execute(
        insert(event).values(at_ms=now_ms, actor=actor[:MAX_ACTOR_CHARACTERS], kind=kind, asset_id=asset_id, data=text)
    )
