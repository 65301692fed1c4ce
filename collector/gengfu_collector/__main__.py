"""`python -m gengfu_collector` is `gengfu-collector`."""

from __future__ import annotations

from gengfu_collector.cli import main

main()
