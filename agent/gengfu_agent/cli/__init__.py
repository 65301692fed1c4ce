"""The command line `gengfu-agent`. Exit codes: 0 done, 1 what was asked about is bad, 2 wrong use, 3 cannot reach.

`check` exits like a monitoring plugin: 0 ok, 1 warning, 2 critical, 3 unknown. Every command imports what it needs when
it runs, because `run` stays in memory for months.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from gengfu_agent.errors import AgentError

PROGRAM = "gengfu-agent"

_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the arguments say; returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        plain = _plain_run(arguments)
        if plain is not None:
            return run(plain)
        _print_anything()
        from gengfu_agent.cli.commands import dispatch

        exit_code = dispatch(arguments)
        sys.stdout.flush()
        return exit_code
    except AgentError as error:
        return _fail(str(error), error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads any more; the exit stays quiet
        return 1
    except OSError as error:
        return _fail(str(error), 2)
    except KeyboardInterrupt:
        return _INTERRUPTED


def run(state: Path) -> int:
    """Run the agent on this folder until it is told to stop."""
    from gengfu_agent import process

    process.prepare()
    from gengfu_agent.config import load_config

    make_state_folder(state)
    config = load_config(state)
    from gengfu_agent import service

    return service.run(state, config)


def default_state() -> Path:
    """Where the agent keeps everything when nothing else is said."""
    chosen = os.environ.get("GENGFU_STATE")
    if chosen:
        return Path(chosen)
    return Path("/var/lib/gengfu-agent") if os.geteuid() == 0 else Path.home() / ".local/state/gengfu-agent"


def make_state_folder(state: Path) -> None:
    """Make the folder if need be; nobody else may look into it. Raises AgentError."""
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        state.chmod(0o700)
    except OSError as error:
        raise AgentError(
            f"the state folder {state} cannot be used ({error.strerror}): give another with --state or run as its owner"
        ) from error


def _plain_run(arguments: Sequence[str]) -> Path | None:
    """The state folder of a plain `run [--state DIR]`: argparse would cost the agent 1.4 MiB for as long as it runs."""
    match arguments:
        case ["run"]:
            return default_state()
        case ["run", "--state", folder] if not folder.startswith("-"):
            return Path(folder)
        case ["run", option] if option.startswith("--state="):
            return Path(option.removeprefix("--state="))
    return None


def _print_anything() -> None:
    """A terminal that cannot show Chinese shows escapes instead."""
    import io

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _fail(message: str, exit_code: int) -> int:
    from gengfu_checks.language import reader_language
    from gengfu_proto.text import harmless_lines

    if reader_language() == "zh":
        from gengfu_agent.cli.error_words import in_words

        message = in_words(message, "zh")
    print(harmless_lines(f"{PROGRAM}: {' '.join(message.split())}"), file=sys.stderr)
    return exit_code
