"""The inspection folder: every profile, standard and exception of the organisation, on top of what is built in.

All or nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import tzinfo
from functools import lru_cache, partial
from importlib import resources
from pathlib import Path

from gengfu_collector.errors import ConfigurationError
from gengfu_collector.fleet.exceptions import (
    MAX_EXCEPTIONS,
    Exemption,
    read_exception,
    require_room,
    with_exceptions,
)
from gengfu_collector.fleet.matching import CLASS, fits
from gengfu_collector.fleet.plan_words import Doubt
from gengfu_collector.fleet.plans import AssetOrders, orders, validate
from gengfu_collector.fleet.profiles import Profile, read_profile
from gengfu_collector.fleet.standards import CHECK_KIND, Standards, read_file_standard
from gengfu_collector.fleet.time_zone import time_zone
from gengfu_collector.fleet.toml_table import Table, parse, read_file, shown

BUILT_IN_PREFIX = "built-in "
FILE_KEYS = ("profile", "standard", "rule", "exception")
MAX_FILES = 1_000
MAX_PROFILES = 2_000
MAX_KEPT_ASSETS = 16_384
MAX_KEPT_ORDERS = 4_096


class Inspection:
    """What is inspected where. Immutable; safe to use from several threads.

    `profiles` stand in the order in which they are put together: built-in ones, then files by name, then as written.
    `warnings` are about things that work but may not be meant.
    """

    def __init__(
        self,
        profiles: Sequence[Profile],
        zone: tzinfo,
        warnings: Sequence[Doubt] = (),
        standards: Standards | None = None,
        exceptions: Sequence[Exemption] = (),
    ) -> None:
        self.standards = standards or Standards()
        fill = self.standards.fill
        baselines = {check.name for profile in profiles for check in profile.checks if check.kind == CHECK_KIND}
        validate(profiles, zone, fill, spare_bytes=require_room(exceptions) * len(baselines))
        self.profiles = tuple(profiles)
        self.exceptions = tuple(exceptions)
        self.zone = zone
        self.warnings = tuple(warnings)
        # Thousands of assets share a few sets of profiles, and most of their labels are asked for by none.
        self._labels = sorted({key for profile in profiles for key in profile.match if key != CLASS})
        # None of these refers to this object: an inspection that is replaced goes at once, without garbage collection.
        find_orders = lru_cache(maxsize=MAX_KEPT_ORDERS)(lambda chosen: orders(chosen, zone, fill))
        self._fitting = lru_cache(maxsize=MAX_KEPT_ASSETS)(partial(_find_fitting, self.profiles, self._labels))
        self._orders = find_orders
        self._excepted = lru_cache(maxsize=MAX_KEPT_ASSETS)(
            lambda chosen, excepted: with_exceptions(find_orders(chosen), excepted)
        )

    def profiles_for(self, asset_class: str, labels: Mapping[str, str]) -> tuple[Profile, ...]:
        """The profiles that fit an asset, in order."""
        return self._fitting(asset_class, tuple(labels.get(key) for key in self._labels))

    def exceptions_for(self, asset_class: str, labels: Mapping[str, str], name: str) -> tuple[Exemption, ...]:
        """The exceptions for an asset, ended ones too, in order."""
        return tuple(exception for exception in self.exceptions if exception.is_for(asset_class, labels, name))

    def for_asset(self, asset_class: str, labels: Mapping[str, str], name: str = "") -> AssetOrders:
        """What the agent of such an asset does, and how its findings are judged. Fails for no asset."""
        chosen, excepted = self.profiles_for(asset_class, labels), self.exceptions_for(asset_class, labels, name)
        return self._excepted(chosen, excepted) if excepted else self._orders(chosen)


def _find_fitting(
    profiles: Sequence[Profile], keys: Sequence[str], asset_class: str, values: tuple[str | None, ...]
) -> tuple[Profile, ...]:
    labels = {key: value for key, value in zip(keys, values, strict=True) if value is not None}
    return tuple(profile for profile in profiles if fits(profile.match, asset_class, labels))


def load_inspection(folder: Path | None, zone: tzinfo | None = None) -> Inspection:
    """Return what is built in and what every *.toml file in the folder and below it says, but for hidden ones.

    Hours and days are those of `zone`, by default that of this machine. Raises ConfigurationError with file, line and
    what is allowed.
    """
    tables = list(_built_in_files())
    if folder is not None:
        tables += _files(folder)
    warnings: list[Doubt] = []
    profiles: list[Profile] = []
    by_name: dict[str, Profile] = {}
    for file in tables:
        file.require_known(FILE_KEYS)
        for table in file.tables("profile"):
            profile = read_profile(table, warnings)
            first = by_name.setdefault(profile.name, profile)
            if first is not profile:
                raise _duplicate(profile, first)
            profiles.append(profile)
    if len(profiles) > MAX_PROFILES:
        raise profiles[MAX_PROFILES].table.error(f"at most {MAX_PROFILES} profiles are allowed")
    zone = zone or time_zone()
    standards = Standards(placed for file in tables if (placed := read_file_standard(file)) is not None)
    return Inspection(profiles, zone, warnings, standards, _exceptions(tables, standards, zone, warnings))


def _exceptions(files: Sequence[Table], standards: Standards, zone: tzinfo, warnings: list[Doubt]) -> list[Exemption]:
    tables = [table for file in files for table in file.tables("exception")]
    if len(tables) > MAX_EXCEPTIONS:
        raise tables[MAX_EXCEPTIONS].error(f"at most {MAX_EXCEPTIONS} exceptions are allowed")
    return [read_exception(table, standards, zone, warnings) for table in tables]


def _duplicate(profile: Profile, first: Profile) -> ConfigurationError:
    hint = ""
    if first.table.file.startswith(BUILT_IN_PREFIX):
        hint = "; to change what it does, give single keys of its checks in a profile with a name of your own"
    return profile.table.error(
        f"there is a profile {shown(profile.name)} already ({first.table.file}:{first.table.line()}){hint}", "name"
    )


def _built_in_files() -> Iterator[Table]:
    folder = resources.files("gengfu_collector.fleet") / "builtin"
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if file.name.endswith(".toml"):
            yield parse(file.read_text(encoding="utf-8"), BUILT_IN_PREFIX + file.name)


def _files(folder: Path) -> list[Table]:
    try:
        found = sorted(_visible_files(folder), key=lambda path: path.relative_to(folder).as_posix())
    except OSError as error:
        raise ConfigurationError(f"cannot be read: {error.strerror}", file=str(error.filename or folder)) from None
    if len(found) > MAX_FILES:
        raise ConfigurationError(f"at most {MAX_FILES} files are allowed", file=str(folder))
    return [read_file(path, str(path)) for path in found]


def _visible_files(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _visible_files(path)
        elif path.suffix == ".toml":
            yield path
