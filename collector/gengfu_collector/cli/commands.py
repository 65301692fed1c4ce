"""Every command, in one tree."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from gengfu_checks.errors import SettingError
from gengfu_checks.settings import parse_duration_s
from gengfu_collector import __version__
from gengfu_collector.app.collector import serve
from gengfu_collector.cli import show
from gengfu_collector.cli.reach import configuration, data_folder, request
from gengfu_collector.config import CommandLine
from gengfu_collector.errors import UsageError
from gengfu_collector.fleet.review import check_folder
from gengfu_collector.logs import configure_logging
from gengfu_collector.store.database import prepare_folder

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
)
WATCH_EVERY_S = 1.0

Data = Annotated[Path | None, typer.Option("--data", metavar="DIR", help="Data folder. 数据目录")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON. 输出 JSON")]


def _group(help_text: str) -> typer.Typer:
    return typer.Typer(help=help_text, no_args_is_help=True, add_completion=False)


app = typer.Typer(
    help="Gengfu 更夫: collector of inspection results, tickets and metrics.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
token_app = _group("Tokens with which machines enrol. 注册令牌")
asset_app = _group("Assets: what is looked after. 资产")
agent_app = _group("Agents on those machines. 采集代理")
ticket_app = _group("Tickets. 工单")
fault_app = _group("Faults. 故障")
ledger_app = _group("The account of every report. 收报账目")
config_app = _group("The inspection folder. 巡检配置")
for name, group in {
    "token": token_app,
    "asset": asset_app,
    "agent": agent_app,
    "ticket": ticket_app,
    "fault": fault_app,
    "ledger": ledger_app,
    "config": config_app,
}.items():
    app.add_typer(group, name=name)


@app.command()
def run(
    data: Data = None,
    http: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Metrics. Default 127.0.0.1:8420")] = None,
    stream: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Agents. Default 0.0.0.0:8421")] = None,
    enrol: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Enrolment. Default 0.0.0.0:8422")] = None,
    inspection: Annotated[Path | None, typer.Option(metavar="DIR", help="Inspection folder. 巡检配置目录")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error")] = None,
) -> None:
    """Run the collector until it is stopped. 运行采集中心"""
    os.umask(0o077)
    folder = data_folder(data)
    prepare_folder(folder)
    config = configuration(folder, CommandLine(http, stream, enrol, inspection, log_level))
    configure_logging(config.log_level, sys.stderr)

    def announce(ports: Mapping[str, int]) -> None:
        host = config.listen.http.host
        print(f"Gengfu collector {__version__} is ready. Data: {folder}", flush=True)
        print(f"  metrics  http://{host}:{ports['http']}/metrics", flush=True)
        print(f"  agents   port {ports['stream']} (stream), port {ports['enrol']} (enrolment)", flush=True)
        print(f"  next     gengfu-collector token create --data {folder}", flush=True)

    asyncio.run(serve(config, announce))


@app.command()
def status(data: Data = None, json: Json = False) -> None:
    """Say whether a collector runs here and how busy it is. 运行状态"""
    found = request(data, "status")
    if json:
        show.as_json(found)
    else:
        show.facts(found, ("running", "connected", "waiting_reports"))
    raise typer.Exit(0 if found["running"] else 1)


@app.command()
def reload(data: Data = None) -> None:
    """Read the inspection folder anew and send changed plans. 重新加载配置"""
    found = request(data, "reload")
    if not found["running"]:
        raise UsageError("no collector runs here; it reads the inspection folder when it starts")
    show.line(f"{found['plans_sent']} agents got a new plan")


@token_app.command("create")
def token_create(
    data: Data = None,
    uses: Annotated[int, typer.Option(help="How many machines it lets in. 可用次数")] = 1,
    ttl: Annotated[str, typer.Option(help="How long it is good, like 24h. 有效期")] = "24h",
    asset_class: Annotated[
        str, typer.Option("--class", help="Class of the assets: terminal, server. 资产类别")
    ] = "terminal",
    label: Annotated[list[str] | None, typer.Option(help="Label of the assets, name=value. 标签")] = None,
    json: Json = False,
) -> None:
    """Print a token, once. 创建注册令牌"""
    found = request(
        data, "token.create", uses=uses, ttl_s=_seconds(ttl), asset_class=asset_class, labels=_labels(label)
    )
    if json:
        show.as_json(found)
    else:
        print(found["token"])


@token_app.command("list")
def token_list(data: Data = None, json: Json = False) -> None:
    """List tokens, without their secrets. 令牌列表"""
    _listing(request(data, "token.list"), json, ("id", "state", "class", "labels", "uses_left", "expires_at"))


@token_app.command("revoke")
def token_revoke(token_id: int, data: Data = None, json: Json = False) -> None:
    """End a token now; machines that it let in stay. 吊销令牌"""
    _one(request(data, "token.revoke", token_id=token_id), json, ("id", "state", "expires_at"))


@asset_app.command("list")
def asset_list(
    data: Data = None,
    all_: Annotated[bool, typer.Option("--all", help="Retired ones too. 含已退役")] = False,
    json: Json = False,
) -> None:
    """List assets. 资产列表"""
    _listing(request(data, "asset.list", retired=all_), json, ("name", "class", "state", "labels"))


@asset_app.command("show")
def asset_show(name: str, data: Data = None, json: Json = False) -> None:
    """Show an asset and the status of everything looked at on it. 资产详情"""
    found = request(data, "asset.show", name=name)
    if json:
        show.as_json(found)
        return
    show.facts(found, ("name", "class", "state", "labels", "created_at", "retired_at", "retired_reason"))
    print()
    show.rows(found["subjects"], ("check", "item", "status", "code", "since"))


@asset_app.command("rename")
def asset_rename(name: str, new_name: str, data: Data = None, json: Json = False) -> None:
    """Give an asset another name. 重命名"""
    _one(request(data, "asset.rename", name=name, new_name=new_name), json, ("name", "class", "state", "labels"))


@asset_app.command("classify")
def asset_classify(name: str, asset_class: str, data: Data = None, json: Json = False) -> None:
    """Put an asset into another class; its agent gets that class's plan. 变更类别"""
    _one(request(data, "asset.classify", name=name, asset_class=asset_class), json, ("name", "class", "labels"))


