"""What the collector wants done here, and what of it this agent is willing and able to do.

The agent's own catalogue and its own file have the last word. A check that is refused or cannot run stays in the plan
as a check that says so, so that its absence is seen where its results would be.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn, Protocol

from gengfu_agent.errors import PlanUnreadable
from gengfu_agent.identity import write_private
from gengfu_checks.codes import CHECK_NOT_USABLE, CHECK_REFUSED
from gengfu_checks.errors import CannotMeasure, ExtraMissing, SettingError, UnknownCheck
from gengfu_checks.model import CheckKind, Context, Measurement, SettingValue, Threshold
from gengfu_checks.settings import resolve_settings
from gengfu_proto.convert.plan import Plan, PlannedCheck, decode_plan
from gengfu_proto.convert.report import SETTINGS_ID_BYTES
from gengfu_proto.errors import MessageError
from gengfu_proto.text import shorten

PLAN_FILE = "plan.bin"

MAX_REASON_CHARS = 500


class Catalogue(Protocol):
    """Where checks come from; `gengfu_checks.registry` is one."""

    def load(self, name: str) -> CheckKind:
        """Return the check of this name; raises UnknownCheck or ExtraMissing."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """Which kinds of checks this machine's owner lets run; `kinds` None is all that are not denied."""

    kinds: frozenset[str] | None = None
    denied: frozenset[str] = frozenset()

    def __contains__(self, kind: object) -> bool:
        return kind not in self.denied and (self.kinds is None or kind in self.kinds)


@dataclass(frozen=True, slots=True)
class RunnableCheck:
    """A planned check bound to its code; equal when nothing about it changed. `settings` are complete."""

    name: str
    kind: CheckKind
    every_s: float
    timeout_s: float
    settings: Mapping[str, SettingValue | None] = field(default_factory=dict)
    thresholds: tuple[Threshold, ...] = ()
    target: str = ""
    settings_id: bytes = b""
    """Another one when the plan sets it otherwise."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A planned check that will not run here: code and reason."""

    name: str
    code: str
    reason: str


def accept(plan: Plan, catalogue: Catalogue, allowed: Allowed) -> tuple[tuple[RunnableCheck, ...], tuple[Refused, ...]]:
    """Return every check of the plan as one that can be run, and which of them will only say why they do not.

    Never raises: what goes wrong in a check's own module on import is that check's refusal.
    """
    runnable: list[RunnableCheck] = []
    refused: list[Refused] = []
    for planned in plan.checks:
        bound = _bind(planned, catalogue, allowed)
        if isinstance(bound, Refused):
            refused.append(bound)
            bound = _stand_in(planned, bound)
        runnable.append(bound)
    return tuple(runnable), tuple(refused)


def load_plan(folder: Path) -> Plan | None:
    """Return the plan kept last, None when there is none; raises PlanUnreadable."""
    try:
        return decode_plan((folder / PLAN_FILE).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, MessageError) as error:
        raise PlanUnreadable(f"{folder / PLAN_FILE}: {error}") from error


def save_plan(folder: Path, data: bytes) -> None:
    """Keep a plan as it came, for the next start; raises OSError."""
    write_private(folder / PLAN_FILE, data)


def _bind(planned: PlannedCheck, catalogue: Catalogue, allowed: Allowed) -> RunnableCheck | Refused:
    def refused(code: str, reason: object) -> Refused:
        return Refused(planned.name, code, shorten(str(reason), MAX_REASON_CHARS))

    if planned.kind not in allowed:
        return refused(CHECK_REFUSED, f"this agent's own file does not allow checks of kind {planned.kind}")
    try:
        kind = catalogue.load(planned.kind)
        why_not = kind.usable()
        settings = resolve_settings(kind, planned.settings)
    except SettingError as error:
        return refused(CHECK_REFUSED, error)
    except (UnknownCheck, ExtraMissing) as error:
        return refused(CHECK_NOT_USABLE, error)
    except Exception as error:  # noqa: BLE001 - the boundary to a check's module: whatever it does on import is its own fault
        return refused(CHECK_NOT_USABLE, f"{type(error).__name__}: {error}")
    if why_not is not None:
        return refused(CHECK_NOT_USABLE, why_not)
    return RunnableCheck(
        planned.name,
        kind,
        planned.every_s,
        planned.timeout_s,
        settings,
        planned.thresholds,
        planned.target,
        _settings_id(planned),
    )


def _settings_id(planned: PlannedCheck) -> bytes:
    said = json.dumps([planned.kind, dict(planned.settings)], sort_keys=True).encode()
    return hashlib.sha256(said).digest()[:SETTINGS_ID_BYTES]


def _stand_in(planned: PlannedCheck, refused: Refused) -> RunnableCheck:
    kind = CheckKind(planned.kind, _Refusal(refused.code, refused.reason), metrics=(), codes=(refused.code,))
    return RunnableCheck(planned.name, kind, planned.every_s, planned.timeout_s, target=planned.target)


@dataclass(frozen=True, slots=True)
class _Refusal:
    """Measures nothing and says why."""

    code: str
    reason: str

    def __call__(self, _context: Context) -> Iterable[Measurement]:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise CannotMeasure(self.code, {"reason": self.reason})
