"""Asking the truth: through the admin socket of a running collector, else on the files themselves."""

from __future__ import annotations

import asyncio
import getpass
import json
import os
import time
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gengfu_collector.admin.client import SOCKET_FILE, NotListening, ask
from gengfu_collector.errors import NotFound, StoreInUse, UsageError

if TYPE_CHECKING:
    from gengfu_collector.config import CollectorConfig, CommandLine

LOCK_WAIT_S = 10.0
LOCK_POLL_S = 0.1


def data_folder(given: Path | None) -> Path:
    """The data folder of a command."""
    if given is not None:
        return given
    from gengfu_collector.config import default_data_folder

    return default_data_folder(Path.cwd())


def configuration(data: Path, options: CommandLine | None = None) -> CollectorConfig:
    """The configuration of a data folder; raises ConfigurationError."""
    from gengfu_collector.config import CommandLine, load_config

    return load_config(data, options or CommandLine(), os.environ)


def has_store(data: Path) -> bool:
    """Whether a collector runs or ran on this folder, so that it can be asked without making anything there."""
    from gengfu_collector.store.database import LOCK_FILE

    return (data / LOCK_FILE).exists()


def request(given: Path | None, operation: str, **arguments: Any) -> Any:
    """Have an operation done and return its result; raises CollectorError."""
    data = data_folder(given)
    if not data.is_dir():
        raise NotFound(
            f"there is no data folder {data}: start one with gengfu-collector run, or name it with --data DIR"
        )
    try:
        json.dumps(arguments, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise UsageError("what is written on the command line must be UTF-8") from None
    return asyncio.run(_request(data, operation, arguments))


async def _request(data: Path, operation: str, arguments: dict[str, Any]) -> Any:
    socket, actor = data / SOCKET_FILE, _actor()
    give_up_at_s = time.monotonic() + LOCK_WAIT_S
    while True:
        if socket.exists():
            with suppress(NotListening):
                return await ask(socket, operation, arguments, actor)
        try:
            return await _alone(data, operation, arguments, actor)
        except StoreInUse:
            # A collector is about to run or to end, or another command is at the files for a moment.
            if time.monotonic() > give_up_at_s:
                raise
        await asyncio.sleep(LOCK_POLL_S)


async def _alone(data: Path, operation: str, arguments: dict[str, Any], actor: str) -> Any:
    # What only this needs takes half a second to import; a command that is answered by a collector goes without.
    from gengfu_collector.admin.operations import perform
    from gengfu_collector.app.store import lone_desk, open_store
    from gengfu_collector.fleet.inspection import load_inspection

    config = configuration(data)
    with open_store(config) as store:
        # Read by what needs it only: a folder with a mistake in it is not in the way of the rest.
        desk = lone_desk(store, cache(partial(load_inspection, config.inspection, config.zone)))
        return await perform(desk, operation, arguments, actor)


def _actor() -> str:
    try:
        return getpass.getuser()[:64]
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
