"""A standard of the inspection folder: from the file to the ratio on /metrics, with a real collector and agent."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from machinery import Agent, Collector, Site, quiet_profile, until

TODAY = datetime.now(UTC).date()


def standard(folder: Path) -> str:
    return f"""
[standard]
id = "lab"
title = {{ zh = "实验室标准", en = "Laboratory" }}

[[rule]]
id = "banner"
kind = "file_setting"
file = "{folder}/banner.conf"
key = "Banner"
equals = "on"
weight = 3
severity = "critical"
reason = {{ zh = "需要提示", en = "people must be told" }}

[[rule]]
id = "no-toy"
kind = "file_absent"
path = "{folder}/toy"
reason = "toys are for home"

[[rule]]
id = "policy"
kind = "file_setting"
file = "{folder}/banner.conf"
format = "json"
key = "x"
equals = 1
reason = "nobody can see it"

[[rule]]
id = "on-windows"
kind = "service_running"
on = ["windows"]
names = ["x"]
reason = "elsewhere"
"""


def profile() -> str:
    return (
        quiet_profile()
        + """
      [[profile.check]]
      kind = "baseline"
      name = "lab"
      every = "1s"
      timeout = "1s"
      confirm = 1
      recover = 1
      set = { standard = "lab" }
    """
    )


def exception(asset: str, until_day: date) -> str:
    return f"""
[[exception]]
standard = "lab"
rules = "banner"
assets = "{asset}"
owner = "韩梅梅"
until = {until_day.isoformat()}
reason = "moves in spring"
"""


def ratio(collector: Collector) -> list[float]:
    return [float(line.rpartition(" ")[2]) for line in collector.samples("gengfu_baseline_compliance_ratio")]


def rules(collector: Collector, asset: str) -> dict[str, dict[str, Any]]:
    return {row["rule"]: row for row in collector.ask("compliance", asset=asset)["rules"]}


def open_items(collector: Collector) -> list[str]:
    return [row["item"] for row in collector.tickets(state="open")]


def a_measured_machine(site: Site) -> tuple[Collector, Agent, Path]:
    folder = site.folder / "machine"
    folder.mkdir()
    (folder / "banner.conf").write_text("Banner off\n")
    (folder / "toy").touch()
    collector = site.collector(inspection=profile() + standard(folder))
    collector.start()
    agent = site.agent()
    agent.join(collector)
    agent.start()
    until(lambda: ratio(collector) == [0], "no rule is kept")
    return collector, agent, folder


def test_rules_deviations_exceptions_and_totals(site: Site) -> None:
    collector, agent, folder = a_measured_machine(site)
    asset = agent.identity["asset"]
    (ticket,) = until(lambda: collector.tickets(state="open"), "the critical rule opens a ticket, the noted one none")
    assert (ticket["item"], ticket["code"], ticket["severity"]) == ("lab/banner", "baseline.deviation", "critical")

    (folder / "toy").unlink()
    until(lambda: ratio(collector) == [0.25], "one of four weights is kept")
    found = rules(collector, asset)
    assert {rule: row["state"] for rule, row in found.items()} == {
        "banner": "deviating", "policy": "unknown", "no-toy": "compliant",
    }  # fmt: skip
    assert found["policy"]["why_unknown"]["code"] == "check.not_usable"
    assert (
        f"{folder}/banner.conf cannot be read as json" in collector.command_line("compliance", "--asset", asset).stdout
    )
    assert (found["banner"]["expected"], found["banner"]["found"], found["banner"]["severity"]) == (
        "on",
        "off",
        "critical",
    )

    whole = collector.json("compliance")
    assert collector.json("compliance", "--asset", asset)["rules"] == list(found.values())
    (total,) = [row for row in whole["standards"] if row["standard"] == "lab"]
    assert (total["machines"], total["compliance_ratio"], total["fully_compliant"]) == (1, 0.25, 0)
    assert [(row["rule"], row["deviating"]) for row in total["worst_rules"]] == [("banner", 1)]
    said = collector.command_line("compliance", "--standard", "lab").stdout
    assert "25.0%" in said
    assert "people must be told" in said

    text = profile() + standard(folder)
    collector.inspect(text + exception(asset, TODAY + timedelta(days=2)))
    assert collector.ask("reload")["plans_sent"] == 1
    until(lambda: ratio(collector) == [1], "what is excepted counts as kept")
    until(lambda: collector.tickets(state="resolved"), "the ticket ends")
    excepted = rules(collector, asset)["banner"]
    assert (excepted["state"], excepted["owner"]) == ("excepted", "韩梅梅")

    collector.inspect(text + exception(asset, TODAY - timedelta(days=2)))
    assert collector.ask("reload")["plans_sent"] == 1
    until(lambda: ratio(collector) == [0.25], "after its end it counts again")
    said = collector.command_line("reload").stdout
    assert "this exception ended" in said
    assert "no asset in service" not in said

    collector.inspect(text + exception("desk-9*", TODAY + timedelta(days=2)))
    for command in (("reload",), ("config", "check", "--inspection", str(collector.inspection))):
        assert "no asset in service is called desk-9*" in collector.command_line(*command).stdout

    collector.inspect(text.replace('"banner"', '"notice"'))
    assert collector.ask("reload")["plans_sent"] == 1
    until(lambda: open_items(collector) == ["lab/notice"], "a rule that is gone has no ticket")
    agent.kill()
    collector.kill()
    collector.start()
    kept = rules(collector, asset)
    assert {rule: row["state"] for rule, row in kept.items()} == {
        "notice": "deviating", "policy": "unknown", "no-toy": "compliant",
    }  # fmt: skip
    assert "once the agent has reported" in collector.command_line("compliance", "--asset", asset).stdout
