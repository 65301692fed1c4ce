"""Inventories from a real dpkg to the command line of the collector, with both sides killed in between."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from machinery import Agent, Collector, Site, constants, quick_agent, quiet_profile, until

EVERY_SECOND = "gengfu_proto.convert.plan:MIN_INVENTORY_EVERY_S=1"
PROFILE = (
    quiet_profile()
    + """
    [[profile]]
    name = "counted"
    inventory = { every = "1s", enabled = true }

      [[profile.inventory_rule]]
      category = "software"
      change = "added"
      severity = "warning"
    """
)


class Dpkg:
    """dpkg with a database of its own, which the agent sees in the place of the machine's."""

    def __init__(self, folder: Path, unshare: str) -> None:
        self.folder = folder
        self.unshare = unshare
        self.database = folder / "database"
        for name in ("info", "updates", "triggers"):
            (self.database / name).mkdir(parents=True)
        (self.database / "status").touch()
        (folder / "root").mkdir()

    def install(self, name: str, version: str) -> None:
        """Build a package and install it."""
        tree = self.folder / f"{name}-{version}"
        (tree / "DEBIAN").mkdir(parents=True)
        fields = {"Package": name, "Version": version, "Architecture": "all", "Maintainer": "test <t@example.org>"}
        text = "".join(f"{key}: {value}\n" for key, value in (fields | {"Description": "made by a test"}).items())
        (tree / "DEBIAN/control").write_text(text)
        self._run("dpkg-deb", "--build", str(tree), str(tree.with_suffix(".deb")))
        self._dpkg("--install", str(tree.with_suffix(".deb")))

    def remove(self, name: str) -> None:
        """Remove a package."""
        self._dpkg("--purge", name)

    def _dpkg(self, *words: str) -> None:
        self._run("dpkg", f"--admindir={self.database}", f"--instdir={self.folder / 'root'}", "--force-all", *words)

    def _run(self, *words: str) -> None:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.fixture
