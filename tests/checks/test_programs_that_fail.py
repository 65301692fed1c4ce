"""Every check of the profiles `terminal` and `server` while all programs that it asks are absent, fail, print rubbish
or hang, and while the kernel's files are hidden.

What nobody has seen is unknown: neither well, nor a fault that opens a ticket. Only what a check sees by other means
than the program may be told.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from failing_programs import (
    ABSENT,
    WAYS_TO_FAIL,
    Programs,
    filter_the_old_way,
    furnish,
    hurry,
    keep_software_with_rpm,
    programs_that,
)

from gengfu_checks import registry
from gengfu_checks.errors import CannotMeasure
from gengfu_checks.model import Finding, Status
from gengfu_checks.threshold import judge

BUILT_IN = Path(__file__).resolve().parents[2] / "collector/gengfu_collector/fleet/builtin"
HANG_S = 0.2
RULES = (
    '{"id":"s","title":"T","version":"1"}',
    '{"id":"software","kind":"software_forbidden","names":["telnetd"],"reason":"why"}',
    '{"id":"service","kind":"service_stopped","names":["telnet.socket"],"reason":"why"}',
)


@dataclass(frozen=True)
class Case:
    """A check with its settings. `asks`: programs of which it runs at least these when they are there."""

    name: str
    kind: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    asks: frozenset[str] = frozenset()
    with_rpm: bool = False
    with_old_filter: bool = False


ASKS = {
    "antivirus": {"mdatp"},
    "boot_time": {"systemctl"},
    "containers": {"docker", "podman"},
    "crashes": {"journalctl"},
    "disk_health": {"smartctl"},
    "event_log": {"journalctl"},
    "firewall": {"nft"},
    "gateway_latency": {"ping"},
    "os_service": {"systemctl"},
    "remote_access": {"sshd"},
    "scheduled_job": {"systemctl"},
    "updates": {"apt-get"},
    "uptime": {"needs-restarting"},
    "wifi": {"iw"},
}
OTHER_MACHINES = (
    Case("baseline, rpm", "baseline", {"rules": RULES}, frozenset(("rpm", "systemctl")), with_rpm=True),
    Case("updates, rpm", "updates", {}, frozenset(("dnf5",)), with_rpm=True),
    Case("firewall, old", "firewall", {}, frozenset(("iptables-legacy-save",)), with_old_filter=True),
)
# What is seen by other means, by case and item: some of its facts and metrics, None for one that must not be there.
SEEN_OTHERWISE: Mapping[str, Mapping[str, Mapping[str, object]]] = {
    "antivirus": {"": {}},  # the number of products that were found
    "baseline, rpm": {"s": {"compliant_rules": 0.0, "deviating_rules": 0.0, "unknown_rules": 2.0}},
    "remote_access": {  # the files of sshd
        "ssh": {"password_login": False, "root_login": "no"},
        **{way: {"enabled": 0.0} for way in ("rdp", "vnc", "telnet")},
    },
    "uptime": {"": {"reboot_pending": None}},
}
# These print nothing and end with 0 when there is nothing to tell.
SILENCE_IS_AN_ANSWER = frozenset(("containers", "crashes", "event_log", "os_service", "scheduled_job", "updates, rpm"))


def cases() -> Iterator[Case]:
    """Every check of both profiles with every settings that it has there, and the same on other machines."""
    known: list[tuple[str, dict[str, Any]]] = []
    for profile in ("terminal", "server"):
        (document,) = tomllib.loads((BUILT_IN / f"{profile}.toml").read_text())["profile"]
        for check in document["check"]:
            kind, settings = check["kind"], check.get("set", {})
            if (kind, settings) not in known:
                known.append((kind, settings))
                yield Case(kind, kind, settings, frozenset(ASKS.get(kind, ())))
    yield from OTHER_MACHINES


def pairs() -> Iterator[Any]:
    """Every case with every way to fail; one way is enough where no program is asked."""
    for case in cases():
        for way in (ABSENT, *WAYS_TO_FAIL) if case.asks else ("prose",):
            yield pytest.param(case, way, id=f"{case.name}-{way}")


@pytest.fixture
def machine(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a machine on which checks find what they look at."""
    furnish(short_path, monkeypatch)
    return short_path


def findings(case: Case, deadline_s: float | None, bench: Callable[..., Any]) -> list[Finding]:
    """What a run ends with. Nothing but the errors of checks may leave a check."""
    kind = registry.load(case.kind)
    if kind.usable() is not None:
        return []
    context = bench(kind, **case.settings).context()
    context.deadline_s = deadline_s or kind.timeout_s
    context.now, context.monotonic = time.time, time.monotonic
    try:
        return [judge(kind.name, found, kind.thresholds, None, 0.0) for found in kind.measure(context)]
    except CannotMeasure as error:
        return [Finding(kind.name, error.item, Status.UNKNOWN, error.code, error.facts, {}, 0.0)]


