"""What can go wrong in checks.

CheckError
├── CannotMeasure      the check ran and could not get its answer; becomes `unknown` with its own code and facts
├── UnknownCheck       no check of that name
├── ExtraMissing       the check needs an extra that is not installed
└── SettingError       a setting or threshold that the check does not take
"""

from __future__ import annotations

from collections.abc import Mapping

from gengfu_checks.model import Fact


class CheckError(Exception):
    """Base of all errors that checks raise on purpose. The text is one line for people."""


class CannotMeasure(CheckError):
    """The target did not give an answer; `code` names why (guide code), `facts` the particulars."""

    def __init__(self, code: str, facts: Mapping[str, Fact] | None = None, *, item: str = "") -> None:
        super().__init__(code)
        self.code = code
        self.facts: Mapping[str, Fact] = facts or {}
        self.item = item


class UnknownCheck(CheckError):
    """No built-in check and no installed plug-in has this name."""


class ExtraMissing(CheckError):
    """The check's module needs a package that is not installed; the text holds the command that installs it."""


class SettingError(CheckError):
    """A setting is unknown, missing or of the wrong type; the text names it and what is allowed."""

    def __init__(self, message: str, *, key: str = "") -> None:
        super().__init__(message)
        self.key = key
