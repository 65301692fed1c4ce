"""What `make roots` would complain of: its judgement by itself. The roots are too slow for every run of the tests."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).resolve().parent))

import machine
import states
from guest import SCENES
from looks import (
    Answer,
    Planned,
    look_of,
    planned_checks,
    wrong_with,
    wrong_with_inventory,
    wrong_with_updates,
)

from gengfu_checks import guide, registry
from gengfu_checks.settings import parse_assignment

OK = {"item": "", "status": "ok", "code": "ok", "facts": {}, "metrics": {}, "breach": None}
NO_LISTS = {**OK, "status": "warning", "code": "updates.no_lists", "facts": {"manager": "apt"}}
UPDATES = Planned("updates", (), ("server",))


def wrong(
    *findings: Mapping[str, Any], exit_code: int = 0, stderr: str = "", expected: tuple[str, ...] = (), right: str = ""
) -> str:
    answer = Answer(exit_code, json.dumps(findings), stderr)
    return "; ".join(wrong_with(look_of(UPDATES, answer, 0.0), expected, frozenset([right])))


def test_what_is_as_expected_is_no_complaint() -> None:
    assert wrong(OK) == ""
    assert wrong(NO_LISTS, exit_code=1, expected=("updates.no_lists",)) == ""
    assert wrong(NO_LISTS, exit_code=1, right="updates:updates.no_lists") == ""


@pytest.mark.parametrize(
    ("complaint", "told"),
    [
        ("check.crashed", wrong({**OK, "status": "unknown", "code": "check.crashed"}, exit_code=3)),
        ("undeclared: raid.failed", wrong({**OK, "status": "critical", "code": "raid.failed"}, exit_code=2)),
        ("false alarm", wrong(NO_LISTS, exit_code=1)),
        ("false alarm", wrong(NO_LISTS, exit_code=1, right="raid:updates.no_lists")),
        ("instead of updates.no_lists", wrong(OK, expected=("updates.no_lists",))),
        ("exit code 0", wrong(NO_LISTS, right="updates.no_lists")),
        ("on standard error: Trace", wrong(OK, stderr="Traceback")),
        ("no list of findings", wrong()),
    ],
)
def test_everything_else_is(complaint: str, told: str) -> None:
    assert complaint in told


def test_an_inventory_has_to_have_what_dpkg_has() -> None:
    entry = {"key": "software/dpkg/tar", "category": "software", "facts": {"name": "tar", "version": "1.0"}}
    answer = Answer(0, json.dumps({"entries": [entry]}), "")
    assert list(wrong_with_inventory(answer, {"tar": "1.0"})) == []
    assert len(list(wrong_with_inventory(answer, {"tar": "1.1"}))) == 1
    assert len(list(wrong_with_inventory(answer, {"tar": "1.0", "sed": "4"}))) == 1
    assert len(list(wrong_with_inventory(answer, {}))) == 1
    assert len(list(wrong_with_inventory(Answer(2, "", "broken"), None))) == 1


def test_updates_have_to_be_those_of_apt() -> None:
    told = {"pending_updates": 2.0, "pending_security_updates": 1.0}
    assert list(wrong_with_updates(told, 2, 1)) == []
    assert list(wrong_with_updates({"pending_updates": 2.0}, 2, 0)) == []
    assert len(list(wrong_with_updates({"pending_updates": 2.0}, 3, 1))) == 2


def test_the_tables_name_codes_kinds_and_scenes_that_there_are() -> None:
    rows = [machine.EXPECTED[scene] for scene, _, _ in SCENES]
    assert len(rows) == len(machine.EXPECTED) - 1
    told = {code for row in rows for code in (*row.codes.values(), *row.still) if code != "ok"} | machine.EVERYWHERE
    told |= {code for state in states.STATES for codes in state.expected.values() for code in codes}
    told |= {code for table in (states.EVERYWHERE, *(s.right for s in states.STATES)) for code in table}
    assert {code.rpartition(":")[2] for code in told} <= guide.codes()
    kinds = {kind for row in (*rows, *states.STATES) for kind in (row.codes if row in rows else row.expected)}
    assert kinds <= registry.BUILT_IN.keys()


def test_every_check_of_the_profiles_is_run_as_they_set_it() -> None:
    checks = planned_checks()
    assert {name for check in checks for name in check.classes} == {"terminal", "server"}
    assert ("disk", ("--set", "network=false")) in {(check.kind, check.arguments) for check in checks}
    for check in checks:
        for option, value in zip(check.arguments[::2], check.arguments[1::2], strict=True):
            if option == "--set":
                parse_assignment(registry.load(check.kind), value)
