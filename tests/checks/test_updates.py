"""The judgement of updates, and Windows and macOS.

The rows of Windows Update are built after Microsoft Learn (IUpdate, IAutomaticUpdatesResults), the property lists of
macOS after the keys that `defaults read /Library/Preferences/com.apple.SoftwareUpdate` shows in public notes; none is a
recording.
"""

from __future__ import annotations

import json
import plistlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gengfu_checks.local import updates, updates_desktop
from gengfu_checks.local.asked_seldom import asked_seldom
from gengfu_checks.local.updates import ASK_AGAIN_S, CHECK
from gengfu_checks.local.updates_desktop import collect_mac, mac_state, windows_state
from gengfu_checks.local.updates_state import FIRST_SEEN, Pending, State, judge, named
from gengfu_checks.local.utc_time import utc_s
from gengfu_checks.model import MAX_KEEP_BYTES, Measurement
from gengfu_checks.threshold import judge as judge_finding

DAY_S = 86400.0
NOW_S = 1_800_000_000.0
KERNEL = Pending("linux-image", security=True)
EDITOR = Pending("vim")


def code(measurement: Measurement) -> str:
    return judge_finding("updates", measurement, CHECK.thresholds, None, NOW_S).code


def state(*pending: Pending, **fields: Any) -> State:
    return State("apt", pending, **fields)


def test_what_is_published_counts_from_that_day() -> None:
    update = Pending("kernel.x86_64", True, NOW_S - 40 * DAY_S)
    found = judge(state(update, EDITOR), {}, NOW_S)
    assert found.metrics["security_waiting_seconds"] == 40 * DAY_S
    assert found.metrics["waiting_seconds"] == 40 * DAY_S
    assert code(found) == "updates.security_waits"
    assert found.facts == {"manager": "apt", "security_updates": "kernel.x86_64"}


def test_at_the_first_look_the_wait_is_not_told_longer_than_since_the_last_installation() -> None:
    old = state(KERNEL, installed_at=NOW_S - 45 * DAY_S)
    assert judge(old, {}, NOW_S).metrics["security_waiting_seconds"] == 45 * DAY_S
    assert code(judge(old, {}, NOW_S)) == "updates.security_waits"
    assert code(judge(replace(old, installed_at=NOW_S - 5 * DAY_S), {}, NOW_S)) == "ok"
    assert judge(replace(old, installed_at=None), {}, NOW_S).metrics["security_waiting_seconds"] == 0.0


def test_what_was_seen_to_appear_counts_from_then_although_others_are_installed() -> None:
    keep: dict[str, Any] = {}
    judge(state(installed_at=NOW_S - 300 * DAY_S), keep, NOW_S)
    for day in range(1, 33):
        now_s = NOW_S + day * DAY_S
        keep = json.loads(json.dumps(keep))
        found = judge(state(KERNEL, installed_at=now_s - 60), keep, now_s)
        assert found.metrics["security_waiting_seconds"] == pytest.approx((day - 1) * DAY_S)
    assert code(found) == "updates.security_waits"
    assert code(judge(state(EDITOR, installed_at=now_s), keep, now_s)) == "ok"
    assert set(keep[FIRST_SEEN]) == {"vim"}


def test_a_single_pending_update_is_no_problem() -> None:
    found = judge(state(KERNEL, EDITOR, installed_at=NOW_S, refreshed_at=NOW_S), {}, NOW_S)
    assert code(found) == "ok"
    assert (found.metrics["pending_updates"], found.metrics["pending_security_updates"]) == (2.0, 1.0)


