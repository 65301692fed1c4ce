"""What `config check` and `config diff` say, in English and Chinese. Keys and values stay as files have them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

ENGLISH, CHINESE = "en", "zh"

_SENTENCES = {
    "check": (
        "{name}: every {every}, timeout {timeout}, confirm {confirm}, recover {recover}, at most {worst}",
        "{name}：每 {every} 一次，超时 {timeout}，异常 {confirm} 次告警，正常 {recover} 次恢复，最高级别{worst}",
    ),
    "absence": ("absence: after {after}, expected {hours}", "absence：{after} 无消息即告警，应在线时间 {hours}"),
    "inventory": ("inventory: every {every}", "inventory：每 {every} 清点一次"),
    "no_inventory": ("inventory: never", "inventory：不清点"),
    "set_by": ("; {profile} set {keys}", "；由 {profile} 设置：{keys}"),
    "none": ("none", "无"),
    "entries": ("{count} entries", "{count} 项"),
    "and_more": (" and {count} more", " 等，另有 {count} 项"),
    "summary": ("{profiles}, {warnings}", "{profiles}，{warnings}"),
    "warning": ("warning: {text}", "警告：{text}"),
    "ended": (
        "{place}: this exception ended on {until}; its rules count again",
        "{place}：该例外已于 {until} 到期，其规则重新生效",
    ),
    "as_label": (
        "{place}: {key} is taken as a label; class was not meant?",
        "{place}：{key} 被当作标签；是否应为 class？",
    ),
    "not_checked": (
        "{place}: the settings of check kind {kind} are not checked, and its default thresholds are not known: {error}",
        "{place}：检查项 {kind} 的设置未经核对，其默认阈值未知：{error}",
    ),
    "strangers": (
        "{place}: no asset in service is called {names}",
        "{place}：没有名为 {names} 的在用资产",
    ),
    "standard": ("standard {name} ({place}): {rules}", "标准 {name}（{place}）：{rules}"),
    "profile": ("{name} ({place}): {checks} for {match}", "{name}（{place}）：{checks}，适用于 {match}"),
    "taken_out": ("{name}: taken out", "{name}：已移除"),
    "example": ("for {asset}, with {checks} of other profiles", "以 {asset} 为例，另有其他方案的 {checks}"),
    "exception": (
        "exception ({place}): {rules} of {standard} for {whose} until {until}, {owner}: {reason}",
        "例外（{place}）：{standard} 的 {rules}，适用于 {whose}，至 {until}，责任人 {owner}：{reason}",
    ),
    "changing": ("{changing} of {assets} would change", "{assets}中有 {changing} 个会改变"),
    "every_asset": ("every asset", "所有资产"),
    "or": (" or ", " 或 "),
}


@dataclass(frozen=True, slots=True)
class Doubt:
    """Something that works and may not be meant: where it stands (`FILE:LINE`), the sentence about it, its values."""

    place: str
    sentence: str
    values: Mapping[str, str]

    def text(self, language: str) -> str:
        """The sentence."""
        return say(language, self.sentence, place=self.place, **self.values)


_COUNTED = {
    "profile": "个方案",
    "warning": "条警告",
    "rule": "条规则",
    "check": "项检查",
    "asset": "个资产",
}
_LEVELS = {"ok": "正常", "unknown": "未知", "warning": "警告", "critical": "严重"}


def say(language: str, sentence: str, /, **values: object) -> str:
    """A sentence with its values."""
    return _SENTENCES[sentence][language == CHINESE].format(**values)


def count(number: int, what: str, language: str) -> str:
    """So many of something: "1 rule", "2 rules"."""
    if language == CHINESE:
        return f"{number} {_COUNTED[what]}"
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def level(word: str, language: str) -> str:
    """A severity."""
    return _LEVELS.get(word, word) if language == CHINESE else word
