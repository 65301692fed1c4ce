"""Fans: a standstill that matters and one that does not.

The fans of applesmc and nct6779 are recorded in the fixtures of prometheus/node_exporter (Apache-2.0),
collector/fixtures/sys.ttar; what follows in time is made here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from gengfu_checks.local.fans import CHECK, measure_fans

Tree = Callable[[dict[str, object]], Path]

HOUR_S = 3600.0


def watched(bench: Any, sys: Path, **settings: object) -> Any:
    kind = replace(CHECK, measure=lambda context: measure_fans(context, sys / "class/hwmon"))
    return bench(kind, **settings)


def fan(rpm: int, **more: object) -> dict[str, object]:
    attributes: dict[str, object] = {"name": "nct6779", "fan2_input": rpm, "fan2_alarm": 0, "fan2_min": 0, **more}
    return {f"class/hwmon/hwmon0/{key}": value for key, value in attributes.items()}


def codes(instance: Any) -> dict[str, str | None]:
    return {item: m.problem and m.problem.code for item, m in instance.run().items()}


def test_a_fan_that_always_turned_and_stops(bench: Any, sys_tree: Tree) -> None:
    instance = watched(bench, sys_tree(fan(1098)))
    for _ in range(25):
        assert codes(instance) == {"nct6779 fan2": None}
        instance.later(HOUR_S)
    sys_tree(fan(0))
    assert codes(instance) == {"nct6779 fan2": "fans.stopped"}
    instance.restart()
    instance.later(HOUR_S)
    assert codes(instance) == {"nct6779 fan2": "fans.stopped"}
    sys_tree(fan(900))
    assert codes(instance) == {"nct6779 fan2": None}


def test_a_fan_that_rests_now_and_then(bench: Any, sys_tree: Tree) -> None:
    instance = watched(bench, sys_tree(fan(1098)))
    for hour in range(100):
        sys_tree(fan(0 if hour % 20 == 19 else 1098))
        assert codes(instance) == {"nct6779 fan2": None}
        instance.later(HOUR_S)


def test_a_fan_that_is_told_to_stand(bench: Any, sys_tree: Tree) -> None:
    instance = watched(bench, sys_tree(fan(1098, pwm2=255)))
    codes(instance)
    instance.later(30 * HOUR_S)
    sys_tree(fan(0, pwm2=0))
    assert codes(instance) == {"nct6779 fan2": None}


def test_an_empty_plug_and_files_that_lie_with_the_device(bench: Any, sys_tree: Tree) -> None:
    recorded = {
        "name": "applesmc", "fan1_input": 0, "fan1_label": "Left side", "fan1_min": 2160,
        "fan2_input": 1998, "fan2_label": "Right side", "fan2_min": 2000,
    }  # fmt: skip
    sys = sys_tree(
        {f"applesmc.768/{key}": value for key, value in recorded.items()} | {"class/hwmon/hwmon2/uevent": ""}
    )
    (sys / "class/hwmon/hwmon2/device").symlink_to(sys / "applesmc.768")
    found = watched(bench, sys).run()
    assert {item: dict(m.metrics) for item, m in found.items()} == {
        "applesmc Right side": {"rotations_per_minute": 1998}
    }


def test_an_alarm_counts_while_the_fan_turns(bench: Any, sys_tree: Tree) -> None:
    assert codes(watched(bench, sys_tree(fan(300, fan2_alarm=1)))) == {"nct6779 fan2": "fans.alarm"}
    assert codes(watched(bench, sys_tree(fan(300, fan2_alarm=0, fan2_fault=1)))) == {"nct6779 fan2": "fans.alarm"}
    assert codes(watched(bench, sys_tree(fan(0, fan2_alarm=1)))) == {}


def test_absurd_speeds_and_removed_fans_are_forgotten(bench: Any, sys_tree: Tree) -> None:
    instance = watched(bench, sys_tree(fan(1350000)))
    assert codes(instance) == {}
    sys = sys_tree(fan(1000))
    codes(instance)
    (sys / "class/hwmon/hwmon0/fan2_input").unlink()
    assert codes(instance) == {}
    assert instance.keep == {"turning_since": {}}


def test_fans_that_do_not_matter(bench: Any, sys_tree: Tree) -> None:
    assert codes(watched(bench, sys_tree(fan(300, fan2_alarm=1)), ignore=["nct6779 *"])) == {}
