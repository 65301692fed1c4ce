"""A stand-in for `winreg`, made after its documentation; no recording."""

from __future__ import annotations

import types


class FakeWinreg(types.ModuleType):
    """The documented functions of winreg over nested dictionaries; no recording."""

    KEY_READ, KEY_WOW64_64KEY, KEY_WOW64_32KEY = 1, 2, 4
    HKEY_LOCAL_MACHINE, HKEY_USERS = "HKLM", "HKU"

    def __init__(self, keys: dict[tuple[str, str], dict[str, object]]) -> None:
        super().__init__("winreg")
        self.keys = keys

    def OpenKeyEx(self, hive: str, key: str, _reserved: int, access: int) -> FakeHandle:  # noqa: N802
        name = (f"{hive}32" if access & 4 and (f"{hive}32", key) in self.keys else hive, key)
        if name not in self.keys:
            raise FileNotFoundError(2, "no such key")
        return FakeHandle(self, *name)

    def QueryInfoKey(self, handle: FakeHandle) -> tuple[int, int, int]:  # noqa: N802
        return len(handle.children()), len(self.keys[handle.hive, handle.key]), 0

    def EnumKey(self, handle: FakeHandle, number: int) -> str:  # noqa: N802
        return handle.children()[number]

    def EnumValue(self, handle: FakeHandle, number: int) -> tuple[str, object, int]:  # noqa: N802
        return (*list(self.keys[handle.hive, handle.key].items())[number], 1)

    def QueryValueEx(self, handle: FakeHandle, name: str) -> tuple[object, int]:  # noqa: N802
        if name not in self.keys[handle.hive, handle.key]:
            raise FileNotFoundError(2, "no such value")
        return self.keys[handle.hive, handle.key][name], 1


class FakeHandle:
    def __init__(self, registry: FakeWinreg, hive: str, key: str) -> None:
        self.registry, self.hive, self.key = registry, hive, key

    def children(self) -> list[str]:
        prefix = f"{self.key}\\" if self.key else ""
        below = [k[len(prefix) :] for h, k in self.registry.keys if h == self.hive and k.startswith(prefix) and k]
        return [name for name in below if name and "\\" not in name]

    def __enter__(self) -> FakeHandle:
        return self

    def __exit__(self, *_: object) -> None:
        return None
