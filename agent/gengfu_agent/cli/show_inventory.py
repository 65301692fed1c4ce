"""`gengfu-agent inventory`: what this machine is made of and what is installed on it, here and now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from gengfu_agent.cli import table
from gengfu_agent.cli.words import word
from gengfu_agent.inventory.helper import cpu_ms
from gengfu_checks import guide
from gengfu_checks.guide import text
from gengfu_checks.inventory.collect import collect
from gengfu_checks.inventory.collected import Collected, name_of
from gengfu_checks.model import Fact, InventoryEntry, UnreadCategory
from gengfu_proto.text import json_lines

ORDER = ("machine", "os", "cpu", "memory", "disk", "nic", "monitor", "printer", "software")
_WORDS = {"cpu": "processor"}
_FACTS_ZH = {
    "version": "版本", "maker": "厂商", "model": "型号", "serial": "序列号", "board": "主板", "firmware": "固件",
    "chassis": "机型", "cores": "核心", "threads": "线程", "slot": "插槽", "bank": "通道", "kind": "类型",
    "speed_mts": "速率 MT/s", "part": "部件号", "name": "名称", "removable": "可移动", "address": "地址",
    "driver": "驱动", "device_id": "设备标识", "wireless": "无线", "connector": "接口", "made_in": "生产年份",
    "width_cm": "宽 cm", "height_cm": "高 cm", "uri": "地址", "location": "位置", "build": "构建", "kernel": "内核",
    "architecture": "架构", "publisher": "发布者", "installed_on": "安装日期",
}  # fmt: skip


def show_inventory(*, as_json: bool, language: str) -> int:
    """Look at this machine and print what is there, and what of it could not be read; returns 0."""
    before_ms = cpu_ms()
    found = collect()
    taken_ms = cpu_ms() - before_ms
    entries = sorted(found.entries.values(), key=lambda entry: (ORDER.index(entry.category), entry.key))
    if as_json:
        print(json_lines(_as_json(entries, found, taken_ms)))
    else:
        for line in _shown(entries, found, taken_ms, language):
            print(line)
    return 0


def _shown(entries: list[InventoryEntry], found: Collected, taken_ms: int, language: str) -> Iterator[str]:
    headings = [word(name, language) for name in ("category", "thing", "details")]
    cells = [[_category(entry.category, language), text.clean(_name(entry), 48)] for entry in entries]
    columns = table.room_for_last([headings[:-1], *cells], table.terminal_columns())
    rows = [
        (cell, list(table.wrap(_details(entry, language), columns, " · ")))
        for cell, entry in zip(cells, entries, strict=True)
    ]
    yield from table.table(headings, rows)
    yield ""
    for unread in found.unread.values():
        yield word("not_read", language, _category(unread.category, language), _why(unread, language))
    yield word("looked", language, len(entries), text.duration(taken_ms / 1000, language))


def _category(category: str, language: str) -> str:
    return word(_WORDS.get(category, category), language)


def _name(entry: InventoryEntry) -> str:
    return name_of(entry.key, entry.facts)


def _details(entry: InventoryEntry, language: str) -> list[str]:
    shown = {name: value for name, value in entry.facts.items() if str(value) != _name(entry)}
    return [_human(name, value, language) for name, value in shown.items()]


def _human(name: str, value: Fact, language: str) -> str:
    if name == "size_bytes" and isinstance(value, int):
        return text.byte_size(value, language)
    shown = name.replace("_", " ") if language == "en" else _FACTS_ZH.get(name, name)
    if isinstance(value, bool):
        return shown
    return f"{shown} {text.clean(str(value), table.MOST_COLUMNS)}"


def _why(unread: UnreadCategory, language: str) -> str:
    return guide.summary(unread.code, language, "", unread.facts, {}, None)


def _as_json(entries: list[InventoryEntry], found: Collected, taken_ms: int) -> Mapping[str, object]:
    return {
        "entries": [{"key": e.key, "category": e.category, "facts": dict(e.facts)} for e in entries],
        "unread": [{"category": u.category, "code": u.code, "facts": dict(u.facts)} for u in found.unread.values()],
        "cpu_seconds": taken_ms / 1000,
    }