def dpkg(tmp_path: Path, requires_program: Callable[[str, str], str]) -> Dpkg:
    requires_program("dpkg-deb", "apt-get install dpkg")
    unshare = requires_program("unshare", "apt-get install util-linux")
    tried = subprocess.run([unshare, "--mount", "true"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        reason = f"no dpkg database in the place of the machine's: {tried.stderr.strip()}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return Dpkg(tmp_path / "dpkg", unshare)


def counted(site: Site, dpkg: Dpkg) -> tuple[Collector, Agent]:
    """A collector and an agent that counts every second; the agent sees the test's dpkg."""
    collector = site.collector(inspection=PROFILE, launcher=constants("gengfu_collector.cli:main", EVERY_SECOND))
    collector.start()
    mounted = 'mount --bind "$0" /var/lib/dpkg && exec "$@"'
    launcher = quick_agent(
        EVERY_SECOND,
        "gengfu_agent.inventory.rounds:FIRST_AFTER_S=0",
        "gengfu_agent.inventory.rounds:ASKED_AT_MOST_EVERY_S=1",
    )
    agent = site.agent(launcher=[dpkg.unshare, "--mount", "sh", "-c", mounted, str(dpkg.database), *launcher])
    agent.join(collector)
    return collector, agent


def software(collector: Collector, agent: Agent) -> dict[str, str]:
    shown = collector.json_whatever("inventory", "show", agent.identity["asset"], "--category", "software")
    return {entry["name"]: entry["facts"]["version"] for entry in shown["entries"]}


def changes(collector: Collector) -> list[tuple[str, str, str]]:
    """What changed, oldest first: change, name, version before and after."""
    found: list[dict[str, Any]] = collector.json("inventory", "changes")
    return [
        (
            row["change"],
            row["name"],
            "→".join((facts or {}).get("version", "") for facts in (row["before"], row["after"])),
        )
        for row in reversed(found)
    ]


@pytest.mark.timeout(240)
def test_packages_come_and_go_through_kills_of_both_sides(site: Site, dpkg: Dpkg) -> None:
    dpkg.install("gengfu-one", "1.0")
    dpkg.install("gengfu-two", "1.0")
    collector, agent = counted(site, dpkg)
    asset = agent.identity["asset"]
    shown = collector.command_line("inventory", "show", asset)
    assert shown.returncode == 1, "nothing is known yet"
    agent.start()
    until(
        lambda: software(collector, agent) == {"gengfu-one": "1.0", "gengfu-two": "1.0"}, "the first snapshot is there"
    )
    whole = collector.json("inventory", "show", asset)
    assert whole["known"]
    assert {"os", "cpu", "memory"} <= {entry["category"] for entry in whole["entries"]}
    assert 0 < whole["cpu_seconds"] < 2
    assert changes(collector) == [], "a first snapshot is no change"

    dpkg.install("gengfu-three", "2.1")
    until(lambda: changes(collector) == [("added", "gengfu-three", "→2.1")], "what was installed is a change")
    until(lambda: collector.tickets(state="open"), "the rule makes a ticket of it")
    ticket = collector.json("ticket", "list")[0]
    assert (ticket["check"], ticket["item"], ticket["code"]) == ("inventory", "software", "inventory.software_added")
    assert collector.samples("gengfu_inventory_changes_total")[0].endswith(" 1")

    agent.kill()
    dpkg.remove("gengfu-two")
    collector.kill()
    agent.start()
    collector.start()
    until(lambda: "gengfu-two" not in software(collector, agent), "what was removed meanwhile is gone")
    agent.kill()
    collector.kill()
    dpkg.install("gengfu-one", "1.1")
    collector.start()
    agent.start()
    until(lambda: software(collector, agent) == {"gengfu-one": "1.1", "gengfu-three": "2.1"}, "the upgrade is seen")
    assert changes(collector) == [
        ("added", "gengfu-three", "→2.1"),
        ("removed", "gengfu-two", "1.0→"),
        ("changed", "gengfu-one", "1.0→1.1"),
    ]

    assert collector.json("inventory", "software", "--name", "GENGFU-*") == [
        {"name": "gengfu-one", "version": "1.1", "assets": 1},
        {"name": "gengfu-three", "version": "2.1", "assets": 1},
    ]
    assert collector.json("inventory", "changes", "--open")[0]["name"] == "gengfu-three"
    assert collector.json("inventory", "accept", asset)["changes_accepted"] == 1
    resolved = collector.json("ticket", "show", ticket["number"])
    assert resolved["state"] == "resolved"
    assert "changes accepted by" in resolved["events"][-1]["data"]["reason"]
    assert collector.json("ledger", "verify")["unexplained"] == 0
    assert collector.json("inventory", "refresh", asset)["asked"]
    until(lambda: '"full": true' in agent.told(), "it is counted anew")
    agent.kill()
    until(lambda: not agent_is_connected(collector), "the collector notices")
    assert "not connected" in collector.command_line("inventory", "refresh", asset).stderr
    (agent.state / "agent.toml").write_text('deny = ["inventory"]\n')
    agent.start()
    refuses = "refuses: agent.toml on that machine forbids"
    until(lambda: refuses in collector.command_line("inventory", "refresh", asset).stderr, "its own file counts")


def agent_is_connected(collector: Collector) -> bool:
    return any(row["connected"] for row in collector.agents())


def test_what_the_collector_lost_it_asks_for(site: Site, dpkg: Dpkg) -> None:
    dpkg.install("gengfu-one", "1.0")
    collector, agent = counted(site, dpkg)
    agent.start()
    until(lambda: software(collector, agent), "the first snapshot is there")
    agent.kill()
    (agent.state / "inventory.json").unlink()
    dpkg.install("gengfu-one", "2.0")
    agent.start()
    until(lambda: software(collector, agent) == {"gengfu-one": "2.0"}, "an agent that forgot tells everything again")
    assert changes(collector) == [("changed", "gengfu-one", "1.0→2.0")]

    agent.kill()
    known = agent.state / "inventory.json"
    known.write_text(known.read_text().replace('"2.0"', '"9.9"').replace('"generation": ', '"generation": 7'))
    agent.start()
    until(lambda: "inventory_looked_at" in agent.log.read_text() and '"full": true' in agent.told(), "it was asked")
    assert software(collector, agent) == {"gengfu-one": "2.0"}
    assert changes(collector) == [("changed", "gengfu-one", "1.0→2.0")]


def test_an_owner_may_forbid_the_inventory(site: Site, dpkg: Dpkg) -> None:
    collector, agent = counted(site, dpkg)
    (agent.state / "agent.toml").write_text('deny = ["inventory"]\n')
    agent.start()
    until(lambda: agent.status().get("refused_checks") == 1, "the agent refuses it")
    assert collector.json_whatever("inventory", "show", agent.identity["asset"])["known"] is False
