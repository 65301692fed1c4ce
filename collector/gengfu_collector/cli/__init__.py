"""The command line of the collector. Commands that ask the truth reach a running collector, or open its files."""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING

from gengfu_collector.errors import CollectorError
from gengfu_proto.text import harmless_lines

if TYPE_CHECKING:
    from typer import TyperException

PROGRAM = "gengfu-collector"
OWN_PACKAGES = ("gengfu_", "gengfu.")


def main() -> None:
    """Run the command line and exit: 0 done, 1 the thing asked about is bad, 2 wrong use, 3 cannot reach."""
    # gRPC's own lines are no records of the log, and every scanner of ports would cause some.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    _print_anything()
    try:
        import typer

        from gengfu_collector.cli.commands import app
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith(OWN_PACKAGES):
            raise
        missing = f"the package {error.name} is missing: pip install 'gengfu[collector]'"
        _say(f"{PROGRAM}: {told(missing)}")
        sys.exit(2)

    # Whatever a command makes in the data folder is for its owner alone.
    os.umask(0o077)
    try:
        sys.exit(app(prog_name=PROGRAM, standalone_mode=False))
    except CollectorError as error:
        _say(f"{PROGRAM}: {told(' '.join(str(error).splitlines()))}")
        sys.exit(error.exit_code)
    except typer.TyperException as error:
        _say(_wrong_use(error))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)


def told(error: str) -> str:
    """An error in the reader's language."""
    from gengfu_checks.language import reader_language
    from gengfu_collector.cli.error_words import in_words

    return in_words(error, reader_language())


def _say(text: str) -> None:
    """Say what went wrong; parts of it come from arguments and from other machines."""
    print(harmless_lines(text), file=sys.stderr)


def _wrong_use(error: TyperException) -> str:
    """What is wrong with the arguments, in one line; the whole help where there were none."""
    message = error.format_message()
    if "\n" in message:
        return message
    context = getattr(error, "ctx", None)
    command = PROGRAM if context is None else context.command_path
    wrong = message.rstrip(". ")
    return f"{PROGRAM}: {told(f'{wrong}; try {command} --help')}"


def _print_anything() -> None:
    """A terminal that cannot show Chinese shows escapes; names of assets come from outside."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
