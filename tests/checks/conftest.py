"""What tests of checks share: a context with clocks that stand where the test puts them."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gengfu_checks.model import CheckKind, Context
from gengfu_checks.settings import resolve_settings


@dataclass(slots=True)
class Bench:
    """One instance of a check: its memory lives from run to run, its clocks move when told."""

    kind: CheckKind
    settings: dict[str, object]
    now_s: float = 1_800_000_000.0
    monotonic_s: float = 10_000.0
    memory: dict[str, Any] = field(default_factory=dict)
    keep: dict[str, Any] = field(default_factory=dict)

    def context(self) -> Context:
        """The context of the next run."""
        return Context(
            settings=resolve_settings(self.kind, self.settings),
            memory=self.memory,
            now=lambda: self.now_s,
            monotonic=lambda: self.monotonic_s,
            deadline_s=self.kind.timeout_s,
            keep=self.keep,
        )

    def run(self) -> dict[str, Any]:
        """Run once; the measurements by item."""
        found = {measurement.item: measurement for measurement in self.kind.measure(self.context())}
        self.keep = json.loads(json.dumps(self.keep, allow_nan=False))  # as the agent does
        return found

    def restart(self) -> None:
        """The agent starts anew: only what it keeps on disk is left."""
        self.memory = {}

    def later(self, seconds: float) -> None:
        """Move both clocks."""
        self.now_s += seconds
        self.monotonic_s += seconds


@pytest.fixture
def bench() -> Callable[..., Bench]:
    """`bench(CHECK, pattern="erp")` is an instance of a check with these settings."""

    def make(kind: CheckKind, **settings: object) -> Bench:
        return Bench(kind, settings)

    return make


@pytest.fixture(scope="session")
def unshare(requires_program: Callable[[str, str], str]) -> str:
    """The path of `unshare`; the test is skipped (with CI=true it fails) where no namespaces may be made."""
    path = requires_program("unshare", "apt-get install util-linux")
    tried = subprocess.run([path, "--mount", "--net", "--pid", "--fork", "true"], capture_output=True, text=True)
    if tried.returncode != 0:
        reason = f"no namespaces and mounts without root: {tried.stderr.strip()}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return path


@pytest.fixture(scope="session")
def samples() -> Path:
    """The folder of recorded /proc files and program outputs."""
    return Path(__file__).parent / "fixtures"


@pytest.fixture
def sys_tree(tmp_path: Path) -> Callable[[dict[str, object]], Path]:
    """`sys_tree({"class/net/eth0/mtu": 1500})` writes these attributes as files and returns what stands for /sys."""

    def make(attributes: dict[str, object]) -> Path:
        for name, value in attributes.items():
            file = tmp_path / "sys" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(value if isinstance(value, bytes) else f"{value}\n".encode())
        return tmp_path / "sys"

    return make
