"""Every table, in SQLAlchemy Core.

Times are integers: milliseconds since the epoch by the collector's clock (`_at_ms`), but for `measured_at_ms`, which is
by the clock of the machine that measured.

A change here needs a migration in `migrations/versions`; a test compares the two.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite makes only INTEGER PRIMARY KEY an alias of its row id.
Id = BigInteger().with_variant(Integer, "sqlite")

sequence = Table(
    "sequence",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("next", BigInteger, nullable=False),
)

secret = Table(
    "secret",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", LargeBinary, nullable=False),
)

asset = Table(
    "asset",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("name", String(128), nullable=False, unique=True),
    Column("class", String(32), nullable=False),
    Column("labels", Text, nullable=False),  # JSON object of texts
    Column("state", String(16), nullable=False),  # active, retired
    Column("created_at_ms", BigInteger, nullable=False),
    Column("retired_at_ms", BigInteger),
    Column("retired_reason", Text),
)

agent = Table(
    "agent",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("uid", String(32), nullable=False, unique=True),  # what people, certificates and JSON call the agent's id
    Column("asset_id", ForeignKey("asset.id"), nullable=False, index=True),
    Column("state", String(16), nullable=False),  # active, blocked, quarantined, retired
    Column("enrolled_at_ms", BigInteger, nullable=False),
    Column("binding_key", LargeBinary, nullable=False),  # DER SubjectPublicKeyInfo
    Column("recoveries_left", Integer, nullable=False),
    Column("machine_id", String(128), nullable=False),
    Column("hostname", String(256), nullable=False),
    Column("version", String(64), nullable=False),
    Column("platform", String(64), nullable=False),
    Column("boot_id", String(128), nullable=False, server_default=""),
    Column("session", LargeBinary),  # what the last Welcome gave
    Column("epoch", BigInteger, nullable=False, server_default="0"),
    Column("plan_version", String(64), nullable=False, server_default=""),
    Column("last_seen_at_ms", BigInteger),
    Column("left_at_ms", BigInteger),  # said goodbye; empty while it is expected to be there
    Column("absent_after_ms", BigInteger),  # absent when not heard from by then; empty: never
)

agent_copy = Table(
    "agent_copy",
    metadata,
    # Other copies of an agent's state folder than the one in use, each known by the last session that it was given.
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("agent_id", ForeignKey("agent.id"), nullable=False),
    Column("session", LargeBinary, nullable=False),  # empty: it was given none
    Column("machine_id", String(128), nullable=False),
    Column("hostname", String(256), nullable=False),
    Column("kept_out", Boolean, nullable=False),  # else: left behind when an older state of the folder took its place
    Column("first_seen_at_ms", BigInteger, nullable=False),
    Column("last_seen_at_ms", BigInteger, nullable=False),
    UniqueConstraint("agent_id", "session", "machine_id"),
)

token = Table(
    "token",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("secret_hash", LargeBinary, nullable=False, unique=True),  # SHA-256
    Column("class", String(32), nullable=False),
    Column("labels", Text, nullable=False),
    Column("uses_left", Integer, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("expires_at_ms", BigInteger, nullable=False),
)

certificate = Table(
    "certificate",
    metadata,
    Column("serial", String(64), primary_key=True),
    Column("agent_id", ForeignKey("agent.id"), nullable=False, index=True),
    Column("token_id", BigInteger),  # the token it was enrolled with; empty for renewals
    Column("key_hash", LargeBinary, nullable=False),  # SHA-256 of the DER SubjectPublicKeyInfo
    Column("not_before_ms", BigInteger, nullable=False),
    Column("not_after_ms", BigInteger, nullable=False),
    Column("pem", LargeBinary, nullable=False),
    UniqueConstraint("token_id", "key_hash"),
)

ledger = Table(
    "ledger",
    metadata,
    Column("agent_id", ForeignKey("agent.id"), primary_key=True),
    Column("epoch", BigInteger, primary_key=True),
    Column("high_water", BigInteger, nullable=False),  # every number up to here is accounted for
    Column("ahead", Text, nullable=False),  # JSON list of [first, last] beyond the high water
    Column("stored", BigInteger, nullable=False),
    Column("rejected", BigInteger, nullable=False),
    Column("gaps", BigInteger, nullable=False),
    Column("pruned", BigInteger, nullable=False),  # stored once, removed by retention
    Column("unnamed", BigInteger, nullable=False, server_default="0"),  # numbers up to here are older than the epoch
)

report = Table(
    "report",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("agent_id", BigInteger, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("received_at_ms", BigInteger, nullable=False),
    Column("backlog", Boolean, nullable=False),
    Column("body", LargeBinary, nullable=False),
    UniqueConstraint("agent_id", "epoch", "seq"),
)

shape = Table(
    "shape",
    metadata,
    Column("id", LargeBinary(16), primary_key=True),
    Column("body", LargeBinary, nullable=False),
    Column("seen_at_ms", BigInteger, nullable=False),
)

rejected_report = Table(
    "rejected_report",
    metadata,
    Column("agent_id", BigInteger, primary_key=True),
    Column("epoch", BigInteger, primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("received_at_ms", BigInteger, nullable=False),
    Column("reason", String(32), nullable=False),
    Column("detail", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),  # cut to a bounded size
)

gap = Table(
    "gap",
    metadata,
    Column("agent_id", BigInteger, primary_key=True),
    Column("epoch", BigInteger, primary_key=True),
    Column("first_seq", BigInteger, primary_key=True),
    Column("last_seq", BigInteger, nullable=False),
    Column("reason", String(32), nullable=False),
    Column("recorded_at_ms", BigInteger, nullable=False),
)

renumbered = Table(
    "renumbered",
    metadata,
    # Bodies that change their number: asked for under another, or numbered before their epoch had a name.
    Column("agent_id", BigInteger, primary_key=True),
    Column("digest", LargeBinary(32), primary_key=True),  # SHA-256
    Column("came", Boolean, nullable=False),  # under the other number
    Column("noted_at_ms", BigInteger, nullable=False),
)

subject = Table(
    "subject",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("asset_id", ForeignKey("asset.id"), nullable=False),
    Column("check", String(128), nullable=False),
    Column("item", String(256), nullable=False),
    Column("status", String(16), nullable=False),  # ok, warning, critical, unknown, no-data
    Column("code", String(128), nullable=False),
    Column("since_at_ms", BigInteger, nullable=False),
    Column("counters", Text, nullable=False),  # JSON of the engine's counters, see faults.model
    Column("settings_id", LargeBinary(8), nullable=True),  # of the check that names it, see intake.records
    UniqueConstraint("asset_id", "check", "item"),
)

span = Table(
    "span",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("subject_id", BigInteger, nullable=False),
    Column("started_at_ms", BigInteger, nullable=False),
    Column("measured_at_ms", BigInteger, nullable=False),
    Column("status", String(16), nullable=False),
    Column("code", String(128), nullable=False),
    Column("late", Boolean, nullable=False),  # came from a backlog: history that never acted
    Index("ix_span_subject_id_started_at_ms", "subject_id", "started_at_ms"),
)

fault = Table(
    "fault",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("subject_id", ForeignKey("subject.id"), nullable=False),
    Column("asset_id", BigInteger, nullable=False, index=True),
    Column("check", String(128), nullable=False),
    Column("item", String(256), nullable=False),
    Column("code", String(128), nullable=False),
    Column("severity", String(16), nullable=False),  # warning, critical
    Column("state", String(16), nullable=False),  # open, closed
    Column("opened_at_ms", BigInteger, nullable=False),
    Column("closed_at_ms", BigInteger),
    Column("closed_reason", Text),
    Column("ticket_id", BigInteger, nullable=False),
    Column("evidence", Text, nullable=False),  # JSON: facts, metrics, breach, rule at the opening
    Index(
        "uq_fault_open_subject_id",
        "subject_id",
        unique=True,
        sqlite_where=text("state = 'open'"),
        postgresql_where=text("state = 'open'"),
    ),
)

ticket = Table(
    "ticket",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("number", String(32), nullable=False, unique=True),
    Column("state", String(16), nullable=False, index=True),  # open, acknowledged, resolved, closed
    Column("asset_id", ForeignKey("asset.id"), nullable=False, index=True),
    Column("subject_id", ForeignKey("subject.id"), nullable=False, index=True),
    Column("check", String(128), nullable=False),
    Column("item", String(256), nullable=False),
    Column("code", String(128), nullable=False),
    Column("severity", String(16), nullable=False),
    Column("category", String(16), nullable=False),  # software, hardware, network, security, other
    Column("priority", Integer, nullable=False),  # 1 (first) to 4
    Column("opened_at_ms", BigInteger, nullable=False),
    Column("acknowledged_at_ms", BigInteger),
    Column("resolved_at_ms", BigInteger),
    Column("closed_at_ms", BigInteger),
    Column("cause", Text),
    Column("solution", Text),
    Index(
        "uq_ticket_unresolved_subject_id",
        "subject_id",
        unique=True,
        sqlite_where=text("state IN ('open', 'acknowledged')"),
        postgresql_where=text("state IN ('open', 'acknowledged')"),
    ),
)

ticket_event = Table(
    "ticket_event",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("ticket_id", ForeignKey("ticket.id"), nullable=False, index=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("actor", String(64), nullable=False),  # "engine" or a person
    Column("kind", String(32), nullable=False),
    Column("data", Text, nullable=False),  # JSON object
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("ticket_id", BigInteger, nullable=False),
    Column("data", Text, nullable=False),
)

event = Table(
    "event",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("actor", String(64), nullable=False),
    Column("kind", String(32), nullable=False),  # enrolled, blocked, retired, renamed ...
    Column("asset_id", BigInteger),
    Column("data", Text, nullable=False),
    Index("ix_event_at_ms", "at_ms"),
)

inventory = Table(
    "inventory",
    metadata,
    # What is known of each asset's inventory as a whole; the things themselves are in inventory_entry.
    Column("asset_id", ForeignKey("asset.id"), primary_key=True, autoincrement=False),
    Column("agent_id", BigInteger, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("next_part", Integer, nullable=False),  # of a snapshot that is still coming; 0: it is whole
    Column("scan", BigInteger, nullable=False),  # counts snapshots that began to come
    Column("first_at_ms", BigInteger),  # empty until the first snapshot was whole
    Column("looked_at_ms", BigInteger, nullable=False),
    Column("measured_at_ms", BigInteger, nullable=False),
    Column("changed_at_ms", BigInteger),
    Column("cpu_ms", BigInteger, nullable=False),
    Column("unread", Text, nullable=False),  # JSON list of [category, code, facts]
)

inventory_entry = Table(
    "inventory_entry",
    metadata,
    Column("asset_id", ForeignKey("asset.id"), primary_key=True, autoincrement=False),
    Column("key", String(256), primary_key=True),
    Column("category", String(128), nullable=False),
    Column("name", String(256), nullable=False),
    Column("version", String(256), nullable=False),
    Column("facts", Text, nullable=False),  # JSON object
    Column("scan", BigInteger, nullable=False),  # the last one that it was in
    Column("since_at_ms", BigInteger, nullable=False),
    Index("ix_inventory_entry_category_name", "category", "name"),
)

inventory_change = Table(
    "inventory_change",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("asset_id", ForeignKey("asset.id"), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("measured_at_ms", BigInteger, nullable=False),
    Column("kind", String(16), nullable=False),  # added, removed, changed, shrunk, more
    Column("category", String(128), nullable=False),
    Column("key", String(256), nullable=False),
    Column("name", String(256), nullable=False),
    Column("before", Text),  # JSON object of facts
    Column("after", Text),
    Column("severity", String(16), nullable=False),  # of the rule that it fits; empty: none
    Column("drift", String(16), nullable=False),  # empty without a rule; open, undone, accepted
    Index("ix_inventory_change_asset_id_drift", "asset_id", "drift"),
    Index("ix_inventory_change_at_ms", "at_ms"),
)