def test_without_knowledge_of_security_only_the_long_limit_holds() -> None:
    keep = {FIRST_SEEN: {"vim": NOW_S - 100 * DAY_S}}
    found = judge(state(EDITOR, knows_security=False), keep, NOW_S)
    assert "pending_security_updates" not in found.metrics
    assert "security_waiting_seconds" not in found.metrics
    assert code(found) == "ok"
    assert code(judge(state(EDITOR, knows_security=False), keep, NOW_S + 30 * DAY_S)) == "updates.wait"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"refreshed_at": NOW_S - 13 * DAY_S}, "ok"),
        ({"refreshed_at": NOW_S - 15 * DAY_S}, "updates.lists_old"),
        ({"refreshed_at": NOW_S, "archive_at": NOW_S - 44 * DAY_S}, "ok"),
        ({"refreshed_at": NOW_S, "archive_at": NOW_S - 46 * DAY_S}, "updates.archive_old"),
        ({"broken": ("libc6",)}, "updates.interrupted"),
        ({"has_lists": False}, "updates.no_lists"),
        ({"refreshed_at": NOW_S + 9 * DAY_S}, "ok"),
    ],
)
def test_old_lists_and_interrupted_updates(fields: dict[str, Any], expected: str) -> None:
    assert code(judge(state(**fields), {}, NOW_S)) == expected


def test_names_are_few_clean_and_counted() -> None:
    assert named(["b", "a", "b"]) == "a, b"
    assert named(f"p{i}" for i in range(20)).endswith("(+12)")
    assert named(["evil\x1b[2J"]) == "evil\\x1b[2J"


def test_what_is_kept_stays_small() -> None:
    keep: dict[str, Any] = {}
    judge(state(*(Pending(f"{i}-{'x' * 200}") for i in range(20_000))), keep, NOW_S)
    assert len(json.dumps(keep).encode()) < MAX_KEEP_BYTES


@settings(max_examples=50)
@given(
    st.lists(st.builds(Pending, st.text(max_size=5), st.booleans(), st.none() | st.floats(0, 2 * NOW_S))),
    st.none() | st.floats(0, 2 * NOW_S),
)
def test_a_wait_is_never_negative_and_none_means_none(pending: list[Pending], installed_at: float | None) -> None:
    found = judge(state(*pending, installed_at=installed_at), {}, NOW_S)
    assert found.metrics["waiting_seconds"] >= found.metrics["security_waiting_seconds"] >= 0
    if not any(update.security for update in pending):
        assert found.metrics["security_waiting_seconds"] == 0


def test_an_answer_is_kept_until_something_changes_and_a_day_at_most(bench: Any) -> None:
    instance = bench(CHECK)
    asked = []

    def ask() -> State:
        asked.append(instance.monotonic_s)
        return state()

    def run(fingerprint: tuple[object, ...]) -> int:
        asked_seldom(instance.context(), ASK_AGAIN_S, ask, fingerprint)
        return len(asked)

    assert [run((1,)), run((1,)), run((2,)), run((2,))] == [1, 1, 2, 2]
    instance.later(24 * 3600.0)
    assert run((2,)) == 3


def test_an_answer_that_failed_is_asked_for_again(bench: Any) -> None:
    instance = bench(CHECK)

    def fail() -> State:
        raise OSError("no answer")

    asked_seldom(instance.context(), ASK_AGAIN_S, state, (1,))
    with pytest.raises(OSError, match="no answer"):
        asked_seldom(instance.context(), ASK_AGAIN_S, fail, (2,))
    with pytest.raises(OSError, match="no answer"):
        asked_seldom(instance.context(), ASK_AGAIN_S, fail, (1,))


SECURITY_ID = "0fa1201d-4330-4fa8-8ae9-b877473b6441"
WINDOWS_ROWS = [
    {"Searched": "2026-11-20T03:12:44Z", "Installed": "2026-10-15T18:00:01Z"},
    {
        "Title": "2026-10 Cumulative Update for Windows 11 Version 25H2 for x64-based Systems",
        "Severity": None,
        "Changed": "2026-10-13T17:00:00Z",
        "Categories": f"{SECURITY_ID} 72e7624a-5b00-45d2-b92f-e561c0a6a160",
    },
    {
        "Title": "Security Intelligence Update for Microsoft Defender Antivirus",
        "Severity": None,
        "Changed": "2026-11-20T01:00:00Z",
        "Categories": "e0789628-ce08-4437-be74-2495b842f43b",
    },
    {"Title": "Office update", "Severity": "Important", "Changed": "1899-12-30T00:00:00Z", "Categories": ""},
]


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def test_windows_update() -> None:
    found = windows_state(WINDOWS_ROWS)
    assert found.refreshed_at == at("2026-11-20T03:12:44")
    assert found.installed_at == at("2026-10-15T18:00:01")
    assert [update.security for update in found.pending or ()] == [True, False, True]
    assert [update.published_at for update in found.pending or ()] == [
        at("2026-10-13T17:00:00"),
        at("2026-11-20T01:00:00"),
        None,
    ]
    now_s = at("2026-11-21T00:00:00")
    measurement = judge(found, {}, now_s)
    assert measurement.metrics["pending_updates"] == 3.0
    assert judge_finding("updates", measurement, CHECK.thresholds, None, now_s).code == "updates.security_waits"


