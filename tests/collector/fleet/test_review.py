"""What `config check` and `config diff` say."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import permutations, product
from pathlib import Path

from gengfu_collector.fleet.inspection import load_inspection
from gengfu_collector.fleet.matching import fits
from gengfu_collector.fleet.plan_view import change, orders_lines
from gengfu_collector.fleet.review import NamedAsset, check_folder, diff, example

DESK = """\
[[profile]]
name = "desk"
match = { class = "terminal", site = ["hq", "b7"] }
absence.expected = "mon-fri 08:00-18:00"
[[profile.check]]
kind = "disk"
every = "90s"
thresholds.used_ratio = { warning = 0.8, items = { "/home" = { critical = 0.9 } } }
[[profile.check]]
kind = "cpu"
enabled = false
"""
ASSETS: list[NamedAsset] = [(f"pc-{i:03}", "terminal", {"site": "hq" if i % 2 else "b9"}) for i in range(20)]


def folder(parent: Path, name: str, text: str) -> Path:
    (parent / name).mkdir()
    (parent / name / "own.toml").write_text(text, encoding="utf-8")
    return parent / name


def test_check_tells_profiles_what_results_and_who_set_it(tmp_path: Path) -> None:
    inspection = folder(tmp_path, "i", DESK)
    lines = check_folder(inspection).lines()
    assert lines[0] == "3 profiles, 0 warnings"
    by_desk = "; desk set every, thresholds.used_ratio.items./home, thresholds.used_ratio.warning"
    by_terminal = "; terminal set confirm, recover, set.network"
    start = next(i for i, line in enumerate(lines) if line.startswith("desk "))
    others = len(load_inspection(None).for_asset("terminal", {}).plan.checks) - 2
    assert lines[start : start + 5] == [
        f"desk ({inspection / 'own.toml'}:1): 2 checks for class terminal, site b7 or hq",
        f"  disk: every 90s, timeout 10s, confirm 5, recover 2, at most critical{by_desk}{by_terminal}",
        "  cpu: taken out",
        "  absence: after 3m, expected mon-fri 08:00-18:00; desk set expected; terminal set after",
        f"  for class=terminal site=b7, with {others} checks of other profiles",
    ]


def test_check_and_diff_in_chinese(tmp_path: Path) -> None:
    inspection = folder(tmp_path, "i", DESK)
    lines = check_folder(inspection).lines("zh")
    start = next(i for i, line in enumerate(lines) if line.startswith("desk"))
    assert lines[0] == "3 个方案，0 条警告"
    assert lines[start] == f"desk（{inspection / 'own.toml'}:1）：2 项检查，适用于 class terminal, site b7 或 hq"
    assert lines[start + 1].startswith(
        "  disk：每 90s 一次，超时 10s，异常 5 次告警，正常 2 次恢复，最高级别严重；由 desk 设置：every, thresholds."
    )
    told = diff(load_inspection(None), load_inspection(inspection), ASSETS).lines("zh")
    assert told[0] == "20 个资产中有 10 个会改变"
    assert told[2] == "pc-001, pc-003, pc-005, pc-007, pc-009 等，另有 5 项"


def test_check_as_json(tmp_path: Path) -> None:
    found = json.loads(json.dumps(check_folder(folder(tmp_path, "i", DESK)).as_json()))
    desk = found["profiles"][-1]
    assert (desk["name"], desk["line"], desk["checks"]) == ("desk", 1, ["disk", "cpu"])
    assert desk["match"] == {"class": ["terminal"], "site": ["b7", "hq"]}
    disk = next(check for check in desk["example"]["checks"] if check["name"] == "disk")
    assert (disk["every_s"], disk["confirm"], disk["thresholds.used_ratio.warning"]) == (90, 5, 0.8)
    assert disk["thresholds.used_ratio.items"] == [["/home", None, 0.9]]
    assert disk["set_by"]["every"] == "desk"
    assert "thresholds.used_ratio.critical" not in disk["set_by"]
    assert desk["example"]["absence"] == {
        "after_s": 180,
        "expected": "mon-fri 08:00-18:00",
        "set_by": {"after": "terminal", "expected": "desk"},
    }


def test_warnings_are_told(tmp_path: Path) -> None:
    review = check_folder(folder(tmp_path, "i", '[[profile]]\nname = "x"\nmatch.clas = "server"\n'))
    (warning,) = review.warnings()
    assert warning.endswith("/own.toml:3: clas is taken as a label; class was not meant?")
    assert "clas 被当作标签" in review.lines("zh")[1]
    assert review.lines()[:2] == ["3 profiles, 1 warning", f"warning: {warning}"]
    assert review.as_json()["warnings"] == [warning]


def test_diff_tells_which_assets_change_and_how(tmp_path: Path) -> None:
    old = load_inspection(folder(tmp_path, "old", DESK))
    process = '[[profile.check]]\nkind = "process"\nset.pattern = "erp"\n'
    new = load_inspection(folder(tmp_path, "new", DESK.replace("90s", "2m").replace("enabled = false", "") + process))
    found = diff(old, new, ASSETS)
    assert found.lines() == [
        "10 of 20 assets would change",
        "",
        "pc-001, pc-003, pc-005, pc-007, pc-009 and 5 more",
        "  + cpu",
        "  + process",
        "  ~ disk: every 90s -> 2m",
    ]
    (change_found,) = json.loads(json.dumps(found.as_json()))["changes"]
    assert len(change_found.pop("assets")) == 10
    assert change_found == {
        "added": ["cpu", "process"],
        "removed": [],
        "changed": {"disk": {"every_s": {"old": 90, "new": 120}}},
        "absence": {},
        "inventory": {},
    }
    back = diff(new, old, ASSETS[:2])
    assert back.lines()[2:] == ["pc-001", "  - cpu", "  - process", "  ~ disk: every 2m -> 90s"]


def test_diff_of_rules_thresholds_and_absence(tmp_path: Path) -> None:
    old = load_inspection(None)
    new = load_inspection(
        folder(tmp_path, "new", DESK.replace("enabled = false", 'severity = "critical"\nconfirm = 2'))
    )
    (line,) = [line for line in diff(old, new, ASSETS).lines() if "cpu" in line]
    assert line == "  ~ cpu: confirm 15 -> 2; severity warning -> critical"
    assert "  ~ absence: expected never -> mon-fri 08:00-18:00" in diff(old, new, ASSETS).lines()
    (disk,) = [line for line in diff(old, new, ASSETS).lines() if "disk" in line]
    assert "thresholds.used_ratio.warning 0.9 -> 0.8" in disk
    assert "thresholds.used_ratio.items none -> [['/home', None, 0.9]]" in disk


def test_nothing_changes_with_another_name_or_order(tmp_path: Path) -> None:
    first, rest = DESK.split("[[profile.check]]\n", 1)
    disk, cpu = rest.split("[[profile.check]]\n")
    turned = first.replace('"desk"', '"other"') + "[[profile.check]]\n" + cpu + "[[profile.check]]\n" + disk
    old, new = load_inspection(folder(tmp_path, "old", DESK)), load_inspection(folder(tmp_path, "new", turned))
    found = diff(old, new, ASSETS)
    assert found.lines() == ["0 of 20 assets would change"]
    assert found.as_json() == {"assets": 20, "changes": []}


ITEMS = ('"/a*" = { warning = 0.5 }', '"/ab" = { warning = 0.6 }', '"*" = { critical = 0.7 }')


def text_of(
    after: str = "1m", every: str = "60s", confirm: int = 1, below: int = 1, items: Sequence[str] = ITEMS
) -> str:
    return (
        f'[[profile]]\nname = "x"\nabsence.after = "{after}"\n[[profile.check]]\n'
        f'kind = "disk"\nevery = "{every}"\nconfirm = {confirm}\n'
        f"thresholds.used_ratio.items = {{ {', '.join(items)} }}\n"
        f"thresholds.free_bytes = {{ direction = 'below', warning = {below} }}\n"
    )


def test_a_change_is_empty_exactly_when_nothing_differs(tmp_path: Path) -> None:
    """Every pair of folders that differ in one thing or two, in how it is written or in the order of patterns alone."""
    texts = [
        *(text_of(after=after, every=every) for after in ("1m", "60s", "2m") for every in ("60s", "90s", "1m")),
        *(text_of(items=items) for count in (1, 2, 3) for items in permutations(ITEMS, count)),
        *(text_of(confirm=confirm, below=below) for confirm, below in ((2, 1), (1, 2), (2, 2))),
    ]
    orders = [
        load_inspection(folder(tmp_path, str(number), text)).for_asset("server", {})
        for number, text in enumerate(texts)
    ]
    seen = set()
    for before, after in product(orders, repeat=2):
        same = [(one.wire, one.rules, one.absence.after_s, one.absence.expected) for one in (before, after)]
        assert bool(change(before, after)) is (same[0] != same[1])
        seen.add(same[0] == same[1])
    assert seen == {True, False}


def test_the_example_of_a_profile_fits_it(checkout: Path) -> None:
    inspection = load_inspection(checkout / "collector/examples/inspection")
    for profile in inspection.profiles:
        assert fits(profile.match, *example(profile.match))
    assert example({}) == ("terminal", {})


def test_orders_of_one_asset_as_lines() -> None:
    lines = orders_lines(load_inspection(None).for_asset("ups", {}))
    assert lines == ["absence: after 2m, expected always"]
