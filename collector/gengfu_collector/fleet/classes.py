"""The closed set of asset classes, and what a label may look like."""

from __future__ import annotations

import re
from typing import Final

ASSET_CLASSES: Final = (
    "terminal", "server", "ups", "switch", "router", "firewall", "printer", "cooling", "sensor", "camera", "meeting",
    "service",
)  # fmt: skip

LABEL_PATTERN: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")
