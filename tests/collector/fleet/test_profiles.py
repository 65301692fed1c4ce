"""What may stand in a profile, and how a profile that may not is refused: file, line, what is allowed."""

from __future__ import annotations

from datetime import UTC
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gengfu_checks import registry
from gengfu_checks.model import Status
from gengfu_collector.errors import ConfigurationError
from gengfu_collector.fleet.inspection import Inspection, load_inspection
from gengfu_collector.fleet.plan_words import Doubt
from gengfu_collector.fleet.profiles import CheckRule, read_profile
from gengfu_collector.fleet.toml_table import parse

FRONT_DESK = """\
[[profile]]
name = "front-desk"
match = { class = "terminal", site = ["hq", "branch-7"] }
  [[profile.check]]
  kind = "process"
  name = "erp-client"
  every = "30s"
  timeout = "5s"
  confirm = 3
  recover = 4
  severity = "warning"
  set = { pattern = "erp", at_least = 1 }
  thresholds = { age_seconds = { warning = 86400, critical = 172800 } }
"""


def load(folder: Path, **files: str) -> Inspection:
    for name, text in files.items():
        (folder / f"{name}.toml").write_text(text, encoding="utf-8")
    return load_inspection(folder)


def test_the_form_of_a_profile(tmp_path: Path) -> None:
    inspection = load(tmp_path, desk=FRONT_DESK)
    orders = inspection.for_asset("terminal", {"site": "hq", "floor": "3"})
    check = next(check for check in orders.plan.checks if check.name == "erp-client")
    assert (check.kind, check.every_s, check.timeout_s) == ("process", 30, 5)
    assert check.settings == {"pattern": "erp", "match": "any", "at_least": 1}
    age = next(threshold for threshold in check.thresholds if threshold.metric == "age_seconds")
    assert (age.code, age.warning, age.critical) == ("process.too_old", 86400, 172800)
    assert orders.rules["erp-client"] == CheckRule(confirm=3, recover=4, worst=Status.WARNING)
    for others in ({"site": "branch-8"}, {}):
        assert "erp-client" not in inspection.for_asset("terminal", others).rules
    assert "erp-client" not in inspection.for_asset("server", {"site": "hq"}).rules


def test_a_check_is_named_like_its_kind_and_has_defaults(tmp_path: Path) -> None:
    inspection = load(
        tmp_path, own='[[profile]]\nname = "ups"\nmatch.class = "ups"\n[[profile.check]]\nkind = "disk"\n'
    )
    orders = inspection.for_asset("ups", {})
    (check,) = orders.plan.checks
    kind = registry.load("disk")
    assert (check.name, check.every_s, check.timeout_s) == ("disk", kind.every_s, kind.timeout_s)
    assert check.thresholds == kind.thresholds
    assert orders.rules == {"disk": CheckRule(2, 2, Status.CRITICAL)}


def check(line: str) -> str:
    """A profile with one process check, which has this in line 6."""
    return f'[[profile]]\nname = "x"\n\n[[profile.check]]\nkind = "process"\n{line}\nset.pattern = "erp"\n'


def disk(line: str) -> str:
    """The same with a disk check."""
    return f'[[profile]]\nname = "x"\n\n[[profile.check]]\nkind = "disk"\n{line}\n'


