"""What the documents say of the code is there: paths, links, make targets, the table of checks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gengfu_checks.registry import BUILT_IN

DOCUMENTS = (
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "docs/promises.md",
    "agent/README.md",
    "checks/README.md",
    "collector/README.md",
    "proto/README.md",
)
TOP_FOLDERS = ("agent", "checks", "collector", "deploy", "docs", "proto", "requirements", "tests", ".ci")


@pytest.fixture(params=DOCUMENTS)
def document(request: pytest.FixtureRequest, checkout: Path) -> Path:
    return checkout / str(request.param)


def section(text: str, heading: str) -> str:
    """What stands under a heading, up to the next of the same rank."""
    return text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def checks_in_table(text: str) -> list[str]:
    return re.findall(r"^\| `([a-z_0-9]+)` \|", text, re.MULTILINE)


@pytest.mark.parametrize("heading", ["Checks", "检查项"])
def test_the_readme_lists_every_check_and_no_other(checkout: Path, heading: str) -> None:
    text = (checkout / "README.md").read_text(encoding="utf-8")
    assert checks_in_table(section(text, heading)) == sorted(BUILT_IN)


def test_both_languages_of_the_readme_have_the_same_sections_tables_and_commands(checkout: Path) -> None:
    text = (checkout / "README.md").read_text(encoding="utf-8")
    english, _, chinese = text.partition("\n---\n")
    for pattern in (r"^## ", r"^\|", r"^    (?:[a-z./]*gengfu-[a-z]+ \S+ \S+|make \S+|curl \S+)"):
        counts = [len(re.findall(pattern, part, re.MULTILINE)) for part in (english, chinese)]
        assert counts[0] == counts[1] > 0, pattern


def test_links_lead_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#]+)\)", text)
    assert [target for target in targets if not (document.parent / target).exists()] == []


def test_paths_exist(document: Path, checkout: Path) -> None:
    """A path in backquotes that starts at the root is there; capital letters in it stand for any name."""
    text = document.read_text(encoding="utf-8")
    paths = {p for p in re.findall(r"`([\w./<>*-]+/[\w./<>*-]*)`", text) if p.split("/")[0] in TOP_FOLDERS}
    missing = [path for path in sorted(paths) if not list(checkout.glob(re.sub("[A-Z]{2,}", "*", path).rstrip("/")))]
    assert missing == []


def test_make_targets_exist(document: Path, checkout: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (checkout / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    said = set(re.findall(r"(?:`|^    )make ([a-z-]+)", document.read_text(encoding="utf-8"), re.MULTILINE))
    assert said <= targets
