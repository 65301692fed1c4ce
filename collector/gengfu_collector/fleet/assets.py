"""The things that are looked after. Every function works inside the caller's transaction.

A change of an asset is written down as an event with its actor. Texts are cleaned here, so that what is stored is safe
to show. Errors: UsageError (a value that may not be), NotFound, Refused (the name is taken, the asset is retired).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from gengfu_collector.errors import NotFound, Refused, UsageError
from gengfu_collector.fleet.classes import ASSET_CLASSES, LABEL_PATTERN
from gengfu_collector.fleet.events import record
from gengfu_collector.store.schema import agent, asset
from gengfu_collector.store.sequences import take
from gengfu_collector.times import iso
from gengfu_proto.errors import LimitExceeded
from gengfu_proto.text import clean, shorten

ACTIVE = "active"
RETIRED = "retired"
MAX_NAME_CHARACTERS = 128
MAX_LABELS = 32
MAX_LABEL_VALUE_CHARACTERS = 128
MAX_REASON_CHARACTERS = 500
RESERVED_LABELS = frozenset({"class"})
"""Names that mean something else wherever labels are matched."""

_LONGEST_SUFFIX = 12


@dataclass(frozen=True, slots=True)
class Asset:
    """One asset. Times in milliseconds since the epoch."""

    id: int
    name: str
    asset_class: str
    labels: Mapping[str, str]
    state: str
    created_at_ms: int
    retired_at_ms: int | None
    retired_reason: str | None

    def as_json(self) -> dict[str, object]:
        """What lists show: name, class, state, labels."""
        return {"name": self.name, "class": self.asset_class, "state": self.state, "labels": dict(self.labels)}

    def details(self) -> dict[str, object]:
        """What `show` adds to the list's fields."""
        return self.as_json() | {
            "created_at": iso(self.created_at_ms),
            "retired_at": iso(self.retired_at_ms),
            "retired_reason": self.retired_reason,
        }


def every(connection: Connection, *, retired: bool = True) -> list[Asset]:
    """Every asset by name; without the retired ones if asked so."""
    query = select(asset).order_by(asset.c.name)
    if not retired:
        query = query.where(asset.c.state != RETIRED)
    return [_asset(row) for row in connection.execute(query)]


def find(connection: Connection, name: str) -> Asset:
    """The asset of this name; raises NotFound."""
    row = connection.execute(select(asset).where(asset.c.name == name)).one_or_none()
    if row is None:
        raise NotFound(f"there is no asset {name!r}: gengfu-collector asset list shows all")
    return _asset(row)


def get(connection: Connection, asset_id: int) -> Asset:
    """The asset with this id; raises NotFound."""
    row = connection.execute(select(asset).where(asset.c.id == asset_id)).one_or_none()
    if row is None:
        raise NotFound(f"there is no asset with id {asset_id}")
    return _asset(row)


def create(
    connection: Connection, proposal: str, asset_class: str, labels: Mapping[str, str], *, fallback: str, now_ms: int
) -> Asset:
    """Make an asset named after a proposal from outside (`fallback` when nothing is left of it), made unique."""
    made = Asset(
        id=take(connection, "asset"),
        name=_unique(connection, _proposed(proposal) or fallback),
        asset_class=check_class(asset_class),
        labels=check_labels(labels),
        state=ACTIVE,
        created_at_ms=now_ms,
        retired_at_ms=None,
        retired_reason=None,
    )
    connection.execute(
        insert(asset).values(
            {
                "id": made.id,
                "name": made.name,
                "class": made.asset_class,
                "labels": labels_text(made.labels),
                "state": made.state,
                "created_at_ms": made.created_at_ms,
            }
        )
    )
    return made


def rename(connection: Connection, name: str, new_name: str, *, actor: str, now_ms: int) -> Asset:
    """Give an asset another name; its history stays with it."""
    found = find(connection, name)
    wanted = check_name(new_name)
    if wanted == found.name:
        return found
    if connection.scalar(select(asset.c.id).where(asset.c.name == wanted)) is not None:
        raise Refused(f"another asset is called {wanted!r} already: choose another name")
    record(
        connection, "renamed", actor=actor, now_ms=now_ms, asset_id=found.id, data={"from": found.name, "to": wanted}
    )
    return _change(connection, found, name=wanted)


