"""Names that both sides of the wire must agree on: in certificates, addresses and signatures."""

from __future__ import annotations

import re

COLLECTOR_NAME = "gengfu-collector"
"""The DNS name in every collector's certificate; agents ask for it whatever address they dial."""

AGENT_URI_PREFIX = "gengfu://agent/"
AGENT_ID_PATTERN = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")

HTTP_PORT = 8420
STREAM_PORT = 8421
ENROL_PORT = 8422

PROTOCOL = 1
"""Highest minor of protocol v1 that this version speaks."""

RECOVERY_PREFIX = b"gengfu-recover-v1"
"""What the binding key signs is this, then the nonce, then the CSR."""


def agent_uri(agent_id: str) -> str:
    """Return the URI that stands as the only subject alternative name in the certificate of this agent."""
    if AGENT_ID_PATTERN.fullmatch(agent_id) is None:
        raise ValueError(f"{agent_id!r} is not an agent id")
    return AGENT_URI_PREFIX + agent_id


def agent_id_of(uri: str) -> str | None:
    """Return the agent id that a subject alternative name carries, or None when it is not one of an agent."""
    agent_id = uri.removeprefix(AGENT_URI_PREFIX)
    if agent_id == uri or AGENT_ID_PATTERN.fullmatch(agent_id) is None:
        return None
    return agent_id
