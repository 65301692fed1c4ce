"""Commands of the desk: tickets and faults."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from gengfu_checks.language import reader_language
from gengfu_collector.cli import show
from gengfu_collector.cli.common import Data, Json, group, listing
from gengfu_collector.cli.reach import request
from gengfu_collector.errors import UsageError
from gengfu_collector.fleet.toml_table import unknown_word
from gengfu_collector.tickets.lifecycle import TicketState

TICKET_COLUMNS = (
    "number",
    "state",
    "severity",
    "priority",
    "asset",
    "check",
    "item",
    "title",
    "opened_at",
    "resolved_at",
)
TICKET_FIELDS = (
    "state",
    "severity",
    "priority",
    "category",
    "asset",
    "check",
    "item",
    "code",
    "opened_at",
    "acknowledged_at",
    "resolved_at",
    "closed_at",
    "cause",
    "solution",
    "details",
)
TICKET_STATES = tuple(state.value for state in TicketState)
FAULT_STATES = ("open", "closed")
WATCH_EVERY_S = 1.0


ticket_app = group("Tickets · 工单")
fault_app = group("Faults · 故障")


@ticket_app.command("list")
def ticket_list(
    data: Data = None,
    state: Annotated[list[str] | None, typer.Option(help="open, acknowledged, resolved, closed · 状态")] = None,
    asset: Annotated[str, typer.Option(help="Of one asset only · 资产")] = "",
    json: Json = False,
) -> None:
    """List tickets, newest first · 工单列表"""
    _require_known(state or [], TICKET_STATES)
    found = request(data, "ticket.list", states=state or [], asset_name=asset)
    listing(found if json else show.titled(found), json, TICKET_COLUMNS, "--state, --asset")


@ticket_app.command("show")
def ticket_show(number: str, data: Data = None, json: Json = False) -> None:
    """Show what happened, what it means, what to do · 工单详情"""
    _ticket(request(data, "ticket.show", number=number), json)


@ticket_app.command("acknowledge")
def ticket_acknowledge(number: str, data: Data = None, json: Json = False) -> None:
    """Say that somebody looks after it · 受理"""
    _ticket(request(data, "ticket.acknowledge", number=number), json)


@ticket_app.command("comment")
def ticket_comment(number: str, text: str, data: Data = None, json: Json = False) -> None:
    """Add a remark · 备注"""
    _ticket(request(data, "ticket.comment", number=number, text=text), json)


@ticket_app.command("resolve")
def ticket_resolve(
    number: str,
    cause: Annotated[str, typer.Option(help="Why it broke · 故障原因")],
    solution: Annotated[str, typer.Option(help="What was done · 解决方法")],
    data: Data = None,
    json: Json = False,
) -> None:
    """Say that it is mended, why it broke and what was done · 解决"""
    _ticket(request(data, "ticket.resolve", number=number, cause=cause, solution=solution), json)


@ticket_app.command("close")
def ticket_close(number: str, data: Data = None, json: Json = False) -> None:
    """File it away for good · 归档"""
    _ticket(request(data, "ticket.close", number=number), json)


@ticket_app.command("watch")
def ticket_watch(
    data: Data = None,
    all_: Annotated[bool, typer.Option("--all", help="From the first event on · 从头开始")] = False,
    json: Json = False,
) -> None:
    """Print what happens to tickets, until stopped · 实时跟踪"""
    after = 0
    if not all_:
        while batch := request(data, "ticket.events", after_id=after):
            after = batch[-1]["id"]
    while True:
        for event in request(data, "ticket.events", after_id=after):
            after = event["id"]
            if json:
                show.as_json(event)
            else:
                _event_line(event)
            sys.stdout.flush()
        time.sleep(WATCH_EVERY_S)


@fault_app.command("list")
def fault_list(
    data: Data = None,
    state: Annotated[str, typer.Option(help="open or closed · 状态")] = "",
    asset: Annotated[str, typer.Option(help="Of one asset only · 资产")] = "",
    json: Json = False,
) -> None:
    """List faults, newest first · 故障列表"""
    columns = ("asset", "check", "item", "title", "code", "severity", "state", "opened_at", "closed_at", "ticket")
    _require_known([state] if state else [], FAULT_STATES)
    found = request(data, "fault.list", state=state, asset_name=asset)
    listing(found if json else show.titled(found), json, columns, "--state, --asset")


def _require_known(states: Sequence[str], allowed: Sequence[str]) -> None:
    for state in states:
        if state not in allowed:
            raise UsageError(f"--state: {unknown_word('state', state, allowed)}")


def _ticket(value: dict[str, Any], json: bool) -> None:
    if json:
        show.as_json(value)
        return
    article = value["guide"][reader_language()]
    show.line(f"{value['number']}  {article['title']}")
    shown = {"check": show.check_of(value["code"], value["check"]), "details": _last_details(value)}
    show.facts({**value, **shown}, TICKET_FIELDS)
    print()
    of_all = {name: value[name] for name in ("number", "asset", "check", "item", "code")}
    for event in value["events"]:
        _event_line({**event, **of_all})
    print()
    show.line(article["meaning"])
    for number, step in enumerate(article["remedy"], 1):
        show.line(f"  {number}. {step}")


def _last_details(value: Mapping[str, Any]) -> str | None:
    """What was measured when a finding last changed the ticket; None when none did."""
    told = (event["data"] for event in reversed(value["events"]) if "metrics" in event["data"])
    return next((show.details_of(data["code"], value["check"], data) for data in told), None)


def _event_line(event: Mapping[str, Any]) -> None:
    data = event["data"]
    code = data.get("code") or event["code"]
    said = data.get("text") or data.get("solution") or show.reason_of(data.get("reason") or "")
    if data.get("status", "ok") != "ok":
        said = show.summary_of(code, event["check"], event["item"], data)
    title = show.title_of(event["code"])
    what = f"{show.padded(show.word_of(event['kind']), 12)}  {event['asset']}  {title}  {said}"
    show.line(f"{event['at']}  {event['number']}  {what}  ({show.actor_of(event['actor'])})")
