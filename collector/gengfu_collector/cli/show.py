"""Printing for people and for scripts. What comes from outside is never taken for markup."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.segment import Segment, Segments
from rich.table import Table
from rich.text import Text

from gengfu_checks import guide
from gengfu_checks.guide import words
from gengfu_checks.language import reader_language
from gengfu_proto.text import clean, json_lines

PIPE_WIDTH = 500

_COLOURS = {
    "critical": "bold red",
    "warning": "yellow",
    "unknown": "magenta",
    "no-data": "magenta",
    "ok": "green",
    "open": "bold red",
    "acknowledged": "yellow",
    "resolved": "green",
    "active": "green",
    "blocked": "red",
}

_HEADINGS_ZH = {
    "number": "编号",
    "state": "状态",
    "asset": "资产",
    "check": "检查项",
    "item": "对象",
    "code": "代码",
    "severity": "级别",
    "category": "分类",
    "priority": "优先级",
    "opened_at": "发生时间",
    "closed_at": "关闭时间",
    "resolved_at": "解决时间",
    "name": "名称",
    "class": "类别",
    "labels": "标签",
    "id": "标识",
    "connected": "在线",
    "last_seen_at": "最近在线",
    "version": "版本",
    "epoch": "纪元",
    "high_water": "已收序号",
    "ticket": "工单",
    "status": "状态",
    "since": "自",
    "uses_left": "剩余次数",
    "expires_at": "到期时间",
    "in_use": "使用中",
    "agents_told": "已通知代理数",
    "title": "结论",
    "copies": "隔离的副本数",
    "first_seen_at": "首次出现",
    "acknowledged_at": "受理时间",
    "cause": "原因",
    "solution": "解决方法",
    "hostname": "主机名",
    "platform": "平台",
    "machine_id": "机器标识",
    "plan_version": "计划版本",
    "enrolled_at": "注册时间",
    "certificate_until": "证书有效至",
    "recoveries_left": "剩余找回次数",
    "created_at": "创建时间",
    "retired_at": "退役时间",
    "retired_reason": "退役原因",
    "running": "运行中",
    "waiting_reports": "待处理报告",
    "agents": "代理",
    "reports": "报告",
    "rejected": "拒收",
    "gaps": "缺号",
    "unexplained": "无法解释",
    "agent": "代理",
    "agent_id": "代理",
    "seq": "序号",
    "received_at": "收到时间",
    "reason": "原因",
    "detail": "详情",
    "bytes": "字节",
    "faults_closed": "已关闭故障",
    "at": "时间",
    "change": "变更",
    "details": "详情",
    "drift": "处理情况",
    "looked_at": "最近清点",
    "changed_at": "最近变更",
    "cpu_seconds": "耗用 CPU 秒",
    "assets": "资产数",
    "changes_accepted": "已确认变更",
    "asked": "已要求清点",
    "maker": "厂商",
    "model": "型号",
    "serial": "序列号",
    "board": "主板",
    "firmware": "固件",
    "chassis": "机型",
    "cores": "核心",
    "threads": "线程",
    "slot": "插槽",
    "bank": "通道",
    "kind": "类型",
    "speed_mts": "速率 MT/s",
    "part": "部件号",
    "removable": "可移动",
    "address": "地址",
    "driver": "驱动",
    "device_id": "设备标识",
    "wireless": "无线",
    "connector": "接口",
    "made_in": "生产年份",
    "width_cm": "宽 cm",
    "height_cm": "高 cm",
    "uri": "地址",
    "location": "位置",
    "build": "构建",
    "kernel": "内核",
    "architecture": "架构",
    "publisher": "发布者",
    "installed_on": "安装日期",
    "count": "数量",
    "standard": "标准",
    "compliance": "合规率",
    "compliant": "符合",
    "deviating": "不符合",
    "excepted": "例外",
    "unknown": "未知",
    "machines": "机器数",
    "without_data": "无数据",
    "fully_compliant": "完全合规",
    "rule": "规则",
    "weight": "权重",
    "what": "检查内容",
    "expected": "应为",
    "found": "实际",
    "owner": "责任人",
    "excepted_until": "例外至",
}


_WORDS_ZH = {
    "opened": "发生",
    "raised": "升级",
    "lowered": "降级",
    "recoded": "变化",
    "resolved": "解决",
    "reopened": "重新打开",
    "recovered": "恢复确认",
    "acknowledged": "受理",
    "commented": "备注",
    "closed": "归档",
}

_WORD_COLUMNS = frozenset({"state", "status", "severity", "category", "change", "drift"})
_VALUES_ZH = {
    "ok": "正常",
    "warning": "警告",
    "critical": "严重",
    "unknown": "未知",
    "no-data": "无数据",
    "open": "打开",
    "acknowledged": "已受理",
    "resolved": "已解决",
    "closed": "已关闭",
    "software": "软件",
    "hardware": "硬件",
    "network": "网络",
    "security": "安全",
    "other": "其他",
    "active": "在用",
    "blocked": "已阻止",
    "quarantined": "已隔离",
    "retired": "已退役",
    "usable": "可用",
    "used_up": "已用完",
    "added": "新增",
    "removed": "移除",
    "changed": "变更",
    "shrunk": "变小",
    "more": "其余从略",
    "undone": "已复原",
    "accepted": "已确认",
    "machine": "整机",
    "cpu": "处理器",
    "memory": "内存",
    "disk": "磁盘",
    "nic": "网卡",
    "monitor": "显示器",
    "printer": "打印机",
    "os": "操作系统",
    "expired": "已过期",
    "compliant": "符合",
    "deviating": "不符合",
    "excepted": "例外",
    "malformed": "格式错误",
    "too_large": "过大",
    "unknown_shape": "结构未知",
    "limit": "超出限制",
    "failed": "处理失败",
}

# What closes a fault; the rest of the text is a person's.
_REASONS_ZH = {
    "recovered": "测量恢复正常",
    "no longer in the plan": "已不在巡检计划中",
    "asset retired": "资产已退役",
    "ticket closed by": "工单归档人：",
    "changes accepted by": "变更确认人：",
}

_ENGINE = "engine"


def in_chinese() -> bool:
    """Whether the reader's locale is Chinese."""
    return reader_language() == "zh"


