"""Words that the command line says in the reader's language."""

from __future__ import annotations

LANGUAGES = ("zh", "en")

_WORDS = {
    "ok": ("ok", "正常"),
    "warning": ("warning", "警告"),
    "critical": ("critical", "严重"),
    "unknown": ("unknown", "未知"),
    "status": ("STATUS", "状态"),
    "item": ("ITEM", "对象"),
    "finding": ("FINDING", "结果"),
    "what_to_do": ("What to do: {} ({})", "处理建议：{}（{}）"),
    "nothing": ("nothing to look at here", "本机没有可检查的对象"),
    "check": ("CHECK", "检查项"),
    "about": ("ABOUT", "内容"),
    "here": ("HERE", "本机"),
    "every": ("EVERY", "周期"),
    "settings": ("SETTINGS (* needed)", "设置（* 必填）"),
    "why_not": ("why not", "原因"),
    "yes": ("yes", "可用"),
    "no": ("no", "不可用"),
    "not_allowed": ("not allowed by agent.toml", "agent.toml 不允许"),
    "not_running": ("not running", "未运行"),
    "running": ("running", "运行中"),
    "since": ("since", "自"),
    "not_enrolled": (
        "not enrolled: gengfu-agent enrol --collector HOST:PORT --token TOKEN",
        "尚未注册：gengfu-agent enrol --collector 主机:端口 --token 令牌",
    ),
    "enrolled": ("enrolled as {} ({}); start it with: {}", "已注册为 {}（{}）；启动：{}"),
    "start": ("start it with: gengfu-agent run", "启动：gengfu-agent run"),
    "not_readable": (
        "the agent's status cannot be read; another version may be running",
        "无法读取代理状态，可能正在运行另一版本",
    ),
    "agent": ("agent", "代理"),
    "asset": ("asset", "资产"),
    "collector": ("collector", "采集器"),
    "last_acknowledged": ("acknowledged", "最近确认"),
    "ago": ("{} ago", "{}前"),
    "never": ("never", "从未"),
    "plan": ("plan", "计划"),
    "checks_count": ("{} checks", "{} 项检查"),
    "refused_count": ("{} refused", "{} 项被拒绝"),
    "refused": ("refused", "被拒绝"),
    "more_refused": ("and {} more: see --json", "另有 {} 项，见 --json"),
    "hanging_count": ("{} hanging", "{} 项卡住"),
    "no_plan": ("none yet", "尚未收到"),
    "spool": ("spool", "本地缓存"),
    "reports_count": ("{} reports", "{} 条记录"),
    "oldest": ("oldest {}", "最早 {}前"),
    "dropped": ("{} dropped", "已丢弃 {} 条"),
    "cost": ("own cost", "自身开销"),
    "cpu": ("CPU {}", "CPU {}"),
    "a_minute": ("{} a minute", "每分钟 {}"),
    "threads": ("{} threads", "{} 个线程"),
    "programs": ("programs found", "找到的程序"),
    "clock": ("clock", "时钟"),
    "clock_off": ("{} against the collector", "与采集器相差 {}"),
    "certificate": ("certificate", "证书"),
    "expires_in": ("expires in {}", "{}后到期"),
    "expired": ("expired", "已到期"),
    "category": ("CATEGORY", "类别"),
    "thing": ("THING", "名称"),
    "details": ("DETAILS", "详情"),
    "machine": ("machine", "整机"),
    "processor": ("processor", "处理器"),
    "memory": ("memory", "内存"),
    "disk": ("disk", "磁盘"),
    "nic": ("network card", "网卡"),
    "monitor": ("monitor", "显示器"),
    "printer": ("printer", "打印机"),
    "os": ("system", "操作系统"),
    "software": ("software", "软件"),
    "not_read": ("not read in full: {}: {}", "未能完整读取{}：{}"),
    "looked": ("{} entries, CPU {}", "共 {} 项，耗用 CPU {}"),
    "last_error": ("last error", "最近错误"),
}

_CONNECTION = {
    "offline": ("offline", "离线"),
    "connecting": ("connecting", "连接中"),
    "greeting": ("greeting", "握手中"),
    "streaming": ("streaming", "已连接"),
    "leaving": ("leaving", "正在断开"),
    "recovering": ("recovering its certificate", "正在恢复证书"),
    "blocked": ("kept out by the collector", "被采集器拒绝"),
    "stopped": ("stopped", "已停止"),
}


def word(name: str, language: str, *values: object) -> str:
    """Return a word or phrase; `values` go where the phrase has {}."""
    return _WORDS[name][language == "zh"].format(*values)


def connection_words(state: str, language: str) -> str:
    """Return what a state of the connection is called; one that this version does not know stays as it is."""
    return _CONNECTION.get(state, (state, state))[language == "zh"]
