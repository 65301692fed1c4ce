"""requirements/dev.txt against pyproject.toml. `make lock` mends what fails here."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\]+)", re.MULTILINE)


def blocks(lock: str) -> list[str]:
    """Each pin with the lines that belong to it."""
    return re.split(r"\n(?=[A-Za-z0-9])", lock.strip())


@pytest.fixture(scope="module")
def lock(checkout: Path) -> str:
    return (checkout / "requirements" / "dev.txt").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def wanted(checkout: Path) -> list[Requirement]:
    with (checkout / "pyproject.toml").open("rb") as stream:
        table = tomllib.load(stream)
    extras = table["project"]["optional-dependencies"]
    texts = [
        *table["build-system"]["requires"],
        *table["project"]["dependencies"],
        *(text for extra in extras.values() for text in extra),
        *table["dependency-groups"]["dev"],
    ]
    requirements = [Requirement(text) for text in texts]
    return [requirement for requirement in requirements if canonicalize_name(requirement.name) != "gengfu"]


def test_every_dependency_is_locked_to_a_version_that_pyproject_allows(lock: str, wanted: list[Requirement]) -> None:
    pinned = {canonicalize_name(name): version for name, version in PIN.findall(lock)}
    assert len(wanted) > 20
    missing = [str(requirement) for requirement in wanted if canonicalize_name(requirement.name) not in pinned]
    assert missing == []
    versions = {str(requirement): pinned[canonicalize_name(requirement.name)] for requirement in wanted}
    assert [r for r in wanted if not r.specifier.contains(versions[str(r)])] == []


def test_every_locked_package_has_hashes_and_nothing_else_is_in_the_lock(lock: str) -> None:
    odd = [block.splitlines()[0] for block in blocks(lock) if not PIN.match(block) or "--hash=sha256:" not in block]
    assert odd == []
