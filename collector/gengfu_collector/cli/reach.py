"""Asking the truth: through the admin socket of a running collector, else on the files themselves."""

from __future__ import annotations

import asyncio
import getpass
import json
import os
import time
from pathlib import Path
from typing import Any

from gengfu_collector.admin.operations import perform
from gengfu_collector.admin.socket import SOCKET_FILE, NotListening, ask
from gengfu_collector.app.store import lone_desk, open_store
from gengfu_collector.config import CollectorConfig, CommandLine, default_data_folder, load_config
from gengfu_collector.errors import NotFound, StoreInUse, UsageError
from gengfu_collector.fleet.inspection import load_inspection

LOCK_WAIT_S = 10.0
LOCK_POLL_S = 0.1


def data_folder(given: Path | None) -> Path:
    """The data folder of a command."""
    return given or default_data_folder(Path.cwd())


def configuration(data: Path, options: CommandLine | None = None) -> CollectorConfig:
    """The configuration of a data folder; raises ConfigurationError."""
    return load_config(data, options or CommandLine(), os.environ)


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
        try:
            return await _alone(data, operation, arguments, actor)
        except StoreInUse:
            # A collector runs, is about to, or another command is at the files for a moment.
            if socket.exists():
                try:
                    return await ask(socket, operation, arguments, actor)
                except NotListening:
                    if time.monotonic() > give_up_at_s:
                        raise
            elif time.monotonic() > give_up_at_s:
                raise
        await asyncio.sleep(LOCK_POLL_S)


async def _alone(data: Path, operation: str, arguments: dict[str, Any], actor: str) -> Any:
    config = configuration(data)
    with open_store(config) as store:
        desk = lone_desk(store, load_inspection(config.inspection, config.zone))
        return await perform(desk, operation, arguments, actor)


def _actor() -> str:
    try:
        return getpass.getuser()[:64]
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
