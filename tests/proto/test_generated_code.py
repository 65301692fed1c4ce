"""The Python code beside the .proto files is what these files say."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path


def check(proto: Path) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, str(proto / "generate.py"), "--check"]
    return subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=100)


def test_the_committed_code_is_fresh(checkout: Path) -> None:
    result = check(checkout / "proto")
    assert (result.returncode, result.stderr) == (0, "")


def test_a_changed_contract_is_noticed_by_the_file_that_drifted(checkout: Path, tmp_path: Path) -> None:
    copy = tmp_path / "proto"
    shutil.copytree(checkout / "proto", copy, ignore=shutil.ignore_patterns("__pycache__"))
    contract = copy / "gengfu_proto" / "v1" / "plan.proto"
    contract.write_text(contract.read_text(encoding="utf-8").replace("string round = 3;", "string round_name = 3;"))
    (copy / "gengfu_proto" / "v1" / "left_over_pb2.py").write_text("")
    result = check(copy)
    assert result.returncode == 1
    assert "plan_pb2.py" in result.stderr
    assert "left_over_pb2.py" in result.stderr
    assert "report_pb2" not in result.stderr
