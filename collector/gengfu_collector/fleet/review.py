"""What an inspection folder means, and what a change of it would do: `config check` and `config diff`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, tzinfo
from pathlib import Path

from gengfu_collector.fleet.classes import ASSET_CLASSES
from gengfu_collector.fleet.exceptions import Exemption
from gengfu_collector.fleet.inspection import Inspection, load_inspection
from gengfu_collector.fleet.matching import CLASS, Match
from gengfu_collector.fleet.plan_view import (
    Json,
    PlanChange,
    absence_line,
    change,
    check_line,
    inventory_line,
    orders_json,
)
from gengfu_collector.fleet.plan_words import ENGLISH, count, say
from gengfu_collector.fleet.profiles import Profile
from gengfu_collector.fleet.standards import PlacedStandard

NamedAsset = tuple[str, str, Mapping[str, str]]
"""Name, class and labels."""

NAMES_SHOWN = 5


@dataclass(frozen=True, slots=True)
class FolderReview:
    """What `config check` says of a folder that was accepted. `assets` are the names of those in service; None where
    nobody knows them.
    """

    inspection: Inspection
    today: date
    assets: frozenset[str] | None = None

    def warnings(self, language: str = ENGLISH) -> list[str]:
        """What works and may not be meant: doubts of the folder, exceptions that have ended or are for no asset."""
        warnings = [doubt.text(language) for doubt in self.inspection.warnings]
        for exception in self.inspection.exceptions:
            if self._has_ended(exception):
                warnings.append(say(language, "ended", place=exception.place, until=exception.waiver.until))
            strangers = [] if self.assets is None else exception.names_nobody(self.assets)
            if strangers:
                names = _names_text(strangers, language)
                warnings.append(say(language, "strangers", place=exception.place, names=names))
        return warnings

    def _has_ended(self, exception: Exemption) -> bool:
        return exception.last_day < self.today

    def as_json(self) -> Json:
        """`warnings`, `standards`, `exceptions`, and `profiles` in their order, each with the plan of an example: an
        asset that just fits it.
        """
        return {
            "profiles": [self._profile_json(profile) for profile in self.inspection.profiles],
            "standards": [_standard_json(placed) for placed in self.inspection.standards.by_id.values()],
            "exceptions": [
                exception.as_json() | {"ended": self._has_ended(exception)} for exception in self.inspection.exceptions
            ],
            "warnings": self.warnings(),
        }

    def lines(self, language: str = ENGLISH) -> list[str]:
        """The same for people; of each example only what the profile itself has a say in."""
        warnings, profiles = self.warnings(language), self.inspection.profiles
        counts = {"profiles": count(len(profiles), "profile", language)}
        lines = [say(language, "summary", **counts, warnings=count(len(warnings), "warning", language))]
        lines += [say(language, "warning", text=warning) for warning in warnings]
        for name, placed in self.inspection.standards.by_id.items():
            if placed.table is not None:
                rules = count(len(placed.standard.rules), "rule", language)
                lines.append(say(language, "standard", name=name, place=placed.place, rules=rules))
        lines += [_exception_line(exception, language) for exception in self.inspection.exceptions]
        for profile in profiles:
            lines += ["", *self._profile_lines(profile, language)]
        return lines

    def _profile_lines(self, profile: Profile, language: str) -> list[str]:
        asset_class, labels = example(profile.match)
        orders = self.inspection.for_asset(asset_class, labels)
        own = {check.name for check in profile.checks}
        planned = {check.name: check for check in orders.plan.checks}
        place = f"{profile.table.file}:{profile.table.line()}"
        asset = " ".join([f"{CLASS}={asset_class}", *(f"{key}={value}" for key, value in labels.items())])
        checks, match = count(len(own), "check", language), _match_text(profile.match, language)
        lines = [check_line(orders, planned[name], language) for name in sorted(own & planned.keys())]
        lines += [say(language, "taken_out", name=name) for name in sorted(own - planned.keys())]
        lines += [absence_line(orders, language)] if profile.absence is not None else []
        lines += [inventory_line(orders, language)] if profile.inventory is not None else []
        others = count(len(planned.keys() - own), "check", language)
        lines.append(say(language, "example", asset=asset, checks=others))
        title = say(language, "profile", name=profile.name, place=place, checks=checks, match=match)
        return [title, *(f"  {line}" for line in lines)]

    def _profile_json(self, profile: Profile) -> Json:
        asset_class, labels = example(profile.match)
        return {
            "name": profile.name,
            "file": profile.table.file,
            "line": profile.table.line(),
            "match": {key: sorted(values) for key, values in profile.match.items()},
            "checks": [check.name for check in profile.checks],
            "example": {CLASS: asset_class, "labels": labels}
            | orders_json(self.inspection.for_asset(asset_class, labels)),
        }


@dataclass(frozen=True, slots=True)
class Difference:
    """What another inspection folder would change: the changes, each with the names of all its assets."""

    assets: int
    changes: tuple[tuple[tuple[str, ...], PlanChange], ...]

    def as_json(self) -> Json:
        """`assets` (how many were looked at) and `changes`, each with `assets` (names) and what differs."""
        return {
            "assets": self.assets,
            "changes": [{"assets": list(names), **change.as_json()} for names, change in self.changes],
        }

    def lines(self, language: str = ENGLISH) -> list[str]:
        """The same for people."""
        changing = sum(len(names) for names, _ in self.changes)
        lines = [say(language, "changing", changing=changing, assets=count(self.assets, "asset", language))]
        for names, plan_change in self.changes:
            lines += ["", _names_text(names, language), *(f"  {line}" for line in plan_change.lines(language))]
        return lines


def check_folder(folder: Path | None, zone: tzinfo | None = None, now: datetime | None = None) -> FolderReview:
    """Load a folder as the collector would; raises ConfigurationError. `now` tells which exceptions have ended."""
    return review(load_inspection(folder, zone), now=now)


def review(inspection: Inspection, assets: Iterable[str] | None = None, now: datetime | None = None) -> FolderReview:
    """What there is to say of a folder that was loaded; `assets` as in `FolderReview`."""
    today = (now or datetime.now(inspection.zone)).date()
    return FolderReview(inspection, today, None if assets is None else frozenset(assets))


def diff(old: Inspection, new: Inspection, assets: Iterable[NamedAsset]) -> Difference:
    """Return which assets' plans, rules or absence change from one inspection folder to another, and how."""
    fitting: dict[object, list[NamedAsset]] = {}
    count = 0
    for asset in assets:
        name, asset_class, labels = asset
        profiles = old.profiles_for(asset_class, labels), new.profiles_for(asset_class, labels)
        exceptions = [inspection.exceptions_for(asset_class, labels, name) for inspection in (old, new)]
        fitting.setdefault((profiles, *exceptions), []).append(asset)
        count += 1
    alike: dict[str, tuple[list[str], PlanChange]] = {}
    for same in fitting.values():
        name, asset_class, labels = same[0]
        found = change(old.for_asset(asset_class, labels, name), new.for_asset(asset_class, labels, name))
        if found:
            alike.setdefault(repr(found), ([], found))[0].extend(name for name, _, _ in same)
    changes = [(tuple(sorted(names)), found) for names, found in alike.values()]
    return Difference(count, tuple(sorted(changes, key=lambda entry: entry[0])))