def test_a_windows_that_never_searched() -> None:
    found = windows_state([{"Searched": None, "Installed": None}])
    assert (found.refreshed_at, found.installed_at, found.has_lists) == (None, None, False)
    assert code(judge(found, {}, NOW_S)) == "updates.no_lists"
    assert utc_s("1899-12-30T00:00:00Z") is None
    assert utc_s("21.11.2026") is None


def test_the_windows_pipeline_is_one_constant() -> None:
    assert "{0}" not in updates_desktop.PIPELINE
    assert updates_desktop.PIPELINE.count("(") == updates_desktop.PIPELINE.count(")")
    assert updates_desktop.PIPELINE.count("{") == updates_desktop.PIPELINE.count("}")


def utc(*parts: int) -> datetime:
    """A time as property lists hold it: UTC, and naive."""
    return datetime(*parts, tzinfo=UTC).replace(tzinfo=None)  # type: ignore[misc, arg-type]


def test_macos_from_its_property_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    software_update = {
        "LastSuccessfulDate": utc(2026, 11, 20, 2, 0, 0),
        "LastFullSuccessfulDate": utc(2026, 11, 19, 2, 0, 0),
        "LastRecommendedUpdatesAvailable": 1,
        "RecommendedUpdates": [{"Display Name": "macOS Tahoe 26.6.2", "Product Key": "MSU_UPDATE_25G83"}],
    }
    history = [
        {"date": utc(2026, 8, 1, 9, 0, 0), "displayName": "macOS 26.5", "processName": "softwareupdated"},
        {"date": utc(2026, 11, 1, 9, 0, 0), "displayName": "Word", "processName": "installer"},
    ]
    for name, content in (("SOFTWARE_UPDATE", software_update), ("INSTALL_HISTORY", history)):
        path = tmp_path / name
        path.write_bytes(plistlib.dumps(content, fmt=plistlib.FMT_BINARY))
        monkeypatch.setattr(updates_desktop, name, path)
    found = collect_mac()
    assert found.refreshed_at == at("2026-11-20T02:00:00")
    assert found.installed_at == at("2026-08-01T09:00:00")
    measurement = judge(found, {}, NOW_S)
    assert measurement.metrics["pending_updates"] == 1.0
    assert "waiting_seconds" not in measurement.metrics, "the list may be of what has been installed since"


def test_a_mac_without_property_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(updates_desktop, "SOFTWARE_UPDATE", tmp_path / "absent")
    monkeypatch.setattr(updates_desktop, "INSTALL_HISTORY", tmp_path / "absent")
    found = judge(collect_mac(), {}, NOW_S)
    assert code(found) == "ok"
    assert "lists_age_seconds" not in found.metrics


@settings(max_examples=40)
@given(
    st.recursive(st.none() | st.integers() | st.text(max_size=5), lambda x: st.lists(x) | st.dictionaries(st.text(), x))
)
def test_no_property_list_breaks_the_judgement(value: Any) -> None:
    mac_state(
        value if isinstance(value, dict) else {"RecommendedUpdates": value}, value if isinstance(value, list) else []
    )


def test_a_machine_whose_software_nobody_keeps_claims_nothing(
    bench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(updates, "DPKG_STATUS", tmp_path / "absent")
    monkeypatch.setattr(updates.updates_rpm, "find", lambda: None)
    assert bench(CHECK).run() == {}
    assert "neither apt nor dnf" in (CHECK.usable() or "")
