"""Every metric, fact and kind has a name in both languages, and values are shown in their unit."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import gengfu_checks
from gengfu_agent.self_check import METRICS as OF_THE_AGENT
from gengfu_checks import guide, registry
from gengfu_checks.guide import files, words
from gengfu_checks.guide.text import FORMATS, TEXT_FORMATS

METRICS = {name: {metric.name for metric in registry.load(name).metrics} for name in registry.BUILT_IN} | {
    "agent": {metric.name for metric in OF_THE_AGENT}
}
KINDS = sorted(METRICS)
CHINESE = re.compile(r"[\u4e00-\u9fff]")
SAME_IN_CHINESE = {"initrd"}
LANGUAGE_SUFFIX = re.compile(r"_(zh|en)$")


@cache
def trees() -> list[ast.Module]:
    """The code of the checks."""
    folder = Path(gengfu_checks.__file__).parent
    return [ast.parse(path.read_text("utf-8")) for path in (*folder.glob("*.py"), *(folder / "local").glob("*.py"))]


@cache
def facts_in_source() -> frozenset[str]:
    """Names of facts that stand in the code of the checks as literals."""
    return frozenset(name for tree in trees() for node in ast.walk(tree) for name in facts_of(node))


def facts_of(node: ast.AST) -> Iterator[str]:
    """What a node names: `facts = {..}`, `facts["x"] = ..`, `facts={..}`, the dictionary of a problem or an error."""
    given: list[ast.expr | None] = []
    if isinstance(node, ast.Assign | ast.AnnAssign):
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        if isinstance(target, ast.Name) and target.id == "facts":
            given.append(node.value)
        if isinstance(target, ast.Subscript) and isinstance(target.value, ast.Name) and target.value.id == "facts":
            yield from [target.slice.value] if isinstance(target.slice, ast.Constant) else []  # type: ignore[list-item]
    if isinstance(node, ast.Call):
        given += [keyword.value for keyword in node.keywords if keyword.arg == "facts"]
        if isinstance(node.func, ast.Name) and node.func.id in ("Problem", "CannotMeasure", "Measurement"):
            given += node.args[1 if node.func.id == "CannotMeasure" else 2 :]
    for part in given:
        if isinstance(part, ast.Dict):
            yield from [key.value for key in part.keys if isinstance(key, ast.Constant)]  # type: ignore[misc]


def sentences() -> Iterator[str]:
    """What checks say in words of their own: why they cannot run here, what a program did, which right is missing."""
    for tree in trees():
        for node in ast.walk(tree):
            given: list[ast.expr | None] = []
            if isinstance(node, ast.FunctionDef) and node.name == "usable":
                given += [part.value for part in ast.walk(node) if isinstance(part, ast.Return)]
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                given += node.args[1:2] if node.func.id == "failed" else []
                given += node.args[:1] if node.func.id == "needs_rights" else []
            if isinstance(node, ast.Dict):
                named = zip(node.keys, node.values, strict=True)
                given += [v for k, v in named if isinstance(k, ast.Constant) and k.value in ("reason", "needs")]
            yield from [said for part in given if part is not None for said in literals(part)]


def literals(node: ast.expr) -> Iterator[str]:
    """The texts that an expression can be, with a 1 for what is put into one."""
    match node:
        case ast.Constant(value=str(said)):
            yield said
        case ast.JoinedStr(values=parts):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "1" for part in parts)
        case ast.IfExp(body=body, orelse=orelse):
            yield from (*literals(body), *literals(orelse))


@pytest.mark.parametrize("kind", KINDS)
def test_every_metric_of_a_kind_has_a_name_and_no_other_has(kind: str) -> None:
    assert set(files.tables(kind)["metrics"]) == METRICS[kind]
    for language in guide.LANGUAGES:
        shown = words.details(kind, dict.fromkeys(METRICS[kind], 1.0), {}, language)
        assert len(set(shown)) == len(METRICS[kind])
        assert not {part for part in shown if "_" in part or "?" in part}


@pytest.mark.parametrize("kind", KINDS)
def test_no_two_things_of_a_kind_have_one_name(kind: str) -> None:
    tables = files.tables(kind)
    for language in guide.LANGUAGES:
        named = Counter(word[language] for part in ("metrics", "facts") for word in tables.get(part, {}).values())
        assert [name for name, count in named.items() if count > 1] == []


@pytest.mark.parametrize("name", sorted(files.names()))
def test_words_are_whole_and_in_their_language(name: str) -> None:
    tables = files.tables(name)
    listed = [*tables.get("metrics", {}).values(), *tables.get("facts", {}).values()]
    listed += [tables["title"]] if "title" in tables else []
    for word in listed:
        assert {"zh", "en"} <= set(word) <= {"zh", "en", "format", "phrases", "values"}, word
        assert CHINESE.search(word["zh"]) or word["zh"] in SAME_IN_CHINESE, word
        assert not CHINESE.search(word["en"]), word
        assert word.get("format", "number") in {*FORMATS, *TEXT_FORMATS}, word
    for english, chinese in [*tables.get("phrases", {}).items()] + [
        pair for word in listed for pair in word.get("values", {}).items()
    ]:
        assert CHINESE.search(chinese), english
        assert english.count("{}") >= chinese.count("{}"), english
    assert ("title" in tables) == (name in METRICS)


def test_every_fact_has_a_name() -> None:
    named = {fact for name in files.names() for fact in files.tables(name).get("facts", {})}
    told = {LANGUAGE_SUFFIX.sub("", fact) for fact in facts_in_source()}
    assert {"device", "model", "needs", "limit_s", "security_updates", "title"} <= told
    assert sorted(told - named) == [], "name them in [facts] of the file of the kind, or of guide/common.toml"


@pytest.mark.parametrize("code", sorted(guide.codes()))
def test_facts_of_summaries_have_names_where_they_are_told(code: str) -> None:
    kind = code.partition(".")[0]
    named = {*files.tables(kind).get("facts", {}), *files.tables(files.COMMON)["facts"]}
    assert set(guide.article(code).facts) <= named


@pytest.mark.parametrize(
    ("kind", "name", "value", "english", "chinese"),
    [
        ("disk", "used_ratio", 0.934, "used 93.4%", "已用 93.4%"),
        ("disk", "free_bytes", 1536.0, "free 1.5 KiB", "剩余 1.5 KiB"),
        ("disk", "read_only", 1.0, "read-only yes", "只读 是"),
        ("disk_encryption", "encrypted", 0.0, "all encrypted no", "全部加密 否"),
        ("uptime", "uptime_seconds", 93784.0, "up for 1 d 2 h", "已运行 1 天 2 小时"),
        ("cpu", "load5_per_cpu_ratio", 1.88, "5 min load for each CPU 1.88", "每个 CPU 的 5 分钟负载 1.88"),
        ("network", "speed_bytes_per_second", 1.25e8, "speed 1 Gbit/s", "速率 1 Gbit/s"),
        ("wifi", "signal_dbm", -60.0, "signal -60 dBm", "信号 -60 dBm"),
        ("coffee", "water_bytes_total", 2048.0, "water 2 KiB", "water 2 KiB"),
        ("coffee", "celsius", 70.0, "celsius 70", "celsius 70"),
    ],
)
def test_metrics_by_example(kind: str, name: str, value: float, english: str, chinese: str) -> None:
    assert words.details(kind, {name: value}, {}, "en") == [english]
    assert words.details(kind, {name: value}, {}, "zh") == [chinese]


def test_facts_by_example() -> None:
    facts = {"duplex": "half", "link": "eth0", "title_zh": "标准", "title_en": "standard", "wanted": True}
    assert words.details("network", {}, facts, "zh") == ["双工 半双工", "网卡 eth0", "title 标准", "wanted 是"]
    assert words.details("network", {}, facts, "en") == ["duplex half", "link eth0", "title standard", "wanted yes"]
    reason = {"reason": "media-empty-error, door-open, something-else"}
    assert words.details("printer_queue", {}, reason, "zh") == ["打印机状态 缺纸, 盖板打开, something-else"]


def test_every_sentence_of_a_check_has_its_chinese() -> None:
    said = set(sentences())
    assert {"not supported on 1", "read access", "did not end within 1 s"} <= said
    told = {
        sentence: str(words.fact_value("", "reason", sentence, "zh"))
        for sentence in said
        if re.search("[a-z]", sentence)
    }
    without = sorted(sentence for sentence, chinese in told.items() if not CHINESE.search(chinese))
    assert without == [], "put their Chinese into [phrases] of guide/common.toml"


def test_own_sentences_are_told_in_chinese_and_others_as_they_are() -> None:
    facts = {"program": "smartctl", "reason": "did not end within 25 s"}
    assert "smartctl 没有给出可用的结果：25 秒内没有结束" in guide.summary(
        "check.program_failed", "zh", "", facts, {}, None
    )
    assert "did not end within 25 s" in guide.summary("check.program_failed", "en", "", facts, {}, None)
    strange = {"reason": "{0.__class__} ended with ease\x1b"}
    assert "{0.__class__}" in guide.summary("check.program_failed", "zh", "", strange, {}, None)


def test_a_limit_of_somebodys_own_is_told_with_title_and_unit() -> None:
    metrics = {"memory_bytes": 2.0**30}
    told = guide.summary("threshold.breached", "zh", "", {}, metrics, 2.0**29, metric="memory_bytes", check="process")
    assert "内存当前值 1 GiB，阈值 512 MiB" in told


def test_the_kind_of_a_finding_is_told_by_its_code_its_check_or_its_metrics() -> None:
    of_process = ["processes", "memory_bytes", "cpu_seconds_total"]
    assert words.kind_of("process.too_few", "erp", []) == "process"
    assert words.kind_of("ok", "process", []) == "process"
    assert words.kind_of("threshold.breached", "erp", of_process) == "process"
    assert words.kind_of("threshold.breached", "erp", ["threads"]) == "erp", "more than one kind has that"
    assert words.kind_of("threshold.breached", "erp", []) == "erp"
    assert words.kind_of("threshold.breached", "erp", [*of_process, "teapots"]) == "erp"


@given(
    st.sampled_from(["disk", "printer_queue", "baseline", "", "../common", "coffee"]),
    st.text(max_size=30),
    st.one_of(st.text(st.characters(), max_size=900), st.integers(), st.floats(), st.booleans(), st.just(10**400)),
    st.sampled_from(["zh", "en"]),
)
def test_details_never_fail_and_are_clean(kind: str, name: str, value: str | int | float | bool, language: str) -> None:
    facts: dict[str, str | int | float | bool] = {name: value, "reason": value, "duplex": value}
    for line in words.details(kind, {name: 0.5, "used_ratio": float("nan")}, facts, language):
        assert line.isprintable()
        assert len(line) <= 400
