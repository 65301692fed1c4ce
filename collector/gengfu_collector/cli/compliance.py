"""`gengfu-collector compliance`: how well machines keep their standards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from gengfu_checks import guide
from gengfu_checks.language import reader_language
from gengfu_collector.cli import show
from gengfu_collector.cli.common import Data, Json
from gengfu_collector.cli.reach import request

WORDS = ("compliant", "deviating", "excepted", "unknown")
MACHINE_COLUMNS = ("asset", "standard", "compliance", *WORDS)
STANDARD_COLUMNS = ("standard", "compliance", "machines", "without_data", "fully_compliant", *WORDS)
WORST_COLUMNS = ("rule", "weight", *WORDS, "reason")
RULE_COLUMNS = ("rule", "state", "severity", "what", "expected", "found", "owner", "excepted_until", "since", "reason")

_NOT_TOLD = {
    "zh": "实际情况须待代理在采集器本次启动后再次上报才能显示。",
    "en": "What was found is shown once the agent has reported since the collector was started.",
}


def compliance(
    data: Data = None,
    standard: Annotated[str, typer.Option(help="Of one standard only · 标准")] = "",
    asset: Annotated[str, typer.Option(help="Of one machine, rule by rule · 资产")] = "",
    json: Json = False,
) -> None:
    """Show who keeps the standards, worst first · 终端标准合规情况"""
    found = request(data, "compliance", standard=standard, asset=asset)
    if json:
        show.as_json(found)
        return
    show.rows([_readable(one) for one in found["machines"]], MACHINE_COLUMNS)
    if asset:
        if found["rules"]:
            print()
            show.rows([_readable(rule) for rule in found["rules"]], RULE_COLUMNS)
            if not any("found" in rule or "why_unknown" in rule for rule in found["rules"]):
                show.line(_NOT_TOLD[reader_language()])
        return
    for total in found["standards"]:
        print()
        title = total["title"][reader_language()]
        show.line(f"{title} ({total['standard']}, {total['version']})")
        show.rows([_readable(total)], STANDARD_COLUMNS)
        if total["worst_rules"]:
            show.rows([_readable(rule) for rule in total["worst_rules"]], WORST_COLUMNS)


def _readable(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with its ratio in per cent and its texts in the reader's language."""
    shown = dict(row)
    ratio = row.get("compliance_ratio")
    shown["compliance"] = None if ratio is None else f"{ratio * 100:.1f}%"
    if why := row.get("why_unknown"):
        shown["found"] = guide.summary(why["code"], reader_language(), "", why["facts"], {}, None)
    if "reason" in row:
        shown["reason"] = row["reason"][reader_language()]
    if "weight" in row:
        shown["weight"] = f"{row['weight']:g}"
    return shown
