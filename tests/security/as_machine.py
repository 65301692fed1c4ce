"""Starts the agent as if on another machine: python as_machine.py MACHINE_ID HOST_NAME -- ARGUMENTS."""

from __future__ import annotations

import socket
import sys

from gengfu_agent import backoff, cli, machine, process, status
from gengfu_agent.backoff import Backoff


def main() -> None:
    """Replace what tells machines apart, then be the agent.

    It comes back after a second, also where it was refused, and tells its status every second.
    """
    process.prepare()
    _, machine_id, host_name, _, *arguments = sys.argv
    machine.machine_id = lambda _facts: machine_id  # type: ignore[assignment]
    socket.gethostname = lambda: host_name
    backoff.CONNECTING = Backoff(base_s=0.5, cap_s=1.0)
    backoff.REFUSED = Backoff(base_s=0.5, cap_s=1.0)
    backoff.MAX_HINT_S = 1.0
    status.WRITE_EVERY_S = 1.1
    sys.argv[1:] = arguments
    sys.exit(cli.main(arguments))


if __name__ == "__main__":
    main()