@asset_app.command("label")
def asset_label(name: str, labels: list[str], data: Data = None, json: Json = False) -> None:
    """Replace the labels of an asset: name=value ... 设置标签"""
    _one(request(data, "asset.label", name=name, labels=_labels(labels)), json, ("name", "class", "labels"))


@asset_app.command("retire")
def asset_retire(
    name: str,
    reason: Annotated[str, typer.Option(help="Why. 原因")],
    data: Data = None,
    json: Json = False,
) -> None:
    """Take an asset out of service; its faults close with that reason. 退役"""
    _one(request(data, "asset.retire", name=name, reason=reason), json, ("name", "state", "faults_closed"))


@agent_app.command("list")
def agent_list(data: Data = None, json: Json = False) -> None:
    """List agents. 代理列表"""
    columns = ("id", "asset", "state", "connected", "last_seen_at", "version", "epoch", "high_water")
    _listing(request(data, "agent.list"), json, columns)


@agent_app.command("show")
def agent_show(agent: str, data: Data = None, json: Json = False) -> None:
    """Show an agent. 代理详情"""
    _agent(request(data, "agent.show", uid=agent), json)


@agent_app.command("block")
def agent_block(agent: str, data: Data = None, json: Json = False) -> None:
    """Cut an agent off and keep it out. 封禁代理"""
    _agent(request(data, "agent.block", uid=agent), json)


@agent_app.command("unblock")
def agent_unblock(agent: str, data: Data = None, json: Json = False) -> None:
    """Let a blocked agent in again. 解除封禁"""
    _agent(request(data, "agent.unblock", uid=agent), json)


@agent_app.command("allow")
def agent_allow(agent: str, data: Data = None, json: Json = False) -> None:
    """Let a machine come back by its binding key again. 允许凭绑定密钥恢复"""
    _agent(request(data, "agent.allow", uid=agent), json)


@ticket_app.command("list")
def ticket_list(
    data: Data = None,
    state: Annotated[list[str] | None, typer.Option(help="open, acknowledged, resolved, closed. 状态")] = None,
    asset: Annotated[str, typer.Option(help="Of one asset only. 资产")] = "",
    json: Json = False,
) -> None:
    """List tickets, newest first. 工单列表"""
    found = request(data, "ticket.list", states=state or [], asset_name=asset)
    _listing(found if json else [{**row, "title": show.title_of(row["code"])} for row in found], json, TICKET_COLUMNS)


@ticket_app.command("show")
def ticket_show(number: str, data: Data = None, json: Json = False) -> None:
    """Show a ticket: what happened, what it means, what to do. 工单详情"""
    _ticket(request(data, "ticket.show", number=number), json)


@ticket_app.command("acknowledge")
def ticket_acknowledge(number: str, data: Data = None, json: Json = False) -> None:
    """Say that somebody looks after it. 受理"""
    _ticket(request(data, "ticket.acknowledge", number=number), json)


@ticket_app.command("comment")
def ticket_comment(number: str, text: str, data: Data = None, json: Json = False) -> None:
    """Add a remark. 备注"""
    _ticket(request(data, "ticket.comment", number=number, text=text), json)


@ticket_app.command("resolve")
def ticket_resolve(
    number: str,
    cause: Annotated[str, typer.Option(help="Why it broke. 故障原因")],
    solution: Annotated[str, typer.Option(help="What was done. 解决方法")],
    data: Data = None,
    json: Json = False,
) -> None:
    """Say that it is mended, why it broke and what was done. 解决"""
    _ticket(request(data, "ticket.resolve", number=number, cause=cause, solution=solution), json)


