"""Inventory"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def _id() -> sa.types.TypeEngine[int]:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "inventory",
        sa.Column("asset_id", _id(), autoincrement=False, nullable=False),
        sa.Column("agent_id", sa.BigInteger(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("next_part", sa.Integer(), nullable=False),
        sa.Column("scan", sa.BigInteger(), nullable=False),
        sa.Column("first_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("looked_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("measured_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("changed_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("cpu_ms", sa.BigInteger(), nullable=False),
        sa.Column("unread", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["asset_id"], ["asset.id"], name=op.f("fk_inventory_asset_id_asset")),
        sa.PrimaryKeyConstraint("asset_id", name=op.f("pk_inventory")),
    )
    op.create_table(
        "inventory_entry",
        sa.Column("asset_id", _id(), autoincrement=False, nullable=False),
        sa.Column("key", sa.String(length=256), nullable=False),
        sa.Column("category", sa.String(length=128), nullable=False),
        sa.Column("name", sa.String(length=256), nullable=False),
        sa.Column("version", sa.String(length=256), nullable=False),
        sa.Column("facts", sa.Text(), nullable=False),
        sa.Column("scan", sa.BigInteger(), nullable=False),
        sa.Column("since_at_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["asset_id"], ["asset.id"], name=op.f("fk_inventory_entry_asset_id_asset")),
        sa.PrimaryKeyConstraint("asset_id", "key", name=op.f("pk_inventory_entry")),
    )
    op.create_index("ix_inventory_entry_category_name", "inventory_entry", ["category", "name"])
    op.create_table(
        "inventory_change",
        sa.Column("id", _id(), autoincrement=True, nullable=False),
        sa.Column("asset_id", _id(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("measured_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("category", sa.String(length=128), nullable=False),
        sa.Column("key", sa.String(length=256), nullable=False),
        sa.Column("name", sa.String(length=256), nullable=False),
        sa.Column("before", sa.Text(), nullable=True),
        sa.Column("after", sa.Text(), nullable=True),
        sa.Column("severity", sa.String(length=16), nullable=False),
        sa.Column("drift", sa.String(length=16), nullable=False),
        sa.ForeignKeyConstraint(["asset_id"], ["asset.id"], name=op.f("fk_inventory_change_asset_id_asset")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_inventory_change")),
    )
    op.create_index("ix_inventory_change_asset_id_drift", "inventory_change", ["asset_id", "drift"])
    op.create_index("ix_inventory_change_at_ms", "inventory_change", ["at_ms"])