REFUSED = {
    "no name": ("[[profile]]\n", 1, ["needs a name"]),
    "empty name": ('[[profile]]\nname = " "\n', 2, ["name", "not empty"]),
    "not a list": ('[profile]\nname = "x"\n', 1, ["[[profile]]"]),
    "unknown top key": ('[[profile]]\nname = "x"\n\n[[profil]]\n', 4, ['"profil"', 'did you mean "profile"']),
    "unknown profile key": ('[[profile]]\nname = "x"\nmach = {}\n', 3, ['did you mean "match"', "absence"]),
    "unknown check key": (check('evry = "30s"'), 6, ['unknown key "evry"', 'did you mean "every"', "severity"]),
    "no kind": ('[[profile]]\nname = "x"\n\n[[profile.check]]\nevery = 3\n', 4, ["needs a kind", "process"]),
    "unknown kind": ('[[profile]]\nname = "x"\n[[profile.check]]\n\nkind = "proces"\n', 5, ['mean "process"']),
    "kind is a number": ('[[profile]]\nname = "x"\n[[profile.check]]\nkind = 3\n', 4, ["must be a text", "3"]),
    "bare number as text": (check('every = "30"'), 6, ["every", "'30'", "30s"]),
    "unknown unit": (check('every = "30x"'), 6, ["'30x'", "ms, s, m, h, d or w"]),
    "negative": (check("every = -1"), 6, ["not a duration"]),
    "boolean": (check("every = true"), 6, ["not a duration"]),
    "not a number": (check("every = nan"), 6, ["not a duration"]),
    "too often": (check('every = "999ms"'), 6, ["from 1s to 31d"]),
    "too seldom": (check('every = "5w"'), 6, ["from 1s to 31d", "5w"]),
    "no time": (check("timeout = 0"), 6, ["from 100ms to 1h"]),
    "timeout too long": (check('timeout = "61s"'), 6, ["timeout 61s", "every 1m"]),
    "every too short": (check('every = "3s"\ntimeout = "4s"'), 7, ["timeout 4s", "every 3s"]),
    "confirm 0": (check("confirm = 0"), 6, ["from 1 to 100", "0"]),
    "confirm 101": (check("confirm = 101"), 6, ["from 1 to 100"]),
    "confirm as text": (check('confirm = "2"'), 6, ["from 1 to 100", '"2"']),
    "recover a boolean": (check("recover = true"), 6, ["from 1 to 100"]),
    "enabled as text": (check('enabled = "no"'), 6, ["true or false"]),
    "unknown severity": (check('severity = "critcal"'), 6, ['did you mean "critical"', "warning"]),
    "bad check name": (check('name = "ERP client"'), 6, ["a-z, 0-9"]),
    "reserved check name": (check('name = "inventory"'), 6, ['"inventory" cannot be the name of a check']),
    "long check name": (check(f'name = "{"a" * 129}"'), 6, ["at most 128"]),
    "set is no table": (disk("set = 3"), 6, ["must be a table"]),
    "unknown setting": (check("set.patern = 3"), 6, ["'patern'", 'did you mean "pattern"', "at_least"]),
    "setting of a wrong type": (check('set.at_least = "one"'), 6, ["at_least", "an integer"]),
    "setting below its least value": (check("set.at_least = -1"), 6, ["least value 0"]),
    "setting not among the choices": (check('set.match = "nam"'), 6, ["command_line"]),
    "setting is a table": (check("set.at_least = { a = 1 }"), 6, ["an integer"]),
    "setting missing": ('[[profile]]\nname = "x"\n\n[[profile.check]]\nkind = "process"\nset = {}\n', 6, ["'pattern'"]),
    "all settings missing": ('[[profile]]\nname = "x"\n\n[[profile.check]]\nkind = "process"\n', 4, ["'pattern'"]),
    "invisible character": (check('set.user = "ad\\u200bmin"'), 6, ["setting user", "invisible"]),
    "text too long": (check(f'set.user = "{"x" * 5000}"'), 6, ["user", "4096"]),
    "unknown metric": (check("thresholds.age_secs = {}"), 6, ["'age_secs'", 'did you mean "age_seconds"']),
    "threshold is no table": (check("thresholds.age_seconds = 3"), 6, ["must be a table"]),
    "unknown limit": (check("thresholds.age_seconds.warn = 3"), 6, ["'warn'", "hysteresis"]),
    "limit as text": (check('thresholds.age_seconds = { warning = "1d" }'), 6, ["number in base units"]),
    "limit is true": (check("thresholds.age_seconds = { warning = true }"), 6, ["number in base units"]),
    "limits crossed": (check("thresholds.age_seconds = { warning = 9, critical = 8 }"), 6, ["beyond critical 8"]),
    "limit beyond the default": (disk("thresholds.used_ratio.warning = 0.99"), 6, ["0.99", "critical 0.95"]),
    "unknown direction": (check('thresholds.age_seconds.direction = "up"'), 6, ["above", "below"]),
    "negative hysteresis": (check("thresholds.age_seconds.hysteresis = -1"), 6, ["not negative"]),
    "items is no table": (disk("thresholds.used_ratio.items = 3"), 6, ["items", "table"]),
    "bad item": (disk('thresholds.used_ratio.items."/" = { warn = 3 }'), 6, ["'/'", "warning and critical"]),
    "invisible item": (disk('thresholds.used_ratio.items."/\\u202e" = { warning = 0.5 }'), 6, ["invisible"]),
    "number beyond 64 bits": (check(f"thresholds.age_seconds.warning = 1{'0' * 400}"), 6, ["64 bits"]),
    "two checks of one name": (
        '[[profile]]\nname = "x"\n[[profile.check]]\nkind = "disk"\n[[profile.check]]\nkind = "cpu"\nname = "disk"\n',
        7,
        ['"disk"', "line 3"],
    ),
    "two checks of one kind": (
        '[[profile]]\nname = "x"\n[[profile.check]]\nkind = "disk"\n\n[[profile.check]]\nkind = "disk"\n',
        6,
        ['"disk"', "line 3", "another name"],
    ),
    "two profiles of one name": (
        '[[profile]]\nname = "x"\n[[profile]]\n\nname = "x"\n',
        5,
        ['profile "x"', "file.toml:1"],
    ),
    "a built-in name": ('[[profile]]\nname = "server"\n', 2, ["built-in server.toml", "name of your own"]),
    "unknown class": ('[[profile]]\nname = "x"\nmatch.class = "terminl"\n', 3, ['did you mean "terminal"', "ups"]),
    "unknown class in a list": (
        '[[profile]]\nname = "x"\nmatch = { class = [\n"server",\n"swich"] }\n',
        5,
        ['did you mean "switch"'],
    ),
    "no class at all": ('[[profile]]\nname = "x"\nmatch.class = []\n', 3, ["1 to 1000 texts"]),
    "label is a number": ('[[profile]]\nname = "x"\nmatch.site = 3\n', 3, ["must be a text"]),
    "label is a list of numbers": ('[[profile]]\nname = "x"\nmatch.site = [\n"a",\n3]\n', 5, ["must be a text"]),
    "label with blanks": ('[[profile]]\nname = "x"\nmatch."my site" = "a"\n', 3, ["a label is a-z"]),
    "match is a text": ('[[profile]]\nname = "x"\nmatch = "server"\n', 3, ["must be a table"]),
    "unknown absence key": ('[[profile]]\nname = "x"\nabsence.expect = "never"\n', 3, ['did you mean "expected"']),
    "absence at once": ('[[profile]]\nname = "x"\nabsence.after = "5s"\n', 3, ["from 30s to 31d"]),
    "absence at odd hours": ('[[profile]]\nname = "x"\nabsence.expected = "mon-fri 9-17"\n', 3, ['"always", "never"']),
    "never absent": (
        '[[profile]]\nname = "x"\nabsence = { after = "3h", expected = "sat 09:00-11:00" }\n',
        3,
        ["3h", "longer than any stretch"],
    ),
    "not TOML": ('[[profile]]\nname = "x"\n\nmatch = {\n', 4, ["not TOML"]),
    "not TOML at the end": ('[[profile]]\nname = """x\n\n', 2, ["not TOML", "end of document"]),
    "a key twice": ('[[profile]]\nname = "x"\nname = "y"\n', 3, ["not TOML", "overwrite"]),
    "an endless number": (f"x = {'9' * 5000}", 0, ["not TOML", "digits"]),
    "deep brackets": (f"x = {'[' * 50_000}", 0, ["not TOML", "nested too deeply"]),
}  # fmt: skip