def console() -> Console:
    """Standard output; wide in a pipe, so that nothing is cut."""
    return Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False, markup=False, emoji=False)


def as_json(value: Any) -> None:
    """Print a value for a script; what a terminal would obey is escaped, as JSON may."""
    print(json_lines(value))


def rows(values: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Print a list as a table."""
    if not values:
        print("无记录" if in_chinese() else "none", file=sys.stderr)
        return
    table = Table(box=None, pad_edge=False, header_style="bold", expand=False)
    for column in columns:
        # The first one is what other commands ask for: on a narrow terminal it is not the one to be cut.
        whole = max(cell_len(str(value.get(column))) for value in values) if column == columns[0] else None
        table.add_column(heading(column), no_wrap=True, overflow="ellipsis", min_width=whole)
    for value in values:
        table.add_row(*(_cell(column, value.get(column)) for column in columns))
    _print(table)


def heading(column: str) -> str:
    """A column's heading in the reader's language."""
    return _HEADINGS_ZH.get(column, column) if in_chinese() else column.replace("_", " ")


def facts(value: Mapping[str, Any], keys: Sequence[str]) -> None:
    """Print one thing, a line a field."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for key in keys:
        table.add_row(Text(heading(key), style="bold"), _cell(key, value.get(key)))
    _print(table)


def _print(table: Table) -> None:
    """Print a table without the blanks that fill up its lines: who copies from a terminal does not want them."""
    target = console()
    for parts in target.render_lines(table):
        while parts and not parts[-1].text.strip():
            parts.pop()
        last = parts.pop() if parts else Segment("")
        target.print(Segments([*parts, Segment(last.text.rstrip(), last.style), Segment.line()]), end="")


def line(text: str) -> None:
    """Print one line as it is."""
    console().print(harmless(text))


def harmless(text: str) -> str:
    """The text in one line, with U+FFFD for what a terminal would obey."""
    joined = " ".join(text.splitlines())
    return clean(joined, len(joined), "text")


def summary_of(code: str, check: str, item: str, data: Mapping[str, Any]) -> str:
    """What a finding of a check says, in the reader's language."""
    breach = data.get("breach") or {}
    return guide.summary(
        code,
        reader_language(),
        item,
        data.get("facts") or {},
        data.get("metrics") or {},
        breach.get("limit"),
        metric=breach.get("metric") or "",
        check=check,
    )


def details_of(code: str, check: str, data: Mapping[str, Any]) -> str:
    """Metrics and facts of a finding, by name and in their units."""
    kind = words.kind_of(code, check, data.get("metrics") or {})
    return " · ".join(words.details(kind, data.get("metrics") or {}, data.get("facts") or {}, reader_language()))


def check_of(code: str, check: str) -> str:
    """A check's name and what kind of check it is."""
    title = words.kind_title(words.kind_of(code, check), reader_language())
    if title == check:
        return check
    return f"{check}（{title}）" if in_chinese() else f"{check} ({title})"


def actor_of(actor: str) -> str:
    """Who did something to a ticket."""
    return "系统" if actor == _ENGINE and in_chinese() else actor


def word_of(kind: str) -> str:
    """What happened to a ticket, in the reader's language."""
    return _WORDS_ZH.get(kind, kind) if in_chinese() else kind


def reason_of(reason: str) -> str:
    """Why a fault ended, in the reader's language."""
    if in_chinese():
        for english, chinese in _REASONS_ZH.items():
            if reason.startswith(english):
                return chinese + reason.removeprefix(english)
    return reason


def title_of(code: str) -> str:
    """The title of a code in the reader's language."""
    return guide.article(code).text(reader_language()).title


def titled(values: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of things with a code, each with the code's title."""
    return [{**value, "title": title_of(value["code"])} for value in values]


def padded(text: str, columns: int) -> str:
    """The text with spaces up to so many columns of a terminal, where Chinese takes two a character."""
    return text + " " * (columns - cell_len(text))


def _cell(column: str, value: Any) -> Text:
    if value is None:
        return Text("-")
    if isinstance(value, bool):
        return Text(("是" if value else "否") if in_chinese() else ("yes" if value else "no"))
    if isinstance(value, Mapping):
        return Text(harmless(" ".join(f"{key}={part}" for key, part in value.items())) or "-")
    text = harmless(str(value))
    return Text(word(column, text), style=_COLOURS.get(text, ""))


def word(column: str, value: str) -> str:
    """A value of a column that holds words of a closed set, in the reader's language."""
    return _VALUES_ZH.get(value, value) if column in _WORD_COLUMNS and in_chinese() else value
