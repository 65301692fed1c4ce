"""What can go wrong in the collector.

CollectorError                  one line for people, and the exit code that goes with it
├── UsageError (2)              wrong arguments or configuration
│   └── ConfigurationError      a file says what it may not; carries file and line
├── NotFound (1)                no such ticket, asset, agent ...
├── Refused (1)                 exists, but this may not be done with it now
├── StoreError (1)              the data folder or database cannot be used
│   ├── StoreInUse              another collector has it
│   ├── StoreTooNew             written by a later version
│   └── StoreOutdated           another collector has changed what this one remembers; it looks again
├── Unreachable (3)             a running collector does not answer
└── Overloaded (1)              the collector has more to do than it may queue
"""

from __future__ import annotations


class CollectorError(Exception):
    """Base; the text is one line that says what to do."""

    exit_code = 1


class UsageError(CollectorError):
    """Wrong use; nothing was done."""

    exit_code = 2


class ConfigurationError(UsageError):
    """A configuration file is refused as a whole."""

    def __init__(self, message: str, *, file: str = "", line: int = 0) -> None:
        where = f"{file}:{line}: " if file and line else f"{file}: " if file else ""
        super().__init__(where + message)
        self.file = file
        self.line = line


class NotFound(CollectorError):
    """There is no such thing."""


class Refused(CollectorError):
    """The state of the thing does not allow this."""


class StoreError(CollectorError):
    """The store cannot be opened or written."""


class StoreInUse(StoreError):
    """Another process holds the data folder."""


class StoreTooNew(StoreError):
    """The database was written by a later version of Gengfu."""


class StoreOutdated(StoreError):
    """Another collector has changed what this one remembers; nothing was written."""


class Unreachable(CollectorError):
    """No answer from the collector that should be running."""

    exit_code = 3


class Overloaded(CollectorError):
    """A bounded queue is full."""


def one_line(error: BaseException) -> str:
    """What an error says, without what libraries add on further lines."""
    said = getattr(error, "orig", None) or error
    return str(said).strip().partition("\n")[0] or type(error).__name__
