"""Finding checks: built in, by entry point, and what a broken one may not break."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gengfu_checks import registry
from gengfu_checks.errors import CheckError, ExtraMissing, UnknownCheck
from gengfu_checks.model import CheckKind

THIRD_PARTY = """
from gengfu_checks.model import CheckKind, Measurement, Metric

def measure(context):
    return [Measurement("", {"cups": 3.0})]

CHECK = CheckKind(name="coffee", measure=measure, metrics=(Metric("cups", "Cups left"),), codes=())
NOT_A_CHECK = "coffee"
"""

Install = Callable[[str, str], None]


@pytest.fixture(autouse=True)
def forget_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test starts with a registry that has loaded nothing."""
    monkeypatch.setattr(registry, "_loaded", {})


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """`install(module_text, entry_points)` puts a distribution with one module on the path."""

    def do(module_text: str, entry_points: str) -> None:
        (tmp_path / "brewery_of_tests.py").write_text(module_text, "utf-8")
        info = tmp_path / "brewery-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: brewery\nVersion: 1.0\n", "utf-8")
        (info / "entry_points.txt").write_text(f"[gengfu.checks]\n{entry_points}\n", "utf-8")
        monkeypatch.syspath_prepend(str(tmp_path))

    yield do
    sys.modules.pop("brewery_of_tests", None)


def in_fresh_interpreter(code: str) -> str:
    """Run code in a Python that has imported nothing yet; its standard output."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


@pytest.mark.parametrize("name", sorted(registry.BUILT_IN))
def test_every_built_in_check_loads_under_its_own_name(name: str) -> None:
    check = registry.load(name)
    assert isinstance(check, CheckKind)
    assert check.name == name
    assert registry.load(name) is check


def test_an_installed_check_is_listed_and_loads(install: Install) -> None:
    install(THIRD_PARTY, "coffee = brewery_of_tests:CHECK")
    assert {"coffee", *registry.BUILT_IN} <= set(registry.names())
    assert registry.load("coffee").metrics[0].name == "cups"


def test_an_unknown_name_is_refused_with_the_names_there_are(install: Install) -> None:
    install(THIRD_PARTY, "coffee = brewery_of_tests:CHECK")
    with pytest.raises(UnknownCheck, match=r"no check 'tea'; known: .*clock, coffee, containers, cpu"):
        registry.load("tea")


@pytest.mark.parametrize(
    ("entry_point", "error", "says"),
    [
        ("coffee = brewery_of_tests:NOT_A_CHECK", CheckError, "is not a CheckKind named coffee"),
        ("tea = brewery_of_tests:CHECK", CheckError, "is not a CheckKind named tea"),
        ("coffee = brewery_of_tests:NOTHING", CheckError, "names nothing"),
        ("coffee = not_installed_anywhere:CHECK", ExtraMissing, "cannot be imported: No module named"),
    ],
)
def test_a_broken_installed_check_breaks_only_itself(
    install: Install, entry_point: str, error: type[CheckError], says: str
) -> None:
    install(THIRD_PARTY, entry_point)
    with pytest.raises(error, match=says):
        registry.load(entry_point.partition(" ")[0])
    assert registry.load("cpu").name == "cpu"


def test_an_installed_check_cannot_take_a_built_in_name(install: Install) -> None:
    install(THIRD_PARTY.replace('"coffee"', '"cpu"'), "cpu = brewery_of_tests:CHECK")
    assert registry.load("cpu").metrics[0].name != "cups"


def test_a_missing_extra_names_the_command_and_breaks_only_its_check(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("import a_package_that_nobody_has", "")
    monkeypatch.setitem(registry.BUILT_IN, "switch_port", ("brewery_of_tests", "snmp"))
    with pytest.raises(ExtraMissing) as caught:
        registry.load("switch_port")
    assert "switch_port needs the package a_package_that_nobody_has" in str(caught.value)
    assert "pip install 'gengfu[snmp]'" in str(caught.value)
    assert registry.load("cpu").name == "cpu"


def test_a_module_of_our_own_that_is_missing_is_a_defect_not_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.BUILT_IN, "switch_port", ("gengfu_checks.snmp_that_is_not_there", "snmp"))
    with pytest.raises(ModuleNotFoundError):
        registry.load("switch_port")


def test_listing_imports_no_check_and_checking_imports_no_texts() -> None:
    code = (
        "import sys\n"
        "from gengfu_checks import registry\n"
        "registry.names()\n"
        "print([m for m in sys.modules if m.startswith('gengfu_checks.local')])\n"
        "[registry.load(name) for name in registry.BUILT_IN]\n"
        "print([m for m in sys.modules if m.startswith('gengfu_checks.guide')])\n"
    )
    assert in_fresh_interpreter(code) == "[]\n[]\n"


def test_built_in_checks_need_nothing_but_psutil_and_the_light_part_of_the_library() -> None:
    code = (
        "import sys\n"
        "from gengfu_checks import registry\n"
        "[registry.load(name) for name in registry.BUILT_IN]\n"
        "heavy = {'importlib.metadata', 'ctypes', 'asyncio', 'email', 'http', 'ssl', 'multiprocessing', 'tomllib'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
        "tops = {m.partition('.')[0] for m in sys.modules} - set(sys.stdlib_module_names)\n"
        "print(sorted(t for t in tops if not t.startswith(('_', '__editable'))))\n"
    )
    heavy, packages = in_fresh_interpreter(code).splitlines()
    assert heavy == "[]"
    assert set(eval(packages)) <= {"gengfu_checks", "psutil", "sitecustomize", "usercustomize"}
