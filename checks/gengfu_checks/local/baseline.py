"""Terminal standard (终端标准): does this machine keep the rules that its organisation has set?

One item a standard (`office-terminal`) with the compliance ratio, one item a rule (`office-terminal/no-telnet-server`).
Rules for other systems are no items; a rule about something that is not there is one that counts neither way, so that
what it said before has an end. A deviation of severity info is ok with the code `baseline.deviation`: it counts
and opens no ticket. What cannot be seen is unknown and counts neither way.

A collector sends the rules with the plan; without one they are those of a built-in standard or of a file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gengfu_checks import standards
from gengfu_checks.codes import CHECK_NEEDS_RIGHTS, CHECK_NOT_USABLE, CHECK_PROGRAM_FAILED
from gengfu_checks.errors import CannotMeasure, SettingError
from gengfu_checks.local.baseline_judge import (
    DEVIATION,
    EXCEPTED,
    NOT_APPLICABLE,
    Result,
    judge_rule,
    not_applicable,
    result_of,
    totals,
    unknown_result,
    waiver_for,
)
from gengfu_checks.local.baseline_probe import Probe, this_system
from gengfu_checks.model import CheckKind, Context, Direction, Measurement, Metric, Setting, SettingType, Threshold
from gengfu_checks.standards.rules import (
    SEVERITIES,
    Rule,
    Standard,
    Waiver,
    standard_of_texts,
    waivers_of_texts,
)
from gengfu_checks.standards.values import RuleError

LOW_COMPLIANCE = "baseline.low_compliance"
DEFAULT_STANDARD = "office-terminal"


def measure(context: Context) -> Iterator[Measurement]:
    """Measure every rule of the standard that is for this system."""
    system = this_system()
    if system is None:
        return
    standard, waivers = _asked(context)
    probe = Probe(system, context.memory.setdefault("hashes", {}))
    results = measure_rules(standard.rules, waivers, probe, context.settings["severity"], context.now())
    facts = {"title_zh": standard.title.zh, "title_en": standard.title.en, "version": standard.version}
    yield Measurement(standard.id, totals(results), facts)
    for result in results:
        yield Measurement(f"{standard.id}/{result.rule.id}", facts=result.facts, problem=result.problem)


def measure_rules(
    rules: Sequence[Rule], waivers: Sequence[Waiver], probe: Probe, severity: str, now_s: float
) -> list[Result]:
    """Return the result of every rule for this system, in their order."""
    here = [rule for rule in rules if probe.system in rule.systems]
    probe.prepare(here)
    results = []
    for rule in here:
        try:
            if not probe.applies(rule):
                results.append(not_applicable(rule))
                continue
            verdict = judge_rule(rule, probe.look(rule))
            results.append(result_of(rule, verdict, waiver_for(rule, waivers, now_s), severity))
        except CannotMeasure as error:
            results.append(unknown_result(rule, error))
    return results


def _asked(context: Context) -> tuple[Standard, tuple[Waiver, ...]]:
    texts, name = context.settings["rules"], context.settings["standard"]
    try:
        standard = standard_of_texts(texts) if texts else standards.load(name)
        return standard, waivers_of_texts(context.settings["exceptions"])
    except RuleError as error:
        raise SettingError(f"setting standard: {error}", key="standard") from None


CHECK = CheckKind(
    name="baseline",
    measure=measure,
    metrics=(
        Metric("compliance_ratio", "Weighted share of the rules that are kept, of those that could be measured"),
        Metric("compliant_rules", "Rules that are kept"),
        Metric("deviating_rules", "Rules that are not kept and have no exception"),
        Metric("excepted_rules", "Rules that are not kept and have an exception that has not ended"),
        Metric("unknown_rules", "Rules that could not be measured"),
    ),
    codes=(DEVIATION, EXCEPTED, NOT_APPLICABLE, CHECK_NEEDS_RIGHTS, CHECK_NOT_USABLE, CHECK_PROGRAM_FAILED),
    settings=(
        Setting(
            "standard",
            SettingType.TEXT,
            "id of a standard: office-terminal, server or one of the inspection folder; by hand also a file",
            DEFAULT_STANDARD,
        ),
        Setting(
            "severity",
            SettingType.TEXT,
            "of deviations from rules that give none; info opens no ticket",
            "info",
            choices=SEVERITIES,
        ),
        Setting(
            "rules",
            SettingType.TEXT_LIST,
            "the rules of the standard; filled in by the collector",
            (),
            verify=lambda texts: standard_of_texts(texts) if texts else None,
        ),
        Setting(
            "exceptions",
            SettingType.TEXT_LIST,
            "this machine's exceptions; filled in by the collector",
            (),
            verify=waivers_of_texts,
        ),
    ),
    thresholds=(Threshold("compliance_ratio", LOW_COMPLIANCE, Direction.BELOW),),
    every_s=4 * 3600.0,
    timeout_s=120.0,
)
