"""No file names where packages come from: closed networks have indexes of their own, configured outside the project."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

# Written so that this file does not match itself.
ADDRESS = re.compile(
    r"""
    \b (?: [a-z0-9-]+\. )* py[p]i (?: \. [a-z0-9-]+ )+ \b     # hosts named after the Python index
    | pythonhoste[d]\.
    | \b npmj[s]\. | \b registry\. npm
    | \b crate[s]\.io
    | \b de[b]\.debian\. | \b security\. debian\.
    | \b mirror[s]? \. [a-z0-9-]+ \. [a-z]
    | (?<! no-emit- ) \b (?: extra[-_])? inde[x][-_]url \b | --find-link[s] | --trusted-hos[t]
    """,
    re.VERBOSE | re.IGNORECASE,
)


@pytest.mark.parametrize(
    "text",
    [
        "https://py" + "pi.org/simple",
        "files.python" + "hosted.org",
        "py" + "pi.tuna.tsinghua.edu.cn",
        "mirror" + "s.aliyun.com",
        "--extra-index" + "-url x",
        "index" + "_url = x",
        "regis" + "try.npm" + "js.org",
        "http://de" + "b.debian.org/debian",
    ],
)
def test_the_scan_finds_an_address(text: str) -> None:
    assert ADDRESS.search(text)


@pytest.mark.parametrize(
    "text", ["--no-emit-index-url", "pip install gengfu", "the registry.names()", "mirror the tests"]
)
def test_the_scan_lets_ordinary_text_pass(text: str) -> None:
    assert not ADDRESS.search(text)


def test_no_file_names_a_package_index(checkout: Path, requires_program: Callable[[str, str], str]) -> None:
    git = requires_program("git", "apt-get install git")
    listing = subprocess.run(
        [git, "-c", f"safe.directory={checkout}", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=checkout,
        capture_output=True,
        check=True,
        timeout=60,
    )
    names = [name for name in listing.stdout.decode().split("\0") if name]
    assert "pyproject.toml" in names
    found = []
    for name in names:
        path = checkout / name
        if path.is_file() and (match := ADDRESS.search(path.read_bytes().decode("utf-8", "ignore"))):
            found.append(f"{name}: {match.group()}")
    assert found == []
