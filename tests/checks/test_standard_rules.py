"""What a rule and an exception may hold, and that both travel as they are."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gengfu_agent.cli import main
from gengfu_checks import standards
from gengfu_checks.guide import files, words
from gengfu_checks.standards.rules import (
    MAX_RULES,
    SYSTEMS,
    Waiver,
    read_rule,
    read_standard,
    standard_of_texts,
    waivers_of_texts,
)
from gengfu_checks.standards.values import RuleError

GOOD: dict[str, object] = {"id": "a", "kind": "file_absent", "path": "/x", "reason": "why"}
SETTING: dict[str, object] = {**GOOD, "kind": "file_setting", "file": "/x", "key": "k", "equals": 1}
del SETTING["path"]


def without(table: dict[str, object], *keys: str) -> dict[str, object]:
    return {key: value for key, value in table.items() if key not in keys}


@pytest.mark.parametrize(
    ("table", "key", "message"),
    [
        (without(GOOD, "id"), "", "id is missing"),
        (without(GOOD, "kind"), "", "kind is missing; allowed: software_required"),
        (without(GOOD, "reason"), "", "reason is missing"),
        (without(GOOD, "path"), "", "a rule of kind file_absent needs path"),
        ({**GOOD, "kind": "shell"}, "kind", "kind: 'shell' is not one of software_required"),
        ({**GOOD, "kind": "file_absnt"}, "kind", 'did you mean "file_absent"'),
        ({**GOOD, "id": "A b"}, "id", "is not an id"),
        ({**GOOD, "pth": 1}, "pth", "unknown key 'pth'; allowed: id, kind"),
        ({**GOOD, "path": "x"}, "path", "is not an absolute path"),
        ({**GOOD, "path": "/a/../b"}, "path", r"\.\. is not allowed"),
        ({**GOOD, "path": "/etc/*.bad"}, "path", "the path of one file"),
        ({**GOOD, "path": "C:\\a", "on": ["linux"]}, "on", "'linux' is not one of windows"),
        ({**GOOD, "path": "/a", "if_exists": "C:\\a"}, "if_exists", "no system for which this rule is has paths"),
        ({**GOOD, "path": "C:\\a\\..\\b"}, "path", r"\.\. is not allowed"),
        ({**GOOD, "reason": {"zh": "a"}}, "reason", "write { zh"),
        ({**GOOD, "reason": "a\nb"}, "reason", "without control characters"),
        ({**GOOD, "weight": 0}, "weight", "must be more than 0"),
        ({**GOOD, "weight": True}, "weight", "must be a number"),
        ({**GOOD, "weight": float("nan")}, "weight", "must be a number"),
        ({**GOOD, "severity": "low"}, "severity", "is not one of info, warning, critical"),
        ({**GOOD, "on": ["bsd"]}, "on", "'bsd' is not one of linux, macos"),
        ({**GOOD, "on": []}, "on", "1 to 50 texts are needed"),
        (without(SETTING, "equals"), "", "needs equals, at_least or at_most"),
        ({**SETTING, "equals": [{}]}, "equals", "must be a text, a number, true or false"),
        ({**SETTING, "at_least": "x"}, "at_least", "must be a number"),
        ({**SETTING, "file": "/etc/*/x"}, "file", "only the name of a file may be a glob"),
        ({**SETTING, "format": "yaml"}, "format", "is not one of text, ini, json"),
        ({**SETTING, "first": 1}, "first", "must be true or false"),
        ({**SETTING, "kind": "sysctl"}, "file", "unknown key 'file'"),
        ({**GOOD, "kind": "file_present", "sha256": "abc"}, "sha256", "64 hexadecimal digits"),
        ({"id": "a", "kind": "sysctl", "reason": "r", "key": "a..b", "equals": 1}, "key", "is not a sysctl"),
        ({"id": "a", "kind": "sysctl", "reason": "r", "key": "../x", "equals": 1}, "key", "is not a sysctl"),
        (
            {"id": "a", "kind": "sysctl", "reason": "r", "key": "a.b", "equals": 1, "on": "windows"},
            "on",
            "'windows' is not one of linux, macos",
        ),
        (
            {"id": "a", "kind": "registry_value", "reason": "r", "key": "HKCU\\X", "name": "", "equals": 1},
            "key",
            "HKLM",
        ),
        (
            {"id": "a", "kind": "registry_value", "reason": "r", "key": "HKLM\\sam\\X", "name": "", "equals": 1},
            "key",
            "secrets",
        ),
        (
            {"id": "a", "kind": "service_running", "reason": "r", "names": ["a;b"]},
            "names",
            "is not the name of a service",
        ),
        ({**GOOD, "path": "/" + "x" * 300}, "path", "1 to 200 characters"),
        ({"id": "a", "kind": "software_minimum", "reason": "r", "names": "x", "version": 5.2}, "version", "quotation"),
        ({"id": "a", "kind": "software_minimum", "reason": "r", "names": "x", "version": "new"}, "version", "no digit"),
        (
            {"id": "a", "kind": "software_forbidden", "reason": "r", "names": ["x" * 199] * 50},
            "",
            "at most 4000 characters",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_key(table: dict[str, object], key: str, message: str) -> None:
    with pytest.raises(RuleError, match=message) as refused:
        read_rule(table)
    assert refused.value.key == key


def test_a_rule_without_systems_is_for_all_that_its_kind_knows() -> None:
    assert read_rule({"id": "a", "kind": "service_running", "reason": "r", "names": "x"}).systems == SYSTEMS
    assert read_rule(GOOD).systems == ("linux", "macos")
    assert read_rule({**GOOD, "path": r"C:\x"}).systems == ("windows",)
    either = {**SETTING, "file": ["/etc/x", r"C:\x"]}
    assert read_rule(either).systems == SYSTEMS
    registry = {"id": "a", "kind": "registry_value", "reason": "r", "key": "HKLM\\X", "name": "", "equals": 1}
    assert read_rule(registry).systems == ("windows",)


@pytest.mark.parametrize("name", standards.built_in_ids())
def test_a_standard_travels_as_it_is(name: str) -> None:
    standard = standards.load(name)
    assert standard_of_texts(standard.texts()) == standard
    assert all(len(text) <= 4_000 and text.isprintable() for text in standard.texts())


def test_an_exception_travels_as_it_is() -> None:
    waiver = Waiver(("a", "b*"), "2027-01-31", 1.8e9, "李雷", "等待新系统")
    assert waivers_of_texts([waiver.text()]) == (waiver,)
    for text in (
        "{}",
        "[]",
        "x",
        waiver.text().replace("owner", "owners"),
        waiver.text().replace("1800000000.0", '"x"'),
    ):
        with pytest.raises(RuleError):
            waivers_of_texts([text])


def test_standards_that_are_none_are_refused() -> None:
    head, one = '{"id":"s","title":"T"}', read_rule(GOOD).text
    assert standard_of_texts([head, one]).version == "1"
    for texts in ([], [head], [one, one], [head, one, one], [head, "{"], [head, "[" * 5000], ["7", one]):
        with pytest.raises(RuleError):
            standard_of_texts(texts)
    with pytest.raises(RuleError, match="1 to 300 rules"):
        read_standard({"id": "s", "title": "T"}, [read_rule(GOOD)] * (MAX_RULES + 1))


VALUES = st.recursive(
    st.one_of(st.text(max_size=10), st.integers(), st.floats(), st.booleans(), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([*SETTING, "path", "names", "on", "weight", "severity", "default"]), VALUES))
def test_no_table_breaks_the_reader(table: dict[str, object]) -> None:
    try:
        rule = read_rule({**SETTING, **table})
    except RuleError:
        return
    assert standard_of_texts(['{"id":"s","title":"T"}', rule.text]).rules == (rule,)


RULE = """\
[[rule]]
id = "a"
kind = "file_absent"
path = "/x"
reason = "why"
"""
HEAD = '[standard]\nid = "s"\ntitle = "T"\n\n'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (HEAD + RULE + RULE, ":10: there is a rule 'a' already"),
        (
            HEAD + RULE + RULE.replace('"a"', '"b"').replace("path", "pth"),
            ':10: unknown key .pth..*did you mean "path"',
        ),
        (HEAD + RULE + 'x = "', ":10: is not TOML"),
        (HEAD + RULE.replace("[[rule]]", "[[rules]]"), "unknown table 'rules'; allowed: standard, rule"),
        ("\n" + HEAD.replace("title", "titel") + RULE, ":2: unknown key 'titel'"),
        (RULE, r"has no \[standard\]"),
        (HEAD.replace("T", "\udcd6") + RULE, "save the file as UTF-8"),
    ],
)
def test_a_mistake_in_a_file_is_told_with_its_line(text: str, told: str, tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(RuleError, match=f"^{file}.*{told}"):
        standards.load(str(file))
    assert main(["check", "baseline", "--set", f"standard={file}"]) == 2


def test_every_mistake_has_its_chinese() -> None:
    """As a reader sees it, behind the place where it stands; {} is for what is put into a sentence."""
    folder = Path(standards.__file__).parent
    calls = [node for file in folder.glob("*.py") for node in ast.walk(ast.parse(file.read_text("utf-8")))]
    said = [
        node.args[0]
        for node in calls
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "RuleError"
    ]
    texts = [
        "".join(str(getattr(part, "value", "")) if isinstance(part, ast.Constant) else "1" for part in parts)
        for parts in (getattr(arg, "values", [arg]) for arg in said)
    ]
    assert len(texts) > 40
    phrases = files.tables(files.COMMON)["phrases"]
    forms = {text: (text, re.sub("^1:(1:)? ", "", text)) for text in texts if re.search("[a-z]", text)}
    assert [text for text, told in forms.items() if not any(words.translated(phrases, form) for form in told)] == []


def test_a_mistake_is_told_in_chinese(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    file = tmp_path / "own.toml"
    file.write_text(HEAD + RULE.replace("path", "pth"))
    assert main(["check", "baseline", "--set", f"standard={file}"]) == 2
    told = capsys.readouterr().err
    assert "own.toml 第 5 行：未知的项 'pth'；可用的有：id, kind" in told
    assert '（是否应为 "path"？）' in told


def test_built_in_standards_are_the_two(tmp_path: Path) -> None:
    assert standards.built_in_ids() == ("office-terminal", "server")
    large = tmp_path / "x.toml"
    large.write_bytes(b"#" * (standards.MAX_FILE_BYTES + 1))
    with pytest.raises(RuleError, match="larger than"):
        standards.read_file(large)