@ticket_app.command("close")
def ticket_close(number: str, data: Data = None, json: Json = False) -> None:
    """File it away for good. 归档"""
    _ticket(request(data, "ticket.close", number=number), json)


@ticket_app.command("watch")
def ticket_watch(
    data: Data = None,
    all_: Annotated[bool, typer.Option("--all", help="From the first event on. 从头开始")] = False,
    json: Json = False,
) -> None:
    """Print what happens to tickets as it happens, until stopped. 实时跟踪"""
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
    state: Annotated[str, typer.Option(help="open or closed. 状态")] = "",
    asset: Annotated[str, typer.Option(help="Of one asset only. 资产")] = "",
    json: Json = False,
) -> None:
    """List faults, newest first. 故障列表"""
    columns = ("asset", "check", "item", "code", "severity", "state", "opened_at", "closed_at", "ticket")
    _listing(request(data, "fault.list", state=state, asset_name=asset), json, columns)


@ledger_app.command("verify")
def ledger_verify(data: Data = None, json: Json = False) -> None:
    """Recount every report of every agent; exit 1 when one is unexplained. 核对账目"""
    found = request(data, "ledger.verify")
    if json:
        show.as_json(found)
    else:
        show.facts(found, ("agents", "reports", "rejected", "gaps", "unexplained"))
        if found["accounts"]:
            show.rows(found["accounts"], ("agent", "asset", "epoch", "high_water", "unexplained"))
    raise typer.Exit(1 if found["unexplained"] else 0)


@ledger_app.command("dead-letters")
def ledger_dead_letters(data: Data = None, json: Json = False) -> None:
    """List reports that could not be processed. 无法处理的报告"""
    columns = ("agent_id", "epoch", "seq", "received_at", "reason", "detail", "bytes")
    _listing(request(data, "ledger.dead_letters"), json, columns)


@config_app.command("check")
def config_check(
    data: Data = None,
    inspection: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder to check. 待检查目录")] = None,
    json: Json = False,
) -> None:
    """Check collector.toml and the inspection folder, and show what they say. 检查配置"""
    config = configuration(data_folder(data), CommandLine(inspection=inspection))
    review = check_folder(config.inspection, config.zone)
    if json:
        show.as_json(review.as_json())
    else:
        for text in review.lines():
            show.line(text)


@config_app.command("diff")
def config_diff(
    inspection: Annotated[Path, typer.Argument(metavar="DIR", help="The new inspection folder. 新配置目录")],
    data: Data = None,
    json: Json = False,
) -> None:
    """Show which machines another inspection folder would change, and how. 比较配置"""
    found = request(data, "config.diff", folder=str(inspection.resolve()))
    lines = found.pop("lines")
    if json:
        show.as_json(found)
        return
    for text in lines:
        show.line(text)


def _listing(values: list[dict[str, Any]], json: bool, columns: tuple[str, ...]) -> None:
    if json:
        show.as_json(values)
    else:
        show.rows(values, columns)


def _one(value: dict[str, Any], json: bool, keys: tuple[str, ...]) -> None:
    if json:
        show.as_json(value)
    else:
        show.facts(value, keys)


def _agent(value: dict[str, Any], json: bool) -> None:
    _one(value, json, tuple(value))


def _ticket(value: dict[str, Any], json: bool) -> None:
    if json:
        show.as_json(value)
        return
    article = value["guide"][show.language()]
    show.line(f"{value['number']}  {article['title']}")
    show.facts(value, TICKET_FIELDS)
    print()
    for event in value["events"]:
        _event_line(
            {**event, "number": value["number"], "asset": value["asset"], "item": value["item"], "code": value["code"]}
        )
    print()
    show.line(article["meaning"])
    for number, step in enumerate(article["remedy"], 1):
        show.line(f"  {number}. {step}")


def _event_line(event: Mapping[str, Any]) -> None:
    data = event["data"]
    code = data.get("code") or event["code"]
    said = data.get("text") or data.get("solution") or data.get("reason") or ""
    if data.get("metrics") or data.get("facts"):
        said = show.summary_of(code, event["item"], data)
    title = show.title_of(event["code"])
    show.line(
        f"{event['at']}  {event['number']}  {event['kind']:<12}  {event['asset']}  {title}  {said}  ({event['actor']})"
    )


def _seconds(text: str) -> int:
    try:
        return round(parse_duration_s(float(text) if text.replace(".", "", 1).isdigit() else text))
    except SettingError as error:
        raise UsageError(str(error)) from None


def _labels(texts: list[str] | None) -> dict[str, str]:
    labels = {}
    for text in texts or []:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise UsageError(f"{text!r} is not a label: write name=value")
        labels[name] = value
    return labels