def example(match: Match) -> tuple[str, dict[str, str]]:
    """Class and labels of an asset that fits and has no more labels than it needs."""
    classes = match.get(CLASS, ASSET_CLASSES)
    labels = {key: min(values) for key, values in sorted(match.items()) if key != CLASS}
    return next(name for name in ASSET_CLASSES if name in classes), labels


def _standard_json(placed: PlacedStandard) -> Json:
    standard = placed.standard
    return {
        "standard": standard.id,
        "title": {"zh": standard.title.zh, "en": standard.title.en},
        "version": standard.version,
        "place": placed.place,
        "rules": [rule.id for rule in standard.rules],
    }


def _exception_line(exception: Exemption, language: str) -> str:
    waiver = exception.waiver
    return say(
        language,
        "exception",
        place=exception.place,
        rules=", ".join(waiver.rules[:NAMES_SHOWN]),
        standard=exception.standard,
        whose=", ".join(exception.assets[:NAMES_SHOWN]) or _match_text(exception.match, language),
        until=waiver.until,
        owner=waiver.owner,
        reason=waiver.reason,
    )


def _match_text(match: Match, language: str) -> str:
    rules = [f"{key} {say(language, 'or').join(sorted(values))}" for key, values in sorted(match.items())]
    return ", ".join(rules) or say(language, "every_asset")


def _names_text(names: Sequence[str], language: str) -> str:
    more = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (say(language, "and_more", count=more) if more > 0 else "")
