"""Totals of standards over machines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gengfu_checks import standards
from gengfu_collector.errors import NotFound
from gengfu_collector.fleet.compliance import Machine, RuleState, as_json, machines, ratio_of, rules_json, word_of
from gengfu_collector.fleet.inspection import load_inspection
from gengfu_collector.store.database import Database

STANDARD = standards.load("server")
RULES = STANDARD.rules


@pytest.mark.parametrize(
    ("status", "code", "word"),
    [
        ("ok", "ok", "compliant"),
        ("ok", "baseline.deviation", "deviating"),
        ("warning", "baseline.deviation", "deviating"),
        ("critical", "baseline.deviation", "deviating"),
        ("ok", "baseline.excepted", "excepted"),
        ("unknown", "check.needs_rights", "unknown"),
        ("unknown", "baseline.deviation", "unknown"),
        ("no-data", "baseline.deviation", "unknown"),
        ("no-data", "baseline.excepted", "unknown"),
        ("no-data", "ok", "unknown"),
    ],
)
def test_what_a_status_means(status: str, code: str, word: str) -> None:
    assert word_of(status, code) == word


def machine(name: str, *words: str) -> Machine:
    states = tuple(RuleState(rule, word, "", 0) for rule, word in zip(RULES, words, strict=False))
    return Machine(name, STANDARD, states)


def test_machines_stand_worst_first_and_those_without_data_last() -> None:
    found = as_json(
        [
            machine("good", "compliant", "excepted"),
            machine("none"),
            machine("bad", "deviating", "deviating", "compliant"),
            machine("unknown", "unknown"),
        ]
    )
    assert [(row["asset"], row["compliance_ratio"]) for row in found["machines"]] == [
        ("bad", RULES[2].weight / sum(rule.weight for rule in RULES[:3])),
        ("good", 1.0),
        ("none", None),
        ("unknown", None),
    ]
    (total,) = found["standards"]
    assert (total["machines"], total["without_data"], total["fully_compliant"]) == (4, 2, 1)
    assert (total["compliant"], total["deviating"], total["excepted"], total["unknown"]) == (2, 2, 1, 1)
    assert [row["rule"] for row in total["worst_rules"]] == sorted(rule.id for rule in RULES[:2])
    assert as_json([]) == {"standards": [], "machines": []}


def test_rules_of_a_machine_stand_in_the_order_of_need() -> None:
    found = rules_json(machine("a", "compliant", "unknown", "deviating", "excepted", "deviating"))
    assert [row["state"] for row in found] == ["deviating", "deviating", "excepted", "unknown", "compliant"]
    assert found[0]["weight"] >= found[1]["weight"]


@given(st.lists(st.sampled_from(["compliant", "deviating", "excepted", "unknown"]), max_size=len(RULES)))
def test_the_ratio_by_counting_weights_one_by_one(words: list[str]) -> None:
    kept = known = 0.0
    for rule, word in zip(RULES, words, strict=False):
        if word != "unknown":
            known += rule.weight
            kept += rule.weight * (word != "deviating")
    assert ratio_of(machine("a", *words).states) == (kept / known if known else None)


def test_a_standard_that_is_not_there_is_named_with_the_nearest(database: Database) -> None:
    inspection = load_inspection(None)
    with (
        database.read() as connection,
        pytest.raises(
            NotFound, match=r'unknown standard "servr" \(did you mean "server"\?\); allowed: office-terminal'
        ),
    ):
        machines(connection, inspection, "servr")
