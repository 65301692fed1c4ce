"""Memory errors: folders built after "Error Detection And Correction (EDAC) Devices" of the kernel's RAS guide."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from gengfu_checks.local.memory_errors import CHECK, measure_controllers
from gengfu_checks.model import Measurement, Status
from gengfu_checks.threshold import judge

Tree = Callable[[dict[str, object]], Path]


def controller(ce: object, ue: object, number: int = 0, **modules: tuple[int, int]) -> dict[str, object]:
    found: dict[str, object] = {"ce_count": ce, "ue_count": ue, "mc_name": "Skylake Socket#0 IMC#0"}
    for name, (module_ce, module_ue) in modules.items():
        found |= {f"{name}/dimm_ce_count": module_ce, f"{name}/dimm_ue_count": module_ue}
        found[f"{name}/dimm_label"] = f"CPU_SrcID#0_MC#0_Chan#0_{name.upper()}"
    return {f"mc/mc{number}/{key}": value for key, value in found.items()}


def watched(bench: Any, folder: Path) -> Any:
    return bench(replace(CHECK, measure=lambda context: measure_controllers(context, folder)))


def verdict(measurement: Measurement) -> tuple[Status, str]:
    finding = judge("memory_errors", measurement, CHECK.thresholds, None, 0.0)
    return finding.status, finding.code


def test_old_corrected_errors_are_no_news_and_new_ones_are(bench: Any, sys_tree: Tree) -> None:
    instance = watched(bench, sys_tree(controller(500, 0, dimm0=(500, 0), dimm1=(0, 0))))
    first = instance.run()["mc0"]
    assert first.metrics == {"corrected_errors_total": 500, "uncorrected_errors_total": 0}
    assert first.facts == {"controller": "Skylake Socket#0 IMC#0", "modules": "CPU_SrcID#0_MC#0_Chan#0_DIMM0"}
    assert verdict(first) == (Status.OK, "ok")
    instance.later(3600)
    sys_tree(controller(523, 0))
    assert verdict(instance.run()["mc0"]) == (Status.OK, "ok")
    sys_tree(controller(524, 0))
    assert verdict(instance.run()["mc0"]) == (Status.WARNING, "memory_errors.corrected")
    instance.later(25 * 3600)
    assert verdict(instance.run()["mc0"]) == (Status.OK, "ok")


def test_a_restart_of_the_machine_begins_at_zero(bench: Any, sys_tree: Tree) -> None:
    instance = watched(bench, sys_tree(controller(500, 0)))
    instance.run()
    instance.restart()
    sys_tree(controller(3, 0))
    assert instance.run()["mc0"].metrics["new_corrected_errors"] == 3


def test_one_error_that_could_not_be_corrected_is_enough(bench: Any, sys_tree: Tree) -> None:
    folder = sys_tree({**controller(0, 1, dimm1=(0, 1)), **controller(0, 0, 1)})
    found = watched(bench, folder).run()
    assert {item: verdict(m) for item, m in found.items()} == {
        "mc0": (Status.CRITICAL, "memory_errors.uncorrected"),
        "mc1": (Status.OK, "ok"),
    }


def test_what_does_not_count_is_silent(bench: Any, sys_tree: Tree) -> None:
    folder = sys_tree({**controller("", 0), "mc/power/control": "auto", "mc/uevent": ""})
    instance = watched(bench, folder)
    assert instance.run() == {}
    assert watched(bench, folder / "nowhere").run() == {}
