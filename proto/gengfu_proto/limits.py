"""What both sides of the wire allow, and how they keep a connection: one place, because the two must agree."""

from __future__ import annotations

MAX_UP_BYTES = 4 * 1024 * 1024
"""Of one message from an agent: a report's body and the shapes that come with it."""
MAX_DOWN_BYTES = 1024 * 1024
"""Of one message to an agent; the plan is the largest."""
MAX_ENROLMENT_BYTES = 64 * 1024
"""Of one message to or from the enrolment listener."""
MAX_METADATA_BYTES = 8 * 1024

KEEPALIVE_EVERY_MS = 60_000
"""How often the agent's end pings an idle connection; the collector's end must allow at least that."""
KEEPALIVE_TIMEOUT_MS = 20_000

COMMON_CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.default_compression_algorithm", 0),
    ("grpc.compression_enabled_algorithms_bitset", 1),  # identity alone: nothing that swells when unpacked
    ("grpc.max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", 2 * MAX_METADATA_BYTES),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.bdp_probe", 0),  # a ping for nearly every message, to size windows that are large enough
)
"""For channels and servers alike."""

MAX_STREAM_SHAPES = 4_096
MAX_STREAM_SHAPES_BYTES = 4 * 1024 * 1024
"""Of all shapes that one stream may bring; an agent that comes near starts a new stream."""

MAX_INVENTORY_ENTRIES = 1_000
"""Of one report, removed ones included; more go into several."""
MAX_INVENTORY_PARTS = 20
MAX_INVENTORY_FACTS = 24
"""Of one entry."""
MAX_INVENTORY_UNREAD = 16
MAX_INVENTORY_KEY_CHARACTERS = 256
MAX_INVENTORY_TEXT_CHARACTERS = 256
"""Of one fact."""
MAX_INVENTORY_PART_BYTES = 256 * 1024
"""Where the sender begins another part: well below what a report may hold."""

HEARTBEATS_TO_SILENCE = 3
SILENCE_GRACE_S = 5.0
"""A stream on which nothing came for that many heartbeats and this long is dead, seen from either end."""
