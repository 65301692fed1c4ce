"""JSON in text columns: one way to write it, compact and with Chinese as it is."""

from __future__ import annotations

import json

# An encoder made once: json.dumps with options makes a new one for every call.
to_text = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode
from_text = json.JSONDecoder().decode
