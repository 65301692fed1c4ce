"""Write the Python code of every .proto file beside it, or with `--check` fail when the code there is not the same.

Run as `python proto/generate.py [--check]` from anywhere; needs the development dependencies.
"""

from __future__ import annotations

import filecmp
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCES = sorted(HERE.glob("gengfu_proto/v1/*.proto"))


def generate(target: Path) -> None:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    options = [
        f"-I{HERE}",
        "--mypy_opt=quiet",
        *(f"--{kind}_out={target}" for kind in ("python", "grpc_python", "mypy")),
    ]
    arguments = [sys.executable, "-m", "grpc_tools.protoc", *options, *map(str, SOURCES)]
    subprocess.run(arguments, check=True, env=environment)
    for empty in target.glob("gengfu_proto/v1/*_pb2_grpc.py"):
        if "class " not in empty.read_text(encoding="utf-8"):
            empty.unlink()


def drifted() -> list[str]:
    """Names of generated files that differ from the .proto files, are missing or left over."""
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        generate(fresh)
        names = {p.name for base in (fresh, HERE) for p in base.glob("gengfu_proto/v1/*_pb2*.py*")}
        pairs = [(name, fresh / "gengfu_proto/v1" / name, HERE / "gengfu_proto/v1" / name) for name in sorted(names)]
        return [n for n, a, b in pairs if not (a.exists() and b.exists() and filecmp.cmp(a, b, shallow=False))]


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        stale = drifted()
        if stale:
            sys.exit(
                f"generated code is not what the .proto files say: {', '.join(stale)}; run python proto/generate.py"
            )
    else:
        generate(HERE)
