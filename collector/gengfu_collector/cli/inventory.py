"""Commands of the inventory: what machines are made of, what is installed on them, what changed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from gengfu_checks import guide
from gengfu_checks.guide import text
from gengfu_checks.language import reader_language
from gengfu_collector.cli import show
from gengfu_collector.cli.common import Data, Json, duration_s, group, listing, one
from gengfu_collector.cli.reach import request

CHANGE_COLUMNS = ("at", "asset", "change", "category", "name", "details", "severity", "drift")

_NOT_KNOWN = {
    "zh": "尚无清单：代理启动后两分钟内上报，除非检查方案或该机器的 agent.toml 不允许"
    "（在该机器上执行 gengfu-agent status 查看）。",
    "en": "Nothing is known yet: an agent tells within two minutes of its start, unless its plan or the machine's own "
    "agent.toml forbids it (gengfu-agent status, run there, says so).",
}

inventory_app = group("Hardware and software of machines · 软硬件清单")
Category = Annotated[str, typer.Option(help="machine, os, cpu, memory, disk, nic, monitor, printer, software · 类别")]


@inventory_app.command("show")
def inventory_show(asset: str, data: Data = None, category: Category = "", json: Json = False) -> None:
    """Show what an asset has, parts and programs · 资产软硬件清单

    Exit 1 when that is not known yet. 尚未清点过时退出码为 1。
    """
    found = request(data, "inventory.show", name=asset, category=category)
    if json:
        show.as_json(found)
    else:
        show.facts(found, ("asset", "class", "looked_at", "changed_at", "cpu_seconds"))
        if not found["known"]:
            show.line(_NOT_KNOWN[reader_language()])
        for unread in found["unread"]:
            show.line(f"{show.word('category', unread['category'])}: {_why(unread)}")
        print()
        rows = [{**entry, "details": _details(entry["facts"], entry["name"])} for entry in found["entries"]]
        show.rows(rows, ("category", "name", "details", "since"))
    raise typer.Exit(0 if found["known"] else 1)


@inventory_app.command("changes")
def inventory_changes(
    data: Data = None,
    asset: Annotated[str, typer.Option(help="Of one asset only · 资产")] = "",
    since: Annotated[str, typer.Option(help="How far back, like 7d · 多久以来")] = "",
    category: Category = "",
    open_: Annotated[bool, typer.Option("--open", help="Only what a rule asks to look at · 仅待处理")] = False,
    json: Json = False,
) -> None:
    """List what changed, newest first · 变更记录"""
    since_ms = round((time.time() - duration_s("--since", since)) * 1000) if since else 0
    found = request(data, "inventory.changes", asset_name=asset, since_ms=since_ms, category=category, open_only=open_)
    shown = found if json else [{**row, "details": _difference(row)} for row in found]
    listing(shown, json, CHANGE_COLUMNS, "--since, --asset, --category")


@inventory_app.command("software")
def inventory_software(
    data: Data = None,
    name: Annotated[str, typer.Option(metavar="GLOB", help="Of these names, like '*office*' · 名称")] = "",
    json: Json = False,
) -> None:
    """Count software over all assets · 软件统计

    Of assets in service, the most frequent first. 统计在用资产，装机多的在前。
    """
    listing(request(data, "inventory.software", name=name), json, ("name", "version", "assets"), "--name")


@inventory_app.command("accept")
def inventory_accept(asset: str, data: Data = None, category: Category = "", json: Json = False) -> None:
    """Say that the changes of an asset are right · 确认变更

    Their tickets are resolved. 相应工单随即解决。
    """
    one(request(data, "inventory.accept", name=asset, category=category), json, ("asset", "changes_accepted"))


@inventory_app.command("refresh")
def inventory_refresh(asset: str, data: Data = None, json: Json = False) -> None:
    """Have a machine count itself anew now · 立即重新清点

    Its agent must be connected, and does it at most every five minutes. 代理须在线，最多每五分钟清点一次。
    """
    one(request(data, "inventory.refresh", name=asset), json, ("asset", "asked"))


def _details(facts: Mapping[str, Any], name: str) -> str:
    return " · ".join(_fact(key, value) for key, value in facts.items() if value != name)


def _fact(key: str, value: Any) -> str:
    if key == "size_bytes":
        return text.byte_size(value, reader_language())
    if value is True:
        return show.heading(key)
    return f"{show.heading(key)} {value}"


def _difference(row: Mapping[str, Any]) -> str:
    """The facts that differ, old and new; all of them where there was or is nothing."""
    before, after = row["before"], row["after"]
    if before is None or after is None:
        return _details(before or after or {}, row["name"])
    keys = [key for key in dict.fromkeys((*before, *after)) if before.get(key) != after.get(key)]
    return " · ".join(f"{_fact(key, before.get(key, '-'))} → {_shown(key, after.get(key, '-'))}" for key in keys)


def _shown(key: str, value: Any) -> str:
    return text.byte_size(value, reader_language()) if key == "size_bytes" and value != "-" else str(value)


def _why(unread: Mapping[str, Any]) -> str:
    return guide.summary(unread["code"], reader_language(), "", unread["facts"], {}, None)
