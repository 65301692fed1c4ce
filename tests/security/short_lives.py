"""Starts the collector with agents' certificates that live for seconds: python short_lives.py SECONDS -- ARGUMENTS."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from gengfu_collector import cli
from gengfu_collector.gateway import certificates
from gengfu_collector.gateway.authority import Authority

SKEW_MS = 1_000


def main() -> None:
    """Shorten lives, then be the collector."""
    lifetime_s = int(sys.argv[1])
    certificates.CLOCK_SKEW_MS = SKEW_MS
    original = Authority.open

    def open_shorter(data: Path, now_ms: int, **more: Any) -> Authority:
        return original(data, now_ms, **{**more, "agent_lifetime_s": lifetime_s})

    Authority.open = open_shorter  # type: ignore[assignment,method-assign]
    sys.argv[1:] = sys.argv[sys.argv.index("--") + 1 :]
    cli.main()


if __name__ == "__main__":
    main()
