"""Giving a machine an identity of its own that carries a copy of another machine's, as a cloned disk does.

The new identity is made beside the old one and takes its place at the end: what fails before that changes nothing, and
what is interrupted is finished by the same command. Nothing of the other machine stays: its keys, its plan, what its
checks kept, and the reports that the copy brought along, which are the other machine's to deliver.
"""

from __future__ import annotations

from pathlib import Path

from gengfu_agent.clock import Clock, SystemClock
from gengfu_agent.enrolment import Enrolled, Former, enrol
from gengfu_agent.errors import AlreadyRunning, SpoolError
from gengfu_agent.identity import (
    AGENT_FILE,
    BINDING_KEY_FILE,
    CREDENTIALS_FILE,
    PENDING_KEY_FILE,
    ROOTS_FILE,
    Identity,
    sync_folder,
)
from gengfu_agent.inventory.known import KNOWN_FILE
from gengfu_agent.keep import KEEP_FILE
from gengfu_agent.plan import PLAN_FILE
from gengfu_agent.service import SPOOL_FILE
from gengfu_agent.spool import Spool
from gengfu_agent.status import STATUS_FILE, only_one

NEW_FOLDER = "as-new"

_OLD_FILES = (PENDING_KEY_FILE, PLAN_FILE, STATUS_FILE, KEEP_FILE, KNOWN_FILE)
_NEW_FILES = (CREDENTIALS_FILE, ROOTS_FILE, BINDING_KEY_FILE, AGENT_FILE)
"""The last one makes the folder an enrolled one."""


async def enrol_as_new(collector: str, token: str, state: Path, clock: Clock | None = None) -> Enrolled:
    """Enrol this machine as one of its own; its state folder need not be one of another machine.

    Raises what `enrol` raises, and AlreadyRunning, IdentityDamaged.
    """
    clock = clock or SystemClock()
    identity, fresh = Identity(state), Identity(state / NEW_FOLDER)
    try:
        with only_one(state):
            if not fresh.is_enrolled():
                former = Former(identity.agent().agent_id, _session(state, clock)) if identity.is_enrolled() else None
                await enrol(collector, token, fresh.folder, clock, former)
            agent = fresh.agent()
            _take_place(state, fresh.folder)
    except AlreadyRunning:
        raise AlreadyRunning(f"an agent runs on {state}: stop it first, then do this again") from None
    return Enrolled(agent.agent_id, agent.asset, 0.0)


def _session(state: Path, clock: Clock) -> bytes:
    """What shows the collector which copy this is; empty when the spool cannot be read."""
    if not (state / SPOOL_FILE).exists():
        return b""
    try:
        spool = Spool.open(state / SPOOL_FILE, clock=clock)
        try:
            return spool.session()
        finally:
            spool.close()
    except SpoolError:
        return b""


def _take_place(state: Path, fresh: Path) -> None:
    (state / AGENT_FILE).unlink(missing_ok=True)
    sync_folder(state)
    # Of the spool also what salvage has put aside.
    for path in [*state.glob(f"{Path(SPOOL_FILE).stem}.*"), *(state / name for name in _OLD_FILES)]:
        path.unlink(missing_ok=True)
    for name in _NEW_FILES:
        if (fresh / name).exists():
            (fresh / name).replace(state / name)
            sync_folder(state)
    fresh.rmdir()