@pytest.mark.parametrize(("text", "line", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_refused_with_file_line_and_what_is_allowed(tmp_path: Path, text: str, line: int, words: list[str]) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load(tmp_path, file=text)
    message = str(refused.value)
    assert (refused.value.file, refused.value.line) == (str(tmp_path / "file.toml"), line), message
    assert [word for word in words if word not in message] == [], message
    assert message.startswith(f"{tmp_path / 'file.toml'}:{line}: " if line else f"{tmp_path / 'file.toml'}: ")
    assert len(message.splitlines()) == 1
    assert refused.value.exit_code == 2


def test_every_key_of_the_fixed_form_is_taken() -> None:
    warnings: list[Doubt] = []
    text = FRONT_DESK.replace('severity = "warning"', "enabled = true")
    profile = read_profile(parse(text, "x").tables("profile")[0], warnings)
    given = {key for (key, *_) in profile.checks[0].given}
    assert given == {"every", "timeout", "confirm", "recover", "enabled", "set", "thresholds"}
    assert warnings == []


def test_a_label_that_looks_like_class_is_pointed_out(tmp_path: Path) -> None:
    inspection = load(tmp_path, own='[[profile]]\nname = "x"\nmatch.clas = "server"\n')
    (warning,) = (doubt.text("en") for doubt in inspection.warnings)
    assert warning.startswith(f"{tmp_path / 'own.toml'}:3: ")
    assert "class" in warning


SMTP = """\
[[profile]]
name = "x"
match.class = "service"
[[profile.check]]
kind = "smtp"
set = { port = 25, tls = true, hosts = ["a", "b"], within = "3s", share = 0.5 }
thresholds = { answer_seconds = { warning = 1 } }
"""


@pytest.fixture
def smtp_extra_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.BUILT_IN, "smtp", ("package_that_nobody_has", "ssh"))


@pytest.mark.usefixtures("smtp_extra_missing")
def test_a_kind_whose_extra_is_missing_is_accepted_with_a_warning(tmp_path: Path) -> None:
    inspection = load(tmp_path, own=SMTP)
    (warning,) = (doubt.text("en") for doubt in inspection.warnings)
    assert warning.startswith(f"{tmp_path / 'own.toml'}:5: ")
    assert "pip install 'gengfu[ssh]'" in warning
    (check,) = inspection.for_asset("service", {}).plan.checks
    assert check.settings == {"port": 25, "tls": True, "hosts": ("a", "b"), "within": "3s", "share": 0.5}
    assert [(t.metric, t.code, t.warning) for t in check.thresholds] == [("answer_seconds", "threshold.breached", 1)]


@pytest.mark.usefixtures("smtp_extra_missing")
@pytest.mark.parametrize("value", ["{ a = 1 }", "1979-05-27", "[1]"])
def test_a_setting_that_no_check_can_take_is_refused_without_the_extra_too(tmp_path: Path, value: str) -> None:
    with pytest.raises(ConfigurationError, match=r"own.toml:6: setting port"):
        load(tmp_path, own=SMTP.replace("port = 25", f"port = {value}"))


SNIPPETS = st.sampled_from(
    [
        "[[profile]]\n", "[profile]\n", "[[profile.check]]\n", "[profile.check.set]\n", "[profile.match]\n",
        'name = "a"\n', 'name = "b"\n', 'kind = "disk"\n', 'kind = "process"\n', 'set.pattern = "("\n', "set = {}\n",
        'every = "1s"\n', "timeout = 1e308\n", "confirm = 100\n", "enabled = false\n", 'match.class = ["ups"]\n',
        "thresholds.used_ratio = { warning = -inf }\n", "thresholds.used_ratio.items = { '*' = { critical = 1 } }\n",
        'absence = { after = "1m" }\n', 'absence.expected = "sun-mon 23:00-01:00"\n', "thresholds = []\n",
        'thresholds.count = { critical = 2, direction = "below" }\n', "set.network = [false]\n", "absence = 1\n",
        "x\n", "\x00", '"""', "'",
    ]
)  # fmt: skip


@given(st.lists(SNIPPETS, max_size=14).map("".join) | st.text(max_size=60))
def test_any_text_is_a_profile_or_a_configuration_error(text: str) -> None:
    try:
        profiles = [read_profile(table, []) for table in parse(text, "f").tables("profile")]
        inspection = Inspection(profiles, UTC)
    except ConfigurationError as error:
        refused = error
    else:
        assert [inspection.for_asset(asset_class, {}).plan.version for asset_class in ("ups", "server")]
        return
    assert refused.file == "f"
    assert len(str(refused).splitlines()) == 1
