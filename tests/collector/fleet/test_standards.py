"""Standards and exceptions in the inspection folder: what is refused where, and what reaches which machine's plan."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from gengfu_checks import registry
from gengfu_checks.settings import resolve_settings
from gengfu_checks.standards.rules import standard_of_texts, waivers_of_texts
from gengfu_collector.errors import ConfigurationError
from gengfu_collector.fleet.inspection import Inspection, load_inspection
from gengfu_collector.fleet.review import check_folder, diff
from gengfu_proto.convert.plan import PlannedCheck, decode_plan

SHANGHAI = ZoneInfo("Asia/Shanghai")
STANDARD = """\
[standard]
id = "call-centre"
title = { zh = "呼叫中心", en = "Call centre" }
version = "2026.1"

[[rule]]
id = "no-toolbar"
kind = "software_forbidden"
names = ["*Toolbar*"]
reason = "slows the browser down"

[[rule]]
id = "headset"
kind = "software_minimum"
on = ["windows"]
names = ["Jabra Direct*"]
version = "6.10"
weight = 2
severity = "warning"
reason = { zh = "旧版本断音", en = "older ones lose sound" }
"""
PROFILE = """\
[[profile]]
name = "call-centre"
match = { class = "terminal", site = "cc" }

[[profile.check]]
kind = "baseline"
set = { standard = "call-centre" }
"""
EXCEPTION = """\
[[exception]]
standard = "call-centre"
rules = ["headset"]
assets = ["pc-1", "lab-*"]
owner = "Li Lei"
until = 2027-03-31
reason = "the new ones come in March"
"""


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.toml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def load(folder: Path, **files: str) -> Inspection:
    return load_inspection(write(folder, **files), SHANGHAI)


def baseline(inspection: Inspection, name: str = "", asset_class: str = "terminal", **labels: str) -> PlannedCheck:
    plan = decode_plan(inspection.for_asset(asset_class, labels, name).wire)
    return next(check for check in plan.checks if check.name == "baseline")


def test_terminals_and_servers_have_a_standard_from_the_start_and_no_ticket_comes_of_it() -> None:
    inspection = load_inspection(None)
    for asset_class, name in (("terminal", "office-terminal"), ("server", "server")):
        settings = baseline(inspection, asset_class=asset_class).settings
        assert settings["standard"] == name
        assert settings["severity"] == "info"
        standard = standard_of_texts(settings["rules"])  # type: ignore[arg-type]
        assert standard.id == name
        assert {rule.severity for rule in standard.rules} == {None}
        assert resolve_settings(registry.load("baseline"), settings)["rules"] == settings["rules"]


def test_a_standard_of_the_folder_reaches_the_machines_whose_profile_names_it(tmp_path: Path) -> None:
    inspection = load(tmp_path, standards__cc=STANDARD, own=PROFILE)
    found = standard_of_texts(baseline(inspection, site="cc").settings["rules"])  # type: ignore[arg-type]
    assert [rule.id for rule in found.rules] == ["no-toolbar", "headset"]
    assert (found.title.zh, found.rules[1].reason.en) == ("呼叫中心", "older ones lose sound")
    assert baseline(inspection, site="hq").settings["standard"] == "office-terminal"


def test_two_standards_can_be_asked_of_one_machine(tmp_path: Path) -> None:
    more = PROFILE.replace('kind = "baseline"', 'kind = "baseline"\nname = "baseline-cc"')
    plan = load(tmp_path, cc=STANDARD, own=more).for_asset("terminal", {"site": "cc"}).plan
    named = {check.name: check.settings["standard"] for check in plan.checks if check.kind == "baseline"}
    assert named == {"baseline": "office-terminal", "baseline-cc": "call-centre"}


def test_an_exception_reaches_the_machines_that_it_names_and_no_others(tmp_path: Path) -> None:
    inspection = load(tmp_path, cc=STANDARD + EXCEPTION, own=PROFILE)
    for name in ("pc-1", "lab-9"):
        (waiver,) = waivers_of_texts(baseline(inspection, name, site="cc").settings["exceptions"])  # type: ignore[arg-type]
        assert (waiver.owner, waiver.until, waiver.rules) == ("Li Lei", "2027-03-31", ("headset",))
        assert waiver.ends_at_s == datetime(2027, 4, 1, tzinfo=SHANGHAI).timestamp()
    for name in ("pc-2", "", "xlab-9"):
        assert baseline(inspection, name, site="cc").settings["exceptions"] == ()
    assert baseline(inspection, "pc-1", site="hq").settings["exceptions"] == ()
    one, other = (inspection.for_asset("terminal", {"site": "cc"}, name) for name in ("pc-1", "pc-2"))
    assert one.plan.version != other.plan.version
    assert inspection.for_asset("terminal", {"site": "cc"}, "pc-1") is one
    assert (one.rules, one.absence) == (other.rules, other.absence)


def test_an_exception_by_labels(tmp_path: Path) -> None:
    by_labels = EXCEPTION.replace('assets = ["pc-1", "lab-*"]', 'match = { role = "agent" }')
    inspection = load(tmp_path, cc=STANDARD + by_labels, own=PROFILE)
    named, unnamed = baseline(inspection, "x", site="cc", role="agent"), baseline(inspection, "x", site="cc")
    assert [len(found.settings["exceptions"]) for found in (named, unnamed)] == [1, 0]  # type: ignore[arg-type]


RULE = STANDARD.index("[[rule]]")
REFUSED = {
    "rule without standard": ("\n\n" + STANDARD[RULE:], 3, ["belongs to a standard"]),
    "no rules": (STANDARD[:RULE], 1, ["1 to 300 rules"]),
    "unknown head key": (STANDARD.replace("version", "versoin", 1), 4, ["'versoin'", 'did you mean "version"']),
    "no title": (STANDARD.replace("title", "# title"), 1, ["title is missing"]),
    "bad id": (STANDARD.replace('"call-centre"', '"Call Centre"'), 2, ["is not an id"]),
    "id of a built-in one": (STANDARD.replace('"call-centre"', '"server"'), 2, ["built-in", "an id of its own"]),
    "unknown kind": (STANDARD.replace("software_forbidden", "software_forbiden"), 8, ['mean "software_forbidden"']),
    "unknown rule key": (STANDARD.replace("names =", "name =", 1), 9, ["unknown key 'name'", 'mean "names"']),
    "two rules of one id": (STANDARD.replace('"headset"', '"no-toolbar"'), 13, ["line 6 already"]),
    "weight": (STANDARD.replace("weight = 2", "weight = -2"), 18, ["more than 0"]),
    "date as a value": (STANDARD.replace('version = "6.10"', "version = 2026-01-01"), 17, ["version", "text"]),
    "no end": (STANDARD + EXCEPTION.replace("until", "# until"), 21, ["needs until"]),
    "no owner": (STANDARD + EXCEPTION.replace("owner", "# owner"), 21, ["needs owner"]),
    "no reason": (STANDARD + EXCEPTION.replace("reason", "# reason"), 21, ["needs reason"]),
    "empty owner": (STANDARD + EXCEPTION.replace("Li Lei", ""), 25, ["owner", "not empty"]),
    "for nobody": (STANDARD + EXCEPTION.replace("assets", "# assets"), 21, ["assets or match"]),
    "unknown standard": (STANDARD + EXCEPTION.replace("call-centre", "cal-centre"), 22, ['did you mean "call-centre"']),
    "unknown rule": (STANDARD + EXCEPTION.replace("headset", "hedset"), 23, ['did you mean "headset"', "call-centre"]),
    "until a time": (STANDARD + EXCEPTION.replace("2027-03-31", "2027-03-31T12:00:00Z"), 26, ["last day"]),
    "until no date": (STANDARD + EXCEPTION.replace("2027-03-31", '"soon"'), 26, ["last day", "soon"]),
    "until for ever": (STANDARD + EXCEPTION.replace("2027-03-31", "9999-12-31"), 26, ["last day"]),
    "unknown exception key": (STANDARD + EXCEPTION.replace("owner", "ownr"), 25, ['did you mean "owner"']),
    "long owner": (STANDARD + EXCEPTION.replace("Li Lei", "x" * 201), 25, ["owner", "200 characters"]),
    "unknown class": (STANDARD + EXCEPTION.replace('assets = ["pc-1", "lab-*"]', 'match.class = "pc"'), 24, ["class"]),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_used_is_refused_with_file_and_line(case: str, tmp_path: Path) -> None:
    text, line, words = REFUSED[case]
    with pytest.raises(ConfigurationError) as refused:
        load(tmp_path, cc=text)
    assert (refused.value.file, refused.value.line) == (str(tmp_path / "cc.toml"), line), refused.value
    assert all(word in str(refused.value) for word in words), refused.value


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ('{ standard = "cal-centre" }', 'unknown standard "cal-centre" .did you mean "call-centre"'),
        ('{ standard = "/etc/shadow.toml" }', 'unknown standard "/etc/shadow.toml"'),
        ("{ standard = 7 }", "setting standard is a text"),
        ('{ rules = ["{}"] }', "setting rules"),
        ("{ exceptions = [] }", "setting exceptions is filled in"),
        ('{ severity = "low" }', "is not one of info, warning, critical"),
    ],
)
def test_a_profile_that_asks_for_what_is_not_there_is_refused(settings: str, message: str, tmp_path: Path) -> None:
    profile = PROFILE.replace('{ standard = "call-centre" }', settings)
    with pytest.raises(ConfigurationError, match=rf"own.toml:7: .*{message}"):
        load(tmp_path, cc=STANDARD, own=profile)


def test_ids_of_standards_are_unique_over_all_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r'b.toml:2: there is a standard "call-centre" already \(.*a.toml:1\)'):
        load(tmp_path, a=STANDARD, b=STANDARD)


def test_more_exceptions_than_a_plan_can_hold_are_refused(tmp_path: Path) -> None:
    many = "".join(EXCEPTION.replace('["pc-1", "lab-*"]', f'["pc-{i}"]') for i in range(1_000))
    assert len(load(tmp_path, cc=STANDARD, many=many).exceptions) == 1_000
    with pytest.raises(ConfigurationError, match="a machine could get 301 exceptions"):
        load(tmp_path, many=EXCEPTION * 301)


def test_check_tells_standards_exceptions_and_those_that_have_ended(tmp_path: Path) -> None:
    write(tmp_path, cc=STANDARD + EXCEPTION, own=PROFILE)
    lines = check_folder(tmp_path, SHANGHAI, datetime(2027, 3, 31, 23, 59, tzinfo=SHANGHAI)).lines()
    assert lines[0] == "3 profiles, 0 warnings"
    assert lines[1] == f"standard call-centre ({tmp_path / 'cc.toml'}:1): 2 rules"
    assert lines[2] == (
        f"exception ({tmp_path / 'cc.toml'}:21): headset of call-centre for pc-1, lab-* until 2027-03-31, "
        "Li Lei: the new ones come in March"
    )
    review = check_folder(tmp_path, SHANGHAI, datetime(2027, 4, 1, tzinfo=SHANGHAI))
    assert review.lines()[1].startswith(f"warning: {tmp_path / 'cc.toml'}:21: this exception ended on 2027-03-31")
    document = json.loads(json.dumps(review.as_json()))
    known = replace(review, today=date(2027, 3, 31), assets=frozenset(("pc-2", "lab-7")))
    assert known.warnings() == [f"{tmp_path / 'cc.toml'}:21: no asset in service is called pc-1"]
    assert "没有名为 pc-1, lab-* 的在用资产" in replace(known, assets=frozenset()).warnings("zh")[0]
    assert replace(known, assets=None).warnings() == []
    assert [(one["owner"], one["ended"]) for one in document["exceptions"]] == [("Li Lei", True)]
    assert {one["standard"] for one in document["standards"]} == {"office-terminal", "server", "call-centre"}


def test_diff_tells_which_machines_a_rule_or_an_exception_changes(tmp_path: Path) -> None:
    for name in ("old", "rule", "excepted"):
        (tmp_path / name).mkdir()
    old = load(tmp_path / "old", cc=STANDARD, own=PROFILE)
    stricter = load(tmp_path / "rule", cc=STANDARD.replace('"6.10"', '"6.12"'), own=PROFILE)
    excepted = load(tmp_path / "excepted", cc=STANDARD + EXCEPTION, own=PROFILE)
    machines = [(f"pc-{i}", "terminal", {"site": "cc"}) for i in range(3)]
    lines = diff(old, stricter, machines).lines()
    assert lines[:3] == ["3 of 3 assets would change", "", "pc-0, pc-1, pc-2"]
    assert lines[3].startswith("  ~ baseline: set.rules -")
    assert lines[3].count('"id":"headset"') == 2
    assert "no-toolbar" not in lines[3]
    lines = diff(old, excepted, machines).lines()
    assert lines[:3] == ["1 of 3 assets would change", "", "pc-1"]
    assert "set.exceptions +" in lines[3]
    assert diff(excepted, excepted, machines).changes == ()
