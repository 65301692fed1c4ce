"""What the collector is told about a plan that it sent."""

from __future__ import annotations

from dataclasses import dataclass

from gengfu_agent.plan import Refused
from gengfu_proto.v1 import stream_pb2


@dataclass(frozen=True, slots=True)
class PlanAnswer:
    """What became of a plan: its version, "" when it could not be read, and the checks that this agent does not run."""

    version: str
    refused: tuple[Refused, ...] = ()


def applied_of(answer: PlanAnswer) -> stream_pb2.PlanApplied:
    """Return the message."""
    refused = [
        stream_pb2.RefusedCheck(name=check.name, reason=check.code, detail=check.reason) for check in answer.refused
    ]
    return stream_pb2.PlanApplied(version=answer.version, refused=refused)
