"""Keeping an answer that costs much (a PowerShell, a package manager) from run to run."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar, cast

from gengfu_checks.model import Context

T = TypeVar("T")


def asked_seldom(context: Context, again_s: float, ask: Callable[[], T], fingerprint: tuple[object, ...] = ()) -> T:
    """The last answer of this check, for `again_s` at most and while the fingerprint stays the same; else a new one.

    An answer that failed is not kept, and neither is the one before it. A check can keep one answer.
    """
    memory = context.memory
    asked_s: float = memory.get("asked_s", -math.inf)
    if memory.get("fingerprint") != fingerprint or context.monotonic() - asked_s >= again_s:
        memory.pop("fingerprint", None)
        memory["answer"] = ask()
        memory["fingerprint"] = fingerprint
        memory["asked_s"] = context.monotonic()
    return cast(T, memory["answer"])
