"""The command line of the collector. Commands that ask the truth reach a running collector, or open its files."""

from __future__ import annotations

import sys

from gengfu_collector.errors import CollectorError


def main() -> None:
    """Run the command line and exit: 0 done, 1 the thing asked about is bad, 2 wrong use, 3 cannot reach."""
    from gengfu_collector.cli.commands import app

    try:
        app(prog_name="gengfu-collector")
    except CollectorError as error:
        print(f"gengfu-collector: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
