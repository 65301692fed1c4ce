"""The tree of commands, and those of the collector itself."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from gengfu_checks.language import reader_language
from gengfu_collector import __version__
from gengfu_collector.cli import PROGRAM, show
from gengfu_collector.cli.common import Data, Json, group, listing
from gengfu_collector.cli.compliance import compliance
from gengfu_collector.cli.fleet import agent_app, asset_app, token_app
from gengfu_collector.cli.inventory import inventory_app
from gengfu_collector.cli.reach import configuration, data_folder, has_store, request
from gengfu_collector.cli.root import root_app
from gengfu_collector.cli.tickets import fault_app, ticket_app
from gengfu_collector.errors import UsageError
from gengfu_collector.fleet.plan_words import say

app = typer.Typer(
    help="Gengfu 更夫: collector of inspection results, tickets and metrics.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
ledger_app = group("The account of every report · 收报账目")
config_app = group("The inspection folder · 巡检配置")
for name, commands in {
    "token": token_app,
    "asset": asset_app,
    "agent": agent_app,
    "root": root_app,
    "ticket": ticket_app,
    "fault": fault_app,
    "inventory": inventory_app,
    "ledger": ledger_app,
    "config": config_app,
}.items():
    app.add_typer(commands, name=name)
app.command()(compliance)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"{PROGRAM} {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version · 版本")
    ] = False,
) -> None:
    """Stands before every command."""


@app.command()
def run(
    data: Data = None,
    http: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Metrics. Default 127.0.0.1:8420")] = None,
    stream: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Agents. Default 0.0.0.0:8421")] = None,
    enrol: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Enrolment. Default 0.0.0.0:8422")] = None,
    inspection: Annotated[Path | None, typer.Option(metavar="DIR", help="Inspection folder · 巡检配置目录")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error")] = None,
) -> None:
    """Run the collector until it is stopped · 运行采集器"""
    from gengfu_collector.app.collector import serve
    from gengfu_collector.config import INSPECTION_FOLDER, CommandLine
    from gengfu_collector.logs import configure_logging
    from gengfu_collector.store.database import prepare_folder

    folder, options = data_folder(data), CommandLine(http, stream, enrol, inspection, log_level)
    config = configuration(folder, options)
    prepare_folder(folder)
    if config.inspection is None:
        # There from the start: what is put into it later counts from the next reload on.
        prepare_folder(folder / INSPECTION_FOLDER)
        config = configuration(folder, options)
    configure_logging(config.log_level, sys.stderr)

    def announce(ports: Mapping[str, int]) -> None:
        host = config.listen.http.host
        host = f"[{host}]" if ":" in host else host
        metrics, next_step = f"http://{host}:{ports['http']}/metrics", f"gengfu-collector token create --data {folder}"
        if show.in_chinese():
            print(f"更夫采集器 {__version__} 已就绪。数据目录：{folder}")
            print(f"  指标    {metrics}")
            print(f"  代理    端口 {ports['stream']}（上报），端口 {ports['enrol']}（注册）")
            print(f"  下一步  {next_step}", flush=True)
        else:
            print(f"Gengfu collector {__version__} is ready. Data: {folder}")
            print(f"  metrics  {metrics}")
            print(f"  agents   port {ports['stream']} (stream), port {ports['enrol']} (enrolment)")
            print(f"  next     {next_step}", flush=True)

    asyncio.run(serve(config, announce))


@app.command()
def status(data: Data = None, json: Json = False) -> None:
    """Say whether a collector runs here and how busy it is · 运行状态"""
    found = request(data, "status")
    if json:
        show.as_json(found)
    else:
        show.facts(found, ("running", "connected", "waiting_reports"))
    raise typer.Exit(0 if found["running"] else 1)


@app.command()
def reload(data: Data = None) -> None:
    """Read the inspection folder anew · 重新加载配置

    Agents whose plan is another then get it. 计划有变的代理随即收到新计划。
    """
    found = request(data, "reload", language=reader_language())
    if not found["running"]:
        raise UsageError("no collector runs here; it reads the inspection folder when it starts")
    sent = found["plans_sent"]
    show.line(f"已向 {sent} 个代理下发新计划" if show.in_chinese() else f"{sent} agents got a new plan")
    for warning in found["warnings"]:
        show.line(say(reader_language(), "warning", text=warning))


@ledger_app.command("verify")
def ledger_verify(data: Data = None, json: Json = False) -> None:
    """Recount every report of every agent · 核对账目

    Exit 1 when one is unexplained. 有报告无法解释时退出码为 1。
    """
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
    """List reports that could not be processed · 无法处理的报告"""
    columns = ("agent_id", "epoch", "seq", "received_at", "reason", "detail", "bytes")
    found = request(data, "ledger.dead_letters")
    listing(found if json else [{**row, "reason": show.word("state", row["reason"])} for row in found], json, columns)


@config_app.command("check")
def config_check(
    data: Data = None,
    inspection: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder to check · 待检查目录")] = None,
    json: Json = False,
) -> None:
    """Check collector.toml and the inspection folder · 检查配置

    Then show what they say. 无误时显示其内容。
    """
    from gengfu_collector.config import CommandLine
    from gengfu_collector.fleet.inspection import load_inspection
    from gengfu_collector.fleet.review import review

    folder = data_folder(data)
    config = configuration(folder, CommandLine(inspection=inspection))
    loaded = load_inspection(config.inspection, config.zone)
    names = [row["name"] for row in request(data, "asset.list", retired=False)] if has_store(folder) else None
    found = review(loaded, names)
    if json:
        show.as_json(found.as_json())
    else:
        for text in found.lines(reader_language()):
            show.line(text)


@config_app.command("diff")
def config_diff(
    inspection: Annotated[Path, typer.Argument(metavar="DIR", help="The new inspection folder · 新配置目录")],
    data: Data = None,
    json: Json = False,
) -> None:
    """Show what another folder would change where · 比较配置

    Which machines would get which other plan. 哪些机器的计划会怎样改变。
    """
    found = request(data, "config.diff", folder=str(inspection.resolve()), language=reader_language())
    lines = found.pop("lines")
    if json:
        show.as_json(found)
        return
    for text in lines:
        show.line(text)