def is_as_seen(finding: Finding, expected: Mapping[str, object]) -> bool:
    told = {**finding.facts, **finding.metrics}
    return finding.status is Status.OK and all(told.get(name) == value for name, value in expected.items())


@pytest.mark.parametrize(("case", "way"), list(pairs()))
def test_what_no_program_has_answered_is_unknown(
    case: Case, way: str, machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bench: Callable[..., Any]
) -> None:
    asked: Programs = programs_that(way, tmp_path, monkeypatch)
    if case.with_rpm:
        keep_software_with_rpm(machine, monkeypatch)
    if case.with_old_filter:
        filter_the_old_way(asked, machine, monkeypatch)
    if way == "hangs":
        hurry(HANG_S, monkeypatch)
    told = findings(case, HANG_S if way == "hangs" else None, bench)

    assert {finding.code for finding in told} <= {"ok", *registry.load(case.kind).all_codes}
    assert asked.ran >= case.asks if way != ABSENT else not asked.ran
    if not case.asks:
        assert not asked.ran
    elif way == "silent" and case.name in SILENCE_IS_AN_ANSWER:
        assert {finding.status for finding in told} <= {Status.OK}
    else:
        otherwise = SEEN_OTHERWISE.get(case.name, {})
        assert [f for f in told if f.item in otherwise and not is_as_seen(f, otherwise[f.item])] == []
        assert {f.status for f in told if f.item not in otherwise} <= {Status.UNKNOWN}
        assert told or registry.load(case.kind).usable()


HIDDEN = """
import json, subprocess, sys, time
from gengfu_checks import registry
from gengfu_checks.errors import CannotMeasure
from gengfu_checks.local import programs
from gengfu_checks.model import Context
from gengfu_checks.settings import resolve_settings
from gengfu_checks.threshold import judge

def bad(kind, settings):
    context = Context(resolve_settings(kind, settings), {}, time.time, time.monotonic, kind.timeout_s, {})
    found = [judge(kind.name, m, kind.thresholds, None, 0.0) for m in kind.measure(context)]
    refused.extend([kind.name, f.code] for f in found if f.code == "check.not_usable")
    return [[f.item, f.code] for f in found if f.status.value in ("warning", "critical")]

programs.FOLDERS = ()
wanted = [(registry.load(kind), settings) for kind, settings in json.loads(sys.argv[2])]
subprocess.run(["mount", "-t", "tmpfs", "none", sys.argv[1]], check=True)
left, alarmed, refused = [], [], []
for kind, settings in wanted:
    try:
        if kind.usable() is None and bad(kind, settings):
            alarmed.append((kind, settings))
    except CannotMeasure as error:
        refused.append([kind.name, error.code])
    except FileNotFoundError as error:
        left.append([kind.name, str(error.filename)])
hidden = {kind.name: bad(kind, settings) for kind, settings in alarmed}
subprocess.run(["umount", sys.argv[1]], check=True)
seen = {kind.name: bad(kind, settings) for kind, settings in alarmed}
print(json.dumps([left, hidden, seen, refused]))
"""

# Of these nothing would be there, which looks well. A container has no disk_health at all, so it is not named.
SEEN_UNDER_SYS = {
    *("battery", "cpu_throttling", "disk_encryption", "fans", "memory_errors", "power_plan", "raid", "temperature"),
    "wifi",
}


@pytest.mark.parametrize("folder", ["/proc", "/sys"])
def test_no_fault_is_seen_where_the_kernel_s_files_are_hidden(folder: str, unshare: str) -> None:
    """Which file is missing is all that leaves a check; what the agent makes of that, `verdict` says."""
    wanted = [(case.kind, case.settings) for case in cases() if case not in OTHER_MACHINES]
    argv = [unshare, "--mount", sys.executable, "-c", HIDDEN, folder, json.dumps(wanted)]
    done = subprocess.run(argv, check=True, capture_output=True, text=True)
    left, hidden, seen, refused = json.loads(done.stdout)
    assert [name for name, path in left if not path.startswith(f"{folder}/")] == []
    assert hidden == {kind: [each for each in found if each in seen[kind]] for kind, found in hidden.items()}
    assert folder != "/sys" or {name for name, code in refused if code == "check.not_usable"} >= SEEN_UNDER_SYS
