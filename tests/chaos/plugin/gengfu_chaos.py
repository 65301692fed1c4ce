"""A third party's check: asks the oracle what it has found. One finding a run, its number as its metric."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable
from contextlib import closing

from gengfu_checks.model import CheckKind, Context, Measurement, Metric, Problem, Setting, SettingType, Status

AGENT_VARIABLE = "GENGFU_CHAOS_AGENT"
MAX_ANSWER_BYTES = 4096


def measure(context: Context) -> Iterable[Measurement]:
    """Ask for the next number and whether it is a bad one."""
    question = {"agent": os.environ[AGENT_VARIABLE], "check": context.settings["source"]}
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as oracle:
        oracle.settimeout(context.deadline_s)
        oracle.connect(context.settings["oracle"])
        oracle.sendall(json.dumps(question).encode() + b"\n")
        answer = json.loads(oracle.makefile("rb").readline(MAX_ANSWER_BYTES))
    problem = Problem(Status.CRITICAL, "chaos.broken") if answer["bad"] else None
    return [Measurement("", {"number": float(answer["number"])}, problem=problem)]


CHECK = CheckKind(
    name="chaos",
    measure=measure,
    metrics=(Metric("number", "What the oracle calls this finding"),),
    codes=("chaos.broken",),
    settings=(
        Setting("oracle", SettingType.TEXT, "path of the oracle's socket", required=True),
        Setting("source", SettingType.TEXT, "what the oracle calls this check", required=True),
    ),
    every_s=1.0,
    timeout_s=5.0,
)
