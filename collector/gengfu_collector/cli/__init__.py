"""The command line of the collector. Commands that ask the truth reach a running collector, or open its files."""

from __future__ import annotations

import io
import os
import sys

from gengfu_collector.errors import CollectorError

OWN_PACKAGES = ("gengfu_", "gengfu.")


def main() -> None:
    """Run the command line and exit: 0 done, 1 the thing asked about is bad, 2 wrong use, 3 cannot reach."""
    # gRPC's own lines are no records of the log, and every scanner of ports would cause some.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    _print_anything()
    try:
        from gengfu_collector.cli.commands import app
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith(OWN_PACKAGES):
            raise
        print(
            f"gengfu-collector: the package {error.name} is missing: pip install 'gengfu[collector]'", file=sys.stderr
        )
        sys.exit(2)

    try:
        app(prog_name="gengfu-collector")
    except CollectorError as error:
        print(f"gengfu-collector: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)


def _print_anything() -> None:
    """A terminal that cannot show Chinese shows escapes; names of assets come from outside."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
