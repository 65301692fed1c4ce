"""An empty database at the present schema, made once in a process: migrations are most of what a new one costs."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from gengfu_collector.store.database import DATABASE_FILE, open_database


def lay_down(data: Path) -> None:
    """Put an empty database into a data folder that has none. What is made is for its owner alone."""
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = data / DATABASE_FILE
    if not file.exists():
        file.touch(0o600)
        file.write_bytes(_empty())


@cache
def _empty() -> bytes:
    with TemporaryDirectory() as folder:
        open_database(Path(folder)).close()
        (file,) = Path(folder).iterdir()
        return file.read_bytes()
