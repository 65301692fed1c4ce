"""`python -m gengfu_agent` is `gengfu-agent`."""

from __future__ import annotations

import sys

from gengfu_agent.cli import main

if __name__ == "__main__":
    sys.exit(main())
