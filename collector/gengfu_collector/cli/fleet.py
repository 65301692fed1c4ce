"""Commands of the fleet: tokens, assets, agents."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gengfu_collector.cli import show
from gengfu_collector.cli.common import MAX_DIGITS, Data, Json, duration_s, group, listing, one
from gengfu_collector.cli.reach import request
from gengfu_collector.errors import UsageError

token_app = group("Tokens with which machines enrol · 注册令牌")
asset_app = group("Assets: what is looked after · 资产")
agent_app = group("Agents on those machines · 采集代理")


@token_app.command("create")
def token_create(
    data: Data = None,
    uses: Annotated[int, typer.Option(help="How many machines it lets in · 可用次数")] = 1,
    ttl: Annotated[str, typer.Option(help="How long it is good, like 24h · 有效期")] = "24h",
    asset_class: Annotated[
        str, typer.Option("--class", help="Class of the assets: terminal, server · 资产类别")
    ] = "terminal",
    label: Annotated[list[str] | None, typer.Option(help="Label of the assets, name=value · 标签")] = None,
    json: Json = False,
) -> None:
    """Print a token, once · 创建注册令牌"""
    found = request(
        data,
        "token.create",
        uses=uses,
        ttl_s=round(duration_s("--ttl", ttl)),
        asset_class=asset_class,
        labels=_labels(label),
    )
    if json:
        show.as_json(found)
    else:
        print(found["token"])


@token_app.command("list")
def token_list(data: Data = None, json: Json = False) -> None:
    """List tokens, without their secrets · 令牌列表"""
    listing(request(data, "token.list"), json, ("id", "state", "class", "labels", "uses_left", "expires_at"))


@token_app.command("revoke")
def token_revoke(
    token_id: Annotated[int, typer.Argument(min=1, max=10**MAX_DIGITS)], data: Data = None, json: Json = False
) -> None:
    """End a token now; machines that it let in stay · 吊销令牌"""
    one(request(data, "token.revoke", token_id=token_id), json, ("id", "state", "expires_at"))


@asset_app.command("list")
def asset_list(
    data: Data = None,
    all_: Annotated[bool, typer.Option("--all", help="Retired ones too · 含已退役")] = False,
    json: Json = False,
) -> None:
    """List assets · 资产列表"""
    listing(request(data, "asset.list", retired=all_), json, ("name", "class", "state", "labels"))


@asset_app.command("show")
def asset_show(name: str, data: Data = None, json: Json = False) -> None:
    """Show an asset and all that is looked at on it · 资产详情"""
    found = request(data, "asset.show", name=name)
    if json:
        show.as_json(found)
        return
    show.facts(found, ("name", "class", "state", "labels", "created_at", "retired_at", "retired_reason"))
    print()
    show.rows(show.titled(found["subjects"]), ("check", "item", "status", "title", "code", "since"))


@asset_app.command("rename")
def asset_rename(name: str, new_name: str, data: Data = None, json: Json = False) -> None:
    """Give an asset another name · 重命名"""
    one(request(data, "asset.rename", name=name, new_name=new_name), json, ("name", "class", "state", "labels"))


@asset_app.command("classify")
def asset_classify(name: str, asset_class: str, data: Data = None, json: Json = False) -> None:
    """Put an asset into another class · 变更类别

    Its agent gets that class's plan. 其代理改按新类别的方案执行。
    """
    one(request(data, "asset.classify", name=name, asset_class=asset_class), json, ("name", "class", "labels"))


@asset_app.command("label")
def asset_label(name: str, labels: list[str], data: Data = None, json: Json = False) -> None:
    """Replace the labels of an asset · 设置标签

    Write each as name=value; all that it had before go. 每个标签写作 名称=值；原有标签全部替换。
    """
    one(request(data, "asset.label", name=name, labels=_labels(labels)), json, ("name", "class", "labels"))


@asset_app.command("retire")
def asset_retire(
    name: str,
    reason: Annotated[str, typer.Option(help="Why · 原因")],
    data: Data = None,
    json: Json = False,
) -> None:
    """Take an asset out of service · 退役

    Its faults close with that reason. 其故障以此原因关闭。
    """
    one(request(data, "asset.retire", name=name, reason=reason), json, ("name", "state", "faults_closed"))


@agent_app.command("list")
def agent_list(data: Data = None, json: Json = False) -> None:
    """List agents · 代理列表"""
    columns = ("id", "asset", "state", "connected", "last_seen_at", "version", "epoch", "high_water")
    listing(request(data, "agent.list"), json, columns)


@agent_app.command("show")
def agent_show(agent: str, data: Data = None, json: Json = False) -> None:
    """Show an agent · 代理详情"""
    _agent(request(data, "agent.show", uid=agent), json)


@agent_app.command("block")
def agent_block(agent: str, data: Data = None, json: Json = False) -> None:
    """Cut an agent off and keep it out · 封禁代理"""
    _agent(request(data, "agent.block", uid=agent), json)


@agent_app.command("unblock")
def agent_unblock(agent: str, data: Data = None, json: Json = False) -> None:
    """Let a blocked agent in again · 解除封禁"""
    _agent(request(data, "agent.unblock", uid=agent), json)


@agent_app.command("allow")
def agent_allow(agent: str, data: Data = None, json: Json = False) -> None:
    """Let a machine come back by its binding key again · 允许凭绑定密钥恢复"""
    _agent(request(data, "agent.allow", uid=agent), json)


def _agent(value: dict[str, Any], json: bool) -> None:
    copies = value["copies"]
    one(value if json else {**value, "copies": len(copies)}, json, tuple(value))
    if copies and not json:
        print()
        show.rows(copies, ("hostname", "machine_id", "first_seen_at", "last_seen_at"))


def _labels(texts: list[str] | None) -> dict[str, str]:
    labels = {}
    for text in texts or []:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise UsageError(f"{text!r} is not a label: write name=value")
        labels[name] = value
    return labels
