"""Several profiles on one asset: what they say together, against plain dictionaries and every asset there can be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gengfu_checks import registry
from gengfu_checks.model import ItemLimits, Status
from gengfu_collector.errors import ConfigurationError
from gengfu_collector.fleet.inspection import Inspection
from gengfu_collector.fleet.profiles import CheckRule, read_profile
from gengfu_collector.fleet.toml_table import parse
from gengfu_proto.convert.plan import MAX_CHECKS, decode_plan


def inspect(*files: str) -> Inspection:
    """Profiles from texts that stand in files 1.toml, 2.toml ..."""
    tables = [table for i, text in enumerate(files, 1) for table in parse(text, f"{i}.toml").tables("profile")]
    return Inspection([read_profile(table, []) for table in tables], UTC)


def refusal(*files: str) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as refused:
        inspect(*files)
    return refused.value


KEYS = {
    "every": (5, 20, 60),
    "timeout": (2, 10, 30),
    "confirm": (1, 7),
    "recover": (1, 7),
    "enabled": (True, False),
    "severity": ("warning", "critical"),
    "set.network": (True, False),
    "set.enough_free_bytes": (0, 10),
    "thresholds.used_ratio.warning": (0.5, 0.92, 0.97),
    "thresholds.used_ratio.critical": (0.91, 0.99),
}
SITES, ROLES = ("hq", "b7"), ("desk", "lab")
MATCHES = st.fixed_dictionaries(
    {},
    optional={
        "class": st.sampled_from(["ups", "server"]),
        "site": st.sampled_from(SITES),
        "role": st.sampled_from(ROLES),
    },
)
GIVEN = st.fixed_dictionaries({}, optional={key: st.sampled_from(values) for key, values in KEYS.items()})
Written = tuple[dict[str, str], dict[str, Any]]


def toml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else f'"{value}"' if isinstance(value, str) else str(value)


def text_of(profiles: list[Written]) -> str:
    lines = []
    for i, (match, keys) in enumerate(profiles):
        lines += ["[[profile]]", f'name = "{i}"', *(f'match.{key} = "{value}"' for key, value in match.items())]
        lines += ["[[profile.check]]", 'kind = "disk"', *(f"{key} = {toml(value)}" for key, value in keys.items())]
    return "\n".join(lines)


def every_asset() -> Iterator[tuple[str, dict[str, str]]]:
    for asset_class, site, role in product(("ups", "server", "switch"), (None, *SITES), (None, *ROLES)):
        yield asset_class, {key: value for key, value in (("site", site), ("role", role)) if value}


def by_hand(profiles: list[Written], asset_class: str, labels: Mapping[str, str]) -> dict[str, Any] | None:
    """What one dictionary after another says; None when nothing runs."""
    asset = {"class": asset_class, **labels}
    fitting = [keys for match, keys in profiles if all(asset.get(key) == value for key, value in match.items())]
    kind = registry.load("disk")
    (ratio,) = [threshold for threshold in kind.thresholds if threshold.metric == "used_ratio"]
    said: dict[str, Any] = {
        "every": kind.every_s, "confirm": 2, "recover": 2, "enabled": True, "severity": "critical",
        "set.network": True, "set.enough_free_bytes": 20 * 1024**3,
        "thresholds.used_ratio.warning": ratio.warning, "thresholds.used_ratio.critical": ratio.critical,
    }  # fmt: skip
    for keys in fitting:
        said |= keys
    said.setdefault("timeout", min(kind.timeout_s, said["every"]))
    return said if fitting and said.pop("enabled") else None


def is_sound(said: dict[str, Any] | None) -> bool:
    if said is None:
        return True
    limits_ok: bool = said["thresholds.used_ratio.warning"] <= said["thresholds.used_ratio.critical"]
    return limits_ok and said["timeout"] <= said["every"]


def as_said(inspection: Inspection, asset_class: str, labels: Mapping[str, str]) -> dict[str, Any] | None:
    orders = inspection.for_asset(asset_class, labels)
    assert decode_plan(orders.wire) == orders.plan
    if not orders.plan.checks:
        assert orders.rules == {}
        return None
    (check,) = orders.plan.checks
    rule = orders.rules["disk"]
    (ratio,) = [threshold for threshold in check.thresholds if threshold.metric == "used_ratio"]
    return {
        "every": check.every_s, "timeout": check.timeout_s, "confirm": rule.confirm, "recover": rule.recover,
        "severity": rule.worst.word, "set.network": check.settings["network"],
        "set.enough_free_bytes": check.settings["enough_free_bytes"],
        "thresholds.used_ratio.warning": ratio.warning, "thresholds.used_ratio.critical": ratio.critical,
    }  # fmt: skip


@given(st.lists(st.tuples(MATCHES, GIVEN), min_size=1, max_size=4))
def test_profiles_say_together_what_dictionaries_would_and_fail_only_when_loaded(profiles: list[Written]) -> None:
    said = {
        (asset_class, *labels.items()): by_hand(profiles, asset_class, labels) for asset_class, labels in every_asset()
    }
    try:
        inspection = inspect(text_of(profiles))
    except ConfigurationError:
        assert not all(map(is_sound, said.values()))
        return
    for asset_class, labels in every_asset():
        assert as_said(inspection, asset_class, labels) == said[(asset_class, *labels.items())]
    assert all(map(is_sound, said.values()))


@given(st.lists(st.tuples(MATCHES, GIVEN), min_size=1, max_size=4))
def test_origins_name_the_last_profile_that_set_a_key(profiles: list[Written]) -> None:
    sound = [
        (match, {k: v for k, v in keys.items() if k not in ("timeout", "enabled") and "thr" not in k})
        for match, keys in profiles
    ]
    inspection = inspect(text_of([(match, keys | {"timeout": 1}) for match, keys in sound]))
    for asset_class, labels in every_asset():
        asset = {"class": asset_class, **labels}
        last = {
            key: str(i)
            for i, (match, keys) in enumerate(sound)
            if all(asset.get(label) == value for label, value in match.items())
            for key in (*keys, "timeout")
        }
        assert inspection.for_asset(asset_class, labels).origins.get("disk", {}) == last


PROCESS = '[[profile]]\nname = "{name}"\n{match}\n[[profile.check]]\nkind = "process"\nname = "erp"\n{keys}\n'


def process(name: str, match: str, keys: str) -> str:
    return PROCESS.format(name=name, match=match, keys=keys)


def test_a_required_setting_may_come_from_another_profile() -> None:
    first = process("first", 'match.class = "server"', 'set.pattern = "erp"')
    second = process("second", 'match = { class = "server", site = "hq" }', "set.at_least = 3")
    inspection = inspect(first, second)
    (check,) = inspection.for_asset("server", {"site": "hq"}).plan.checks
    assert (check.settings["pattern"], check.settings["at_least"]) == ("erp", 3)


def test_a_required_setting_that_some_asset_would_lack_is_refused() -> None:
    first = process("first", 'match.site = "hq"', 'set.pattern = "erp"')
    second = process("second", 'match.class = "server"', "\nset.at_least = 3")
    error = refusal(first, second)
    assert (error.file, error.line) == ("2.toml", 8)
    assert "'pattern'" in str(error)


def test_one_name_for_two_kinds_is_refused_only_where_both_fit() -> None:
    disk = '[[profile]]\nname = "other"\nmatch = { %s }\n[[profile.check]]\n\nkind = "disk"\nname = "erp"\n'
    first = process("first", 'match = { site = "hq", class = "server" }', 'set.pattern = "erp"')
    error = refusal(first, disk % 'class = "server"')
    assert (error.file, error.line) == ("2.toml", 6)
    assert '"erp" is of kind disk here and of kind process in profile "first" (1.toml:4)' in str(error)
    for apart in ('class = "terminal"', 'site = "b7"'):
        inspection = inspect(first, disk % apart)
        assert inspection.for_asset("server", {"site": "hq"}).plan.checks[0].kind == "process"
        assert inspection.for_asset("terminal", {"site": "b7"}).plan.checks[0].kind == "disk"


def test_profiles_that_do_not_go_together_are_all_named() -> None:
    first = process("first", "", 'set.pattern = "erp"\ntimeout = 20')
    second = process("second", 'match.site = "hq"', "every = 10")
    error = refusal(first, second)
    assert (error.file, error.line) == ("2.toml", 7)
    assert "first [1.toml:4], second [2.toml:4]" in str(error)


def test_of_globs_for_items_those_of_the_latest_profile_win() -> None:
    disk = (
        '[[profile]]\nname = "%s"\n[[profile.check]]\nkind = "disk"\n[profile.check.thresholds.used_ratio.items]\n%s\n'
    )
    inspection = inspect(
        disk % ("a", '"/mnt/*" = { warning = 0.5 }\n"/" = { warning = 0.6 }'), disk % ("b", '"*" = { critical = 0.7 }')
    )
    (check,) = inspection.for_asset("server", {}).plan.checks
    (ratio,) = [threshold for threshold in check.thresholds if threshold.metric == "used_ratio"]
    assert list(ratio.items.items()) == [
        ("*", ItemLimits(None, 0.7)),
        ("/mnt/*", ItemLimits(0.5)),
        ("/", ItemLimits(0.6)),
    ]


def test_a_check_can_be_taken_out_and_brought_back() -> None:
    texts = [
        process("a", "", 'set.pattern = "x"'),
        process("b", "", "enabled = false"),
        process("c", 'match.site = "hq"', "enabled = true\nconfirm = 9"),
    ]
    inspection = inspect(*texts)
    assert inspection.for_asset("server", {}).plan.checks == ()
    assert inspection.for_asset("server", {"site": "hq"}).rules == {"erp": CheckRule(9, 2, Status.CRITICAL)}


def test_absence_is_put_together_by_key() -> None:
    inspection = inspect(
        '[[profile]]\nname = "a"\nabsence = { after = "5m", expected = "never" }\n',
        '[[profile]]\nname = "b"\nmatch.site = "hq"\nabsence.expected = "mon 08:00-09:00"\n',
    )
    at_hq = inspection.for_asset("terminal", {"site": "hq"})
    assert (at_hq.absence.after_s, at_hq.absence.expected.text) == (300, "mon 08:00-09:00")
    assert at_hq.absence_origins == {"after": "a", "expected": "b"}
    assert inspection.for_asset("terminal", {}).absence.expected.text == "never"


def test_absence_that_could_never_come_is_refused_wherever_it_arises() -> None:
    error = refusal(
        '[[profile]]\nname = "a"\nabsence.expected = "mon 08:00-09:00"\n',
        '[[profile]]\nname = "b"\nmatch.site = "hq"\n\nabsence.after = "2h"\n',
    )
    assert (error.file, error.line) == ("2.toml", 5)
    assert "nothing would ever be absent" in str(error)


def test_without_any_word_on_absence_silence_is_a_fault() -> None:
    rule = inspect().for_asset("server", {}).absence
    assert (rule.after_s, rule.expected.is_always) == (120, True)


def test_equal_plans_have_equal_versions_whatever_the_order() -> None:
    a, b = process("a", "", 'set.pattern = "x"'), '[[profile]]\nname = "b"\n[[profile.check]]\nkind = "disk"\n'
    assert inspect(a, b).for_asset("ups", {}).wire == inspect(b, a).for_asset("ups", {}).wire
    other = inspect(a.replace('"x"', '"y"'), b).for_asset("ups", {}).plan
    assert other.version != inspect(a, b).for_asset("ups", {}).plan.version
    assert other.version


def test_assets_that_the_same_profiles_fit_share_their_orders() -> None:
    inspection = inspect(process("a", 'match.site = "hq"', 'set.pattern = "x"'))
    first = inspection.for_asset("server", {"site": "hq", "rack": "1"})
    assert inspection.for_asset("terminal", {"site": "hq", "rack": "2"}) is first


def many_checks(name: str, count: int, match: str = "", setting: str = "x") -> str:
    check = '[[profile.check]]\nkind = "process"\nname = "{}-{}"\nset = {{ pattern = "x", user = "{}" }}\n'
    return f'[[profile]]\nname = "{name}"\n{match}\n' + "".join(check.format(name, i, setting) for i in range(count))


def test_a_plan_that_could_grow_too_large_is_refused() -> None:
    inspect(many_checks("a", MAX_CHECKS))
    assert "501 checks" in str(refusal(many_checks("a", MAX_CHECKS + 1)).args[0])
    assert "at most 500" in str(refusal(many_checks("a", 300), many_checks("b", 201)))
    apart = inspect(many_checks("a", 300, 'match.site = "a"'), many_checks("b", 300, 'match.site = "b"'))
    assert len(apart.for_asset("server", {"site": "b"}).plan.checks) == 300


def test_a_plan_of_too_many_bytes_is_refused() -> None:
    assert "bytes of plan" in str(refusal(many_checks("a", 200, setting="x" * 4000)))


def test_profiles_that_meet_in_too_many_ways_are_refused() -> None:
    texts = [process(f"p{i}", f'match.label_{i} = "x"', 'set.pattern = "x"') for i in range(20)]
    assert "can meet in more than" in str(refusal(*texts))
