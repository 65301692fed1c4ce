"""The shell scripts behind make: which Python they take and what they say when there is none."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

BROKEN_STAND_IN = "#!/bin/sh\necho 'python: command not found' >&2\nexit 127\n"


def write_program(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return path


def find_python(
    checkout: Path, *arguments: str, path: list[Path], **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(checkout / ".ci/find-python"), *arguments],
        env={"PATH": os.pathsep.join(map(str, path)), "HOME": "/nonexistent", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    return tmp_path


def real_python(folder: Path, name: str) -> Path:
    return write_program(folder / name, f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')


def old_python(folder: Path, name: str) -> Path:
    return write_program(folder / name, "#!/bin/sh\nexit 1\n")


def test_a_stand_in_that_does_not_start_is_passed_over(checkout: Path, tools: Path) -> None:
    write_program(tools / "python3.13", BROKEN_STAND_IN)
    good = real_python(tools, "python3.12")
    result = find_python(checkout, path=[tools])
    assert (result.returncode, result.stdout) == (0, f"{good}\n")


def test_the_same_name_later_on_the_path_is_taken_when_the_first_is_a_stand_in(checkout: Path, tools: Path) -> None:
    shims, usual = tools / "shims", tools / "bin"
    shims.mkdir()
    usual.mkdir()
    write_program(shims / "python3", BROKEN_STAND_IN)
    good = real_python(usual, "python3")
    assert find_python(checkout, path=[shims, usual]).stdout == f"{good}\n"


def test_the_newest_is_preferred(checkout: Path, tools: Path) -> None:
    real_python(tools, "python3")
    newest = real_python(tools, "python3.13")
    real_python(tools, "python3.11")
    assert find_python(checkout, path=[tools]).stdout == f"{newest}\n"


def test_without_any_python_it_says_what_to_install(checkout: Path, tools: Path) -> None:
    old_python(tools, "python3")
    result = find_python(checkout, path=[tools])
    assert result.returncode == 1
    assert result.stdout == ""
    assert "needs Python 3.11 or newer" in result.stderr
    assert "apt-get install python3 python3-venv" in result.stderr
    assert result.stderr.count("\n") == 1


def test_without_venv_it_names_the_package(checkout: Path, tools: Path) -> None:
    bare = write_program(
        tools / "python3",
        f'#!/bin/sh\ncase "$2" in *ensurepip*) exit 1 ;; esac\nexec "{sys.executable}" "$@"\n',
    )
    result = find_python(checkout, path=[tools])
    assert result.returncode == 1
    assert result.stderr.startswith(f"{bare} lacks venv")
    assert "apt-get install python3-venv" in result.stderr


def test_a_named_python_is_taken_or_refused_but_never_replaced(checkout: Path, tools: Path) -> None:
    real_python(tools, "python3.13")
    named = real_python(tools, "my-python")
    old = old_python(tools, "old-python")
    assert find_python(checkout, path=[tools], PYTHON=str(named)).stdout == f"{named}\n"
    refused = find_python(checkout, path=[tools], PYTHON=str(old))
    assert (refused.returncode, refused.stdout) == (1, "")
    assert str(old) in refused.stderr


def test_a_wanted_minor_version_is_found_in_pyenv_too(checkout: Path, tools: Path) -> None:
    folder = tools / "versions" / "3.12.9" / "bin"
    folder.mkdir(parents=True)
    good = real_python(folder, "python3.12")
    assert find_python(checkout, "3.12", path=[], PYENV_ROOT=str(tools)).stdout == f"{good}\n"
    missing = find_python(checkout, "3.13", path=[], PYENV_ROOT=str(tools))
    assert (missing.returncode, missing.stdout) == (1, "")


def test_every_debian_package_says_what_it_is_for(checkout: Path) -> None:
    text = (checkout / ".ci/debian-packages.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9.+-]+ +# \S.*", line)] == []
    assert "postgresql" in text


def test_every_package_that_a_test_asks_for_is_installed_by_ci(checkout: Path) -> None:
    listed = re.findall(
        r"^([a-z0-9.+-]+) ", (checkout / ".ci/debian-packages.txt").read_text(encoding="utf-8"), re.MULTILINE
    )
    asked = {
        package
        for path in (checkout / "tests").rglob("*.py")
        if path.parent != Path(__file__).parent
        for packages in re.findall(r"apt-get install ([a-z0-9. +-]+)", path.read_text(encoding="utf-8"))
        for package in packages.split()
    }
    assert "prometheus" in asked
    assert asked - set(listed) == set()


def test_pre_commit_fetches_nothing(checkout: Path) -> None:
    text = (checkout / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert re.findall(r"repo: (\S+)", text) == ["local"]
    assert set(re.findall(r"language: (\S+)", text)) == {"system"}
    assert {entry.split()[0].rpartition("/")[0] for entry in re.findall(r"entry: (.+)", text)} == {".venv/bin"}
