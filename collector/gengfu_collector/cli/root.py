"""Commands of the certificate authority's roots."""

from __future__ import annotations

from typing import Any

from gengfu_collector.cli import show
from gengfu_collector.cli.common import Data, Json, group, listing
from gengfu_collector.cli.reach import request

root_app = group("Roots of the agents' trust, good for twenty years · 根证书")


@root_app.command("list")
def root_list(data: Data = None, json: Json = False) -> None:
    """List roots; agents trust all of them, one signs · 根证书列表"""
    listing(request(data, "root.list"), json, ("name", "in_use", "expires_at"))


@root_app.command("prepare")
def root_prepare(data: Data = None, json: Json = False) -> None:
    """Make the next root and tell agents · 准备下一个根证书

    Use it when all had time to hear of it. 待所有代理都已获知后再启用。
    """
    _changed(request(data, "root.prepare"), json)


@root_app.command("use")
def root_use(data: Data = None, json: Json = False) -> None:
    """Sign with the prepared root from now on · 启用已准备的根证书

    Nothing has to be done to the agents. 代理端无需操作。
    """
    _changed(request(data, "root.use"), json)


def _changed(found: dict[str, Any], json: bool) -> None:
    if json:
        show.as_json(found)
    else:
        show.facts(found, ("name", "agents_told"))
        show.rows(found["roots"], ("name", "in_use", "expires_at"))