def classify(connection: Connection, name: str, asset_class: str, *, actor: str, now_ms: int) -> Asset:
    """Put an asset into another class."""
    found = find(connection, name)
    wanted = check_class(asset_class)
    data = {"from": found.asset_class, "to": wanted}
    record(connection, "classified", actor=actor, now_ms=now_ms, asset_id=found.id, data=data)
    return _change(connection, found, **{"class": wanted})


def set_labels(connection: Connection, name: str, labels: Mapping[str, str], *, actor: str, now_ms: int) -> Asset:
    """Replace the labels of an asset as a whole."""
    found = find(connection, name)
    wanted = check_labels(labels)
    data = {"from": dict(found.labels), "to": wanted}
    record(connection, "labelled", actor=actor, now_ms=now_ms, asset_id=found.id, data=data)
    return _change(connection, found, labels=labels_text(wanted))


def retire(connection: Connection, name: str, reason: str, *, actor: str, now_ms: int) -> Asset:
    """Take an asset out of service, and its agents with it. Its faults are closed by the caller."""
    found = find(connection, name)
    if found.state == RETIRED:
        raise Refused(f"the asset {name!r} is retired already")
    why = _clean(reason.strip(), MAX_REASON_CHARACTERS, "the reason")
    record(connection, "retired", actor=actor, now_ms=now_ms, asset_id=found.id, data={"reason": why})
    connection.execute(update(agent).where(agent.c.asset_id == found.id).values(state=RETIRED))
    return _change(connection, found, state=RETIRED, retired_at_ms=now_ms, retired_reason=why)


def check_name(name: str) -> str:
    """The name, cleaned and with single blanks; raises UsageError when it cannot be one."""
    cleaned = " ".join(_clean(name, MAX_NAME_CHARACTERS, "the name").split())
    if not cleaned:
        raise UsageError("a name needs at least one character")
    return cleaned


def check_class(asset_class: str, allowed: Sequence[str] = ASSET_CLASSES) -> str:
    """The class; raises UsageError with the allowed ones."""
    if asset_class not in allowed:
        raise UsageError(f"there is no class {asset_class!r} here; allowed are {', '.join(allowed)}")
    return asset_class


def check_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """The labels, their values cleaned; raises UsageError."""
    if len(labels) > MAX_LABELS:
        raise UsageError(f"an asset may have {MAX_LABELS} labels, not {len(labels)}")
    for name in labels:
        if LABEL_PATTERN.fullmatch(name) is None or name in RESERVED_LABELS:
            raise UsageError(
                f"{name!r} cannot be the name of a label: it needs small letters, digits and _, begins with a letter, "
                f"and is none of {', '.join(sorted(RESERVED_LABELS))}"
            )
    return {
        name: _clean(value, MAX_LABEL_VALUE_CHARACTERS, f"the value of label {name}") for name, value in labels.items()
    }


def labels_text(labels: Mapping[str, str]) -> str:
    """Labels as the store keeps them."""
    return json.dumps(dict(labels), ensure_ascii=False, sort_keys=True)


def labels_of(text: str) -> dict[str, str]:
    """Labels from the store."""
    return {str(name): str(value) for name, value in json.loads(text).items()}


def _asset(row: Row[Any]) -> Asset:
    values = row._mapping
    return Asset(
        id=values["id"],
        name=values["name"],
        asset_class=values["class"],
        labels=labels_of(values["labels"]),
        state=values["state"],
        created_at_ms=values["created_at_ms"],
        retired_at_ms=values["retired_at_ms"],
        retired_reason=values["retired_reason"],
    )


def _change(connection: Connection, found: Asset, **values: object) -> Asset:
    connection.execute(update(asset).where(asset.c.id == found.id).values(values))
    return get(connection, found.id)


def _clean(text: str, limit: int, what: str) -> str:
    try:
        return clean(text, limit, what)
    except LimitExceeded as error:
        raise UsageError(str(error)) from None


def _proposed(proposal: str) -> str:
    name = " ".join(clean(proposal, len(proposal), "the name").split())
    return shorten(name, MAX_NAME_CHARACTERS)


def _unique(connection: Connection, base: str) -> str:
    if connection.scalar(select(asset.c.id).where(asset.c.name == base)) is None:
        return base
    stem = shorten(base, MAX_NAME_CHARACTERS - _LONGEST_SUFFIX)
    taken = set(connection.scalars(select(asset.c.name).where(asset.c.name.startswith(f"{stem}-", autoescape=True))))
    # One more candidate than there are names: one of them is free.
    return next(name for n in range(2, len(taken) + 3) if (name := f"{stem}-{n}") not in taken)
