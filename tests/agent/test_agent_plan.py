"""What of a plan an agent is willing and able to do."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import pytest
from checkkinds import LEVEL, WITH_SETTINGS, Shelf, kind_of, returning

from gengfu_agent.errors import PlanUnreadable
from gengfu_agent.plan import PLAN_FILE, Allowed, accept, load_plan, save_plan
from gengfu_agent.verdict import findings_of_run, unknown_of
from gengfu_checks.errors import CannotMeasure, ExtraMissing
from gengfu_checks.model import CheckKind, Context, Status
from gengfu_proto.convert.plan import Plan, PlannedCheck, encode_plan


def planned(kind: str, name: str = "", **settings: str) -> PlannedCheck:
    return PlannedCheck(name or kind, kind, 60.0, 10.0, settings, (LEVEL,), "target")


class Explosive:
    """A catalogue whose modules do everything wrong."""

    def load(self, name: str) -> CheckKind:
        if name == "extra":
            raise ExtraMissing("pip install 'gengfu[snmp]'")
        if name == "usable_crashes":
            return kind_of(returning(), usable=lambda: str(1 // 0))
        raise SyntaxError("broken module")


def test_settings_are_completed_and_the_plan_sets_the_pace() -> None:
    kind = kind_of(returning(), settings=WITH_SETTINGS)
    (check,), refused = accept(Plan((planned("made_up", "mine", path="/x"),)), Shelf(kind), Allowed())
    assert refused == ()
    assert (check.name, check.every_s, check.timeout_s, check.target) == ("mine", 60.0, 10.0, "target")
    assert check.settings == {"path": "/x", "after": 90.0}
    assert check.thresholds == (LEVEL,)


@pytest.mark.parametrize(
    ("allowed", "fits"),
    [
        (Allowed(), True),
        (Allowed(frozenset({"made_up"})), True),
        (Allowed(frozenset({"other"})), False),
        (Allowed(frozenset()), False),
        (Allowed(denied=frozenset({"made_up"})), False),
        (Allowed(frozenset({"made_up"}), frozenset({"made_up"})), False),
    ],
)
def test_the_agents_own_file_has_the_last_word(allowed: Allowed, fits: bool) -> None:
    ran = []
    kind = kind_of(lambda _: ran.append(1) or ())
    (check,), refused = accept(Plan((planned("made_up"),)), Shelf(kind), allowed)
    assert (refused == ()) is fits
    if not fits:
        assert refused[0].code == "check.refused"
        with pytest.raises(CannotMeasure):
            check.kind.measure(Context({}, {}, lambda: 0.0, lambda: 0.0, 1.0))
    assert ran == []


@pytest.mark.parametrize(
    ("kind_name", "catalogue", "code", "reason"),
    [
        ("unheard", Shelf(), "check.not_usable", "there is no check 'unheard'"),
        ("made_up", Shelf(kind_of(returning(), usable=lambda: "no systemd")), "check.not_usable", "no systemd"),
        ("made_up", Shelf(kind_of(returning(), settings=WITH_SETTINGS)), "check.refused", "needs the setting 'path'"),
        ("extra", Explosive(), "check.not_usable", "pip install 'gengfu[snmp]'"),
        ("broken", Explosive(), "check.not_usable", "SyntaxError: broken module"),
        ("usable_crashes", Explosive(), "check.not_usable", "ZeroDivisionError"),
    ],
)
def test_what_cannot_be_done_says_so_in_place_of_its_results(
    kind_name: str, catalogue: Shelf | Explosive, code: str, reason: str
) -> None:
    (check,), (refused,) = accept(Plan((planned(kind_name),)), catalogue, Allowed())
    assert (refused.name, refused.code) == (kind_name, code)
    assert reason in refused.reason
    assert check.kind.name == kind_name
    with pytest.raises(CannotMeasure) as caught:
        check.kind.measure(Context({}, {}, lambda: 0.0, lambda: 0.0, 1.0))
    (finding,) = findings_of_run(check, unknown_of(caught.value), {}, 0.0)
    assert (finding.status, finding.code, finding.facts["reason"]) == (Status.UNKNOWN, code, refused.reason)


def test_the_same_plan_again_gives_equal_checks() -> None:
    shelf = Shelf(kind_of(returning(), settings=WITH_SETTINGS))
    plan = Plan((planned("made_up", path="/x"), planned("nothing")))
    assert accept(plan, shelf, Allowed()) == accept(plan, shelf, Allowed())


def test_runs_name_what_the_check_was_told() -> None:
    kinds = Shelf(kind_of(returning(), settings=WITH_SETTINGS), kind_of(returning(), "other", settings=WITH_SETTINGS))

    def told(check: PlannedCheck) -> bytes:
        (accepted,), _ = accept(Plan((check,)), kinds, Allowed())
        return accepted.settings_id

    one, another = planned("made_up", "x", path="/x"), planned("made_up", "x", path="/y")
    assert told(one) == told(replace(one, every_s=30.0, thresholds=())) != b""
    assert len({told(one), told(another), told(replace(one, kind="other"))}) == 3


def test_a_plan_is_kept_privately_and_found_again(tmp_path: Path) -> None:
    assert load_plan(tmp_path) is None
    save_plan(tmp_path, encode_plan(Plan((planned("cpu"),), 2.5)))
    assert stat.S_IMODE((tmp_path / PLAN_FILE).stat().st_mode) == 0o600
    loaded = load_plan(tmp_path)
    assert loaded is not None
    assert (loaded.checks[0].name, loaded.flush_after_s) == ("cpu", 2.5)


@pytest.mark.parametrize("rubbish", [b"\xff\xff\xff", b"x" * 600_000])
def test_a_damaged_plan_is_named(tmp_path: Path, rubbish: bytes) -> None:
    (tmp_path / PLAN_FILE).write_bytes(rubbish)
    with pytest.raises(PlanUnreadable, match=r"plan\.bin"):
        load_plan(tmp_path)
